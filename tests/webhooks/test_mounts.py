from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import logging
import secrets
import socket
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

import aiohttp
import attrs
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from apixo_async import InvalidSettingError, JournalError, WebhookReceiver
from apixo_async.webhooks import Callback, Slip, bodies, reception
from apixo_async.webhooks.asgi import AsgiApp
from tests.filehost import until

# The servers live as long as the tests of this file, and so does their event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "the secret of these tests"
JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "success"}}).encode()
METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]


# Real servers, each with the receiver in another place


def listening() -> tuple[socket.socket, str]:
    """A socket on any free port, and the URL of what listens there."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=1_000)
    return sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def hidden(logger: str) -> Generator[None]:
    """Callbacks are left out of this access log, as the docs advise."""

    def is_no_callback(record: logging.LogRecord) -> bool:
        return "/apixo/" not in record.getMessage()

    logging.getLogger(logger).addFilter(is_no_callback)
    yield
    logging.getLogger(logger).removeFilter(is_no_callback)


@asynccontextmanager
async def under_aiohttp(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """A sub-application of an aiohttp application."""
    app = web.Application()
    app.add_subapp("/apixo/", receiver.aiohttp_app())
    runner = web.AppRunner(app)
    await runner.setup()
    sock, url = listening()
    await web.SockSite(runner, sock).start()
    with hidden("aiohttp.access"):
        yield f"{url}/apixo"
        await runner.cleanup()


@asynccontextmanager
async def under_uvicorn(app: AsgiApp | FastAPI | Starlette) -> AsyncGenerator[str]:
    """Any ASGI application."""
    sock, url = listening()
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    with hidden("uvicorn.access"):
        yield f"{url}/apixo"
        server.should_exit = True
        await serving


@asynccontextmanager
async def under_fastapi(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """Mounted in FastAPI."""
    app = FastAPI()
    app.mount("/apixo", receiver.asgi_app())
    async with under_uvicorn(app) as url:
        yield url


@asynccontextmanager
async def under_starlette(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """Mounted in Starlette."""
    app = Starlette(routes=[Mount("/apixo", app=receiver.asgi_app())])
    async with under_uvicorn(app) as url:
        yield url


@asynccontextmanager
async def under_nothing(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """The ASGI application by itself."""
    async with under_uvicorn(receiver.asgi_app()) as url:
        yield url


@asynccontextmanager
async def by_itself(receiver: WebhookReceiver) -> AsyncGenerator[str]:
    """Its own server."""
    async with receiver.serve(port=0) as serving:
        yield f"http://127.0.0.1:{serving.port}"


Place: TypeAlias = Callable[[WebhookReceiver], AbstractAsyncContextManager[str]]
PLACES: Mapping[str, Place] = {
    "aiohttp": under_aiohttp,
    "fastapi": under_fastapi,
    "starlette": under_starlette,
    "asgi": under_nothing,
    "serve": by_itself,
}


@attrs.define
class Site:
    """Where a receiver is, and what it has taken in the test that runs."""

    receiver: WebhookReceiver
    url: str
    taken: list[Callback] = attrs.field(factory=list[Callback])
    trouble: Exception | None = None
    delay: float = 0.0

    async def listen(self, callback: Callback) -> bool:
        """What a client does with a callback, or cannot do."""
        await asyncio.sleep(self.delay)
        if self.trouble is not None:
            raise self.trouble
        self.taken.append(callback)
        return True


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[WebhookReceiver, str]]:
    """One of the servers with a receiver in it. Its public URL is that of a proxy."""
    receiver = WebhookReceiver("https://hooks.example/some/where", secret=SECRET)
    async with PLACES[request.param](receiver) as url:
        yield receiver, url


@pytest_asyncio.fixture(loop_scope="module")
async def site(place: tuple[WebhookReceiver, str]) -> AsyncIterator[Site]:
    """The same with a listener."""
    site = Site(*place)
    site.receiver.connect(site.listen)
    yield site
    site.receiver.disconnect(site.listen)


@pytest.fixture
def slip() -> Slip:
    """A submit of a job that no other test knows."""
    return Slip(secrets.token_hex(12), 1)


def token(receiver: WebhookReceiver, slip: Slip) -> str:
    """The part of a callback URL that counts."""
    return receiver.url(slip).rpartition("/")[2]


# A sender that can do what HTTP libraries refuse to do


@attrs.frozen
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = attrs.field(eq=False)


async def ask(
    url: str,
    method: str = "POST",
    body: bytes | AsyncIterable[bytes] = BODY,
    headers: Mapping[str, str] = JSON,
) -> Answer:
    """Sends a request and returns the answer, which may come before the body has left.

    The length of a body in pieces is not told, if `headers` do not tell it.
    """
    parts = urlsplit(url)
    sent = {"Host": parts.netloc, **headers}
    is_chunked = not isinstance(body, bytes) and "Content-Length" not in headers
    if is_chunked:
        sent["Transfer-Encoding"] = "chunked"
    elif isinstance(body, bytes):
        sent.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {parts.path} HTTP/1.1", *(f"{name}: {sent[name]}" for name in sent)]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    sending = asyncio.create_task(_send(writer, body, is_chunked=is_chunked))
    try:
        async with asyncio.timeout(30):
            return await _answer(reader, has_body=method != "HEAD")
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(
    writer: asyncio.StreamWriter, body: bytes | AsyncIterable[bytes], *, is_chunked: bool
) -> None:
    with contextlib.suppress(OSError):
        if isinstance(body, bytes):
            writer.write(body)
        else:
            async for piece in body:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await writer.drain()
        if is_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answer:
    status_line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    headers = http.client.parse_headers(io.BytesIO(rest))
    length = int(headers["Content-Length"]) if has_body else 0
    body = await reader.readexactly(length)
    return Answer(int(status_line.split()[1]), body, dict(headers.items()))


async def pieces(*, of: int, count: int) -> AsyncIterator[bytes]:
    """A body in pieces of that many bytes."""
    for _ in range(count):
        yield b" " * of


async def trickle() -> AsyncIterator[bytes]:
    """A body that never ends."""
    while True:
        yield b" "
        await asyncio.sleep(0.01)


# What is taken


async def test_a_callback_is_answered_200_and_told(site: Site, slip: Slip) -> None:
    """A POST to a URL of ours is answered exactly 200, and whoever asked for it is told."""
    answer = await ask(f"{site.url}/{token(site.receiver, slip)}")

    assert answer.status == 200
    assert [(told.slip, told.claim.task_id) for told in site.taken] == [(slip, "task_1")]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "text/plain", "application/octet-stream", ""]
)
async def test_the_content_type_may_be_missing_or_vague(kind: str, site: Site, slip: Slip) -> None:
    """No document names the content type, so all that may carry JSON do."""
    headers = {"Content-Type": kind} if kind else {}

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", headers=headers)

    assert answer.status == 200


@pytest.mark.parametrize("prefix", ["", "apixo/", "some/where/", "some/where//"])
async def test_a_prefix_that_a_proxy_kept_makes_no_difference(
    prefix: str, site: Site, slip: Slip
) -> None:
    """Whatever stands before the last part of the path, the callback is taken."""
    answer = await ask(f"{site.url}/{prefix}{token(site.receiver, slip)}")

    assert answer.status == 200
    assert len(site.taken) == 1


async def test_a_body_in_chunks_is_taken(site: Site, slip: Slip) -> None:
    """A body may come in pieces without a length."""

    async def split() -> AsyncIterator[bytes]:
        yield BODY[:10]
        yield BODY[10:]

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", body=split())

    assert answer.status == 200


async def test_a_body_of_64_kb_is_taken(site: Site, slip: Slip) -> None:
    """The largest body that is allowed is read to its end."""
    body = BODY.ljust(bodies.BODY_MAX)

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", body=body)

    assert answer.status == 200


async def test_a_thousand_callbacks_at_once_are_all_taken(
    site: Site,
) -> None:
    """When a thousand tasks end in one moment, none is turned away, however busy the machine is."""
    slips = [Slip(f"job-{number}", 1) for number in range(1_000)]
    # No more connections than the system lets any program open.
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, headers=JSON) as session:

        async def send(slip: Slip) -> int:
            url = f"{site.url}/{token(site.receiver, slip)}"
            async with session.post(url, data=BODY) as answer:
                return answer.status

        statuses = await asyncio.gather(*map(send, slips))

    assert statuses == [200] * 1_000
    assert {callback.slip for callback in site.taken} == set(slips)


# What is not ours


FORGERIES: Mapping[str, Callable[[str], str]] = {
    "another MAC": lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    "half a MAC": lambda token: token[:-8],
    "another attempt": lambda token: token.replace(".1.", ".2."),
    "another job": lambda token: f"x{token}",
    "another secret": lambda _: token(
        WebhookReceiver("https://hooks.example", secret="somebody else's secret"), Slip("job", 1)
    ),
    "something behind it": lambda token: f"{token}/more",
    "nothing": lambda _: "",
}
ODD_REQUESTS: Mapping[str, tuple[bytes, Mapping[str, str]]] = {
    "good": (BODY, JSON),
    "broken": (b"{", JSON),
    "gzip": (BODY, {**JSON, "Content-Encoding": "gzip"}),
    "xml": (b"<a/>", {"Content-Type": "text/xml"}),
    "large": (b"", {**JSON, "Content-Length": "1000000"}),
    "none": (b"", {}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("odd", ODD_REQUESTS)
async def test_a_forged_url_looks_like_a_path_that_is_not_there(
    forgery: str, odd: str, site: Site, slip: Slip
) -> None:
    """Who does not know a URL learns nothing from answers, whatever is sent."""
    body, headers = ODD_REQUESTS[odd]
    forged = FORGERIES[forgery](token(site.receiver, slip))

    answer = await ask(f"{site.url}/{forged}", body=body, headers=headers)

    nowhere = await ask(f"{site.url}/nothing/here", body=body, headers=headers)
    assert answer == nowhere
    assert answer.status == 404
    assert answer.headers.keys() == nowhere.headers.keys()
    assert site.taken == []


@pytest.mark.parametrize("method", METHODS)
async def test_another_method_tells_no_more(method: str, site: Site, slip: Slip) -> None:
    """Forged URLs and paths that are not there look alike with every method."""
    forged = FORGERIES["another MAC"](token(site.receiver, slip))

    answer = await ask(f"{site.url}/{forged}", method, body=b"", headers={})

    nowhere = await ask(f"{site.url}/nothing/here", method, body=b"", headers={})
    assert answer == nowhere
    assert answer.status == 404
    assert answer.headers.keys() == nowhere.headers.keys()


async def test_a_forged_url_is_refused_before_its_body_has_come(site: Site, slip: Slip) -> None:
    """Nobody can make us read what is not for us."""
    forged = FORGERIES["another MAC"](token(site.receiver, slip))

    answer = await ask(f"{site.url}/{forged}", body=trickle())

    assert answer.status == 404


# What is ours and is refused all the same


@pytest.mark.parametrize("method", METHODS)
async def test_a_callback_is_a_post(method: str, site: Site, slip: Slip) -> None:
    """Any other method on a URL of ours is answered 405."""
    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", method)

    assert answer.status == 405


@pytest.mark.parametrize(
    "headers",
    [{**JSON, "Content-Encoding": "gzip"}, {"Content-Type": "text/xml"}],
    ids=["gzip", "xml"],
)
async def test_what_is_packed_or_no_json_is_answered_415(
    headers: Mapping[str, str], site: Site, slip: Slip
) -> None:
    """Nothing is unpacked here, and nothing but JSON is read."""
    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", headers=headers)

    assert answer.status == 415
    assert site.taken == []


async def test_a_length_above_64_kb_is_answered_413_at_once(site: Site, slip: Slip) -> None:
    """A body that says that it is too large is not waited for."""
    headers = {**JSON, "Content-Length": str(bodies.BODY_MAX + 1)}

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", body=b"", headers=headers)

    assert answer.status == 413


async def test_chunks_above_64_kb_are_answered_413(site: Site, slip: Slip) -> None:
    """A body that does not say how large it is is read no further than it may be."""
    body = pieces(of=1024, count=100)

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", body=body)

    assert answer.status == 413
    assert site.taken == []


@pytest.mark.parametrize("headers", [JSON, {**JSON, "Content-Length": "60000"}])
async def test_a_body_that_trickles_is_answered_408(
    headers: Mapping[str, str], site: Site, slip: Slip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that takes longer than it may is not waited for, though bytes go on coming."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    url = f"{site.url}/{token(site.receiver, slip)}"

    answer = await ask(url, body=trickle(), headers=headers)

    assert answer.status == 408


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff"], ids=["cut", "list", "empty", "bytes"])
async def test_a_body_that_is_no_json_object_is_answered_400(
    body: bytes, site: Site, slip: Slip
) -> None:
    """What says nothing is not taken for a callback."""
    answer = await ask(f"{site.url}/{token(site.receiver, slip)}", body=body)

    assert answer.status == 400
    assert site.taken == []


async def test_a_callback_that_cannot_be_recorded_is_answered_503(site: Site, slip: Slip) -> None:
    """With a journal that fails the sender is asked to come again."""
    site.trouble = JournalError("the disk is full")

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}")

    assert answer.status == 503


async def test_a_callback_that_is_not_recorded_in_time_is_answered_503(
    site: Site, slip: Slip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk does not keep the sender waiting."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", 0.05)
    site.delay = 60.0

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}")

    assert answer.status == 503


async def test_a_sender_that_leaves_half_way_harms_nobody(
    site: Site, slip: Slip, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a callback is none, is no error of the server, and the next one is taken."""
    url = urlsplit(f"{site.url}/{token(site.receiver, slip)}")
    refused = site.receiver.statistics().refused
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST {url.path} HTTP/1.1\r\nHost: here\r\nContent-Length: 500\r\n\r\n"
    writer.write(head.encode() + BODY)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await until(lambda: site.receiver.statistics().refused > refused)

    answer = await ask(f"{site.url}/{token(site.receiver, slip)}")

    assert answer.status == 200
    assert len(site.taken) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno > 30] == []


async def test_no_log_shows_the_url_of_a_callback(
    site: Site, slip: Slip, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the logs, ours included, cannot make callbacks."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    url = f"{site.url}/{token(site.receiver, slip)}"

    await ask(url)
    await ask(url, "GET")
    await ask(url, body=b"{")
    await ask(url, body=trickle())
    site.trouble = JournalError("the disk is full")
    await ask(url)

    assert slip.job in caplog.text, "what went wrong is told by the job's name"
    assert token(site.receiver, slip) not in caplog.text


# A server of its own


@pytest.fixture
def alone() -> WebhookReceiver:
    """A receiver that is nowhere yet."""
    return WebhookReceiver("http://127.0.0.1", secret=SECRET)


async def test_serving_ends_with_its_block(alone: WebhookReceiver, slip: Slip) -> None:
    """`async with` listens on any free port for port 0, which it tells, and then no more."""
    async with alone.serve(port=0) as serving:
        url = f"http://127.0.0.1:{serving.port}/{token(alone, slip)}"
        answer = await ask(url)

    assert serving.port > 0
    assert answer.status == 200
    with pytest.raises(ConnectionRefusedError):
        await ask(url)


async def test_serving_may_be_awaited_and_closed(alone: WebhookReceiver, slip: Slip) -> None:
    """Without a block, `await` starts it and `aclose()` ends it, also twice."""
    serving = await alone.serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{serving.port}/{token(alone, slip)}"
    answer = await ask(url)
    await serving.aclose()
    await serving.aclose()

    assert answer.status == 200
    assert repr(serving) == f"<Serving callbacks on port {serving.port}>"
    with pytest.raises(ConnectionRefusedError):
        await ask(url)


async def test_a_port_that_is_taken_is_said(alone: WebhookReceiver) -> None:
    """A port that somebody else has is a setting that cannot be kept."""
    async with alone.serve(port=0) as first:
        with pytest.raises(InvalidSettingError, match=f"port {first.port}: .*another process"):
            _ = await alone.serve(port=first.port)


async def test_a_host_that_is_not_here_is_said(alone: WebhookReceiver) -> None:
    """An address of another machine cannot be listened on."""
    with pytest.raises(InvalidSettingError, match=r"cannot receive callbacks on 192\.0\.2\.1"):
        _ = await alone.serve("192.0.2.1", 0)


@pytest.mark.parametrize("port", [-1, 70_000])
async def test_a_number_that_is_no_port_is_said(alone: WebhookReceiver, port: int) -> None:
    """As any other setting that cannot be kept."""
    with pytest.raises(InvalidSettingError, match=f"port {port}"):
        _ = await alone.serve(port=port)


async def test_a_receiver_may_be_served_again(alone: WebhookReceiver, slip: Slip) -> None:
    """After one server another one serves the same receiver."""
    for _ in range(2):
        async with alone.serve(port=0) as serving:
            answer = await ask(f"http://127.0.0.1:{serving.port}/{token(alone, slip)}")

        assert answer.status == 200


async def test_a_callback_in_flight_is_answered_before_serving_ends(
    alone: WebhookReceiver, slip: Slip
) -> None:
    """What has come in when the block is left still gets its answer."""
    has_come = asyncio.Event()

    async def listen(callback: Callback) -> bool:
        has_come.set()
        await asyncio.sleep(0.05)
        return True

    alone.connect(listen)
    async with alone.serve(port=0) as serving:
        url = f"http://127.0.0.1:{serving.port}/{token(alone, slip)}"
        sending = asyncio.create_task(ask(url))
        await has_come.wait()

    assert (await sending).status == 200
