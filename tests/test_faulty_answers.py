"""Pages, odd headers and idle connections on bare sockets, as the verbs of a client meet them."""

from __future__ import annotations

import pytest

from apixo_async import (
    ApixoClient,
    RateLimitedError,
    ServerError,
    SubmitUncertainError,
    TextToVideo,
    Timeouts,
)
from apixo_async._transport import http as transport_module
from tests.faults import FaultServer, answering, reply, saying

KEY = "apx_CANARY_7f3b29d1c85e4a60"
PENDING = b'{"code":200,"message":"success","data":{"taskId":"t-1","state":"pending"}}'
PAGE = (
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title>"
    f"<style>{'x' * 5_000}</style><script>alert('{KEY}')</script></head>"
    f"<body><h1>Sorry &amp; again</h1><p>You sent Bearer {KEY}</p>{'<br>more ' * 9_000}"
).encode()


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Busy", "504 Gateway Timeout"])
async def test_a_gateway_s_page_is_kept_short_readable_and_without_the_key(status: str) -> None:
    """The status decides; of the page its words are kept, 2,000 characters at most."""
    answer = reply(PAGE, status=status, content_type="text/html")
    async with FaultServer(answering(answer)) as server:
        async with ApixoClient(KEY, base_url=server.url) as client:
            with pytest.raises(SubmitUncertainError) as doubt:
                await client.submit(TextToVideo("a calm ocean"))
            with pytest.raises(ServerError) as failure:
                await client.status("t-1")
        assert server.methods == ["POST", "GET"]

    assert doubt.value.http_status == failure.value.http_status == int(status[:3])
    for kept in (doubt.value.received, failure.value.message):
        assert 1_000 < len(kept) <= 2_000
        assert "502 Bad Gateway Sorry & again You sent Bearer *** more more" in kept
        assert not set("<>") & set(kept)
    assert doubt.value.received_bytes == len(PAGE) - 2 * (len(KEY) - len("***"))
    for error in (doubt.value, failure.value):
        assert KEY not in f"{error} {error!r} {vars(error)}"


ADVICE = {
    "two headers": (["Retry-After: 7", "Retry-After: 900"], 7.0),
    "two, the first is none": (["Retry-After: soon", "Retry-After: 900"], None),
    "Arabic digits": (["Retry-After: \u0667"], None),
    "a year too far": (["Retry-After: Fri, 31 Dec 99999 23:59:59 GMT"], None),
    "without an end": (["Retry-After: inf"], None),
}


@pytest.mark.parametrize(("headers", "expected"), ADVICE.values(), ids=ADVICE.keys())
async def test_advice_that_makes_no_sense_is_none(
    headers: list[str], expected: float | None
) -> None:
    """Of several the first counts; a 429 is one whatever stands beside it."""
    body = b'{"code":429,"message":"wait and retry","data":null}'
    head = f"HTTP/1.1 429 No\r\nContent-Length: {len(body)}\r\n" + "\r\n".join(headers)
    async with (
        FaultServer(saying(head.encode() + b"\r\n\r\n" + body)) as server,
        ApixoClient(KEY, base_url=server.url) as client,
    ):
        with pytest.raises(RateLimitedError) as caught:
            await client.status("t-1")

    assert caught.value.retry_after == expected


async def test_an_idle_connection_is_left_before_the_server_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A POST that meets a closing connection would be a doubt, so none is kept for long."""
    assert transport_module.KEEP_ALIVE < 5, "the shortest time for which common servers keep one"
    monkeypatch.setattr(transport_module, "KEEP_ALIVE", 0.05)
    async with FaultServer(answering(reply(PENDING))) as server:
        async with ApixoClient(KEY, base_url=server.url) as client:
            await client.status("t-1")
            await server.until(lambda: server.open == 0)
            await client.status("t-1")

        assert server.connections == 2


def test_every_call_ends_by_itself() -> None:
    """A minute for a submit, half of that for a look, ten seconds of it for the connection."""
    limits = Timeouts()

    assert (limits.submit, limits.status, limits.connect) == (60.0, 30.0, 10.0)
