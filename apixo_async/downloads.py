"""Results to files: streamed beside their name, checked, then renamed. The key never goes there.

A download that fails is only a download that failed: the task is done and paid, its URLs live for
15 days, and nothing here ever leads to a second generation.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import os
import random
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import attrs

from apixo_async._timing import full_jitter
from apixo_async.errors import ClientUsageError, DownloadError

CONCURRENT_DOWNLOADS: Final = 16
ATTEMPTS: Final = 8
RETRY_BASE: Final = 0.5
RETRY_CAP: Final = 15.0
MAX_BYTES: Final = 2 * 1024**3
MAX_REDIRECTS: Final = 3
CHUNK: Final = 1024 * 1024
HEAD: Final = 64
"""First bytes of a file that are kept to tell its kind."""
STEM_MAX: Final = 100
_TIMEOUT: Final = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=60)

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


_saved: ContextVar[list[SavedFile] | None] = ContextVar("saved", default=None)


@contextmanager
def noting_saved(files: list[SavedFile]) -> Generator[None]:
    """Adds to `files` what is saved in this block, so that an error in it does not hide them."""
    token = _saved.set(files)
    try:
        yield
    finally:
        _saved.reset(token)


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


def shown_url(url: str) -> str:
    """A URL for messages: without its query, which may be a signature, and without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or not parts.netloc:
        return "a malformed URL"
    text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "".join(mark if mark.isprintable() else "?" for mark in text)


_LABEL: Final = re.compile(r"[\w-]{1,63}")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+(%[\w.-]+)?")


def _check_url(url: str) -> None:
    """Raises `ValueError` for what is no web address; aiohttp trips over some of these."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_named = all(map(_LABEL.fullmatch, host.removesuffix(".").split(".")))
    is_address = ":" in host and _ADDRESS.fullmatch(host) is not None
    # Reading the port checks it.
    if parts.scheme not in {"http", "https"} or parts.port == 0 or not (is_named or is_address):
        msg = "not a web address"
        raise ValueError(msg)


class Downloader:
    """Saves results, `concurrent` at a time, over a session of its own that knows no key."""

    def __init__(
        self,
        *,
        concurrent: int = CONCURRENT_DOWNLOADS,
        max_bytes: int = MAX_BYTES,
        rng: random.Random | None = None,
    ) -> None:
        self._places = asyncio.Semaphore(concurrent)
        self._max_bytes = max_bytes
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not secrets
        self._session: aiohttp.ClientSession | None = None

    async def save(self, url: str, directory: Path, stem: str, *, overwrite: bool) -> SavedFile:
        """Saves one URL as `<stem>.<suffix>` in `directory`, which is made if missing.

        The suffix follows the content. A file that is there is never replaced without `overwrite`;
        then the new one gets the next free name (`stem~2.mp4`). Raises `DownloadError`.
        """
        async with self._places:
            attempt = 0
            while True:
                attempt += 1
                try:
                    file = await self._attempt(url, directory, stem, overwrite=overwrite)
                except DownloadError as error:
                    if error.reason not in _RETRIED or attempt == ATTEMPTS:
                        raise
                else:
                    if (noted := _saved.get()) is not None:
                        noted.append(file)
                    return file
                pause = full_jitter(
                    self._rng.random(), base=RETRY_BASE, cap=RETRY_CAP, attempt=attempt
                )
                await asyncio.sleep(pause)

    async def _attempt(self, url: str, directory: Path, stem: str, *, overwrite: bool) -> SavedFile:
        shown = shown_url(url)
        try:
            _check_url(url)
            async with _PartFile(directory, stem) as part:
                head, content_type = await self._receive(url, part)
                suffix = suffix_of(head, content_type)
                if suffix is None:
                    reason = "not_media"
                    message = f"{shown} answered with {content_type or 'text'}, not with a video"
                else:
                    return await part.keep(suffix, overwrite=overwrite)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
            reason, message = "bad_url", f"not a URL that can be downloaded: {shown}"
        except aiohttp.TooManyRedirects:
            reason, message = "redirects", f"{shown} leads to more than {MAX_REDIRECTS} redirects"
        except (aiohttp.ClientError, TimeoutError) as error:
            reason, message = "network", f"{shown}: {type(error).__name__} while downloading"
        except OSError as error:
            reason, message = "disk", f"cannot write to {directory}: {error.strerror or error}"
        raise DownloadError(message, url=shown, reason=reason)

    async def _receive(self, url: str, part: _PartFile) -> tuple[bytes, str]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Accept-Encoding": "identity"},
                timeout=_TIMEOUT,
            )
        if self._session.closed:
            msg = "the client was closed while it downloaded"
            raise ClientUsageError(msg)
        # aiohttp gives up at the redirect with this number, not after it.
        async with self._session.get(url, max_redirects=MAX_REDIRECTS + 1) as response:
            if response.status != 200:  # noqa: PLR2004  # the one status that carries a whole file
                raise _bad_status(response.status, url)
            # Packed against our wish, a file has another length than was announced.
            is_packed = "Content-Encoding" in response.headers
            expected = None if is_packed else response.content_length
            self._check_size(expected or 0, url)
            while chunk := await response.content.read(CHUNK):
                self._check_size(part.size + len(chunk), url)
                await part.write(chunk)
            if part.size == 0 or (expected is not None and part.size != expected):
                message = f"{shown_url(url)}: got {part.size} of {expected} bytes"
                raise DownloadError(message, url=shown_url(url), reason="short")
            return part.head, response.content_type

    def _check_size(self, size: int, url: str) -> None:
        if size > self._max_bytes:
            message = f"{shown_url(url)} is larger than {self._max_bytes} bytes"
            raise DownloadError(message, url=shown_url(url), reason="too_large")

    async def aclose(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()


_RETRIED: Final = frozenset({"network", "short", "server", "not_media"})
_GONE: Final = frozenset({403, 404, 410})


def _bad_status(status: int, url: str) -> DownloadError:
    shown = shown_url(url)
    if status in _GONE:
        message = f"{shown} is gone (HTTP {status}): results expire, ask for its status again"
        return DownloadError(message, url=shown, reason="gone", http_status=status)
    server_side = status in {408, 425, 429} or status >= 500  # noqa: PLR2004  # by HTTP
    message = f"{shown} answered HTTP {status}"
    reason = "server" if server_side else "refused"
    return DownloadError(message, url=shown, reason=reason, http_status=status)


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


class _PartFile:
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

    async def keep(self, suffix: str, *, overwrite: bool) -> SavedFile:
        """Makes the content durable and gives it its name.

        Cancelled in the very moment it gets the name, the file stays: it is complete.
        """
        await _in_thread(self._settle)
        path = await _in_thread(partial(self._give_name, suffix, overwrite=overwrite))
        return SavedFile(path, self.size, self._hash.hexdigest())

    def _settle(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _give_name(self, suffix: str, *, overwrite: bool) -> Path:
        path = self._directory / f"{self._stem}{suffix}"
        if overwrite:
            self._path.replace(path)
        else:
            number = 1
            while not self._took(path):
                number += 1
                path = self._directory / f"{self._stem}~{number}{suffix}"
        _sync_directory(self._directory)
        return path

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


def file_names(key: str, count: int) -> Mapping[int, str]:
    """The stems of a job's results by index: `key`, `key-2`, `key-3`."""
    stem = file_stem(key)
    return {index: stem if index == 0 else f"{stem}-{index + 1}" for index in range(count)}
