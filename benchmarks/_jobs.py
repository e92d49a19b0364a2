"""Whole jobs against the server of `_server`: what they cost, and the plain code beside them."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

from apixo_async import ApixoClient, BatchRunner, Limits, PollSchedule, TextToVideo
from benchmarks._clients import HEADERS, KEY
from benchmarks._prompts import prompts

AT_ONCE: Final = 1_000
SCHEDULE: Final = PollSchedule(first=1.0, interval=0.5)
"""Shrunken: a task is seen to end at its twelfth look, after seven seconds."""
LIMITS: Final = Limits(
    requests_per_minute=10_000_000, concurrent_tasks=AT_ONCE, concurrent_submits=AT_ONCE
)


async def run_batch(origin: str, count: int, journal: Path | None) -> None:
    """Submits, looks and outcomes by `BatchRunner.stream()`."""
    async with ApixoClient(
        KEY, base_url=f"{origin}/jobs/api/v1", limits=LIMITS, schedule=SCHEDULE
    ) as client:
        runner = BatchRunner(client, journal=journal)
        async with runner.stream(prompts(count)) as outcomes:
            done = [outcome.status async for outcome in outcomes]
    assert done == ["succeeded"] * count


async def run_plain(origin: str, count: int, _: Path | None) -> None:
    """The same requests by bare aiohttp, a semaphore and a loop; nothing is checked or kept."""
    base = f"{origin}/jobs/api/v1"
    slots = asyncio.Semaphore(AT_ONCE)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def ask(method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  # JSON
            async with session.request(method, base + path, json=body) as response:
                return json.loads(await response.read())["data"]

        async def generate(request: TextToVideo) -> None:
            body = {"request_type": "async", "input": {"prompt": request.prompt, "mode": "fast"}}
            async with slots:
                task = (await ask("POST", "/generateTask/veo-3-1", body))["taskId"]
                await asyncio.sleep(SCHEDULE.first)
                path = f"/statusTask/veo-3-1?taskId={task}"
                while (await ask("GET", path))["state"] != "success":  # noqa: ASYNC110  # as many do
                    await asyncio.sleep(SCHEDULE.interval)

        await asyncio.gather(*map(generate, prompts(count)))


JOBS: Final = {
    "aiohttp, a semaphore and a loop": run_plain,
    "BatchRunner": run_batch,
    "BatchRunner with a journal": run_batch,
}


def cpu_of_job(name: str, origin: str, count: int, directory: Path) -> float:
    """Milliseconds of this process's CPU, all threads, for one of `count` jobs."""
    journal = directory / f"{time.monotonic_ns()}.db" if "journal" in name else None
    gc.collect()
    started = time.process_time()
    asyncio.run(JOBS[name](origin, count, journal))
    return (time.process_time() - started) / count * 1e3
