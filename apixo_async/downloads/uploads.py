"""Results on their way into a storage that fsspec knows: written unseen, then shown at once.

Two ways lead there. A bucket of S3 or Google takes an upload in parts, which is nothing until it is
completed, and is bound to its name from the start. Everywhere else the content goes to a temporary
name, which is then moved.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from apixo_async._logs import LOGGER, fields
from apixo_async._places import joined
from apixo_async.downloads.claims import mark
from apixo_async.downloads.destinations import HEAD, AboutToName, NameTakenError
from apixo_async.downloads.files import SavedFile, suffix_of
from apixo_async.downloads.filesystems import BLOCK, UNTOLD, Opened, Place


class Upload(ABC):
    """One result. Methods with an underscore block, one at a time, in threads."""

    def __init__(self, storage: Place, stem: str, *, overwrite: bool) -> None:
        self._storage = storage
        self._stem = stem
        self._overwrite = overwrite
        self._held = bytearray()
        """What came before the file was opened: its kind, so its name, follows from its head."""
        self._file: Any = None
        self._is_named = False
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""

    async def __aenter__(self) -> Self:
        # Nothing is fetched for a storage that cannot be opened.
        await self._storage.run(lambda _: None)
        return self

    async def write(self, chunk: bytes) -> None:
        """Adds to the end."""
        self.head += chunk[: HEAD - len(self.head)]
        self.size += len(chunk)
        await self._storage.run(partial(self._write, chunk=chunk))

    def _write(self, opened: Opened, *, chunk: bytes) -> None:
        self._hash.update(chunk)
        if self._file is not None:
            self._file.write(chunk)
            return
        self._held += chunk
        if len(self._held) >= HEAD:
            self._begin(opened)

    def _begin(self, opened: Opened) -> Any:  # noqa: ANN401  # fsspec says no more
        """The file, opened, with what was held."""
        self._file = file = self._open(opened)
        held, self._held = bytes(self._held), bytearray()
        file.write(held)
        return file

    @abstractmethod
    def _open(self, opened: Opened) -> Any: ...  # noqa: ANN401  # as above

    async def clear(self) -> None:
        """Throws away what was written: the file begins anew."""
        if self.size:
            await self._storage.run(self._discard)
        self.size, self.head, self._hash = 0, b"", hashlib.sha256()

    async def keep(self, suffix: str, about_to_name: AboutToName | None = None) -> SavedFile:
        """Sends the rest and shows the file under its name, after `about_to_name` was told it."""
        await self._storage.run(self._finish)
        number = 0
        while True:
            number += 1
            name = await self._storage.run(partial(self._next_name, suffix=suffix, number=number))
            if name is None:
                continue
            place = joined(self._storage.place, name)
            file = SavedFile(place, self.size, self._hash.hexdigest())
            if about_to_name is not None:
                await about_to_name(file)
            if await self._storage.run(partial(self._give_name, name=name)):
                return file

    def _finish(self, opened: Opened) -> None:
        file = self._begin(opened) if self._file is None else self._file
        file.close()

    @abstractmethod
    def _next_name(self, opened: Opened, *, suffix: str, number: int) -> str | None:
        """The name to be tried as the `number`-th; `None` if it is taken."""

    @abstractmethod
    def _give_name(self, opened: Opened, *, name: str) -> bool:
        """Whether the content now has this name; false if it was taken."""

    def _check(self, opened: Opened, *, name: str) -> None:
        """Holds what is there to the size of what was sent."""
        size = opened.size(name)
        if size not in {self.size, UNTOLD}:
            msg = f"{self.size} bytes were sent as {name}, and it has {size or 'none'}"
            raise OSError(msg)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_named and (self._file is not None or self._held):
            await self._storage.run(self._discard)

    def _discard(self, opened: Opened) -> None:
        self._held = bytearray()
        file, self._file = self._file, None
        if file is None:
            return
        try:
            self._throw_away(opened, file)
        except Exception as error:  # noqa: BLE001  # of whatever kind: it must not hide the first
            LOGGER.warning(
                "what was sent of %s could not be removed from %s: %s",
                self._stem,
                self._storage.place,
                self._storage.told(error),
                extra=fields("upload_left", path=self._storage.place, error=error),
            )

    @abstractmethod
    def _throw_away(self, opened: Opened, file: Any) -> None: ...  # noqa: ANN401  # as above


class Bound(Upload):
    """An upload in parts, which is nothing until it is completed and has its name from the start.

    The files of s3fs and gcsfs are such, with `autocommit=False`.
    """

    _name = ""

    def _open(self, opened: Opened) -> Any:  # noqa: ANN401  # as above
        suffix = suffix_of(self.head, "") or ".bin"  # as what is no media is never kept
        number = 1
        while not self._overwrite and opened.size(self._named(suffix, number)) is not None:
            number += 1
        self._name = self._named(suffix, number)
        return opened.uncommitted(self._name, overwrite=self._overwrite, block=BLOCK)

    def _named(self, suffix: str, number: int) -> str:
        return f"{self._stem}{mark(number)}{suffix}"

    def _next_name(self, opened: Opened, *, suffix: str, number: int) -> str | None:
        """Nobody is told of a name that is plainly taken."""
        del suffix, number
        if not self._overwrite and opened.size(self._name) is not None:
            raise NameTakenError
        return self._name

    def _give_name(self, opened: Opened, *, name: str) -> bool:
        try:
            self._file.commit()
        except OSError:
            # The answer may have been lost, so that what has the name is ours; or somebody was
            # faster, for which stores have different words.
            if opened.size(name) is None:
                raise
            if not opened.is_this(name, self.size, self._hash.hexdigest()):
                if self._overwrite:
                    raise
                raise NameTakenError from None
        self._is_named = True
        self._check(opened, name=name)
        return True

    def _throw_away(self, opened: Opened, file: Any) -> None:  # noqa: ANN401  # as above
        del opened
        # Closing sends what is held; an open file would be closed when it is forgotten.
        file.closed = True
        file.discard()


class Moved(Upload):
    """A file under a temporary name, which is moved when it is whole."""

    _temporary = ""

    def _open(self, opened: Opened) -> Any:  # noqa: ANN401  # as above
        self._temporary = opened.temporary(self._stem)
        return opened.new(self._temporary, block=BLOCK)

    def _next_name(self, opened: Opened, *, suffix: str, number: int) -> str | None:
        name = f"{self._stem}{mark(number)}{suffix}"
        return name if self._overwrite or opened.size(name) is None else None

    def _give_name(self, opened: Opened, *, name: str) -> bool:
        # Nothing that all storages have moves a file only if the name is free.
        if not self._overwrite and opened.size(name) is not None:
            return False
        self._check(opened, name=self._temporary)
        opened.move(self._temporary, name)
        self._is_named = True
        self._check(opened, name=name)
        return True

    def _throw_away(self, opened: Opened, file: Any) -> None:  # noqa: ANN401  # as above
        # What cannot be written any more cannot be closed either, but there may be a file.
        with suppress(Exception):
            file.close()
        if opened.size(self._temporary) is not None:
            opened.remove(self._temporary)
