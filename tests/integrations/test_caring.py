"""Who looks after jobs that nobody carries, and what is put back into the queue."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from apixo_async.durable import MemoryRows
from apixo_async.errors import StoreError
from apixo_async.integrations.dbos._caring import SWEEP_EVERY, care_for
from apixo_async.integrations.dbos._engine import executor_id
from apixo_async.integrations.dbos._queues import queue_settings
from apixo_async.limits import Limits
from tests.durable.processes import Process, job, lived
from tests.fakes import FakeApi

LEASE = 30.0


class Queue:
    """DBOS as far as it is asked: what is in the queue, and what a dead replica carried."""

    def __init__(self, executor: str) -> None:
        self.executor = executor
        self.jobs: set[str] = set()
        self.turns: list[tuple[str, str]] = []
        self.alive: list[list[str]] = []

    async def active(self, account: str) -> set[str]:
        return self.jobs

    async def enqueue(self, account: str, key: str, turn: str) -> None:
        self.turns.append((key, turn))
        self.jobs.add(key)

    async def resume_of_the_dead(self, account: str, alive: list[str]) -> int:
        self.alive.append(alive)
        return len(self.alive) == 1


class Members:
    """Who lives; a store that is away for its first answers."""

    def __init__(self, *names: str, outages: int = 0) -> None:
        self.names = names
        self.outages = outages

    async def members(self, *, left: float) -> tuple[str, ...]:
        assert left == LEASE / 3, "so that its tasks have slots before its own are given away"
        if self.outages > 0:
            self.outages -= 1
            raise StoreError("the database is away")
        return self.names


async def cared(process: Process, queue: Queue, members: Members, seconds: float) -> None:
    """So long it is cared for."""
    account: Any = SimpleNamespace(name="default", jobs=process.jobs, limits=members)
    engine: Any = queue
    caring = asyncio.create_task(care_for(account, engine, lease=LEASE))
    await asyncio.sleep(seconds)
    caring.cancel()
    await asyncio.gather(caring, return_exceptions=True)


@lived
async def test_a_job_that_is_in_no_queue_is_put_there() -> None:
    """Once, when it has lain for a minute; what is in the queue stays as it is."""
    process, queue = Process(FakeApi(), MemoryRows()), Queue(executor_id())
    await process.jobs.add(job("lost"))
    await process.jobs.add(job("kept"))
    queue.jobs.add("kept")
    await cared(process, queue, Members(queue.executor), 4 * SWEEP_EVERY)

    assert [key for key, _ in queue.turns] == ["lost"]
    await process.end()


@lived
async def test_one_replica_cares_for_all() -> None:
    """The first by name of those that live and work: the others do not look."""
    process = Process(FakeApi(), MemoryRows())
    names = sorted(executor_id() for _ in range(3))
    queues = [Queue(name) for name in names]
    for queue in queues:
        await cared(process, queue, Members(*names, "a batch"), LEASE)

    assert [bool(queue.alive) for queue in queues] == [True, False, False]
    assert queues[0].alive[0] == [*names, "a batch"]
    await process.end()


@lived
async def test_an_outage_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and then dead replicas are looked for again."""
    process, queue = Process(FakeApi(), MemoryRows()), Queue(executor_id())
    await cared(process, queue, Members(queue.executor, outages=2), 5 * LEASE / 3)

    told = [getattr(record, "apixo_event", None) for record in caplog.records]
    assert told == ["care_failed", "care_failed", "jobs_taken_over"]
    await process.end()


@lived
async def test_who_cares_goes_on_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    """A row that is damaged is no reason to leave the jobs of the dead where they are."""
    process, queue = Process(FakeApi(), MemoryRows()), Queue(executor_id())

    async def damaged(account: str) -> set[str]:
        raise ValueError("this row is damaged")

    queue.active = damaged  # type: ignore[method-assign]
    await cared(process, queue, Members(queue.executor), 4 * SWEEP_EVERY)

    assert "this row is damaged" in caplog.text
    assert len(queue.alive) > 3 * SWEEP_EVERY / LEASE
    await process.end()


@pytest.mark.parametrize(
    ("starts", "limiter"),
    [
        (1, {"limit": 1, "period": 60.0}),
        (59, {"limit": 59, "period": 60.0}),
        (60, {"limit": 1, "period": 1.0}),
        (119, {"limit": 119, "period": 60.0}),
        (120, {"limit": 2, "period": 1.0}),
        (8_000, {"limit": 133, "period": 1.0}),
    ],
)
def test_starts_are_even_where_that_costs_nothing(starts: int, limiter: dict[str, float]) -> None:
    """By the second where a minute's starts are whole numbers of a second, or nearly so."""
    assert queue_settings(Limits(), starts)["limiter"] == limiter


def test_a_queue_hands_out_a_tenth_more_than_may_run() -> None:
    """So that somebody waits for each slot that comes free; and starts leave looks their part."""
    settings = queue_settings(Limits(), None)
    assert settings == {"global_concurrency": 1_100, "limiter": {"limit": 133, "period": 1.0}}
