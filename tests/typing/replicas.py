"""What processes that share jobs or limits write, and what it is inferred as."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_type

from apixo_async import ApixoClient, ApixoError, Gate, Job, Outcome, StopReason, TextToVideo
from apixo_async.batch import events
from apixo_async.batch.journal import Entry
from apixo_async.durable import DurableJobs, JobState, Ledger, MemoryRows, Rows
from apixo_async.integrations.dbos import DurableJob, DurableVeo
from apixo_async.integrations.postgres import Database, PostgresLedger
from apixo_async.integrations.sqlite import SqliteLedger
from apixo_async.limits.rate import Permit
from apixo_async.limits.slots import Lease

JOB = Job(TextToVideo("a fox"), key="fox")


async def gate(gate: Gate, client: ApixoClient, lease: Lease, permit: Permit) -> None:
    """What its client does with it."""
    await gate.join()
    assert_type(await gate.lease(), Lease)
    assert_type(gate.occupy(), Lease)
    turn = await gate.turn(lease)
    turn.end()
    assert_type(await gate.permit(poll=True), Permit)
    assert_type(gate.poll_budget(0.6), float)
    gate.accepted(lease, permit)
    gate.throttled(permit, retry_after=None, submit=True)
    for told in (gate.rejected, gate.failed, gate.answered):
        told(permit)
    statistics = client.statistics().gate
    assert_type(statistics.is_shared and statistics.is_store_reachable, bool)
    assert_type(statistics.tasks_granted, int | None)
    gate.belong_to(random.Random(1), None)


def ledgers(connection: Database) -> list[Ledger]:
    """A file, a server, or memory."""
    rows: Rows = MemoryRows()
    return [SqliteLedger("jobs.db"), PostgresLedger(connection, account="a"), Ledger(rows)]


async def jobs(client: ApixoClient, ledger: Ledger) -> None:
    """What an engine calls."""
    await ledger.open()
    jobs = DurableJobs(client, ledger, patience=75.0, on_event=lambda event: event.at)
    entry = await jobs.add(JOB)
    assert_type(entry, Entry)
    assert_type(jobs.is_overdue(entry), bool)
    assert_type(await jobs.carry("fox"), Outcome)
    assert_type(await jobs.state("fox"), JobState | None)
    assert_type(await jobs.outcome("fox"), Outcome | None)
    assert_type([key async for key in jobs.left(untouched_for=60)], list[str])
    assert_type([one async for one in jobs.uncertain()], list[Outcome])
    await jobs.settle("fox", abandon=True)
    assert_type(jobs.stopped, tuple[StopReason, ApixoError | None] | None)


async def record(ledger: Ledger, entry: Entry) -> None:
    """What a job's carrier does with its record."""
    assert_type(ledger.name, str | None)
    assert_type(await ledger.add(JOB), Entry)
    assert_type(await ledger.read("fox"), Entry | None)
    assert_type(await ledger.decide("fox", events.Abandoned(key="fox")), Entry)
    assert_type(await ledger.record(1, events.Sending(key="fox", attempt=1)), Entry)
    assert_type(ledger.entries(JobState.QUEUED), AsyncIterator[Entry])
    assert_type(ledger.has_task("task"), bool)
    await ledger.doubt(entry)


async def table(rows: Rows, entry: Entry) -> None:
    """What a table of yours has to do."""
    assert_type(await rows.name(), str)
    assert_type(await rows.insert(entry), Entry)
    assert_type(await rows.read("fox"), Entry | None)
    assert_type(await rows.numbered(1), Entry | None)
    assert_type(await rows.replace(entry, entry), bool)
    assert_type(rows.entries([JobState.QUEUED]), AsyncIterator[Entry])
    assert_type(await rows.among([1], [JobState.QUEUED]), Sequence[Entry])
    assert_type(await rows.purge(datetime.now(UTC)), int)


async def durable() -> None:
    """A service."""
    async with DurableVeo("sqlite:///veo.db", api_key={"a": "key"}, works=False) as veo:
        assert_type(veo, DurableVeo)
        job = await veo.enqueue("fox", prompt="a fox", account="a")
        assert_type(job, DurableJob)
        assert_type((job.key, job.account, job.number), tuple[str, str, int])
        assert_type(await veo.state("fox"), JobState | None)
        assert_type(await veo.outcome("fox"), Outcome | None)
        async for outcome in veo.as_completed([job]):
            assert_type(outcome, Outcome)
        assert_type(await veo.uncertain(), list[Outcome])
        await veo.settle("fox", task_id="task")
        assert_type(await veo.purge(timedelta(days=1)), int)
        assert_type(veo.stopped, Mapping[str, tuple[StopReason, ApixoError | None]])
        await veo.serve()
