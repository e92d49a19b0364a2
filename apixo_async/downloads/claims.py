"""Temporary names: `<stem>.part`, never shared by two downloads, never left behind for ever.

A name belongs to whoever holds the lock on its file, and a lock ends with its process. So a file
that nobody holds was left by a crash, and the next download of its stem removes it. It is removed
and not written into: after a crash in the wrong moment it may be a finished file's second name.

Where there are no locks, each download gets a random name, and what a crash leaves stays.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

SLOTS: Final = 4
"""Downloads of one stem at one time that get a name which the next one can clean up."""
PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# A name that is a link or a pipe is none of ours, and must neither be followed nor waited for.
_LOOK: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_held: Final[set[Path]] = set()
"""Names in use by this process: locks on network file systems may not tell our threads apart."""
_holding: Final = threading.Lock()

if sys.platform == "win32":

    def _lock(_: int) -> None:
        """Raises `OSError`: no lock here stays with a file while it gets another name."""
        msg = "no locks"
        raise OSError(msg)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Raises `BlockingIOError` if another has it, another `OSError` if there are no locks."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _NoLocksError(OSError):
    """This file system, or this platform, has no locks for us."""


@attrs.frozen
class Claim:
    """An empty file of our own. `is_locked` until its descriptor is closed."""

    path: Path
    descriptor: int
    is_locked: bool

    def still_holds(self) -> bool:
        """Whether the name is still that of our file; call it before the descriptor is closed."""
        return _is_at(self.descriptor, self.path)

    def release(self) -> None:
        """Lets other downloads of this process have the name."""
        with _holding:
            _held.discard(self.path)


def mark(number: int) -> str:
    """What tells files of one stem apart: nothing, `~2`, `~3`. No stem holds a tilde."""
    return "" if number == 1 else f"~{number}"


def claim(directory: Path, stem: str) -> Claim:
    """A temporary file for a download, after what earlier ones left was removed. Blocks.

    Raises `OSError`.
    """
    make_directory(directory)
    place = Path(os.path.abspath(directory))  # noqa: PTH100  # links stay: following them is slow
    found: Claim | None = None
    with _holding, suppress(_NoLocksError):
        for number in range(1, SLOTS + 1):
            path = place / f"{stem}{mark(number)}.part"
            # The other names are looked at as well, for what was left there.
            if path not in _held and _is_cleared(path) and found is None:
                found = _locked(path)
                if found is not None:
                    _held.add(path)
    if found is not None:
        return found
    path = place / f"{stem}.{os.urandom(4).hex()}.part"
    return Claim(path, create(path), is_locked=False)


def clear_leftovers(directory: Path, stem: str) -> None:
    """Removes temporary files that dead processes left of this stem. Blocks."""
    place = Path(os.path.abspath(directory))  # noqa: PTH100  # as above
    with _holding:
        for number in range(1, SLOTS + 1):
            path = place / f"{stem}{mark(number)}.part"
            if path not in _held:
                _is_cleared(path)


def _is_cleared(path: Path) -> bool:
    """Whether the name is free, at the latest now; false if another process holds it."""
    if not os.path.lexists(path):
        return True
    with suppress(OSError):
        descriptor = os.open(path, _LOOK)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                _lock(descriptor)
                # Whoever had the lock before may have removed the name, and a third made it anew.
                if _is_at(descriptor, path):
                    path.unlink()
                    return True
        finally:
            os.close(descriptor)
    return False


def _locked(path: Path) -> Claim | None:
    """A new file under this name with its lock; `None` if another process is faster.

    Raises `_NoLocksError`.
    """
    try:
        descriptor = create(path)
    except FileExistsError:
        return None
    try:
        _lock(descriptor)
    except BlockingIOError:  # it was taken for a leftover, and is being removed
        os.close(descriptor)
        return None
    except OSError:  # there are no locks here, so nobody has removed it
        os.close(descriptor)
        path.unlink()
        raise _NoLocksError from None
    if _is_at(descriptor, path):
        return Claim(path, descriptor, is_locked=True)
    os.close(descriptor)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def create(path: Path) -> int:
    """The descriptor of a new file that only its owner can read; `FileExistsError` if it exists."""
    return os.open(path, _NEW, PRIVATE_FILE)


def make_directory(directory: Path) -> None:
    """Makes a directory, and what is missing above it, for its owner alone."""
    try:
        directory.mkdir(PRIVATE_DIRECTORY)
    except FileNotFoundError:
        make_directory(directory.parent)
        directory.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
    except OSError:
        if not directory.is_dir():
            raise
