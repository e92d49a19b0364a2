"""Results from their URLs to files, a few at a time. The key never goes there.

A download that fails is only a download that failed: the task is done and paid, its URLs live for
15 days, and nothing here ever leads to a second generation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from apixo_async import _killpoints
from apixo_async._timing import full_jitter
from apixo_async.downloads.boxes import Boxes, is_mp4
from apixo_async.downloads.destinations import (
    AboutToName,
    Destination,
    NameTakenError,
    Part,
    PlaceError,
)
from apixo_async.downloads.directory import Directory
from apixo_async.downloads.files import SavedFile, suffix_of
from apixo_async.downloads.hosts import Guard, PrivateHosts, RefusedHostError
from apixo_async.downloads.resuming import Transfer, is_ended_by_close
from apixo_async.downloads.urls import InsecureRedirectError, read_redirect, read_url, shown_url
from apixo_async.errors import ClientUsageError, DownloadError

if TYPE_CHECKING:
    from yarl import URL

CONCURRENT_DOWNLOADS: Final = 16
ATTEMPTS: Final = 8
"""Attempts in a row that bring nothing new before a download is given up."""
MOST_ATTEMPTS: Final = 100
"""Attempts in all, with those that brought a piece of the file."""
RETRY_BASE: Final = 0.5
RETRY_CAP: Final = 15.0
MOST_NAMES: Final = 5
"""How often a result is sent to a storage that gave its name away meanwhile."""
MAX_BYTES: Final = 2 * 1024**3
MAX_REDIRECTS: Final = 3
CHUNK: Final = 1024 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=60)

_RETRIED: Final = frozenset({"network", "short", "server", "not_media"})
_GONE: Final = frozenset({403, 404, 410})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Downloader:
    """Saves results, `concurrent` at a time, over a session of its own that knows no key.

    Results on private hosts are refused. With `allow_private_hosts` they are fetched; `None` means
    if the host in `api_url` is private itself (see `PrivateHosts`). `max_bytes` is for one file.
    """

    def __init__(
        self,
        *,
        concurrent: int = CONCURRENT_DOWNLOADS,
        max_bytes: int = MAX_BYTES,
        allow_private_hosts: bool | None = None,
        api_url: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._places = asyncio.Semaphore(concurrent)
        self._max_bytes = max_bytes
        self._private_hosts = PrivateHosts(allow_private_hosts, api_url)
        self._guard = Guard()
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not secrets
        self._session: aiohttp.ClientSession | None = None

    async def save(
        self,
        url: str,
        to: Destination | Path,
        stem: str,
        *,
        overwrite: bool,
        about_to_name: AboutToName | None = None,
    ) -> SavedFile:
        """Saves one URL as `<stem>.<suffix>` at a destination, or in a directory of this path.

        The suffix follows the content. A file that is there is never replaced without `overwrite`;
        then the new one gets the next free name (`stem~2.mp4`). A transfer that breaks off is
        resumed where the server allows it, else begun anew; it is given up after `ATTEMPTS` in a
        row that brought nothing.

        `about_to_name` is awaited with the file as it will be, once the content is complete and
        durable and before it has its name; again with the next name if this one was just taken.
        What it raises ends the download, and the content is removed.

        Raises `DownloadError`, and `InvalidSettingError` for a storage whose package is missing.
        """
        destination = Directory(to) if isinstance(to, Path) else to
        async with self._places:
            self._guard.allow_private = await self._private_hosts.are_allowed()
            reason, word = "", PlaceError.word
            for _ in range(MOST_NAMES):
                try:
                    return await self._saved(url, destination, stem, overwrite, about_to_name)
                except NameTakenError:
                    reason = f"others took each name for {stem}"
                except PlaceError as error:
                    reason, word = str(error), error.word
                    break
            message = f"cannot write to {destination.place}: {reason}"
            raise DownloadError(message, url=shown_url(url), reason=word)

    async def _saved(
        self,
        url: str,
        destination: Destination,
        stem: str,
        overwrite: bool,  # noqa: FBT001  # as `save` was told
        about_to_name: AboutToName | None,
    ) -> SavedFile:
        fetch = _Fetch(self._opened_session(), self._guard, self._max_bytes, url)
        fetch.read_url()
        async with destination.part(stem, overwrite=overwrite) as part:
            suffix = await self._until_whole(fetch, part)
            return await part.keep(suffix, about_to_name)

    async def _until_whole(self, fetch: _Fetch, part: Part) -> str:
        """The suffix of the file, after as many attempts as it takes."""
        fruitless = attempts = 0
        while True:
            attempts += 1
            try:
                return await fetch.attempt(part)
            except DownloadError as error:
                has_advanced = error.reason != "not_media" and fetch.transfer.advanced(part.size)
                fruitless = 0 if has_advanced else fruitless + 1
                is_hopeless = fruitless == ATTEMPTS or attempts == MOST_ATTEMPTS
                if error.reason not in _RETRIED or is_hopeless:
                    raise
            pause = full_jitter(
                self._rng.random(), base=RETRY_BASE, cap=RETRY_CAP, attempt=fruitless
            )
            await asyncio.sleep(pause)

    def _opened_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0, socket_factory=self._guard.socket),
                headers={"Accept-Encoding": "identity"},
                timeout=_TIMEOUT,
            )
        return self._session

    async def aclose(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()


class _Fetch:
    """One file from its URL, attempt by attempt. Every failure is a `DownloadError`."""

    def __init__(
        self, session: aiohttp.ClientSession, guard: Guard, max_bytes: int, url: str
    ) -> None:
        self._session = session
        self._guard = guard
        self._max_bytes = max_bytes
        self._url = url
        self.shown = shown_url(url)
        self.transfer = Transfer()

    def read_url(self) -> URL:
        """The URL, checked."""
        try:
            return read_url(self._url, allow_private=self._guard.allow_private)
        except RefusedHostError as error:
            failure = self._refused_host(error)
        except ValueError:
            failure = self._bad_url()
        raise failure

    async def attempt(self, part: Part) -> str:
        """Adds to the part what is missing; the suffix of the file when it is whole."""
        if self._session.closed:
            msg = "the client was closed while it downloaded"
            raise ClientUsageError(msg)
        shown = self.shown
        try:
            headers = self.transfer.request_headers(part.size)
            async with self._answer(self.read_url(), headers) as response:
                await self._begin(response, part, asked_for_rest=bool(headers))
                await self._receive(response, part)
                return self._suffix(response, part)
        except RefusedHostError as error:
            failure = self._refused_host(error)
        except InsecureRedirectError:
            failure = self._failure("redirects", f"{shown} redirects to a place without TLS")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedHostError):
                failure = self._refused_host(error.os_error)
            else:
                failure = self._broken_off(error)
        except (OSError, aiohttp.ClientError) as error:  # the first includes TimeoutError
            failure = self._broken_off(error)
        raise failure

    @asynccontextmanager
    async def _answer(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer at the end of the redirects, each of which is checked like the first URL."""
        for _ in range(MAX_REDIRECTS + 1):
            async with await self._asked(url, headers) as response:
                place = response.headers.get("Location")
                if response.status not in _REDIRECTS or place is None:
                    yield response
                    return
            url = self._redirected(url, place)
        message = f"{self.shown} leads to more than {MAX_REDIRECTS} redirects"
        raise self._failure("redirects", message)

    # A `ValueError` speaks of the URL here, and of nothing else: a part may raise some of its own.

    async def _asked(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        try:
            return await self._session.get(url, headers=headers, allow_redirects=False)
        except (aiohttp.NonHttpUrlClientError, ValueError):
            failure = self._bad_url()
        raise failure

    def _redirected(self, url: URL, place: str) -> URL:
        try:
            return read_redirect(url, place, allow_private=self._guard.allow_private)
        except ValueError:
            failure = self._bad_url()
        raise failure

    async def _begin(
        self, response: aiohttp.ClientResponse, part: Part, *, asked_for_rest: bool
    ) -> None:
        """Gets the part ready for what comes: kept for the rest of the file, cleared for all."""
        status, transfer = response.status, self.transfer
        if status == HTTPStatus.OK:
            await part.clear()
            transfer.start(response.headers, response.content_length)
        elif not asked_for_rest or status not in {
            HTTPStatus.PARTIAL_CONTENT,
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        }:
            raise self._bad_status(status)
        elif status != HTTPStatus.PARTIAL_CONTENT or not transfer.goes_on(
            response.headers, part.size
        ):
            transfer.distrust()
            raise self._failure("server", f"{self.shown} did not go on where it broke off")
        self._check_size(transfer.total or 0)

    async def _receive(self, response: aiohttp.ClientResponse, part: Part) -> None:
        transfer = self.transfer
        boxes = Boxes() if is_ended_by_close(response.headers) else None
        while chunk := await response.content.read(CHUNK):
            size = part.size + len(chunk)
            self._check_size(size)
            if transfer.total is not None and size > transfer.total:
                transfer.distrust()
                break
            await part.write(chunk)
            if boxes is not None:
                boxes.add(chunk)
            _killpoints.reached("K9")
        else:
            is_cut = boxes is not None and is_mp4(part.head) and boxes.are_cut
            if part.size and transfer.total in {None, part.size} and not is_cut:
                return
        of = "a longer file" if transfer.total is None else f"{transfer.total} bytes"
        message = f"{self.shown}: got {part.size} of {of}"
        raise self._failure("short", message)

    def _suffix(self, response: aiohttp.ClientResponse, part: Part) -> str:
        content_type = response.content_type
        suffix = suffix_of(part.head, content_type)
        if suffix is None:
            self.transfer.drop()
            message = f"{self.shown} answered with {content_type or 'text'}, not with a video"
            raise self._failure("not_media", message)
        return suffix

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"{self.shown} is larger than {self._max_bytes} bytes"
            raise self._failure("too_large", message)

    # Failures

    def _failure(self, reason: str, message: str, status: int | None = None) -> DownloadError:
        return DownloadError(message, url=self.shown, reason=reason, http_status=status)

    def _bad_url(self) -> DownloadError:
        return self._failure("bad_url", f"not a URL that can be downloaded: {self.shown}")

    def _broken_off(self, error: Exception) -> DownloadError:
        message = f"{self.shown}: {type(error).__name__} while downloading"
        return self._failure("network", message)

    def _refused_host(self, error: RefusedHostError) -> DownloadError:
        message = (
            f"{self.shown} is not fetched: {error}; if you trust it, "
            "open the client with allow_private_hosts=True"
        )
        return self._failure("refused_host", message)

    def _bad_status(self, status: int) -> DownloadError:
        if status in _GONE:
            message = f"{self.shown} is gone (HTTP {status})"
            return self._failure("gone", message, status)
        server_side = status in {408, 425, 429} or status >= 500  # noqa: PLR2004  # by HTTP
        message = f"{self.shown} answered HTTP {status}"
        return self._failure("server" if server_side else "refused", message, status)
