"""Results from their URLs to files, a few at a time. The key never goes there.

A download that fails is only a download that failed: the task is done and paid, its URLs live for
15 days, and nothing here ever leads to a second generation.
"""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from apixo_async._timing import full_jitter
from apixo_async.downloads.files import AboutToName, PartFile, SavedFile, suffix_of
from apixo_async.errors import ClientUsageError, DownloadError

CONCURRENT_DOWNLOADS: Final = 16
ATTEMPTS: Final = 8
RETRY_BASE: Final = 0.5
RETRY_CAP: Final = 15.0
MAX_BYTES: Final = 2 * 1024**3
MAX_REDIRECTS: Final = 3
CHUNK: Final = 1024 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=60)


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

    async def save(
        self,
        url: str,
        directory: Path,
        stem: str,
        *,
        overwrite: bool,
        about_to_name: AboutToName | None = None,
    ) -> SavedFile:
        """Saves one URL as `<stem>.<suffix>` in `directory`, which is made if missing.

        The suffix follows the content. A file that is there is never replaced without `overwrite`;
        then the new one gets the next free name (`stem~2.mp4`). Raises `DownloadError`.
        """
        async with self._places:
            attempt = 0
            while True:
                attempt += 1
                try:
                    return await self._attempt(
                        url, directory, stem, overwrite=overwrite, about_to_name=about_to_name
                    )
                except DownloadError as error:
                    if error.reason not in _RETRIED or attempt == ATTEMPTS:
                        raise
                pause = full_jitter(
                    self._rng.random(), base=RETRY_BASE, cap=RETRY_CAP, attempt=attempt
                )
                await asyncio.sleep(pause)

    async def _attempt(
        self,
        url: str,
        directory: Path,
        stem: str,
        *,
        overwrite: bool,
        about_to_name: AboutToName | None,
    ) -> SavedFile:
        shown = shown_url(url)
        try:
            _check_url(url)
            async with PartFile(directory, stem) as part:
                head, content_type = await self._receive(url, part)
                suffix = suffix_of(head, content_type)
                if suffix is None:
                    reason = "not_media"
                    message = f"{shown} answered with {content_type or 'text'}, not with a video"
                else:
                    return await part.keep(suffix, overwrite=overwrite, about_to_name=about_to_name)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
            reason, message = "bad_url", f"not a URL that can be downloaded: {shown}"
        except aiohttp.TooManyRedirects:
            reason, message = "redirects", f"{shown} leads to more than {MAX_REDIRECTS} redirects"
        except (aiohttp.ClientError, TimeoutError) as error:
            reason, message = "network", f"{shown}: {type(error).__name__} while downloading"
        except OSError as error:
            reason, message = "disk", f"cannot write to {directory}: {error.strerror or error}"
        raise DownloadError(message, url=shown, reason=reason)

    async def _receive(self, url: str, part: PartFile) -> tuple[bytes, str]:
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
