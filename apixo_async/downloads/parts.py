"""A file on its way: written under a temporary name, named when it is complete, else removed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from apixo_async.downloads.claims import Claim, claim, create, mark
from apixo_async.downloads.destinations import HEAD, AboutToName, PlaceError
from apixo_async.downloads.files import SavedFile
from apixo_async.downloads.threads import in_thread

T = TypeVar("T")


class DiskError(PlaceError):
    """The disk refused; the text is its reason."""


async def _in_thread(work: Callable[[], T]) -> T:
    """Does work with the disk in a thread; raises `DiskError`."""
    try:
        return await in_thread(work)
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a name with a null byte
        reason = str(error)
    raise DiskError(reason)


class PartFile:
    """`<stem>.part` in a directory; gone afterwards, unless it got its final name.

    Whatever the disk refuses is raised as `DiskError`.
    """

    def __init__(self, directory: Path, stem: str, *, overwrite: bool) -> None:
        self._directory = directory
        self._stem = stem
        self._overwrite = overwrite
        self._claim: Claim | None = None
        self._file: BinaryIO | None = None
        self._is_renamed = False
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""
        """The first bytes, which may have come in several chunks."""

    def probe(self) -> None:
        """Begins the file, brings a byte of it to the disk, and removes it. Blocks.

        Raises `OSError`, or `ValueError` for a name with a null byte.
        """
        try:
            self._open()
            self._write(b"\0")
            self._settle()
        finally:
            self._discard()

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self._open)
        except BaseException:
            await _in_thread(self._discard)
            raise
        return self

    def _open(self) -> None:
        self._claim = claim(self._directory, self._stem)
        self._file = os.fdopen(self._claim.descriptor, "wb")

    async def write(self, chunk: bytes) -> None:
        """Adds to the end."""
        self.head += chunk[: HEAD - len(self.head)]
        self.size += len(chunk)
        await _in_thread(partial(self._write, chunk))

    def _write(self, chunk: bytes) -> None:
        if self._file is not None:
            self._file.write(chunk)
            self._hash.update(chunk)

    async def clear(self) -> None:
        """Removes what was written: the file begins anew."""
        if self.size:
            await _in_thread(self._clear)
        self.size, self.head, self._hash = 0, b"", hashlib.sha256()

    def _clear(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    async def keep(self, suffix: str, about_to_name: AboutToName | None = None) -> SavedFile:
        """Makes the content durable and gives it its name, after `about_to_name` was told it.

        Cancelled in the very moment it gets the name, the file stays: it is complete.
        """
        await _in_thread(self._settle)
        overwrite = self._overwrite
        number = 0
        while True:
            number += 1
            path = self._directory / f"{self._stem}{mark(number)}{suffix}"
            file = SavedFile(path, self.size, self._hash.hexdigest())
            if about_to_name is not None:
                # Nobody is told of a name that is plainly taken.
                if not overwrite and await _in_thread(partial(os.path.lexists, path)):
                    continue
                await about_to_name(file)
            if await _in_thread(partial(self._give_name, path, overwrite=overwrite)):
                return file

    def _settle(self) -> None:
        if self._claim is None or self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        # Closing ends the lock, which is needed until the temporary name has gone. Where there is
        # no lock, the system may well want a file closed that gets a name.
        if not self._claim.is_locked:
            self._file.close()

    def _give_name(self, path: Path, *, overwrite: bool) -> bool:
        """Whether the file now has this name; false if it was taken, also by a fast neighbour."""
        if self._claim is None:
            return False
        if self._claim.is_locked and not self._claim.still_holds():
            msg = f"{self._claim.path.name} was taken away"
            raise OSError(msg)
        if overwrite:
            self._rename(self._claim.path, path)
        else:
            try:
                # Unlike a rename, a link fails if the name is taken. The other name goes at the
                # end.
                path.hardlink_to(self._claim.path)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if not self._replaced_placeholder(self._claim.path, path):
                    return False
        _sync_directory(self._directory)
        return True

    def _rename(self, part: Path, path: Path) -> None:
        part.replace(path)
        # From now on the temporary name may be somebody else's.
        self._is_renamed = True

    def _replaced_placeholder(self, part: Path, path: Path) -> bool:
        try:
            os.close(create(path))
        except FileExistsError:
            return False
        try:
            self._rename(part, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return True

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _in_thread(self._discard)

    def _discard(self) -> None:
        if self._claim is None:
            return
        # The name goes before its lock; without a lock the other way round, see `_settle`.
        steps = [self._remove_name, self._close]
        for step in steps if self._claim.is_locked else reversed(steps):
            # Closing writes what is still buffered, which fails again on a full disk; that must
            # neither hide the first error nor keep the file from being removed.
            with suppress(OSError):
                step()
        self._claim.release()

    def _remove_name(self) -> None:
        if self._claim is None or self._is_renamed:
            return
        if not self._claim.is_locked or self._claim.still_holds():
            self._claim.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        elif self._claim is not None:
            os.close(self._claim.descriptor)


def _sync_directory(directory: Path) -> None:
    """Makes a new name durable where directories can be synced; the content is safe already."""
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
