"""What a case is played on: an emulator, workers on one database, and who has jobs."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from apixo_async.cli.emulated import EmulatedApi, emulated
from benchmarks._replica import Script
from benchmarks._replicas_judge import Judgement, judge, states
from benchmarks._replicas_processes import Replica
from benchmarks._replicas_watch import Watch

SENDING_PATIENCE: Final = 30.0
PATIENCE: Final = 240.0
"""Seconds after which a round of jobs that has not ended is stuck."""


@attrs.frozen(kw_only=True)
class Account:
    """What the emulator is set to, and how replicas look at its tasks."""

    cap: int
    durations: tuple[float, float]
    """Seconds of its shortest and its longest task."""
    latency: tuple[float, float]
    """Seconds that an answer takes."""
    lease: float
    submit_timeout: float
    interval: float = 1.5

    def arguments(self) -> list[str]:
        """For `apixo emulator`."""
        low, high = self.durations
        soon, late = self.latency
        return [
            *("--seed", "7", "--concurrent-tasks", str(self.cap)),
            *("--durations", f"uniform:{low}:{high}", "--latency", f"uniform:{soon}:{late}"),
        ]

    def script(self, database: str, api: EmulatedApi) -> Script:
        """For a worker."""
        return Script(
            database=database,
            base_url=api.base_url,
            api_key=api.api_key,
            max_concurrent=self.cap,
            first=0.9 * self.durations[0],
            interval=self.interval,
            lease=self.lease,
            submit_timeout=self.submit_timeout,
        )


@attrs.define(eq=False)
class Stage:
    """Everything that runs."""

    account: Account
    api: EmulatedApi
    script: Script
    directory: Path
    watch: Watch
    workers: list[Replica] = attrs.field(factory=list[Replica])
    asker: Replica | None = None
    """Who has jobs; where there is no other process, the only worker has them."""
    _logs: int = 0

    async def begin(self, **changes: Any) -> Replica:  # noqa: ANN401  # fields of `Script`
        """Another process."""
        self._logs += 1
        script = attrs.evolve(self.script, **changes)
        log = self.directory / f"{self._logs:03}.log"
        return await Replica.start(log, "benchmarks._replica", script.argument())

    async def replace(self, place: int) -> None:
        """A new worker where one has died."""
        self.workers[place] = await self.begin()

    async def until_sending(self, least: int) -> int:
        """Returns when so many POSTs are about to leave or under way; how many.

        A slow machine sends fewer at once: every second it is content with one less, and in the end
        with none, when all has been sent.
        """
        began = time.monotonic()
        while True:
            count, waited = await self.watch.sending(), time.monotonic() - began
            if count >= max(1, least - int(waited)) or waited > SENDING_PATIENCE:
                return count
            await asyncio.sleep(0.02)

    async def sender(self, rng: random.Random) -> int:
        """The place of a worker that has POSTs under way; one of several is drawn."""
        places = list(range(len(self.workers)))
        until = time.monotonic() + SENDING_PATIENCE
        while time.monotonic() < until:
            rng.shuffle(places)
            for place in places:
                if await self.watch.sending_by(self.workers[place].pid):
                    return place
        return places[0]

    async def wait_for(self, name: str) -> dict[str, int]:
        """The outcomes of jobs that were asked for, by status; empty if they do not end."""
        assert self.asker is not None
        try:
            async with asyncio.timeout(PATIENCE):
                return dict((await self.asker.said("done", name))["outcomes"])
        except TimeoutError:
            return {}

    def control(self, path: str, *, post: bool = False) -> Any:  # noqa: ANN401  # JSON
        """What the emulator tells beside its API."""
        origin = f"http://{urlsplit(self.api.base_url).netloc}/emulator/{path}"
        request = urllib.request.Request(origin, method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # our own
            return json.load(answer)

    async def judgement(self) -> tuple[Judgement, dict[str, int]]:
        """What came of all jobs, and how many are in which state.

        A task that was recorded late, after its job was told to be uncertain, is still waited for.
        """
        until = time.monotonic() + PATIENCE
        while True:
            tasks = await asyncio.to_thread(self.control, "tasks")
            entries = await self.watch.entries()
            found = judge(entries, tasks)
            if not found.stuck or time.monotonic() > until:
                return found, states(entries)
            await asyncio.sleep(1)

    def complaints_in_logs(self) -> list[str]:
        """Lines that hint at a bug."""
        words = ("Traceback", "is a bug", "never retrieved", "was destroyed")
        return [
            f"{log.name}: {line}"
            for log in sorted(self.directory.glob("*.log"))
            for line in log.read_text().splitlines()
            if any(word in line for word in words)
        ]

    def pids(self) -> Sequence[int]:
        """Of those workers that run."""
        return [worker.pid for worker in self.workers if worker.is_running]


@asynccontextmanager
async def stage(
    account: Account, database: str, directory: Path, *, workers: int, has_asker: bool = True
) -> AsyncGenerator[Stage]:
    """Opens one, and ends all of its processes."""
    directory.mkdir()  # noqa: ASYNC240  # it takes no time
    with emulated(account.arguments(), speed=1.0) as api:
        script = account.script(database, api)
        opened = Stage(account, api, script, directory, Watch(database))
        try:
            # One after the other at first: whoever is the first makes the tables.
            if has_asker:
                opened.asker = await opened.begin(is_worker=False)
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(opened.begin()) for _ in range(workers)]
            opened.workers = [start.result() for start in starts]
            yield opened
        finally:
            running = [*opened.workers, *([opened.asker] if opened.asker else [])]
            await asyncio.gather(*(replica.aclose() for replica in running))


def seconds_since(started: float) -> float:
    """Of real time, to the hundredth."""
    return round(time.monotonic() - started, 2)
