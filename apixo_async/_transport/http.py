"""The one door to the API: one HTTP call, and the certain answer to "was it sent?".

aiohttp's exception classes do not say whether a request left: a reset by the peer and a failed
connect can both be a `ClientOSError`, a timeout is a bare `TimeoutError` in every phase. What
decides is whether aiohttp reported that the request's headers were written.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, TypeAlias
from urllib.parse import SplitResult

import aiohttp
import attrs
from yarl import URL

from apixo_async import _killpoints
from apixo_async._logs import LOGGER, fields
from apixo_async._narrow import as_number, shown
from apixo_async._secret import Secret
from apixo_async._transport.failures import (
    CONNECTING,
    DESCRIPTIONS,
    REPLY_CAP,
    TooLargeError,
    reason_of,
)
from apixo_async._transport.patience import patience
from apixo_async._wire import Reply, excerpt, http_date, task_ids_in
from apixo_async.errors import (
    ClientUsageError,
    InvalidSettingError,
    NotSentError,
    TransportError,
    UnansweredError,
)

Session: TypeAlias = aiohttp.ClientSession
"""What may be passed to the client; no other module has to name aiohttp for it."""
Method: TypeAlias = Literal["GET", "POST"]

KEEP_ALIVE: Final = 2.0
"""Seconds an idle connection is kept: shorter than common servers do (5 s and more), because a
POST on a connection that the server is just closing ends as uncertain."""


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 < as_number(value) < math.inf:
        msg = f"timeout {attribute.name} must be above 0 seconds, got {shown(value)}"
        raise InvalidSettingError(msg)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long calls may take, in seconds above 0; a slow drip cannot outlast them.

    `submit` and `status` are seconds for a whole call of that kind, `connect` those of them that
    may pass until there is a connection.

    Raises:
        InvalidSettingError: A number is not above 0; the message names it.
    """

    submit: float = attrs.field(default=60.0, validator=_positive)
    """Seconds for a submit. What has no answer by then is uncertain."""
    status: float = attrs.field(default=30.0, validator=_positive)
    """Seconds for a status or balance call."""
    connect: float = attrs.field(default=10.0, validator=_positive)
    """Seconds for a connection, its TLS handshake included; a part of the above."""


class Transport(Protocol):
    """What the client needs of the network; tests put a simulation in its place."""

    async def send(self, method: Method, path: str, *, body: bytes | None = None) -> Reply:
        """One call to the API below its base URL. Raises `NotSentError` or `UnansweredError`."""
        ...

    async def aclose(self) -> None:
        """Gives back what was opened."""
        ...


class _Sent:
    """Whether the headers of one request were written; travels with it as its trace context."""

    __slots__ = ("is_sent", "received")

    def __init__(self) -> None:
        self.is_sent = False
        self.received = b""


class HttpTransport:
    """The API over aiohttp, through an own connector or that of a session that was passed in.

    Sessions of our own stand on the connector: one for submits with our trace, one for status
    calls without, since tracing costs them a fifth. Of a session that was passed in they take the
    connector, the trace configs and `trust_env`; its headers, cookies and other habits, which
    might change what is sent or how an answer is read, stay behind. It is never closed here.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Secret,
        *,
        timeouts: Timeouts,
        session: aiohttp.ClientSession | None = None,
        user_agent: str,
    ) -> None:
        # A URL of parts and one of text are the same; the parts need not be found anew each time.
        self._base = URL(base_url, encoded=True)
        self._host = URL(base_url).authority
        self._key = api_key
        self._timeouts: Mapping[Method, aiohttp.ClientTimeout] = {
            "GET": aiohttp.ClientTimeout(total=timeouts.status, sock_connect=timeouts.connect),
            "POST": aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
        }
        self._submit_timeout = timeouts.submit
        self._given = session
        self._connector: aiohttp.BaseConnector | None = None
        self._sessions: dict[Method, aiohttp.ClientSession] = {}
        self._closed = False
        self._has_told_type = False
        headers = {
            "Authorization": f"Bearer {api_key.reveal()}",
            "Accept": "application/json",
            "User-Agent": user_agent,
        }
        self._headers: Mapping[Method, Mapping[str, str]] = {
            "GET": headers,
            "POST": {**headers, "Content-Type": "application/json"},
        }

    def _session(self, method: Method) -> aiohttp.ClientSession:
        """The session for this kind of call, opened when it is first needed."""
        if self._closed or (self._given is not None and self._given.closed):
            msg = "the aiohttp session of this client is closed; nothing was sent"
            raise ClientUsageError(msg)
        if method not in self._sessions:
            self._sessions[method] = self._open(method)
        return self._sessions[method]

    def _open(self, method: Method) -> aiohttp.ClientSession:
        given = self._given
        if self._connector is None and given is not None:
            self._connector = given.connector
        if self._connector is None:
            # Requests in flight are bounded by the gate; a second bound here would only make
            # callers wait inside their timeouts.
            self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_sent)
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers=self._headers[method],  # of no use elsewhere: the session is ours alone
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=given is not None and given.trust_env,
            trace_configs=[
                *([] if given is None else given.trace_configs),
                *([trace] if method == "POST" else []),
            ],
        )
        # aiohttp repeats a GET by itself when a kept connection turns out dead, which would pass
        # our limits unseen. Its public way to forbid that, a middleware, costs a tenth of a call.
        session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return session

    def _url(self, path: str) -> URL:
        base = self._base
        below, _, query = path.partition("?")
        parts = SplitResult(base.scheme, base.raw_authority, base.raw_path + below, query, "")
        return URL(parts, encoded=True)

    async def send(self, method: Method, path: str, *, body: bytes | None = None) -> Reply:
        """One call; never follows a redirect, never repeats itself, reads at most `REPLY_CAP`."""
        sent = _Sent()
        try:
            if method == "GET":
                return await self._exchange(method, path, body, sent)
            async with patience(self._submit_timeout):
                return await self._exchange(method, path, body, sent)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Plain facts only: the exception itself holds the request's headers, and so the key.
            # TimeoutError is an OSError; ValueError comes from answers the parser cannot stand.
            reason = reason_of(error)
        except asyncio.CancelledError:
            # A connector that is closed cancels the calls that wait for a connection. Passed on,
            # that would look as if somebody had cancelled our caller.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            reason = "other"
        raise self._failure(reason, sent, is_read=method == "GET")

    async def _exchange(self, method: Method, path: str, body: bytes | None, sent: _Sent) -> Reply:
        response = await self._session(method).request(
            method,
            self._url(path),
            data=body,
            allow_redirects=False,
            timeout=self._timeouts[method],
            trace_request_ctx=sent,
        )
        sent.is_sent = True
        try:
            if method == "POST":
                _killpoints.reached("K4")
            # Most answers have come whole by now. What is in memory already needs no bound.
            content = response.content
            sent.received = content.read_nowait()
            if not content.at_eof() or len(sent.received) > REPLY_CAP:
                await _read_rest(content, sent)
            return self._reply(response, sent.received)
        finally:
            # Read to its end, it has given back its connection by itself; `async with` would
            # come to the same at a twentieth of the whole call.
            if not response.closed:
                response.close()

    def _reply(self, response: aiohttp.ClientResponse, received: bytes) -> Reply:
        # A server that echoes the key must not bring it into errors, logs or records.
        body = self._key.redact_bytes(received)
        if not self._has_told_type and "json" not in _type_of(response).lower():
            self._tell_type(response, body)
        retry_after = response.headers.get("Retry-After")
        if retry_after is not None:
            return Reply(response.status, body, retry_after, datetime.now(UTC))
        if response.method != "POST":
            return Reply(response.status, body)
        return Reply(response.status, body, sent_at=http_date(response.headers.get("Date")))

    def _tell_type(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        """JSON is read by whatever name it comes; that something stands in between is told once."""
        if response.ok and body.lstrip().startswith(b"{"):
            self._has_told_type = True
            name = excerpt(_type_of(response).encode("utf-8", "replace")) or "nothing"
            LOGGER.warning(
                "%s answers with JSON that is called %r; it is read all the same",
                self._host,
                self._key.redact(name),
                extra=fields("type_unexpected", host=self._key.redact(self._host)),
            )

    def _failure(self, reason: str, sent: _Sent, *, is_read: bool) -> TransportError:
        # Reads are not traced; whether one was sent makes no difference, unless the connection
        # itself failed, which names the host for the user.
        is_sent = sent.is_sent or (is_read and reason not in CONNECTING)
        if not is_sent and reason == "broken":
            reason = "other"  # there was no answer that could be broken
        text = self._key.redact(f"{self._host}: {DESCRIPTIONS[reason]}")
        if not is_sent:
            return NotSentError(f"cannot reach {text}", host=self._host, reason=reason)
        # Masked before it is shortened, which might leave half of a key.
        body = self._key.redact_bytes(sent.received)
        received = excerpt(body)
        # An id may stand behind what is kept of a long answer.
        task_ids = () if is_read else task_ids_in(body.decode("utf-8", "replace"))[0]
        return UnansweredError(
            f"no complete answer from {text}",
            host=self._host,
            reason=reason,
            received=self._key.redact(received),
            received_bytes=len(sent.received),
            task_ids=task_ids,
        )

    async def aclose(self) -> None:
        """Closes what was opened here; a session that was passed in stays open."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        if self._given is None and self._connector is not None:
            await self._connector.close()


def _type_of(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "")


async def _mark_sent(
    _session: aiohttp.ClientSession,
    context: object,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    mark = getattr(context, "trace_request_ctx", None)
    if isinstance(mark, _Sent):
        mark.is_sent = True
        _killpoints.reached("K3")


async def _read_rest(content: aiohttp.StreamReader, sent: _Sent) -> None:
    """Reads what has not come yet, never more than the cap."""
    while len(sent.received) <= REPLY_CAP:
        if content.at_eof():
            return
        sent.received += await content.read(REPLY_CAP + 1 - len(sent.received))
    msg = "the answer is too large"
    raise TooLargeError(msg)
