"""What aiohttp says when something goes wrong, and what the library makes of it.

Each row is run twice against bare sockets: with aiohttp alone, to see which exception it raises and
whether its trace says that the request's headers were sent, and through our transport. Whether a
paid submit may be repeated stands on these rows, so they are run with the oldest and the newest
aiohttp that is supported.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
import pytest

from apixo_async import NotSentError, Timeouts, TransportError, UnansweredError
from apixo_async._secret import Secret
from apixo_async._transport import HttpTransport
from tests import certificates, faults
from tests.faults import Act, FaultServer, LocalResolver, answering, reply, saying

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

BODY: Final = b'{"input":{"prompt":"a calm ocean"}}'
ACCEPTED: Final = b'{"code":200,"message":"success","data":{"taskId":"t-1"}}'
HALF: Final = ACCEPTED[:-4]
KEY: Final = "apx_CANARY_7f3b29d1c85e4a60"
PATIENT: Final = 40.0
"""Seconds that no busy machine comes near, for what has to end otherwise."""
CONNECT: Final = 0.3
ANSWER: Final = 1.5
"""Seconds for what nothing but a limit ends; before the answer's there is a connection."""

Sessions = Callable[[], aiohttp.ClientSession | None]


@attrs.frozen
class Place:
    """Where a request goes, and through which session if not a plain one."""

    origin: str
    session: Sessions = lambda: None


@attrs.define
class Heard:
    """What came of one request with aiohttp alone."""

    error: BaseException | None = None
    status: int | None = None
    is_sent: bool = False


async def ask(place: Place, *, connect: float = PATIENT, answer: float = PATIENT) -> Heard:
    """One POST as an application would write it, with the trace that tells of the headers."""
    timeout = aiohttp.ClientTimeout(total=answer, sock_connect=connect)
    heard = Heard()

    async def note(*_: object) -> None:
        heard.is_sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    given = place.session()
    connector = None if given is None else given.connector
    async with contextlib.AsyncExitStack() as stack:
        if given is not None:
            await stack.enter_async_context(given)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, connector_owner=given is None, trace_configs=[trace]
            )
        )
        try:
            async with session.post(place.origin, data=BODY, timeout=timeout) as response:
                heard.status = response.status
                await response.json()
        except Exception as error:  # noqa: BLE001 - whichever it is
            heard.error = error
    return heard


async def verdict(
    place: Place, *, connect: float = PATIENT, answer: float = PATIENT
) -> TransportError | None:
    """What our transport says of the same request; `None` where it has a whole answer."""
    async with contextlib.AsyncExitStack() as stack:
        given = place.session()
        if given is not None:
            await stack.enter_async_context(given)
        transport = HttpTransport(
            place.origin,
            Secret(KEY),
            timeouts=Timeouts(submit=answer, status=answer, connect=connect),
            session=given,
            user_agent="tests",
        )
        try:
            await transport.send("POST", "/generateTask/veo-3-1", body=BODY)
        except TransportError as error:
            return error
        finally:
            await transport.aclose()
    return None


# Before there is a connection: surely not sent


class _Nowhere(LocalResolver):
    """Finds nothing, as the system's resolver says it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(None, f"no such name: {host}")


def through(**settings: Any) -> Sessions:  # noqa: ANN401 - whatever a connector takes
    """Sessions on a connector of their own."""
    return lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(**settings))


@contextlib.asynccontextmanager
async def no_name() -> AsyncIterator[Place]:
    """A name that no resolver knows."""
    yield Place("http://api.invalid", through(resolver=_Nowhere()))


@contextlib.asynccontextmanager
async def refused() -> AsyncIterator[Place]:
    """A port where nobody listens."""
    with faults.refusing() as origin:
        yield Place(origin)


@contextlib.asynccontextmanager
async def no_way() -> AsyncIterator[Place]:
    """An address without a route."""
    yield Place("http://255.255.255.255:9")


@contextlib.asynccontextmanager
async def full_queue() -> AsyncIterator[Place]:
    """A port that accepts nobody."""
    async with faults.crowded() as origin:
        yield Place(origin)


@contextlib.asynccontextmanager
async def untrusted() -> AsyncIterator[Place]:
    """A certificate that nobody trusts."""
    async with FaultServer(answering(reply(ACCEPTED)), tls=faults.server_tls()) as server:
        yield Place(server.url)
        assert server.seen == []


@contextlib.asynccontextmanager
async def another_host() -> AsyncIterator[Place]:
    """A certificate that is trusted, of another host."""
    async with FaultServer(answering(reply(ACCEPTED)), tls=faults.server_tls()) as server:
        session = through(ssl=faults.trusting_tls(), resolver=LocalResolver())
        yield Place(f"https://another.test:{server.port}", session)
        assert server.seen == []


@contextlib.asynccontextmanager
async def out_of_date() -> AsyncIterator[Place]:
    """A certificate that was good once."""
    act = answering(reply(ACCEPTED))
    async with FaultServer(act, tls=certificates.expired_tls()) as server:
        yield Place(server.url, through(ssl=certificates.trusting_expired_tls()))
        assert server.seen == []


@contextlib.asynccontextmanager
async def plain_answer() -> AsyncIterator[Place]:
    """A port that speaks no TLS."""

    async def act(peer: faults.Peer) -> None:
        await peer.first_byte()
        await peer.send(reply(status="400 Bad Request"))

    async with FaultServer(act) as server:
        yield Place(server.url.replace("http", "https"))


@contextlib.asynccontextmanager
async def plain_silence() -> AsyncIterator[Place]:
    """A port that says nothing in the handshake."""
    async with FaultServer(faults.mute) as server:
        yield Place(server.url.replace("http", "https"))


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")
NOT_SENT = [
    pytest.param(no_name, "ClientConnectorDNSError", "dns", id="no such name"),
    pytest.param(refused, "ClientConnectorError", "refused", id="refused"),
    pytest.param(no_way, "ClientConnectorError", "unreachable", id="no route", marks=on_linux),
    pytest.param(
        full_queue, "ConnectionTimeoutError", "connect_timeout", id="full queue", marks=on_linux
    ),
    pytest.param(untrusted, "ClientConnectorCertificateError", "tls", id="untrusted"),
    pytest.param(another_host, "ClientConnectorCertificateError", "tls", id="another host"),
    pytest.param(out_of_date, "ClientConnectorCertificateError", "tls", id="out of date"),
    pytest.param(plain_answer, "ClientConnectorSSLError", "tls", id="no TLS there"),
    pytest.param(plain_silence, "ConnectionTimeoutError", "connect_timeout", id="TLS unanswered"),
]


@pytest.mark.parametrize(("fault", "raised", "reason"), NOT_SENT)
async def test_without_a_connection_nothing_was_sent(
    fault: Callable[[], AbstractAsyncContextManager[Place]], raised: str, reason: str
) -> None:
    """No headers are reported, whichever exception it is; the submit may be sent again."""
    connect = CONNECT if reason == "connect_timeout" else PATIENT
    async with fault() as place:
        heard = await ask(place, connect=connect)
        error = await verdict(place, connect=connect)

    assert type(heard.error).__name__ == raised
    assert not heard.is_sent
    assert isinstance(error, NotSentError)
    assert error.reason == reason


# From the moment there is one: maybe sent


async def hang_up(peer: faults.Peer) -> None:
    """Resets the connection before it has read anything."""
    peer.reset()


CLOSE_DELIMITED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
DRIP: Final = [b" "] * 3_000
PAGE: Final = reply(b"<html>Bad Gateway</html>", status="502 Bad Gateway", content_type="text/html")

MAYBE = [
    pytest.param(hang_up, "ClientOSError", None, "reset", id="RST after accept"),
    pytest.param(faults.rude, "ClientOSError", None, "reset", id="RST at the first byte"),
    pytest.param(faults.silent, "TimeoutError", None, "timeout", id="no reply"),
    pytest.param(saying(), "ServerDisconnectedError", None, "reset", id="FIN, no reply"),
    pytest.param(saying(cut=True), "ClientOSError", None, "reset", id="RST, no reply"),
    pytest.param(
        saying(reply(HALF, length=999), b"", pause=0.05),
        "ClientPayloadError",
        200,
        "broken",
        id="FIN in the reply",
    ),
    pytest.param(
        saying(reply(HALF, length=999), b"", pause=0.05, cut=True),
        "ClientPayloadError",
        200,
        "broken",
        id="RST in the reply",
    ),
    pytest.param(
        saying(reply(length=9_999), *DRIP, pause=0.02), "TimeoutError", 200, "timeout", id="drip"
    ),
    pytest.param(saying(CLOSE_DELIMITED + HALF), "JSONDecodeError", 200, "", id="cut JSON"),
    pytest.param(saying(PAGE), "ContentTypeError", 502, "", id="a page"),
    pytest.param(
        saying(reply(ACCEPTED, content_type="text/plain")),
        "ContentTypeError",
        200,
        "",
        id="text/plain",
    ),
]


@pytest.mark.parametrize(("act", "raised", "status", "reason"), MAYBE)
async def test_with_a_connection_it_may_have_been_sent(
    act: Act, raised: str, status: int | None, reason: str
) -> None:
    """Headers are reported, whichever exception it is. A whole answer is one, whatever it says."""
    answer = ANSWER if reason == "timeout" else PATIENT
    async with FaultServer(act) as server:
        heard = await ask(Place(server.url), answer=answer)
        error = await verdict(Place(server.url), answer=answer)

        assert server.connections == 2

    assert type(heard.error).__name__ == raised
    assert heard.status == status
    assert heard.is_sent
    if reason:
        assert isinstance(error, UnansweredError)
        assert error.reason == reason
    else:
        assert error is None
