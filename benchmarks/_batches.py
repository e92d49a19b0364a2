"""Batches that are held in one state, or led to their end at once, and what they take in memory.

    python -m benchmarks._batches STATE WAY COUNT TOOL

prints how many bytes this process grew and how many it took at most; TOOL is `traced` or `rss`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from apixo_async import ApixoClient, BatchRunner, Limits, PollSchedule
from apixo_async._wire import Reply
from benchmarks._prompts import prompts

SLOTS: Final = 1_000
WARMING: Final = 20
KEPT: Final[list[object]] = []
"""What would be collected too early."""

_RESULT: Final = json.dumps({"resultUrls": ["https://r2.apixo.ai/video.mp4"]})
_TIMES: Final = {"createTime": 1767965610929, "completeTime": 1767965730929}


class Simulated:
    """An API without a network: its tasks never end, or have ended when they are looked at."""

    def __init__(self, *, ends: bool) -> None:
        self._tasks = 0
        state = {"state": "success", "resultJson": _RESULT, **_TIMES}
        self._seen = state if ends else {"state": "processing"}

    async def send(
        self, method: Literal["GET", "POST"], path: str, *, body: bytes | None = None
    ) -> Reply:
        """Accepts, or tells the state."""
        await asyncio.sleep(0)
        if method == "GET":
            data = {"taskId": path.rpartition("=")[2], **self._seen}
        else:
            assert body
            self._tasks += 1
            data = {"taskId": f"task_{self._tasks:08}"}
        return Reply(200, json.dumps({"code": 200, "message": "success", "data": data}).encode())

    async def aclose(self) -> None:
        """Nothing was opened."""


def client_of(slots: int, *, ends: bool) -> ApixoClient:
    """A client at the simulated API, with a rate that is never reached."""
    # Looked at once at the end, or not within any benchmark.
    schedule = PollSchedule(first=0.0 if ends else 86_400.0, interval=0.001, deadline=200_000.0)
    limits = Limits(
        requests_per_minute=10**9,
        concurrent_tasks=slots,
        concurrent_submits=SLOTS,
        poll_share=1.0,
    )
    return ApixoClient(
        "benchmark-key", limits=limits, schedule=schedule, transport=Simulated(ends=ends)
    )


# Ways to work through a batch


async def stream(client: ApixoClient, count: int) -> None:
    """Takes the outcomes as they come and drops them."""
    async with BatchRunner(client).stream(prompts(count)) as outcomes:
        async for outcome in outcomes:
            assert outcome.status == "succeeded"


async def run(client: ApixoClient, count: int) -> None:
    """Keeps all outcomes."""
    KEPT.append(await BatchRunner(client).run(prompts(count)))


async def gather(client: ApixoClient, count: int, slots: int = SLOTS) -> None:
    """The usual way without a runner; keeps all tasks that have ended."""
    semaphore = asyncio.Semaphore(slots)

    async def one(request: Any) -> object:  # noqa: ANN401  # a request
        async with semaphore:
            return await client.generate(request)

    KEPT.append(await asyncio.gather(*map(one, prompts(count))))


Way = Callable[[ApixoClient, int], Coroutine[Any, Any, None]]
WAYS: Final[dict[str, Way]] = {
    "BatchRunner.stream()": stream,
    "BatchRunner.run()": run,
    "gather + Semaphore": gather,
}


# States to be measured in


async def hold(way: str, running: int, queued: int) -> None:
    """Returns when so many tasks run, for good, and the rest of the input waits."""
    client = client_of(running, ends=False)
    KEPT.append(client)
    total = running + queued
    work = gather(client, total, running) if way.startswith("gather") else WAYS[way](client, total)
    KEPT.append(asyncio.ensure_future(work))
    while client.statistics().unfinished_tasks < running:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


async def finish(way: str, count: int) -> None:
    """Returns when all have ended."""
    async with client_of(SLOTS, ends=True) as client:
        await WAYS[way](client, count)


# Memory


def resident(field: str = "VmRSS") -> int:
    """Bytes of memory that this process occupies, or has at most occupied (`VmHWM`)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:  # no Linux, where this would count what our parent occupied, too
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


async def grown(state: str, way: str, count: int, *, is_traced: bool) -> int:
    """By how many bytes the process grew. What is loaded at first use does not count."""
    await finish(way, WARMING)
    KEPT.clear()
    if is_traced:
        tracemalloc.start()

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if is_traced else resident()

    before = taken()
    match state:
        case "queued":
            await hold(way, SLOTS, count)
        case "running":
            await hold(way, count, 0)
        case _:
            await finish(way, count)
    return taken() - before


async def _measured(state: str, way: str, count: int, *, is_traced: bool) -> NoReturn:
    """Prints the growth and the peak, and ends the process at once, whatever goes on."""
    bytes_grown = await grown(state, way, count, is_traced=is_traced)
    print(json.dumps({"grown": bytes_grown, "peak": resident("VmHWM")}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _state, _way, _count, _tool = sys.argv[1:]
    asyncio.run(_measured(_state, _way, int(_count), is_traced=_tool == "traced"))
