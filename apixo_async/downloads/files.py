"""Results on disk: safe names, the kind of a file by its content, and files that appear whole."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeAlias, TypeVar

import attrs

HEAD: Final = 64
"""First bytes of a file that are kept to tell its kind."""
STEM_MAX: Final = 100

T = TypeVar("T")


@attrs.frozen
class SavedFile:
    """A result on disk; usable wherever a path is. `size` is in bytes, `sha256` in hex."""

    path: Path
    size: int
    sha256: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)


AboutToName: TypeAlias = Callable[[SavedFile], Awaitable[None]]
"""Awaited before a complete file gets the name that it is told with."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE | re.ASCII)


def file_stem(key: str) -> str:
    """A file name without suffix for a job key, safe on every file system.

    Letters, digits, dot, dash and underscore stay. When anything had to change, part of a hash of
    the key is appended. It never comes from a URL or a header.
    """
    stem = _UNSAFE.sub("_", key).strip("._")[:STEM_MAX]
    is_usable = bool(stem) and not _RESERVED.fullmatch(stem)
    if is_usable and stem == key:
        return stem
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stem if is_usable else 'video'}-{digest}"


_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (4, b"ftyp", ".mp4"),
    (0, b"\x1aE\xdf\xa3", ".webm"),
    (0, b"\x89PNG", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (8, b"WEBP", ".webp"),
    (0, b"GIF8", ".gif"),
    (8, b"WAVE", ".wav"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
)


def suffix_of(head: bytes, content_type: str) -> str | None:
    """The file suffix by the first bytes; `None` for a page or message that is no media at all."""
    for offset, signature, suffix in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return suffix
    is_text = content_type.startswith(("text/", "application/json")) or _reads_as_text(head)
    return None if is_text else ".bin"


def _reads_as_text(head: bytes) -> bool:
    """Whether this is a page or all printable: a message that was announced as a video."""
    if head.lstrip()[:1] in {b"<", b"{"}:
        return True
    try:
        # The head may end within a character.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(mark.isprintable() or mark.isspace() for mark in text)


def file_names(key: str, count: int) -> Mapping[int, str]:
    """The stems of a job's results by index: `key`, `key-2`, `key-3`."""
    stem = file_stem(key)
    return {index: stem if index == 0 else f"{stem}-{index + 1}" for index in range(count)}


async def _in_thread(work: Callable[[], T]) -> T:
    """Does blocking work in a thread. Cancelled, it waits for the thread before it passes that on.

    A thread cannot be stopped, and what cleans up while it still writes leaves something behind.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        raise


def _mark(number: int) -> str:
    """What tells files of one name apart: the first has no mark, the second is `~2`."""
    return "" if number == 1 else f"~{number}"


def _is_taken(path: Path) -> bool:
    return os.path.lexists(path)


class PartFile:
    """`<stem>.<random>.part` in a directory; gone afterwards, unless it got its final name."""

    def __init__(self, directory: Path, stem: str) -> None:
        self._directory = directory
        self._stem = stem
        # Two downloads of one stem must not share a file; the name of a part has no meaning.
        self._path = directory / f"{stem}.{os.urandom(4).hex()}.part"
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""
        """The first bytes, which may have come in several chunks."""

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self._open)
        except BaseException:
            await _in_thread(self._discard)
            raise
        return self

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("xb")

    async def write(self, chunk: bytes) -> None:
        """Adds to the end."""
        self.head += chunk[: HEAD - len(self.head)]
        self.size += len(chunk)
        await _in_thread(partial(self._write, chunk))

    def _write(self, chunk: bytes) -> None:
        if self._file is not None:
            self._file.write(chunk)
            self._hash.update(chunk)

    async def keep(
        self, suffix: str, *, overwrite: bool, about_to_name: AboutToName | None = None
    ) -> SavedFile:
        """Makes the content durable and gives it its name, after `about_to_name` was told it.

        Cancelled in the very moment it gets the name, the file stays: it is complete.
        """
        await _in_thread(self._settle)
        number = 0
        while True:
            number += 1
            path = self._directory / f"{self._stem}{_mark(number)}{suffix}"
            if not overwrite and await _in_thread(partial(_is_taken, path)):
                continue
            file = SavedFile(path, self.size, self._hash.hexdigest())
            if about_to_name is not None:
                await about_to_name(file)
            if await _in_thread(partial(self._give_name, path, overwrite=overwrite)):
                return file

    def _settle(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _give_name(self, path: Path, *, overwrite: bool) -> bool:
        if overwrite:
            self._path.replace(path)
        elif not self._took(path):
            return False
        _sync_directory(self._directory)
        return True

    def _took(self, path: Path) -> bool:
        """Whether the file now has this name; false if it was taken, also by a fast neighbour."""
        try:
            # Unlike a rename, a link fails if the name is taken. The other name goes at the end.
            path.hardlink_to(self._path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return self._replaced_placeholder(path)
        return True

    def _replaced_placeholder(self, path: Path) -> bool:
        try:
            path.open("xb").close()
        except FileExistsError:
            return False
        try:
            self._path.replace(path)
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
        # Closing writes what is still buffered, which fails again on a full disk; that must
        # neither hide the first error nor keep the file from being removed.
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Makes a new name durable where directories can be synced; the content is safe already."""
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
