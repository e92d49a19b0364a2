"""What is done in one directory of a filesystem of fsspec, and where its calls may block."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import attrs

T = TypeVar("T")

BLOCK: Final = 5 * 1024 * 1024
"""Bytes that are sent at once: the least that S3 takes for a part, as each upload holds them."""

UNTOLD: Final = -1
"""The size of what is there but does not tell it."""


@attrs.frozen
class Opened:
    """A filesystem of fsspec, and what is done in one directory of it. All of this blocks."""

    filesystem: Any
    directory: str

    def path(self, name: str) -> str:
        """The path of a file."""
        return f"{self.directory.rstrip('/')}/{name}" if self.directory else name

    def size(self, name: str) -> int | None:
        """The size in bytes or `UNTOLD`; `None` if there is nothing of this name."""
        path = self.path(name)
        self.filesystem.invalidate_cache(path)
        try:
            info = self.filesystem.info(path)
        except FileNotFoundError:
            return None
        size = info.get("size")
        return size if isinstance(size, int) and info.get("type") == "file" else UNTOLD

    def uncommitted(self, name: str, *, overwrite: bool, block: int) -> Any:  # noqa: ANN401  # fsspec says no more
        """A file that is nothing until `commit()`; without `overwrite` not if its name is taken."""
        mode = "wb" if overwrite else "xb"
        file = self.filesystem.open(self.path(name), mode, autocommit=False, block_size=block)
        # Kept for a transaction that we do not use; it would grow for ever.
        with suppress(ValueError):
            self.filesystem.transaction.files.remove(file)
        return file

    def new(self, name: str, *, block: int) -> Any:  # noqa: ANN401  # as above
        """A file under this name."""
        return self.filesystem.open(self.path(name), "wb", block_size=block)

    def temporary(self, stem: str) -> str:
        """A name that nobody has."""
        return f"{stem}.{os.urandom(4).hex()}.part"

    def move(self, name: str, to: str) -> None:
        """Gives a file another name."""
        self.filesystem.mv(self.path(name), self.path(to))

    def remove(self, name: str) -> None:
        """Removes a file."""
        self.filesystem.rm_file(self.path(name))

    def is_this(self, name: str, size: int, sha256: str) -> bool:
        """Whether a file has this content. To read it costs less than to send it again."""
        if self.size(name) not in {size, UNTOLD}:
            return False
        digest = hashlib.sha256()
        with self.filesystem.open(self.path(name), "rb", block_size=BLOCK) as file:
            while chunk := file.read(BLOCK):
                digest.update(chunk)
        return digest.hexdigest() == sha256.lower()


class Place(Protocol):
    """A storage, to what is on its way there."""

    place: str
    """Its URL."""

    async def run(self, work: Callable[[Opened], T]) -> T:
        """What `work` returns, done in a thread; raises `StorageError`."""
        ...

    def told(self, error: Exception) -> str:
        """What is wrong, without secrets."""
        ...
