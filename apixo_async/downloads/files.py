"""Results on disk: safe names, the kind of a file by its content, and what was saved before."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from apixo_async._places import Place, as_path
from apixo_async.downloads.claims import mark
from apixo_async.errors import ClientUsageError

STEM_MAX: Final = 100


@attrs.frozen
class SavedFile:
    """A result that was saved; usable wherever a path is."""

    place: Place
    """Its path, or as text its URL if it was saved to a storage; fsspec opens either."""
    size: int
    """Its size in bytes."""
    sha256: str
    """The SHA-256 of its content, in hex."""

    @property
    def path(self) -> Path:
        """Its path; raises `ClientUsageError` for what is in a storage and has none."""
        if isinstance(self.place, str):
            raise ClientUsageError(f"{self.place} has no path on this machine: use place or str()")
        return self.place

    def __fspath__(self) -> str:
        return as_path(self.place)

    def __str__(self) -> str:
        return str(self.place)


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


_SUFFIXES: Final = (*dict.fromkeys(suffix for _, _, suffix in _SIGNATURES), ".bin")


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


def find_saved(directory: Path, stem: str, *, size: int, sha256: str) -> SavedFile | None:
    """The file of `size` bytes and this hash (hex) among those that were saved as `stem`.

    Looks at `<stem>.<suffix>`, `<stem>~2.<suffix>` and so on; `None` if it is not there or cannot
    be read. Blocks, so call it in a thread.
    """
    for path in _saved_as(directory, stem):
        with suppress(OSError):
            if path.stat().st_size == size and _hash_of(path) == sha256.lower():
                return SavedFile(path, size, sha256.lower())
    return None


def _saved_as(directory: Path, stem: str) -> Iterator[Path]:
    number = 0
    paths: list[Path] = []
    # The first may have been moved away since, so its absence ends nothing.
    while number <= 1 or paths:
        number += 1
        named = [directory / f"{stem}{mark(number)}{suffix}" for suffix in _SUFFIXES]
        paths = [path for path in named if path.is_file()]
        yield from paths


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
