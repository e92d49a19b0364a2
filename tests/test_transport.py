from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import pickle
import socket
import sys
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from apixo_async import (
    ApixoClient,
    ApixoError,
    ClientUsageError,
    Limits,
    NotSentError,
    SubmitUncertainError,
    TextToVideo,
    Timeouts,
    TransportError,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async._secret import Secret
from apixo_async._transport import REPLY_CAP, HttpTransport, Method
from tests import faults
from tests.faults import FaultServer, LocalResolver, answering, reply, saying

KEY = "apx_CANARY_7f3b29d1c85e4a60"
SUBMIT = "/generateTask/veo-3-1"
STATUS = "/statusTask/veo-3-1?taskId=t-1"
BODY = b'{"input":{"prompt":"a calm ocean"}}'
ACCEPTED = b'{"code":200,"message":"success","data":{"taskId":"t-1"}}'
PENDING = b'{"code":200,"message":"success","data":{"taskId":"t-1","state":"pending"}}'
METHODS: tuple[Method, ...] = ("GET", "POST")
HALF = ACCEPTED[: len(ACCEPTED) - 4]
PATIENT = 40.0
"""A limit that no busy machine comes near, for what has to end otherwise."""


@contextlib.asynccontextmanager
async def transport_to(
    origin: str,
    *,
    session: aiohttp.ClientSession | None = None,
    submit: float = PATIENT,
    status: float = PATIENT,
    connect: float = PATIENT,
) -> AsyncIterator[HttpTransport]:
    """A transport to an origin that has its time; closed at the end."""
    transport = HttpTransport(
        origin + "/api/v1",
        Secret(KEY),
        timeouts=Timeouts(submit=submit, status=status, connect=connect),
        session=session,
        user_agent="tests",
    )
    try:
        yield transport
    finally:
        await transport.aclose()


@pytest.fixture(autouse=True)
def _no_key_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does: no logger, aiohttp's and asyncio's included, may hear of the key."""
    caplog.set_level(logging.DEBUG)
    yield
    formatter = logging.Formatter()
    for record in caplog.get_records("call"):
        assert KEY not in formatter.format(record)
        assert KEY not in repr(vars(record))


def assert_clean(error: BaseException) -> None:
    """The error stands alone and nothing that can be printed or stored of it holds the key."""
    assert error.__cause__ is None
    assert error.__context__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = [repr(error), str(error), repr(error.args), repr(vars(error)), *told.format()]
    assert not [text for text in shown if KEY in text]
    assert KEY.encode() not in pickle.dumps(error)


async def failure_of(call: Coroutine[Any, Any, object]) -> TransportError:
    """The error of a call that fails below HTTP; it is checked to be clean."""
    with pytest.raises(TransportError) as caught:
        await call
    assert_clean(caught.value)
    return caught.value


async def failed_post(server: FaultServer, *, submit: float = PATIENT) -> TransportError:
    """The error of one POST to a server."""
    async with transport_to(server.url, submit=submit) as transport:
        return await failure_of(transport.send("POST", SUBMIT, body=BODY))


# Was it sent? No, when no connection came about.


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST to a host without an address was not sent, and the error names the host."""

    def resolve(host: str | bytes | None, *_: object, **__: object) -> list[Any]:
        assert host == "api.invalid"
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with transport_to("http://api.invalid") as transport:
        error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

    assert isinstance(error, NotSentError)
    assert (error.reason, error.host, error.is_retryable) == ("dns", "api.invalid:80", True)
    assert "api.invalid" in str(error)


async def test_a_refused_connection() -> None:
    """A POST to a port where nobody listens was not sent."""
    with faults.refusing() as origin:
        async with transport_to(origin) as transport:
            error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

    assert isinstance(error, NotSentError)
    assert (error.reason, error.is_retryable) == ("refused", True)


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue behaves is up to the system")
async def test_a_queue_of_connections_that_is_full() -> None:
    """A POST whose connection is never accepted was not sent, and connecting has its own limit."""
    async with faults.crowded() as origin, transport_to(origin, connect=0.2) as transport:
        error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

    assert isinstance(error, NotSentError)
    assert (error.reason, error.is_retryable) == ("connect_timeout", True)


@pytest.mark.skipif(sys.platform != "linux", reason="the broadcast address is a Linux habit")
async def test_a_network_without_a_way() -> None:
    """A POST for which the system knows no route was not sent."""
    async with transport_to("http://255.255.255.255:9") as transport:
        error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

    assert isinstance(error, NotSentError)
    assert (error.reason, error.is_retryable) == ("unreachable", True)


async def test_no_file_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST for which no socket could be had was not sent, and we are to blame, not the host."""

    def no_socket(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async with FaultServer(answering(reply(ACCEPTED))) as server:
        async with transport_to(server.url) as transport:
            monkeypatch.setattr("aiohappyeyeballs.impl.socket.socket", no_socket)
            error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

        assert isinstance(error, NotSentError)
        assert (error.reason, error.is_retryable) == ("resources", True)
        assert server.connections == 0


async def test_tls_to_a_port_that_speaks_plain_http() -> None:
    """A POST that fails in the handshake was not sent, and trying again cannot help."""

    async def plain(peer: faults.Peer) -> None:
        await peer.first_byte()
        await peer.send(reply(b"", status="400 Bad Request"))

    async with FaultServer(plain) as server:
        origin = server.url.replace("http", "https")
        async with transport_to(origin) as transport:
            error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

        assert isinstance(error, NotSentError)
        assert (error.reason, error.is_retryable) == ("tls", False)
        assert server.seen == []


async def test_tls_to_a_port_that_says_nothing() -> None:
    """A handshake without an end counts as no connection: the POST was not sent."""
    async with FaultServer(faults.mute) as server:
        origin = server.url.replace("http", "https")
        async with transport_to(origin, connect=0.2) as transport:
            error = await failure_of(transport.send("POST", SUBMIT, body=BODY))

    assert isinstance(error, NotSentError)
    assert error.reason == "connect_timeout"


async def test_a_certificate_that_nobody_trusts() -> None:
    """A POST to a host that cannot prove who it is was not sent, and is not to be repeated."""
    act = answering(reply(ACCEPTED))
    async with FaultServer(act, tls=faults.server_tls()) as server:
        error = await failed_post(server)

        assert isinstance(error, NotSentError)
        assert (error.reason, error.is_retryable) == ("tls", False)
        assert server.seen == []


async def test_a_certificate_that_was_pinned_otherwise() -> None:
    """A session's pinned fingerprint that does not fit is a TLS failure as well."""
    act = answering(reply(ACCEPTED))
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(b"\0" * 32))
    async with (
        FaultServer(act, tls=faults.server_tls()) as server,
        aiohttp.ClientSession(connector=connector) as session,
        transport_to(server.url, session=session) as transport,
    ):
        for method in METHODS:
            error = await failure_of(transport.send(method, STATUS))

            assert isinstance(error, NotSentError)
            assert (error.reason, error.is_retryable) == ("tls", False)
        assert server.seen == []


async def test_a_certificate_that_is_trusted() -> None:
    """Over TLS that holds, a POST goes through: the failures above are about trust alone."""
    connector = aiohttp.TCPConnector(ssl=faults.trusting_tls())
    async with (
        FaultServer(answering(reply(ACCEPTED)), tls=faults.server_tls()) as server,
        aiohttp.ClientSession(connector=connector) as session,
        transport_to(server.url, session=session) as transport,
    ):
        answer = await transport.send("POST", SUBMIT, body=BODY)

        assert (answer.status, answer.body) == (200, ACCEPTED)
        assert server.methods == ["POST"]


async def test_a_status_call_without_a_connection() -> None:
    """A GET that could not connect says so in the same words, so that the host is named."""
    with faults.refusing() as origin:
        async with transport_to(origin) as transport:
            error = await failure_of(transport.send("GET", STATUS))

    assert isinstance(error, NotSentError)
    assert error.reason == "refused"
    assert error.host == origin.removeprefix("http://")


async def test_a_session_that_closes_while_a_post_waits_for_its_connection() -> None:
    """A POST whose session was closed under it, before any connection, was not sent."""
    async with FaultServer(faults.silent) as server:
        queued = asyncio.Event()

        async def note(*_: object) -> None:
            queued.set()

        trace = aiohttp.TraceConfig()
        trace.on_connection_queued_start.append(note)
        connector = aiohttp.TCPConnector(limit=1)
        session = aiohttp.ClientSession(connector=connector, trace_configs=[trace])
        async with transport_to(server.url, session=session) as transport:
            first = asyncio.create_task(failure_of(transport.send("POST", SUBMIT, body=BODY)))
            await server.until(lambda: bool(server.seen))
            second = asyncio.create_task(failure_of(transport.send("POST", SUBMIT, body=BODY)))
            await queued.wait()
            await session.close()
            sent, waiting = await first, await second

        assert isinstance(sent, UnansweredError)
        assert isinstance(waiting, NotSentError)
        assert waiting.reason == "other"
        assert server.methods == ["POST"]


# Was it sent? Maybe, from the moment there was a connection.

NUL_HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Odd: a\0b\r\n\r\n{}"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
LONG_HEADER = reply(ACCEPTED, headers=["X-Long: " + "x" * 20_000])
MANY_HEADERS = reply(ACCEPTED, headers=[f"X-{number}: y" for number in range(2_000)])
BAD_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
BAD_GZIP = reply(b"this is not gzip", headers=["Content-Encoding: gzip"])

UNANSWERED = {
    "reset at the first byte": (faults.rude, "reset", ""),
    "silence": (faults.silent, "timeout", ""),
    "FIN": (saying(), "reset", ""),
    "RST": (saying(cut=True), "reset", ""),
    "FIN in the status line": (saying(b"HTTP/1.1 20"), "reset", ""),
    "FIN in the headers": (saying(b"HTTP/1.1 200 OK\r\nContent-Le"), "reset", ""),
    "FIN in the body": (saying(reply(HALF, length=999)), "broken", HALF.decode()),
    "FIN later in the body": (
        saying(reply(HALF, length=999), b"", pause=0.05),
        "broken",
        HALF.decode(),
    ),
    "RST later in the body": (
        saying(reply(HALF, length=999), b"", pause=0.05, cut=True),
        "broken",
        HALF.decode(),
    ),
    "slow drip": (
        saying(reply(b"0", length=9_999), *[b"%d" % (n % 10) for n in range(1, 3_000)], pause=0.02),
        "timeout",
        "0",
    ),
    "no HTTP at all": (saying(b"220 mail.example ESMTP\r\n\r\n"), "broken", ""),
    "header too long": (saying(LONG_HEADER), "broken", ""),
    "too many headers": (saying(MANY_HEADERS), "broken", ""),
    "NUL in a header": (saying(NUL_HEADER), "broken", ""),
    "two lengths": (saying(TWO_LENGTHS), "broken", ""),
    "bad chunks": (saying(BAD_CHUNKS), "broken", ""),
    "bad gzip": (saying(BAD_GZIP), "broken", ""),
}


def limit_of(name: str) -> float:
    """What ends by our limit alone has a short one; all else ends long before its own."""
    return 0.4 if UNANSWERED[name][1] == "timeout" else PATIENT


@pytest.mark.parametrize("name", UNANSWERED)
async def test_a_post_that_got_no_whole_answer(name: str) -> None:
    """Once connected, whatever goes wrong is "maybe sent", keeping what arrived of the answer."""
    act, reason, received = UNANSWERED[name]
    async with FaultServer(act) as server:
        error = await failed_post(server, submit=limit_of(name))

        assert isinstance(error, UnansweredError)
        assert error.reason == reason
        assert error.received.startswith(received)
        assert bool(error.received) is bool(received)
        assert server.connections == 1
        assert server.methods in (["POST"], [])


@pytest.mark.parametrize("name", UNANSWERED)
async def test_the_client_never_repeats_such_a_post(name: str) -> None:
    """At the verb, each of these ends as uncertain, after the server saw one connection."""
    act, _, _ = UNANSWERED[name]
    async with FaultServer(act) as server:
        limits = Timeouts(submit=limit_of(name))
        client = ApixoClient(KEY, base_url=server.url, timeout=limits)
        async with client:
            with pytest.raises(SubmitUncertainError) as caught:
                await client.submit(TextToVideo("a calm ocean"))

        assert_key_free(caught.value)
        assert server.connections == 1


def assert_key_free(error: BaseException) -> None:
    """Nothing of the error holds the key; at this height it may have a context of our own."""
    told = "".join(traceback.format_exception(error))
    assert KEY not in told + repr(error) + repr(vars(error))
    assert KEY.encode() not in pickle.dumps(error)


async def test_a_post_that_is_cancelled() -> None:
    """Cancelling gets through as it is, although the server has the whole request."""
    async with FaultServer(faults.silent) as server, transport_to(server.url) as transport:
        call = asyncio.create_task(transport.send("POST", SUBMIT, body=BODY))
        await server.until(lambda: bool(server.seen))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert server.seen[0].body == BODY


async def test_a_status_call_that_got_no_answer() -> None:
    """A GET that connected and heard nothing is unanswered, within the limit for status calls."""
    async with FaultServer(faults.silent) as server:
        async with transport_to(server.url, status=0.2) as transport:
            error = await failure_of(transport.send("GET", STATUS))

        assert isinstance(error, UnansweredError)
        assert error.reason == "timeout"
        assert server.methods == ["GET"]


# Answers that are whole, whatever they say

WHOLE = {
    "truncated JSON": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + HALF, 200, HALF),
    "HTML 502": (
        reply(b"<html>Bad Gateway</html>", status="502 Bad Gateway", content_type="text/html"),
        502,
        b"<html>Bad Gateway</html>",
    ),
    "text/plain 200": (reply(ACCEPTED, content_type="text/plain"), 200, ACCEPTED),
    "empty 204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + ACCEPTED, 200, ACCEPTED),
    "gzip": (reply(gzip.compress(ACCEPTED), headers=["Content-Encoding: gzip"]), 200, ACCEPTED),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_is_handed_on_as_it_is(name: str) -> None:
    """Status and body come back unjudged: what they mean is decided elsewhere."""
    answer, status, body = WHOLE[name]
    async with FaultServer(saying(answer)) as server, transport_to(server.url) as transport:
        got = await transport.send("POST", SUBMIT, body=BODY)

        assert (got.status, got.body) == (status, body)
        assert server.methods == ["POST"]
        assert server.seen[0].body == BODY


@pytest.mark.parametrize(
    ("header", "called"),
    [
        ("Content-Type: text/plain", "text/plain"),
        ("Content-Type: text/html; charset=utf-8", "text/html; charset=utf-8"),
        (f"Content-Type: x/{KEY}", "x/***"),
        ("Content-Type: x/\xe9", "x/?"),
        ("X-Other: 1", "nothing"),
    ],
    ids=["text/plain", "text/html", "with the key", "no text", "no type"],
)
async def test_json_by_another_name_is_read_and_told_once(
    header: str, called: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 200 that is JSON but is not called so is an answer; each client warns of it once."""
    head = f"HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: {len(ACCEPTED)}\r\n\r\n"
    async with FaultServer(answering(head.encode("latin-1") + ACCEPTED)) as server:
        for number in (1, 2):
            async with ApixoClient(KEY, base_url=server.url) as client:
                assert (await client.submit(TextToVideo("a calm ocean"))).id == "t-1"
                with pytest.raises(UnexpectedAnswerError, match="state"):
                    await client.status("t-1")

            told = [
                record.getMessage()
                for record in caplog.records
                if record.levelno >= logging.WARNING
            ]
            assert len(told) == number
            assert f"JSON that is called {called!r}" in told[-1]
        assert server.methods == ["POST", "GET"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        reply(ACCEPTED),
        reply(ACCEPTED, content_type="Application/Problem+JSON"),
        reply(b"<html>welcome</html>", content_type="text/html"),
        reply(b'{"code":502}', content_type="text/plain", status="502 Bad Gateway"),
    ],
    ids=["JSON", "a kind of JSON", "a page", "an error"],
)
async def test_what_needs_no_warning_has_none(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON that is called so is normal; pages and errors are told as what they are."""
    async with FaultServer(answering(answer)) as server, transport_to(server.url) as transport:
        await transport.send("POST", SUBMIT, body=BODY)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_retry_after_is_the_header_that_is_kept() -> None:
    """The reply carries `Retry-After`, however the server spells it."""
    answer = reply(b"{}", status="429 Too Many Requests", headers=["RETRY-AFTER: 7", "X-A: b"])
    async with FaultServer(answering(answer)) as server, transport_to(server.url) as transport:
        got = await transport.send("GET", STATUS)

    assert (got.status, got.retry_after) == (429, "7")


DATES = {
    "Thu, 26 Nov 2026 20:14:01 GMT": datetime(2026, 11, 26, 20, 14, 1, tzinfo=UTC),
    "Thu, 26 Nov 2026 23:14:01 +0300": datetime(2026, 11, 26, 20, 14, 1, tzinfo=UTC),
    "today": None,
    f"Thu, 26 Nov 2026 20:14:01 {KEY}": datetime(2026, 11, 26, 20, 14, 1, tzinfo=UTC),
}


@pytest.mark.parametrize("date", DATES, ids=["GMT", "zone", "no date", "with the key"])
async def test_a_submit_s_answer_has_the_server_s_time(date: str) -> None:
    """By it the provider can find what it answered; a date that is none does no harm."""
    answer = reply(ACCEPTED, headers=[f"Date: {date}"])
    async with FaultServer(answering(answer)) as server, transport_to(server.url) as transport:
        submitted = await transport.send("POST", SUBMIT, body=BODY)

    assert submitted.sent_at == DATES[date]
    assert submitted.body == ACCEPTED


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_redirect_is_not_followed(method: Method, status: str) -> None:
    """The place a redirect points to sees nothing: no body, no key, not even a connection."""
    async with FaultServer(answering(reply(ACCEPTED))) as target:
        answer = reply(b"", status=status, headers=[f"Location: {target.url}/api/v1{SUBMIT}"])
        async with FaultServer(answering(answer)) as server, transport_to(server.url) as transport:
            got = await transport.send(method, SUBMIT)

            assert got.status == int(status[:3])
            assert server.methods == [method]
        assert target.connections == 0


# Bodies without end


async def test_a_huge_answer() -> None:
    """Reading stops at the cap, long before the server has said all it wanted to."""
    megabytes = 64

    async def act(peer: faults.Peer) -> None:
        await peer.request()
        await peer.send(reply(length=megabytes * 2**20))
        for _ in range(megabytes):
            await peer.send(b"0123456789abcdef" * 2**16)

    async with FaultServer(act) as server:
        error = await failed_post(server)

        assert isinstance(error, UnansweredError)
        assert error.reason == "too_large"
        assert error.received.startswith("0123456789abcdef")
        assert len(error.received) <= 2_000
        assert server.sent < megabytes * 2**20 / 2


async def test_a_gzip_bomb() -> None:
    """A quarter of a megabyte that unpacks to 256 MB costs a few megabytes of memory at most."""
    member = gzip.compress(b"0" * 2**20 * 16)
    bomb = reply(member * 16, headers=["Content-Encoding: gzip"])
    async with FaultServer(saying(bomb)) as server, transport_to(server.url) as transport:
        tracemalloc.start()
        try:
            error = await failure_of(transport.send("POST", SUBMIT, body=BODY))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert isinstance(error, UnansweredError)
    assert error.reason == "too_large"
    assert peak < 4 * REPLY_CAP + 2 * len(bomb)


@pytest.mark.parametrize(("members", "is_read"), [(20, True), (20_000, False)])
async def test_an_answer_in_many_gzip_members(members: int, is_read: bool) -> None:
    """A few members one after another are put together; a flood of them is refused."""
    text = b'{"code":200,"pad":"' + b"x" * (members - 21) + b'"}'
    packed = b"".join(gzip.compress(text[i : i + 1]) for i in range(len(text)))
    answer = reply(packed, headers=["Content-Encoding: gzip"])
    async with FaultServer(saying(answer)) as server, transport_to(server.url) as transport:
        call = transport.send("POST", SUBMIT, body=BODY)
        if is_read:
            assert (await call).body == text
        else:
            error = await failure_of(call)
            assert isinstance(error, UnansweredError)
            assert error.reason == "broken"


async def test_the_largest_answer_that_is_read() -> None:
    """An answer of exactly the cap is read whole; one byte more is too large."""
    for length, fits in [(REPLY_CAP, True), (REPLY_CAP + 1, False)]:
        act = saying(reply(b"x" * length))
        async with FaultServer(act) as server, transport_to(server.url) as transport:
            if fits:
                assert len((await transport.send("GET", STATUS)).body) == length
            else:
                error = await failure_of(transport.send("GET", STATUS))
                assert error.reason == "too_large"


# Connections that are kept


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ending", ["RST", "FIN"])
async def test_a_kept_connection_that_dies(method: Method, ending: str) -> None:
    """Neither a POST nor a GET is sent again behind our back: the server counts two requests."""

    async def act(peer: faults.Peer) -> None:
        await peer.request()
        await peer.send(reply(PENDING))
        await peer.request()
        if ending == "RST":
            peer.reset()

    async with FaultServer(act) as server, transport_to(server.url) as transport:
        await transport.send(method, STATUS)
        error = await failure_of(transport.send(method, STATUS))

        assert isinstance(error, UnansweredError)
        assert error.reason == "reset"
        assert server.methods == [method, method]
        assert server.connections == 1


async def test_connections_are_used_again() -> None:
    """GET and POST share the kept connections."""
    async with FaultServer(answering(reply(PENDING))) as server:
        async with transport_to(server.url) as transport:
            for method in METHODS * 2:
                await transport.send(method, STATUS)

        assert server.methods == ["GET", "POST", "GET", "POST"]
        assert server.connections == 1


async def test_connections_are_never_the_bottleneck() -> None:
    """300 status calls are all with the server at one time."""
    calls = 300
    everyone = asyncio.Event()

    async def act(peer: faults.Peer) -> None:
        await peer.request()
        if peer.server.open == calls:
            everyone.set()
        await everyone.wait()
        await peer.send(reply(PENDING))

    limits = Limits(requests_per_minute=10_000_000)
    async with FaultServer(act) as server:
        async with ApixoClient(KEY, base_url=server.url, limits=limits) as client:
            tasks = await asyncio.gather(*[client.status("t-1") for _ in range(calls)])

        assert [task.state for task in tasks] == ["pending"] * calls
        assert server.peak == calls


# The key


async def test_the_key_goes_out_once_and_to_the_api() -> None:
    """Each call carries one Authorization header, and no cookie the server may have set."""
    answer = reply(PENDING, headers=["Set-Cookie: a=b; Path=/"])
    async with FaultServer(answering(answer)) as server, transport_to(server.url) as transport:
        await transport.send("GET", STATUS)
        await transport.send("POST", SUBMIT, body=BODY)
        await transport.send("GET", STATUS)

    for seen in server.seen:
        assert seen.values("authorization") == [f"Bearer {KEY}"]
        assert seen.values("cookie") == []
        assert seen.values("user-agent") == ["tests"]
        assert KEY not in seen.target
        assert KEY.encode() not in seen.body
    assert [seen.target for seen in server.seen] == [
        "/api/v1" + STATUS,
        "/api/v1" + SUBMIT,
        "/api/v1" + STATUS,
    ]
    assert server.seen[1].values("content-type") == ["application/json"]


async def test_a_proxy_in_the_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key does not travel through a proxy that nobody asked us to use."""
    async with FaultServer(answering(reply(ACCEPTED))) as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with FaultServer(answering(reply(ACCEPTED))) as server:
            async with transport_to(server.url) as transport:
                await transport.send("POST", SUBMIT, body=BODY)
                await transport.send("GET", STATUS)

            assert server.methods == ["POST", "GET"]
        assert proxy.connections == 0


ECHO = f"you sent Authorization: Bearer {KEY}".encode()
ECHOES = {
    "whole answer": (saying(reply(ECHO)), True),
    "JSON": (saying(reply(json.dumps({"code": 400, "message": ECHO.decode()}).encode())), True),
    "HTML 502": (saying(reply(b"<p>" + ECHO, status="502 Bad", content_type="text/html")), True),
    "cut answer": (saying(reply(ECHO, length=999)), False),
    "key at the edge of the excerpt": (
        saying(reply(b"x" * (2_000 - len(ECHO) + 10) + ECHO, length=9_999)),
        False,
    ),
    "key at the edge of what is searched": (
        saying(reply(b" " * (8_000 - len(ECHO) + 10) + ECHO, length=9_999)),
        False,
    ),
    "too large": (saying(reply(ECHO * 2**15)), False),
    "bad header": (saying(b"HTTP/1.1 200 OK\r\nX: \0" + ECHO + b"\r\n\r\n"), False),
    "bad status line": (saying(ECHO + b"\r\n\r\n"), False),
    "in the reason phrase": (saying(reply(b"{}", status=f"401 {KEY}")), True),
    "in a redirect": (saying(reply(b"", status="307 X", headers=[f"Location: /{KEY}"])), True),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_a_server_that_echoes_the_key(name: str) -> None:
    """The key is masked in what comes back, as answer, as error and as the verb's error."""
    act, is_whole = ECHOES[name]
    async with FaultServer(act) as server:
        async with transport_to(server.url) as transport:
            if is_whole:
                answer = await transport.send("POST", SUBMIT, body=BODY)
                assert KEY not in repr(answer)
            else:
                error = await failure_of(transport.send("POST", SUBMIT, body=BODY))
                assert_no_part_of_the_key(str(vars(error)))
        client = ApixoClient(KEY, base_url=server.url)
        async with client:
            with pytest.raises(ApixoError) as caught:
                await client.submit(TextToVideo("a calm ocean"))
        assert_key_free(caught.value)


def assert_no_part_of_the_key(text: str) -> None:
    """Not even the beginning of the key is left, as where a text was cut in the middle of it."""
    assert KEY[:12] not in text


async def test_the_key_is_in_no_name_of_anything() -> None:
    """Client and transport can be printed, also while they are in use."""
    async with FaultServer(answering(reply(PENDING))) as server:
        async with ApixoClient(KEY, base_url=server.url) as client:
            await client.status("t-1")
            shown = repr(client) + repr(client.engine) + repr(client.statistics())
        async with transport_to(server.url) as transport:
            await transport.send("GET", STATUS)
            shown += repr(transport) + str(transport)

    assert KEY not in shown


async def test_the_key_is_not_in_what_asyncio_says_in_debug_mode(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With asyncio in debug mode, slow steps are reported with their coroutines, not the key."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    try:
        async with FaultServer(faults.silent) as server:
            await failed_post(server, submit=0.1)
    finally:
        loop.set_debug(False)

    assert [record for record in caplog.records if record.name == "asyncio"]
    # The fixture of this module looks for the key in them.


# Sessions


async def test_a_session_passed_in_is_left_open() -> None:
    """It is used for its connector and closed by whoever made it."""
    async with FaultServer(answering(reply(PENDING))) as server:
        async with aiohttp.ClientSession() as session:
            async with transport_to(server.url, session=session) as transport:
                await transport.send("GET", STATUS)
                await transport.send("POST", SUBMIT, body=BODY)

            assert not session.closed
            async with session.get(server.url) as response:
                assert response.status == 200
        assert server.connections == 1


async def test_a_session_passed_in_brings_its_connector() -> None:
    """Name resolution, TLS and limits of the session's connector hold for both kinds of call."""
    connector = aiohttp.TCPConnector(resolver=LocalResolver())
    async with (
        FaultServer(answering(reply(PENDING))) as server,
        aiohttp.ClientSession(connector=connector) as session,
        transport_to(f"http://api.test:{server.port}", session=session) as transport,
    ):
        await transport.send("GET", STATUS)
        await transport.send("POST", SUBMIT, body=BODY)

        assert server.methods == ["GET", "POST"]
        assert server.seen[0].values("host") == [f"api.test:{server.port}"]


async def test_a_session_passed_in_goes_on_tracing() -> None:
    """Its trace configs hear of status calls and submits."""
    heard: list[str] = []

    async def note(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        heard.append(params.method)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    async with (
        FaultServer(answering(reply(PENDING))) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        transport_to(server.url, session=session) as transport,
    ):
        await transport.send("GET", STATUS)
        await transport.send("POST", SUBMIT, body=BODY)
        async with session.get(server.url) as response:
            await response.read()

    assert heard == ["GET", "POST", "GET"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_netrc_that_a_session_passed_in_reads_is_named(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account of this machine would take the place of the key: nothing is sent."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async with (
        FaultServer(answering(reply())) as server,
        aiohttp.ClientSession(trust_env=True) as session,
        transport_to(server.url, session=session) as transport,
    ):
        error = await failure_of(transport.send(method, SUBMIT))

    assert isinstance(error, NotSentError)
    assert (error.reason, error.is_retryable) == ("netrc", False)
    assert ".netrc" in str(error)
    assert not server.seen


@pytest.mark.parametrize("method", METHODS)
async def test_habits_of_a_session_passed_in_change_nothing(method: Method) -> None:
    """Default headers, cookies, base URL, strictness and raw bodies of a session stay its own."""
    packed = gzip.compress(b'{"code":404}')
    answer = reply(packed, status="404 Not Found", headers=["Content-Encoding: gzip"])
    async with (
        FaultServer(answering(answer)) as server,
        aiohttp.ClientSession(
            "http://elsewhere.invalid/",
            headers={"Authorization": "Basic other", "X-Other": "1"},
            cookies={"other": "1"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            raise_for_status=True,
            auto_decompress=False,
        ) as session,
        transport_to(server.url, session=session) as transport,
    ):
        got = await transport.send(method, STATUS)

        assert (got.status, got.body) == (404, b'{"code":404}')
        assert server.seen[0].values("authorization") == [f"Bearer {KEY}"]
        assert server.seen[0].values("cookie") == []
        assert server.seen[0].values("x-other") == []


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("method", METHODS)
async def test_a_session_that_is_closed(method: Method, used_before: bool) -> None:
    """Whether it was used before or not, a closed session is the caller's mistake, and told so."""
    async with FaultServer(answering(reply(PENDING))) as server:
        session = aiohttp.ClientSession()
        async with transport_to(server.url, session=session) as transport:
            if used_before:
                await transport.send(method, STATUS)
            await session.close()
            with pytest.raises(ClientUsageError, match="closed") as caught:
                await transport.send(method, STATUS)

        assert_clean(caught.value)
        assert len(server.seen) == used_before


async def test_a_transport_that_is_closed() -> None:
    """Its own session is not opened again after closing."""
    async with FaultServer(answering(reply(PENDING))) as server:
        async with transport_to(server.url) as transport:
            await transport.send("GET", STATUS)
            await transport.send("POST", SUBMIT)
        for method in METHODS:
            with pytest.raises(ClientUsageError, match="closed"):
                await transport.send(method, STATUS)

        assert len(server.seen) == 2


def test_nothing_is_opened_before_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making, printing and closing a client needs no event loop and makes no session."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(aiohttp.TCPConnector, "__init__", forbidden)
    monkeypatch.setattr(aiohttp.ClientSession, "__init__", forbidden)
    client = ApixoClient(KEY, base_url="http://127.0.0.1:9")
    repr(client)
    asyncio.run(client.aclose())

    async def enter() -> None:
        async with ApixoClient(KEY, base_url="http://127.0.0.1:9"):
            pass

    asyncio.run(enter())


async def test_closing_twice_leaves_nothing_behind() -> None:
    """After `aclose()`, however often, no socket, session or warning is left."""
    async with FaultServer(answering(reply(PENDING))) as server:
        async with transport_to(server.url) as transport:
            await transport.send("GET", STATUS)
            await transport.send("POST", SUBMIT, body=BODY)
            await transport.aclose()
            await transport.aclose()
        del transport
        await server.until(lambda: server.open == 0)
    gc.collect()  # what was not closed warns here, and warnings are errors
