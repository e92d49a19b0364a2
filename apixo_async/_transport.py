"""The one door to the API: one HTTP call, and the certain answer to "was it sent?".

aiohttp's exception classes do not say whether a request left: a reset by the peer and a failed
connect can both be a `ClientOSError`, a timeout is a bare `TimeoutError` in every phase. What
decides is whether aiohttp reported that the request's headers were written.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, TypeAlias

import aiohttp
import attrs
from yarl import URL

from apixo_async._secret import Secret
from apixo_async._wire import EXCERPT_CHARACTERS, Reply, excerpt
from apixo_async.errors import (
    ClientUsageError,
    NotSentError,
    TransportError,
    UnansweredError,
)

Session: TypeAlias = aiohttp.ClientSession
"""What may be passed to the client; no other module has to name aiohttp for it."""
Method: TypeAlias = Literal["GET", "POST"]

REPLY_CAP: Final = 1024 * 1024
"""Bytes of one decoded answer that are read; a gzip bomb of 292 kB would become 300 MB."""
KEEP_ALIVE: Final = 2.0
"""Seconds an idle connection is kept: shorter than common servers do (5 s and more), because a
POST on a connection that the server is just closing ends as uncertain."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds for a whole call, by kind, and for connecting. A slow drip cannot outlast `total`."""

    submit: float = 60.0
    status: float = 30.0
    connect: float = 10.0


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
        self.received = bytearray()


class HttpTransport:
    """The API over aiohttp, through an own session or one that was passed in.

    A session that was passed in is never closed here. Its connector is shared by a second session
    that carries our trace for submits; status calls go without, since tracing costs them a fifth.
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
        self._base_url = base_url
        self._host = URL(base_url).authority
        self._key = api_key
        self._timeouts = timeouts
        self._owned = session is None
        self._session = session
        self._tracing: aiohttp.ClientSession | None = None
        self._user_agent = user_agent

    def _reads(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Requests in flight are bounded by the gate; a second bound here would only make
                # callers wait inside their timeouts.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        if self._session.closed:
            msg = "the aiohttp session of this client is closed; nothing was sent"
            raise ClientUsageError(msg)
        return self._session

    def _submits(self) -> aiohttp.ClientSession:
        if self._tracing is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            session = self._reads()
            self._tracing = aiohttp.ClientSession(
                connector=session.connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=session.trust_env,
                trace_configs=[*session.trace_configs, trace],
            )
        return self._tracing

    async def send(self, method: Method, path: str, *, body: bytes | None = None) -> Reply:
        """One call; never follows a redirect, never repeats itself, reads at most `REPLY_CAP`."""
        sent = _Sent()
        failure: TransportError
        try:
            return await self._call(method, path, body, sent)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Plain facts only: the exception itself holds the request's headers, and so the key.
            # TimeoutError is an OSError; ValueError comes from answers the parser cannot stand.
            failure = self._failure(error, sent, is_read=method == "GET")
        raise failure

    async def _call(self, method: Method, path: str, body: bytes | None, sent: _Sent) -> Reply:
        total = self._timeouts.status if method == "GET" else self._timeouts.submit
        # aiohttp repeats idempotent methods by itself when a kept connection turns out dead, which
        # would pass our limits unseen. It knows them by their upper-case names.
        session, verb = (self._reads(), "get") if method == "GET" else (self._submits(), "POST")
        async with session.request(
            verb,
            URL(self._base_url + path, encoded=True),
            data=body,
            headers=self._headers(has_body=body is not None),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=self._timeouts.connect),
            trace_request_ctx=sent,
        ) as response:
            sent.is_sent = True
            await _read_capped(response, sent.received)
            return Reply(
                status=response.status,
                # A server that echoes the key must not bring it into errors, logs or records.
                body=self._key.redact_bytes(bytes(sent.received)),
                headers=_kept_headers(response.headers),
                received_at=datetime.now(UTC),
            )

    def _headers(self, *, has_body: bool) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._key.reveal()}",
            "Accept": "application/json",
            "User-Agent": self._user_agent,
        }
        if has_body:
            headers["Content-Type"] = "application/json"
        return headers

    def _failure(self, error: Exception, sent: _Sent, *, is_read: bool) -> TransportError:
        reason = _reason(error)
        text = self._key.redact(f"{self._host}: {_DESCRIPTIONS[reason]}")
        # Reads are not traced; whether one was sent makes no difference, unless the connection
        # itself failed, which names the host for the user.
        is_sent = sent.is_sent or (is_read and reason not in _CONNECTING)
        if not is_sent:
            return NotSentError(f"cannot reach {text}", host=self._host, reason=reason)
        received = self._key.redact(excerpt(bytes(sent.received[: 4 * EXCERPT_CHARACTERS])))
        return UnansweredError(
            f"no complete answer from {text}", host=self._host, reason=reason, received=received
        )

    async def aclose(self) -> None:
        """Closes what was opened here; a session that was passed in stays open."""
        if self._tracing is not None:
            await self._tracing.close()
        if self._owned and self._session is not None:
            await self._session.close()


async def _mark_sent(
    _session: aiohttp.ClientSession,
    context: object,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    mark = getattr(context, "trace_request_ctx", None)
    if isinstance(mark, _Sent):
        mark.is_sent = True


async def _read_capped(response: aiohttp.ClientResponse, into: bytearray) -> None:
    while chunk := await response.content.read(REPLY_CAP + 1 - len(into)):
        into += chunk
        if len(into) > REPLY_CAP:
            response.close()
            msg = "the answer is too large"
            raise _TooLargeError(msg)


class _TooLargeError(ValueError):
    """An answer longer than `REPLY_CAP`."""


def _kept_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    value = headers.get("Retry-After")
    return {} if value is None else {"retry-after": value}


_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "dns": "the host name cannot be resolved",
    "refused": "the connection was refused",
    "unreachable": "the network or host is unreachable",
    "tls": "the TLS certificate or handshake was not accepted",
    "connect_timeout": "no connection was made in time",
    "timeout": "timed out",
    "resources": "this process has no free file descriptors or ports",
    "reset": "the connection was closed",
    "broken": "the answer was cut or malformed",
    "too_large": f"the answer exceeds {REPLY_CAP} bytes",
    "other": "the connection failed",
}
_CONNECTING: Final = frozenset(
    {
        "dns",
        "refused",
        "unreachable",
        "tls",
        "connect_timeout",
        "resources",
    }
)
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS})


# In this order: the first class that fits names the reason, so the narrower ones come first.
_REASONS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "dns"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "tls"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (aiohttp.ClientConnectorError, "unreachable"),
    ((aiohttp.ServerDisconnectedError, OSError), "reset"),
    (_TooLargeError, "too_large"),
    ((aiohttp.ClientError, ValueError), "broken"),
)


def _reason(error: Exception) -> str:
    """One stable word for what went wrong."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _OUT_OF_RESOURCES:
        return "resources"
    if number == errno.ECONNREFUSED:
        return "refused"
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), "other")
