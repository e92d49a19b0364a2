"""What each manner of sending looks like from the other end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from apixo_async.emulator.wire import BOMB_SIZE, HUGE_SIZE

if TYPE_CHECKING:
    from tests.emulator.conftest import Caller, Start


async def raw_submit(caller: Caller, prompt: str = "x") -> bytes:
    """Submit by hand and return every byte that comes back until the connection ends."""
    body = json.dumps(
        {"input": {"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO"}}
    ).encode()
    host, _, port = caller.emulator.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        "POST /api/v1/generateTask/veo-3-1 HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer test-key\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    )
    writer.write(head.encode() + b"\r\n" + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_bytes_that_are_no_text_are_no_key(start: Start) -> None:
    """A header beyond UTF-8 and a path with a line break in it are refused, not tripped over."""
    caller = await start(faults={"redirect_307": 1})
    port = int(caller.emulator.base_url.rsplit(":", 1)[1])
    answers = []
    for path, key in (("x", b"cl\xe9"), ("x%0d%0ay", b"test-key")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /api/v1/statusTask/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        writer.write(head.encode() + b"Authorization: Bearer " + key + b"\r\n\r\n")
        answers.append(await reader.read())
        writer.close()
        await writer.wait_closed()

    assert answers[0].startswith(b"HTTP/1.1 401 ")
    assert answers[1].startswith(b"HTTP/1.1 307 ")
    assert b"Location: /redirected/api/v1/statusTask/x%0d%0ay\r\n" in answers[1]


@pytest.mark.parametrize(("fault", "billed"), [("submit_cut_before", 0), ("submit_cut_after", 1)])
async def test_a_cut_submit_gets_not_one_byte(start: Start, fault: str, billed: int) -> None:
    """The connection ends in silence, whether the task was accepted or not."""
    caller = await start(faults={fault: 1})

    assert await raw_submit(caller) == b""
    assert caller.emulator.ledger.billed_total == billed


async def test_a_cut_shows_as_a_disconnect(start: Start) -> None:
    """A client library reports that the server went away."""
    caller = await start(faults={"status_cut": 1})
    task_id = await caller.accepted()

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await caller.status(task_id)


@pytest.mark.parametrize("fault", ["submit_drip_after", "status_drip"])
async def test_a_dripping_answer_takes_its_time(start: Start, fault: str) -> None:
    """All of it arrives in the end, spread over the seconds of the setting."""
    caller = await start(faults={fault: 1}, drip_seconds=0.3)
    begun = time.monotonic()
    answer = await caller.submit()
    if fault == "status_drip":
        begun = time.monotonic()
        answer = await caller.status(answer.data["taskId"])

    assert answer.code == 200
    assert 0.3 <= time.monotonic() - begun < 30


async def test_a_drip_has_begun_before_it_ends(start: Start) -> None:
    """Headers and first bytes come at once: only a limit on the whole answer helps."""
    caller = await start(faults={"submit_drip_after": 1}, drip_seconds=60)
    body = {"input": {"mode": "fast", "prompt": "x", "generationType": "TEXT_2_VIDEO"}}
    async with caller.session.post("/api/v1/generateTask/veo-3-1", json=body) as response:
        first = await response.content.readexactly(1)

    assert (response.status, first) == (200, b"{")


async def test_a_truncated_answer_is_whole_for_http(start: Start) -> None:
    """The length fits what arrives; only the JSON is half of what it should be."""
    caller = await start(faults={"submit_truncated_json_after": 1, "status_truncated_json": 1})
    head, _, body = (await raw_submit(caller)).partition(b"\r\n\r\n")

    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    assert body.startswith(b'{"code":200,')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(body)
    [task] = caller.emulator.tasks()
    with pytest.raises(json.JSONDecodeError):
        await caller.status(str(task["id"]))


async def test_a_partial_answer_breaks_its_promise(start: Start) -> None:
    """Fewer bytes arrive than Content-Length announced, and the client library says so."""
    caller = await start(faults={"submit_partial_after": 1})

    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.submit()
    assert caller.emulator.ledger.billed_total == 1


async def test_a_huge_answer_is_valid(start: Start) -> None:
    """Who reads all 16 MiB finds the true answer at their end."""
    caller = await start(faults={"huge_body": 1})
    answer = await caller.submit()

    assert int(answer.headers["Content-Length"]) == HUGE_SIZE
    assert len(answer.data["taskId"]) == 32


async def test_a_bomb_is_small_on_the_wire(start: Start) -> None:
    """A few kilobytes unpack to 32 MiB, with the true answer at their end."""
    caller = await start(faults={"gzip_bomb": 1})
    body = {"input": {"mode": "fast", "prompt": "x", "generationType": "TEXT_2_VIDEO"}}
    async with caller.session.post("/api/v1/generateTask/veo-3-1", json=body) as response:
        unpacked = await response.read()

    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) < 50_000
    assert len(unpacked) > BOMB_SIZE
    assert json.loads(unpacked)["code"] == 200


async def test_a_short_download_stops_midway(start: Start) -> None:
    """Half of the file arrives, then the connection ends; the rest can be asked for."""
    caller = await start()
    url = await caller.url()
    async with aiohttp.ClientSession() as session:
        whole = await (await session.get(url)).read()
        caller.emulator.set_faults({"short_download": 1})
        got = b""
        async with session.get(url) as response:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                while chunk := await response.content.readany():
                    got += chunk
        caller.emulator.set_faults({})
        headers = {"Range": f"bytes={len(got)}-", "If-Range": response.headers["ETag"]}
        rest = await (await session.get(url, headers=headers)).read()

    assert int(response.headers["Content-Length"]) == len(whole)
    assert 0 < len(got) < len(whole)
    assert got + rest == whole


async def test_closing_does_not_wait_for_a_drip(start: Start) -> None:
    """An answer that would take a minute is given up when the emulator closes."""
    caller = await start(faults={"submit_drip_after": 1}, drip_seconds=60)
    body = {"input": {"mode": "fast", "prompt": "x", "generationType": "TEXT_2_VIDEO"}}
    async with caller.session.post("/api/v1/generateTask/veo-3-1", json=body) as response:
        begun = time.monotonic()
        await caller.emulator.__aexit__(None, None, None)

    assert response.status == 200
    assert time.monotonic() - begun < 30
