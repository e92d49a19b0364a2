"""What 100,000 prompts that wait for their turn cost in memory: ours beside gather and semaphore.

    python benchmarks/memory.py [--json FILE]

1,000 tasks run on an API that never finishes one, and 100,000 more prompts wait behind them.
Shown is what the waiting adds: the growth since just before the batch began (a list of the prompts
exists by then and does not count), less the growth of the same batch with nobody waiting. Each
figure comes from a process of its own: RSS is what the system sees, Python what tracemalloc counts.
Exits with 1 when ours adds 64 MB or more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, NoReturn

from apixo_async import ApixoClient, BatchRunner, Limits, PollSchedule, TextToVideo
from apixo_async._wire import Reply

RUNNING: Final = 1_000
WAITING: Final = 100_000
MOST_BYTES: Final = 64 * 2**20

FORMS: Final = {"stream": "BatchRunner.stream()", "gather": "gather + Semaphore"}
COLUMNS: Final = {
    ("generator", "rss"): "generator, RSS",
    ("generator", "traced"): "generator, Python",
    ("list", "rss"): "list, RSS",
}
"""What the prompts come from, and who counts; counting by Python takes long for a list."""


# What is measured, in a process of its own


class Endless:
    """An API at which every task is accepted and none ever ends."""

    def __init__(self) -> None:
        self._tasks = 0

    async def send(
        self, method: Literal["GET", "POST"], path: str, *, body: bytes | None = None
    ) -> Reply:
        """Accepts, or says that the task goes on."""
        assert path
        await asyncio.sleep(0)
        if method == "GET":
            data = {"state": "processing"}
        else:
            assert body
            self._tasks += 1
            data = {"taskId": f"task_{self._tasks:08}"}
        return Reply(200, json.dumps({"code": 200, "message": "success", "data": data}).encode())

    async def aclose(self) -> None:
        """Nothing was opened."""


def prompts(count: int) -> Iterator[TextToVideo]:
    """So many different prompts of a usual length."""
    for number in range(count):
        yield TextToVideo(
            f"A calm ocean turning into a storm, seen from a lighthouse, take {number}",
            mode="fast",
            aspect_ratio="16:9",
        )


async def fill(client: ApixoClient, form: str, requests: Iterable[TextToVideo]) -> None:
    """Returns when all slots are taken by running tasks and the rest of the input waits."""
    if form == "stream":
        await BatchRunner(client).stream(requests).__aenter__()
    else:
        slots = asyncio.Semaphore(RUNNING)

        async def one(request: TextToVideo) -> object:
            async with slots:
                return await client.generate(request)

        KEPT.append(asyncio.gather(*[one(request) for request in requests]))
    while client.statistics().unfinished_tasks < RUNNING:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


KEPT: Final[list[object]] = []
"""What would be collected too early."""


def resident() -> int:
    """Bytes of memory that this process occupies."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:  # no Linux: the most it ever occupied
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * resource.getpagesize()


async def growth(form: str, source: str, count: int, tool: str) -> int:
    """By how many bytes the process grew when the batch had begun."""
    client = ApixoClient(
        "benchmark-key",
        limits=Limits(requests_per_minute=10_000_000, concurrent_tasks=RUNNING),
        schedule=PollSchedule(first=3_600, deadline=7_200),
        transport=Endless(),
    )
    KEPT.append(client)
    if tool == "traced":
        tracemalloc.start()
    requests = list(prompts(count)) if source == "list" else prompts(count)
    KEPT.append(requests)
    before = taken(tool)
    await fill(client, form, requests)
    return taken(tool) - before


def taken(tool: str) -> int:
    """Bytes in use, by the one count or the other."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if tool == "traced" else resident()


def measure_here(form: str, source: str, count: str, tool: str) -> NoReturn:
    """Prints `growth` and ends the process at once: cancelling 100,000 tasks would take a while."""

    async def run() -> NoReturn:
        print(await growth(form, source, int(count), tool), flush=True)
        os._exit(0)

    asyncio.run(run())
    raise AssertionError


# All together


def growth_elsewhere(form: str, source: str, count: int, tool: str) -> int:
    """`growth` in a fresh process."""
    command = [sys.executable, __file__, "--measure", form, source, str(count), tool]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def added(form: str, source: str, tool: str) -> int:
    """Bytes that the waiting prompts add."""
    full = growth_elsewhere(form, source, RUNNING + WAITING, tool)
    return full - growth_elsewhere(form, source, RUNNING, tool)


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_here(*options.measure)
    keys = [(form, *column) for form in FORMS for column in COLUMNS]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        figures = dict(zip(keys, pool.map(lambda key: added(*key), keys), strict=True))
    print(f"MB added by {WAITING:,} waiting prompts, beside {RUNNING:,} running tasks")
    print(f"{'':22}" + "".join(f"{head:>20}" for head in COLUMNS.values()))
    for form, name in FORMS.items():
        cells = [figures[(form, *column)] / 2**20 for column in COLUMNS]
        print(f"{name:22}" + "".join(f"{round(cell, 1) + 0:20.1f}" for cell in cells))
    if options.json is not None:
        rows = [
            {"form": form, "source": source, "counted_by": tool, "bytes": count}
            for (form, source, tool), count in figures.items()
        ]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    worst = max(count for (form, _, _), count in figures.items() if form == "stream")
    if worst >= MOST_BYTES:
        print(f"NOT GOOD ENOUGH: {worst / 2**20:.0f} MB, 64 or more", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
