"""Processes that share a ledger, in one virtual loop: each may freeze, die, or lose the ledger."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import time_machine

from apixo_async import ApixoClient, Job, PollSchedule, TextToVideo, WebhookReceiver
from apixo_async._wire import Reply
from apixo_async.batch.journal import Entry, JobState
from apixo_async.durable import DurableJobs, Ledger, MemoryRows
from apixo_async.errors import StoreError
from tests import fakes
from tests.fakes import FakeApi
from tests.simulation.loops import EPOCH, SimulatedLoop

T = TypeVar("T")
P = ParamSpec("P")
SCHEDULE = PollSchedule(first=20.0, interval=5.0, deadline=900.0)


def lived(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test in virtual time, which calendars show, too."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with time_machine.travel(EPOCH + 1_000.0, tick=False) as calendar:
            loop = SimulatedLoop(1_000.0, calendar)
            try:
                loop.run_until_complete(test(*args, **kwargs))
            finally:
                loop.close()

    return run


class Process:
    """One of them. `freeze()` stops all it does at its next step, `thaw()` lets it go on."""

    def __init__(
        self,
        api: FakeApi,
        rows: MemoryRows,
        *,
        delay: Callable[[], float] = lambda: 0.01,
        receiver: WebhookReceiver | None = None,
    ) -> None:
        self._running = asyncio.Event()
        self._running.set()
        self.api = api
        self.is_cut_off = False
        self.client = ApixoClient(
            fakes.KEY,
            base_url=fakes.BASE_URL,
            transport=_Line(self, api),
            schedule=SCHEDULE,
            webhook=receiver,
        )
        self.ledger = Ledger(_Rows(self, rows, delay))
        self.jobs = DurableJobs(self.client, self.ledger)
        self.works: set[asyncio.Task[Any]] = set()

    def freeze(self) -> None:
        """As by SIGSTOP; one that is never thawed is dead."""
        self._running.clear()

    def thaw(self) -> None:
        """As by SIGCONT."""
        self._running.set()

    async def step(self) -> None:
        """Passes while the process runs."""
        await self._running.wait()

    def carry(self, key: str) -> asyncio.Task[Any]:
        """Begins to carry a job."""
        work = asyncio.create_task(self.jobs.carry(key))
        self.works.add(work)
        return work

    async def end(self) -> None:
        """Leaves nothing behind for the test's end."""
        for work in self.works:
            work.cancel()
        await asyncio.gather(*self.works, return_exceptions=True)
        self.thaw()
        await self.client.aclose()
        await self.ledger.aclose()


class _Line:
    """The transport of a process."""

    def __init__(self, process: Process, api: FakeApi) -> None:
        self._process = process
        self._api = api

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        await self._process.step()
        try:
            return await self._api.send(method, path, body=body)
        finally:
            await self._process.step()

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Rows:
    """The ledger's table, as far as a process reaches it."""

    def __init__(self, process: Process, rows: MemoryRows, delay: Callable[[], float]) -> None:
        self._process = process
        self._rows = rows
        self._delay = delay

    async def _ask(self, asking: Callable[[], Awaitable[T]]) -> T:
        await self._process.step()
        if self._process.is_cut_off:
            raise StoreError("the table is away")
        await asyncio.sleep(self._delay() / 2)
        answer = await asking()
        await asyncio.sleep(self._delay() / 2)
        await self._process.step()
        if self._process.is_cut_off:  # the connection broke before the answer came
            raise StoreError("the table is away")
        return answer

    async def name(self) -> str:
        return await self._rows.name()

    async def insert(self, entry: Entry) -> Entry:
        return await self._ask(lambda: self._rows.insert(entry))

    async def read(self, key: str) -> Entry | None:
        return await self._ask(lambda: self._rows.read(key))

    async def numbered(self, number: int) -> Entry | None:
        return await self._ask(lambda: self._rows.numbered(number))

    async def replace(self, old: Entry, new: Entry) -> bool:
        return await self._ask(lambda: self._rows.replace(old, new))

    async def entries(self, states: Collection[JobState]) -> AsyncIterator[Entry]:
        async for entry in self._rows.entries(states):
            yield entry

    async def among(self, numbers: Sequence[int], states: Collection[JobState]) -> Sequence[Entry]:
        return await self._ask(lambda: self._rows.among(numbers, states))

    async def purge(self, ended_before: datetime) -> int:
        return await self._rows.purge(ended_before)

    async def aclose(self) -> None:
        """It belongs to all."""


def job(key: str) -> Job:
    """A job whose prompt is its key, so that the API's bills name it."""
    return Job(TextToVideo(key), key=key)
