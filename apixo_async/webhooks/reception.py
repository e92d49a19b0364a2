"""Taking callbacks: who is let in, what is answered, who is told; no server and no framework."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from os import PathLike
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import attrs

from apixo_async._logs import LOGGER, fields
from apixo_async._narrow import shown
from apixo_async._wire import read_claim
from apixo_async.errors import ApixoError, InvalidSettingError
from apixo_async.webhooks.bodies import read_capped, unfit
from apixo_async.webhooks.capabilities import Signer, Slip
from apixo_async.webhooks.orphans import Callback, MemoryOrphans, NoOrphans, Orphans, SharedOrphans

RECORD_SECONDS: Final = 0.8
"""How long a record may take before the sender is told to come again."""
Listener: TypeAlias = Callable[[Callback], Awaitable[bool]]
"""Takes a callback; true if it was for this one, and then what it says is on disk where there is
a journal. It may raise `JournalError`."""


@attrs.frozen(kw_only=True)
class ReceiverStatistics:
    """What came in so far."""

    taken: int = 0
    """Callbacks that were answered 200."""
    orphans: int = 0
    """Callbacks, answered 200 or 503, that were for no job that is known here."""
    forged: int = 0
    """Requests with a wrong or no MAC, which look like unknown paths."""
    refused: int = 0
    """Requests that were malformed, too slow or too large."""
    postponed: int = 0
    """Callbacks that could not be recorded, and were answered 503."""


class Reception:
    """Takes callbacks apart from any server: lets them in, reads them, and tells who asked."""

    def __init__(
        self,
        public_url: str,
        *,
        secret: str | bytes | Sequence[str | bytes],
        inbox: str | PathLike[str] | SharedOrphans | None = None,
        keeps_orphans: bool = True,
    ) -> None:
        self.public_url = _checked_url(public_url)
        self._signer = Signer(secret)
        self._inbox = _inbox(inbox)
        self._orphans: Orphans
        if self._inbox is not None:
            self._orphans = self._inbox
        else:
            self._orphans = MemoryOrphans() if keeps_orphans else NoOrphans()
        self._watching: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._listeners: dict[Listener, asyncio.AbstractEventLoop] = {}
        self._telling: set[asyncio.Task[bool]] = set()
        self._counts: Counter[str] = Counter()

    def url(self, slip: Slip) -> str:
        """Where the API is to report the outcome of this submit.

        Args:
            slip: The job and the try.
        """
        return f"{self.public_url}/{self._signer.token(slip)}"

    def statistics(self) -> ReceiverStatistics:
        """What came in so far."""
        return ReceiverStatistics(**self._counts)

    # Who is told

    def connect(self, listener: Listener) -> None:
        """Tells `listener` of every callback from now on, on the event loop that runs now."""
        loop = asyncio.get_running_loop()
        self._listeners[listener] = loop
        if self._inbox is not None and loop not in self._watching:
            self._watching[loop] = asyncio.create_task(self._inbox.watch(self._is_taken_here))

    def disconnect(self, listener: Listener) -> None:
        """Tells it no more."""
        loop = self._listeners.pop(listener, None)
        if loop is not None and loop not in self._listeners.values():
            watching = self._watching.pop(loop, None)
            if watching is not None and loop is asyncio.get_running_loop():
                watching.cancel()

    async def orphans_of(self, job: str) -> Sequence[Callback]:
        """What came for a job before anybody here knew it; `drop_orphan` what is recorded."""
        return await self._orphans.find(job)

    async def orphaned(self) -> Collection[str]:
        """Jobs that there are such callbacks for."""
        return await self._orphans.jobs()

    async def drop_orphan(self, callback: Callback) -> None:
        """Somebody has taken it."""
        await self._orphans.drop(callback)

    # One callback, in two steps: before its body is read, and after

    def admit(self, method: str, path: str, headers: Mapping[str, str]) -> Slip | HTTPStatus:
        """Whom a request is for, by the last part of its path, or the status to refuse it with.

        Whoever does not know a URL is told nothing but that there is no such path. `headers` are
        looked up by lower-case names.
        """
        slip = self._signer.read(path.rpartition("/")[2])
        if slip is None:
            self._counts["forged"] += 1
            return HTTPStatus.NOT_FOUND
        status = unfit(method, headers)
        if status is not None:
            self._counts["refused"] += 1
            return status
        return slip

    async def receive(self, slip: Slip, chunks: AsyncIterator[bytes]) -> HTTPStatus:
        """Reads the body of an admitted request and takes it; returns the status to answer with."""
        body = await read_capped(chunks)
        if isinstance(body, bytes):
            return await self.take(slip, body)
        self._counts["refused"] += 1
        return body

    async def take(self, slip: Slip, body: bytes) -> HTTPStatus:
        """Takes what a callback says; returns the status to answer with."""
        try:
            callback = Callback(slip, read_claim(body))
        except ValueError as error:
            LOGGER.warning(
                "a callback for %s was not understood: %s",
                slip.job,
                error,
                extra=fields(
                    "callback_garbled", submit=slip.job, attempt=slip.attempt, error=error
                ),
            )
            self._counts["refused"] += 1
            return HTTPStatus.BAD_REQUEST
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                is_known = await asyncio.shield(self._telling_of(callback))
        except (ApixoError, OSError) as error:  # a TimeoutError is an OSError, too
            LOGGER.warning(
                "a callback for %s could not be recorded: %r",
                slip.job,
                error,
                extra=fields(
                    "callback_postponed",
                    submit=slip.job,
                    attempt=slip.attempt,
                    task_id=callback.claim.task_id,
                    error=error,
                ),
            )
            self._counts["postponed"] += 1
            return HTTPStatus.SERVICE_UNAVAILABLE
        self._counts["orphans"] += not is_known
        if not is_known and slip.has_journal and not self._orphans.is_durable:
            # What is in memory may be gone before the journal that it is for is open again.
            self._counts["postponed"] += 1
            return HTTPStatus.SERVICE_UNAVAILABLE
        self._counts["taken"] += 1
        return HTTPStatus.OK

    def _telling_of(self, callback: Callback) -> asyncio.Task[bool]:
        """Goes on when its sender has been told to come again, for what it says may be rare."""
        telling = asyncio.create_task(self._told(callback))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        telling.add_done_callback(lambda done: done.cancelled() or done.exception())
        return telling

    async def _told(self, callback: Callback) -> bool:
        """Whether anybody took it; if not, it is kept."""
        is_taken = await self._is_taken(callback)
        if not is_taken:
            await self._orphans.put(callback)
        return is_taken

    async def _is_taken(self, callback: Callback) -> bool:
        if await self._is_taken_here(callback):
            return True
        here = asyncio.get_running_loop()
        for listener, loop in list(self._listeners.items()):
            if loop is not here and await _is_taken_there(listener, loop, callback):
                return True
        return False

    async def _is_taken_here(self, callback: Callback) -> bool:
        """Whether a listener of this event loop took it."""
        here = asyncio.get_running_loop()
        for listener, loop in list(self._listeners.items()):
            if loop is here and await listener(callback):
                return True
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.public_url}>"


async def _is_taken_there(
    listener: Listener, loop: asyncio.AbstractEventLoop, callback: Callback
) -> bool:
    """Asks a listener of another event loop; one that does not run has nobody to ask."""
    if not loop.is_running():
        return False
    asking = _awaited(listener, callback)
    try:
        there = asyncio.run_coroutine_threadsafe(asking, loop)
    except RuntimeError:  # it was closed in this moment
        asking.close()
        return False
    return await asyncio.wrap_future(there)


async def _awaited(listener: Listener, callback: Callback) -> bool:
    return await listener(callback)


def _inbox(given: str | PathLike[str] | SharedOrphans | None) -> SharedOrphans | None:
    if given is None:
        return None
    if isinstance(given, str | PathLike):
        from apixo_async.webhooks.inbox import Inbox  # noqa: PLC0415  # sqlite3 is slow to import

        return Inbox(given)
    if callable(getattr(given, "watch", None)):
        return given
    raise InvalidSettingError(
        f"inbox must be the path of a file, or an inbox such as PostgresInbox, got {shown(given)}"
    )


def _checked_url(public_url: object) -> str:
    given = public_url if isinstance(public_url, str) else ""
    url = given.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme.lower()
        is_bare = not ({"?", "#"} & set(url)) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        host, scheme, is_bare = "", "", False
    is_good = bool(host) and is_bare and url.isascii() and url.isprintable() and " " not in url
    if not is_good or scheme not in {"https", "http"}:
        msg = f"public_url must be https://host[:port][/path], got {shown(public_url)}"
        raise InvalidSettingError(msg)
    if scheme == "http" and not _is_local(host):
        msg = (
            f"public_url must be HTTPS, because APIXO calls no other back, got {public_url!r}; "
            "plain HTTP is for hosts of your own network"
        )
        raise InvalidSettingError(msg)
    return url


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # A name without a dot is one of the own network, as those of containers are.
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".test"))
