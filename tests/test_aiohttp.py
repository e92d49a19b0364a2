"""What aiohttp does by itself, unless it is forbidden: what our transport has to prevent.

The transport's own behaviour in the same places is in `test_transport`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import aiohttp
import pytest

from tests import faults
from tests.faults import FaultServer, answering, reply, saying

BODY: Final = b'{"input":{"prompt":"a calm ocean"}}'
ANSWER: Final = b'{"code":200,"message":"success","data":{"taskId":"t-1"}}'
KEY: Final = "apx_CANARY_7f3b29d1c85e4a60"


class Trace(aiohttp.TraceConfig):
    """Notes whether a request's headers were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.is_sent = False
        self.on_request_headers_sent.append(self._note)

    async def _note(self, *_: object) -> None:
        self.is_sent = True


async def test_a_full_pool_looks_like_a_host_that_does_not_answer() -> None:
    """The exception blames the host; nothing was sent."""
    trace = Trace()
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        FaultServer(faults.silent) as server,
        aiohttp.ClientSession(connector=connector) as session,
        aiohttp.ClientSession(
            connector=connector, connector_owner=False, trace_configs=[trace]
        ) as late,
    ):
        first = asyncio.create_task(session.post(server.url, data=BODY).__aenter__())
        await server.until(lambda: bool(server.seen))
        with pytest.raises(aiohttp.ConnectionTimeoutError, match="127"):
            await late.post(server.url, data=BODY, timeout=aiohttp.ClientTimeout(connect=0.1))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

        assert not trace.is_sent
        assert server.methods == ["POST"]


DROPS: Final = [b" "] * 3_000


async def test_a_bound_on_reading_never_ends_a_drip() -> None:
    """`sock_read` ends silence, but each drop starts it anew; only `total` ends a drip."""
    drip = saying(reply(length=9_999), *DROPS, pause=0.02)
    raised: list[type[BaseException]] = []
    for act, bounds in (
        (faults.silent, aiohttp.ClientTimeout(total=40, sock_read=0.5)),
        (drip, aiohttp.ClientTimeout(total=3.5, sock_read=2)),
    ):
        async with FaultServer(act) as server, aiohttp.ClientSession(timeout=bounds) as session:
            with pytest.raises(TimeoutError) as caught:
                async with session.post(server.url, data=BODY) as response:
                    await response.read()
            raised.append(caught.type)

    assert raised == [aiohttp.SocketTimeoutError, TimeoutError]


async def test_a_post_that_is_cancelled_was_sent() -> None:
    """Cancelling says nothing: the server has the whole request."""
    trace = Trace()
    async with (
        FaultServer(faults.silent) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
    ):
        call = asyncio.create_task(session.post(server.url, data=BODY).__aenter__())
        await server.until(lambda: bool(server.seen))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert trace.is_sent
        assert server.seen[0].body == BODY


@pytest.mark.parametrize(("method", "requests"), [("POST", 2), ("GET", 3)])
async def test_a_get_on_a_kept_connection_that_is_reset_is_repeated(
    method: str, requests: int
) -> None:
    """The server counts one request more than was asked for; a POST is sent once."""
    trace = Trace()

    async def act(peer: faults.Peer) -> None:
        await peer.request()
        await peer.send(reply(ANSWER))
        await peer.request()
        peer.reset()

    async with (
        FaultServer(act) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
    ):
        await (await session.request(method, server.url)).read()
        trace.is_sent = False
        if method == "GET":
            await (await session.request(method, server.url)).read()
        else:
            with pytest.raises(aiohttp.ClientOSError):
                await session.request(method, server.url)

        assert trace.is_sent
        assert server.methods == [method] * requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_with_some_the_body_is_sent_again(status: int) -> None:
    """A POST becomes a GET, whose 200 could be taken for acceptance, or goes to another host."""
    async with FaultServer(answering(reply(ANSWER))) as target:
        answer = reply(status=f"{status} Moved", headers=[f"Location: {target.url}/there"])
        async with FaultServer(answering(answer)) as server, aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {KEY}"}
            async with session.post(server.url, data=BODY, headers=headers) as response:
                assert json.loads(await response.read()) == json.loads(ANSWER)

        (gone,) = target.seen
        is_repeated = status in {307, 308}
        assert (gone.method, gone.body) == (("POST", BODY) if is_repeated else ("GET", b""))
        assert gone.values("authorization") == []
