"""One owner of a journal at a time: a locked file beside it, which the system frees with a process.

The file also holds a mark: the number of the last event that was committed. SQLite drops a damaged
end of its write-ahead log without a word; the mark tells that something is missing there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import time
import weakref
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from apixo_async.errors import JournalError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MARK_AT: Final = 512
_OWNER_START: Final = b'{"pid"'
_MARK: Final = struct.Struct("<QI")
_LOOKS: Final = 5
_LOOK_SECONDS: Final = 0.01
_LOCK_AT: Final = 1 << 30
"""Where Windows locks a byte, behind all that is read."""


def lock_path(journal: Path) -> Path:
    """The file that is locked; it exists while a journal is in use, and after a crash."""
    return journal.with_name(journal.name + ".lock")


class OwnerLock:
    """The right to write to a journal. Raises `JournalError` naming the owner if it is taken."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = lock_path(journal)
        self.was_forked = False
        self._file = self._locked_file()
        self._check_is_ours()
        self.mark = self._read_mark()
        """The last event that is known to have been committed; `None` where nobody noted it."""
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, _owner_text())
        except OSError as error:
            os.close(self._file)
            raise JournalError(f"cannot write to {self._path}: {error.strerror}") from None
        _OPEN.add(self)

    def _locked_file(self) -> int:
        while True:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise JournalError(f"cannot write {self._path}: {error.strerror}") from None
            try:
                _lock_patiently(file)
                # The last owner removes the file at its end: what we locked may be gone.
                if _is_same(file, self._path):
                    return file
            except OSError:
                told = _owner_of(file)
                os.close(file)
                raise JournalError(
                    f"{self._journal} is in use by {told}; wait for its end, or stop it"
                ) from None
            os.close(file)

    def _check_is_ours(self) -> None:
        """Other programs have files of such names, too: `poetry.lock` is not to be overwritten."""
        start = os.read(self._file, len(_OWNER_START))
        if start not in {b"", _OWNER_START}:
            os.close(self._file)
            raise JournalError(
                f"{self._path} is a file of another program; give the journal another name"
            )

    def _read_mark(self) -> int | None:
        os.lseek(self._file, _MARK_AT, os.SEEK_SET)
        data = os.read(self._file, _MARK.size)
        if not data:
            return None
        number = _number_of(data)
        if number is not None:
            return number
        os.close(self._file)
        raise JournalError(
            f"{self._path} is damaged: it cannot be told whether {self._journal} is complete; "
            "compare with a copy, or remove the .lock file to trust the journal as it is"
        )

    def note(self, event: int) -> None:
        """Events up to this number are committed. Not synced: it only has to survive a process."""
        number = struct.pack("<Q", event)
        # An older mark only tells less; the events themselves are safe.
        with contextlib.suppress(OSError):
            os.lseek(self._file, _MARK_AT, os.SEEK_SET)
            os.write(self._file, number + struct.pack("<I", zlib.crc32(number)))

    def release(self, is_clean: bool) -> None:  # noqa: FBT001  # called back with it
        """Gives the right back; after a clean end the file goes, too."""
        _OPEN.discard(self)
        if is_clean:
            with contextlib.suppress(OSError):
                self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def leave_to_parent(self) -> None:
        """In a forked child: the copy of the lock is closed, or it would outlive the owner."""
        self.was_forked = True
        with contextlib.suppress(OSError):
            os.close(self._file)


_OPEN: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_OPEN):
        lock.leave_to_parent()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # it is POSIX
    os.register_at_fork(after_in_child=_after_fork)


def _lock(file: int) -> None:
    if sys.platform == "win32":
        os.lseek(file, _LOCK_AT, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_patiently(file: int) -> None:
    """Whoever only asks for the owner holds the lock for a moment, and is none."""
    for _ in range(_LOOKS):
        try:
            _lock(file)
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    _lock(file)


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _owner_text() -> bytes:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(owner).encode()[: _MARK_AT - 1].ljust(_MARK_AT - 1) + b"\n"


def _owner_of(file: int) -> str:
    try:
        os.lseek(file, 0, os.SEEK_SET)
        owner = json.loads(os.read(file, _MARK_AT))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def owner_of(journal: Path) -> str | None:
    """Who owns the journal at this moment, in words; `None` if nobody does."""
    try:
        # Reading is enough for a lock, and may be all that is allowed.
        file = os.open(lock_path(journal), os.O_RDONLY)
    except OSError:
        return None
    try:
        _lock(file)
    except OSError:
        return _owner_of(file)
    finally:
        os.close(file)
    return None


def is_in_use(journal: Path) -> bool:
    """Whether somebody owns the journal at this moment."""
    return owner_of(journal) is not None


def read_mark(journal: Path) -> int | None:
    """The last event that the owner noted as committed; `None` if that cannot be told."""
    try:
        file = os.open(lock_path(journal), os.O_RDONLY)
    except OSError:
        return None
    try:
        os.lseek(file, _MARK_AT, os.SEEK_SET)
        return _number_of(os.read(file, _MARK.size))
    except OSError:
        return None
    finally:
        os.close(file)


def _number_of(data: bytes) -> int | None:
    """What `OwnerLock.note` wrote; `None` if it is not whole."""
    if len(data) != _MARK.size:
        return None
    number, check = _MARK.unpack(data)
    return int(number) if zlib.crc32(data[:8]) == check else None
