"""What the user's own code may do to a batch: its callback for events, and its input."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Job,
    Limits,
    OutcomeStatus,
    PollSchedule,
    Request,
    TextToVideo,
)
from apixo_async.batch import events
from apixo_async.batch.journal import JobState, Journal
from tests.fakes import FakeApi, client_for, widen
from tests.virtual import virtual

JOBS = 6
ENDED = {JobState.SUCCEEDED, JobState.ACCEPTED, JobState.QUEUED}


class Enough(BaseException):
    """What a user may have made for leaving everything at once."""


def jobs() -> list[Job]:
    """Jobs with the keys k0, k1, ..."""
    return [Job(TextToVideo(f"prompt {n}"), key=f"k{n}") for n in range(JOBS)]


def raising(error: BaseException, kind: type[events.Event]) -> Callable[[events.Event], None]:
    """A callback that raises when something of this kind is told of one job."""

    def on_event(event: events.Event) -> None:
        if isinstance(event, kind) and (
            not isinstance(event, events.JobEvent) or event.key == "k1"
        ):
            raise error

    return on_event


STEPS = [events.Queued, events.Sending, events.Accepted, events.Succeeded]


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("error", [RuntimeError("no screen"), asyncio.CancelledError()], ids=repr)
@virtual
async def test_an_error_of_a_callback_costs_no_job(
    error: BaseException, kind: type[events.Event], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, at whichever step; a cancellation as well, since nobody was cancelled."""
    api = FakeApi()
    async with client_for(api) as client:
        with caplog.at_level(logging.ERROR, "apixo_async"):
            report = await BatchRunner(client, on_event=raising(error, kind)).run(jobs())

    assert [outcome.status for outcome in report.outcomes] == [OutcomeStatus.SUCCEEDED] * JOBS
    assert len(api.tasks) == JOBS
    assert [record.getMessage() for record in caplog.records] == [
        f"on_event failed for {kind.__name__}"
    ]


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Enough()], ids=repr)
@virtual
async def test_an_exit_from_a_callback_ends_the_batch_in_good_order(
    error: BaseException, kind: type[events.Event], caplog: pytest.LogCaptureFixture
) -> None:
    """It is raised by `run` once POSTs are answered; every task is reported, none as failed."""
    api = FakeApi(latency=1.0, duration=lambda number: 100.0 + 100.0 * number)
    async with client_for(api) as client:
        widen(client.engine.gate)
        runner = BatchRunner(client, on_event=raising(error, kind))
        with pytest.raises(type(error)) as caught:
            await runner.run(jobs())
        left = asyncio.all_tasks() - {asyncio.current_task()}

    assert caught.value is error
    assert not left
    outcomes = runner.report.outcomes
    assert {outcome.task.id for outcome in outcomes if outcome.task} == set(api.tasks)
    assert not {outcome.status for outcome in outcomes} & {
        OutcomeStatus.FAILED,
        OutcomeStatus.UNCERTAIN,
    }
    assert "could not be recorded" not in caplog.text


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Enough()], ids=repr)
async def test_after_an_exit_from_a_callback_the_journal_goes_on(
    error: BaseException, kind: type[events.Event], tmp_path: Path
) -> None:
    """Nothing is in doubt, nothing has failed, and the rest is done and paid for once."""
    db, api = tmp_path / "run.db", FakeApi(latency=0.02, duration=lambda _: 0.1)
    async with client_of_now(api) as client:
        widen(client.engine.gate)
        runner = BatchRunner(client, journal=db, on_event=raising(error, kind))
        with pytest.raises(type(error)):
            await runner.run(jobs())
        journal = await Journal.open(db)
        states = dict(journal.counts())
        await journal.aclose()
        report = await BatchRunner(client, journal=db).run(jobs())

    assert {state for state, count in states.items() if count} <= ENDED
    assert [outcome.status for outcome in report.outcomes] == [OutcomeStatus.SUCCEEDED] * JOBS
    assert sorted(api.billed) == sorted(f"prompt {n}" for n in range(JOBS))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Enough()], ids=repr)
@virtual
async def test_an_exit_from_an_input_ends_the_batch_in_good_order(error: BaseException) -> None:
    """As from a callback: what it gave before is reported with its tasks."""
    api = FakeApi(latency=1.0)

    def two_and_no_more() -> Iterator[Request]:
        yield TextToVideo("one")
        yield TextToVideo("two")
        raise error

    async with client_for(api) as client:
        runner = BatchRunner(client)
        with pytest.raises(type(error)):
            await runner.run(two_and_no_more())

    outcomes = runner.report.outcomes
    assert {outcome.task.id for outcome in outcomes if outcome.task} == set(api.tasks)
    assert OutcomeStatus.FAILED not in {outcome.status for outcome in outcomes}


@virtual
async def test_an_exit_while_a_batch_closes_is_raised_by_its_block() -> None:
    """Nobody reads outcomes any more when the callback hears of a POST's answer."""
    api = FakeApi(latency=10.0)
    runner = BatchRunner(client := client_for(api), on_event=raising(Enough(), events.Accepted))
    async with client:
        with pytest.raises(Enough):
            async with runner.stream(jobs()):
                await asyncio.sleep(15)

    assert client.statistics().submits_in_flight == 0


def client_of_now(api: FakeApi) -> ApixoClient:
    """A client in real time, for journals, which have threads."""
    schedule = PollSchedule(first=0.05, interval=0.02, deadline=10)
    return client_for(api, schedule=schedule, limits=Limits(requests_per_minute=1_000_000))
