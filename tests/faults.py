"""A server on 127.0.0.1 that stalls, cuts and lies on demand, and counts what reached it.

It speaks HTTP over bare streams, because a well-behaved HTTP server cannot be made to misbehave on
the wire. What it saw is the truth that the client's own report is held against.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import attrs
from aiohttp.abc import AbstractResolver, ResolveResult


@attrs.frozen
class Seen:
    """One request as it arrived. Header names are lower case, in order, with repetitions."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


class Peer:
    """One accepted connection."""

    def __init__(
        self, server: FaultServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer

    async def request(self) -> Seen:
        """The next request, read to its end and noted in `server.seen`."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = tuple((name.lower(), value.strip()) for name, value in pairs)
        length = int(dict(headers).get("content-length", "0"))
        seen = Seen(method, target, headers, await self._reader.readexactly(length))
        self.server.note(seen)
        return seen

    async def first_byte(self) -> None:
        """Waits until anything at all has arrived."""
        await self._reader.readexactly(1)

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Sends the parts one by one."""
        for part in parts:
            self._writer.write(part)
            self.server.sent += len(part)
            await self._writer.drain()
            if pause:
                await asyncio.sleep(pause)

    async def stay(self) -> None:
        """Keeps the connection, saying nothing, until the client leaves it."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Act: TypeAlias = Callable[[Peer], Awaitable[None]]
"""What the server does with one connection; when it returns, the connection is closed (FIN)."""


class FaultServer:
    """Plays one act on every connection. Errors of an act itself are raised when it is closed."""

    def __init__(self, act: Act, *, tls: ssl.SSLContext | None = None) -> None:
        self._act = act
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[Exception] = []
        self._server: asyncio.Server | None = None
        self.port = 0
        self.seen: list[Seen] = []
        self.connections = 0
        """How many were accepted so far."""
        self.open = 0
        self.peak = 0
        """The most that were open at one time."""
        self.sent = 0
        """Bytes handed to the network."""
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def methods(self) -> list[str]:
        """The methods of the requests seen, in order."""
        return [seen.method for seen in self.seen]

    def note(self, seen: Seen) -> None:
        """Keeps a request."""
        self.seen.append(seen)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something is true of what was seen or of the open connections."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._play(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        self._changed.set()
        try:
            await self._act(Peer(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        except Exception as error:  # noqa: BLE001 - shown when the server is closed
            self._faults.append(error)
        finally:
            self.open -= 1
            self._changed.set()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._faults and exc is None:
            raise self._faults[0]


# Answers


def reply(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    content_type: str = "application/json",
    headers: Iterable[str] = (),
    length: int | None = None,
) -> bytes:
    """A whole HTTP answer; `length` lies about the body's length."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Act:
    """Answers the requests on one connection in turn, the last answer for all that follow."""

    async def act(peer: Peer) -> None:
        number = 0
        while True:
            await peer.request()
            await peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return act


def saying(*parts: bytes, pause: float = 0.0, cut: bool = False) -> Act:
    """Reads one request, sends the parts and hangs up, with RST if `cut`."""

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(*parts, pause=pause)
        if cut:
            peer.reset()

    return act


async def silent(peer: Peer) -> None:
    """Reads the request and never answers."""
    await peer.request()
    await peer.stay()


async def mute(peer: Peer) -> None:
    """Accepts whatever arrives and never says a word."""
    await peer.stay()


async def rude(peer: Peer) -> None:
    """Resets the connection as soon as anything arrives."""
    await peer.first_byte()
    peer.reset()


# What can be wrong before there is a connection


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The origin of a port that is taken, so that nobody else gets it, but refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.asynccontextmanager
async def crowded() -> AsyncIterator[str]:
    """The origin of a port whose queue of connections is full: a connect is never answered."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        while True:
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            try:
                await asyncio.wait_for(loop.sock_connect(filler, listening.getsockname()), 0.1)
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


# TLS. Made for these tests with `openssl req -x509`, valid to 2126, trusted by nobody.

_KEY: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgssSxPZe4cDZgE73p
T9hNn+CY5oo7Nb6InkcWw44pQMahRANCAAQbaCF/3dog6JreNFIY6KtIRPq7Qv3J
BfNlWEpggjSzw0Npxh8NqwwnbllBTwtUgT+ZO/FrMXimD1X4+L5O074k
-----END PRIVATE KEY-----
"""
_CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBrDCCAVGgAwIBAgIUN+vZznVY0BExvSEkt0YiUb7xt4YwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjEwNDkyN1oYDzIxMjYxMDI5
MTA0OTI3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQbaCF/3dog6JreNFIY6KtIRPq7Qv3JBfNlWEpggjSzw0Npxh8Nqwwn
bllBTwtUgT+ZO/FrMXimD1X4+L5O074ko38wfTAdBgNVHQ4EFgQU/caSpIwglb3M
DBQ9GloJvmBMqJwwHwYDVR0jBBgwFoAU/caSpIwglb3MDBQ9GloJvmBMqJwwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwDgYDVR0P
AQH/BAQDAgKEMAoGCCqGSM49BAMCA0kAMEYCIQC1WfMv3uSjEVy61aZ/iq6kY/Jk
AqXAkq++doVz9SMdmQIhAKSblkV7Ev7xUVS2BViy4Q58OFNVJ3rqh5Z50ONIAKxJ
-----END CERTIFICATE-----
"""


def server_tls(certificate: str = _KEY + _CERTIFICATE) -> ssl.SSLContext:
    """A server's side of TLS with this key and certificate, by default one that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key-and-certificate.pem"
        path.write_text(certificate)
        context.load_cert_chain(path)
    return context


def trusting_tls() -> ssl.SSLContext:
    """A client's side of TLS that trusts exactly that certificate."""
    return ssl.create_default_context(cadata=_CERTIFICATE)


class LocalResolver(AbstractResolver):
    """Finds every name on this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The one address."""
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing to close."""
