"""Where batches with a journal are most easily lost: restarts, second cancellations, odd answers.

The API is a fake behind the client's transport, so that each fault comes at its exact moment.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    AuthenticationError,
    BatchReport,
    BatchRunner,
    Job,
    Limits,
    NotFoundError,
    OutcomeStatus,
    PollSchedule,
    Request,
    StopReason,
    TextToVideo,
)
from apixo_async._wire import Reply
from apixo_async.batch import admission, events
from apixo_async.batch.journal import Entry, JobState, Journal
from apixo_async.emulator import Emulator, EmulatorSettings
from tests.fakes import FakeApi, FakeTask, client_for, envelope, refusal
from tests.inline import virtual_with_journal

SCHEDULE = PollSchedule(first=0.1, interval=0.05, deadline=20)
SUCCEEDED, FAILED = OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED
UNCERTAIN, NOT_STARTED = OutcomeStatus.UNCERTAIN, OutcomeStatus.NOT_STARTED
TIMED_OUT = OutcomeStatus.TIMED_OUT


def jobs(count: int) -> list[Job]:
    """So many jobs with the keys k0, k1, ..."""
    return [Job(TextToVideo(f"p{n}", mode="fast"), key=f"k{n}") for n in range(count)]


def quick(api: FakeApi, *, limits: Limits | None = None) -> ApixoClient:
    """A client that looks often."""
    return client_for(api, schedule=SCHEDULE, limits=limits)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where the journal of a test is."""
    return tmp_path / "run.db"


async def wait_until(is_so: Callable[[], object], seconds: float = 10) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens at a fake of the API
            await asyncio.sleep(0.01)


async def left_by_a_crash(db: Path, count: int, *ways: events.JobEvent) -> None:
    """A journal with so many jobs, these things having happened to some of them."""
    journal = await Journal.open(db)
    await journal.enqueue_all(jobs(count))
    for event in ways:
        entry = journal.find(event.key)
        assert entry is not None
        await journal.record(entry.number, event)
    await journal.aclose()


def sent(*numbers: int) -> list[events.JobEvent]:
    """The POSTs of these jobs left."""
    return [events.Sending(key=f"k{n}", attempt=1) for n in numbers]


def accepted(*numbers: int) -> list[events.JobEvent]:
    """These jobs have tasks."""
    return [
        event
        for n in numbers
        for event in (
            *sent(n),
            events.Accepted(key=f"k{n}", task_id=f"old_{n}", model="veo-3-1"),
        )
    ]


async def entry_of(db: Path, key: str) -> Entry:
    """What the journal says of a job."""
    journal = await Journal.open(db)
    try:
        entry = journal.find(key)
        assert entry is not None
        return entry
    finally:
        await journal.aclose()


# Money


@virtual_with_journal
async def test_submits_that_a_crash_cut_off_count_as_spent(db: Path) -> None:
    """They may be billed, so a cap of four leaves nothing after four of them."""
    await left_by_a_crash(db, 10, *sent(0, 1, 2, 3))
    api = FakeApi(duration=lambda _: 0.1)
    async with quick(api) as client:
        runner = BatchRunner(client, journal=db, max_cost=4, prices={"fast": 1})
        report = await runner.run(jobs(10))

    assert not api.billed
    assert report.stopped is StopReason.BUDGET
    assert report.counts[UNCERTAIN] == 4


@virtual_with_journal
async def test_a_retry_counts_over_all_runs(db: Path) -> None:
    """A process that ends between a repeat and its end does not earn the job another one."""
    api = FakeApi(duration=lambda _: 0.1, failure=lambda _: "INTERNAL")
    for _ in range(3):
        async with quick(api) as client:
            again = asyncio.Event()

            def note(event: events.Event, again: asyncio.Event = again) -> None:
                if isinstance(event, events.Accepted) and len(api.tasks) > 1:
                    again.set()

            runner = BatchRunner(client, journal=db, retry_codes=["INTERNAL"], on_event=note)
            running = asyncio.create_task(runner.run(jobs(1)))
            waiting = asyncio.create_task(again.wait())
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            running.cancel()
            await asyncio.gather(running, waiting, return_exceptions=True)

    assert len(api.billed) == 2
    assert (await entry_of(db, "k0")).repeats == 1


@virtual_with_journal
async def test_a_job_that_is_being_made_again_is_not_begun_a_second_time(db: Path) -> None:
    """An input that names it between the failure and the next submit gets the one outcome."""
    await left_by_a_crash(db, 1, *accepted(0))
    api = FakeApi(duration=lambda _: 0.1, failure=lambda t: "BAD" if t.id == "old_0" else None)
    api.tasks["old_0"] = FakeTask("old_0", "p0", 0, 0)
    is_again = asyncio.Event()

    def note(event: events.Event) -> None:
        if isinstance(event, events.Resubmitted):
            is_again.set()

    async def named_late() -> AsyncIterator[Job]:
        await is_again.wait()
        yield jobs(1)[0]

    async with quick(api) as client:
        client.engine.gate.rate.close_for(0.5, now=asyncio.get_running_loop().time() + 0.3)
        runner = BatchRunner(client, journal=db, retry_codes=["BAD"], on_event=note)
        report = await runner.run(named_late())

    assert report.stopped is None
    assert [outcome.status for outcome in report.outcomes] == [SUCCEEDED]
    assert len(api.submits) == 1


@virtual_with_journal
async def test_a_task_that_fails_after_a_restart_is_retried_as_any_other(db: Path) -> None:
    """Whoever allowed a repeat meant the job, not the process."""
    await left_by_a_crash(db, 1, *accepted(0))
    api = FakeApi(duration=lambda _: 0.1, failure=lambda t: "BAD" if t.id == "old_0" else None)
    api.tasks["old_0"] = FakeTask("old_0", "p0", 0, 0)
    async with quick(api) as client:
        report = await BatchRunner(client, journal=db, retry_codes=["BAD"]).resume()

    assert [outcome.status for outcome in report.outcomes] == [SUCCEEDED]


@virtual_with_journal
async def test_too_many_unanswered_submits_stop_a_batch(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an outage each further submit may be billed and asks for a decision; the rest waits."""
    monkeypatch.setattr(admission, "DOUBTS_MAX", 5)
    api = FakeApi(on_submit=lambda *_: refusal(503, "down"))
    limits = Limits(concurrent_submits=2)
    async with quick(api, limits=limits) as client:
        report = await BatchRunner(client, journal=db).run(jobs(40))

    assert report.stopped is StopReason.DOUBT
    assert 5 <= report.counts[UNCERTAIN] <= 6
    assert report.counts[NOT_STARTED] == 40 - report.counts[UNCERTAIN]


@virtual_with_journal
async def test_single_unanswered_submits_among_good_ones_stop_nothing(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in three is bad weather, not an outage."""
    monkeypatch.setattr(admission, "DOUBTS_MAX", 5)
    api = FakeApi(
        duration=lambda _: 0.05,
        on_submit=lambda number, _: None if number % 3 else refusal(503, "down"),
    )
    async with quick(api, limits=Limits(concurrent_submits=1)) as client:
        report = await BatchRunner(client, journal=db).run(jobs(60))

    assert report.stopped is None
    assert report.counts[UNCERTAIN] == 20


# Outcomes


@virtual_with_journal
async def test_every_job_that_a_resume_finishes_is_an_outcome(db: Path) -> None:
    """Also with more running tasks than slots, which end while others are still taken over."""
    count = 50
    await left_by_a_crash(db, count, *accepted(*range(count)))
    api = FakeApi()
    for number in range(count):
        api.tasks[f"old_{number}"] = FakeTask(f"old_{number}", "", 0, 0)
    async with quick(api, limits=Limits(concurrent_tasks=10)) as client:
        report = await BatchRunner(client, journal=db).resume()

    assert report.counts[SUCCEEDED] == len(report.outcomes) == count
    assert len({outcome.key for outcome in report.outcomes}) == count
    assert len({outcome.index for outcome in report.outcomes}) == count


@virtual_with_journal
async def test_what_needs_no_slot_does_not_wait_for_one(db: Path) -> None:
    """One slot, and a task that may be running holds it: the doubt is told at once all the same."""
    await left_by_a_crash(db, 1, *sent(0))
    api = FakeApi()
    async with quick(api, limits=Limits(concurrent_tasks=1)) as client, asyncio.timeout(2):
        report = await BatchRunner(client, journal=db).resume()

        assert client.statistics().gate.tasks == 1
    assert [outcome.status for outcome in report.outcomes] == [UNCERTAIN]


@virtual_with_journal
async def test_a_stop_loses_no_outcome_that_waits_to_be_told(db: Path) -> None:
    """The reader was slow; what had been looked up for it is told after the stop."""
    count = 400
    ways = [
        event
        for n in range(count)
        for event in (*sent(n), events.Rejected(key=f"k{n}", reason="no"))
    ]
    await left_by_a_crash(db, count, *ways)
    async with quick(FakeApi()) as client:
        runner = BatchRunner(client, journal=db)
        told: set[str] = set()
        async with runner.stream(jobs(count)) as outcomes:
            await asyncio.sleep(0.5)
            runner.stop()
            async for outcome in outcomes:
                told.add(outcome.key)

    assert told == {f"k{n}" for n in range(count)}


@virtual_with_journal
async def test_a_cancelled_repeat_leaves_the_outcome_that_was_paid_for(db: Path) -> None:
    """The first task failed and is billed; that it was to be repeated does not hide it."""
    api = FakeApi(
        duration=lambda _: 0.1,
        failure=lambda _: "INTERNAL",
        on_submit=lambda number, _: None if number == 1 else refusal(429, retry_after="60"),
    )
    async with quick(api) as client:
        runner = BatchRunner(client, journal=db, retry_codes=["INTERNAL"])
        running = asyncio.create_task(runner.run(jobs(1)))
        await wait_until(lambda: len(api.submits) > 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert [outcome.status for outcome in runner.report.outcomes] == [FAILED]


@virtual_with_journal
async def test_a_refused_key_stops_a_batch_also_where_only_tasks_are_awaited(db: Path) -> None:
    """The key is the batch's affair, whichever call it is refused at."""
    await left_by_a_crash(db, 3, *accepted(0, 1, 2))
    api = FakeApi(on_status=lambda _: refusal(401, "bad key"))
    for number in range(3):
        api.tasks[f"old_{number}"] = FakeTask(f"old_{number}", "", 0, 0)
    async with quick(api) as client:
        report = await BatchRunner(client, journal=db).resume()

    assert report.stopped is StopReason.KEY
    assert isinstance(report.stop_error, AuthenticationError)
    assert report.counts[TIMED_OUT] == 3


@virtual_with_journal
async def test_a_task_that_expired_and_is_denied_has_ended(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that results are kept nobody can get it back, so it is waited for no more."""
    await left_by_a_crash(db, 1, *accepted(0))
    monkeypatch.setattr("apixo_async.retries.NOT_FOUND_SPAN", 0.1)
    monkeypatch.setattr(Entry, "age", 16 * 86_400.0)
    async with quick(FakeApi()) as client:
        report = await BatchRunner(client, journal=db).resume()

    (outcome,) = report.outcomes
    assert outcome.status is FAILED
    assert isinstance(outcome.error, NotFoundError)


# Slots


@virtual_with_journal
async def test_going_on_with_the_same_client_takes_no_slot_twice(db: Path) -> None:
    """Its tasks have their slots already, and give them back when they end."""
    api = FakeApi(duration=lambda _: 1.0)
    async with quick(api, limits=Limits(concurrent_tasks=5)) as client:
        runner = BatchRunner(client, journal=db)
        running = asyncio.create_task(runner.run(jobs(5)))
        await wait_until(lambda: len(client.engine.tracker) == 5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with asyncio.timeout(10):
            report = await runner.resume()

        assert client.statistics().gate.tasks == 0
    assert report.counts[SUCCEEDED] == 5
    assert len(api.billed) == 5


@virtual_with_journal
async def test_a_doubt_of_the_same_client_holds_one_slot(db: Path) -> None:
    """It is kept from the submit on, and not once more when the batch goes on."""
    api = FakeApi(on_submit=lambda *_: refusal(500))
    async with quick(api) as client:
        runner = BatchRunner(client, journal=db)
        await runner.run(jobs(2))
        await runner.resume()

        assert client.statistics().gate.tasks == 2


@virtual_with_journal
async def test_a_submit_that_breaks_unforeseen_keeps_its_slot() -> None:
    """Its task may be running, whatever broke here."""
    api = FakeApi(on_submit=lambda *_: MemoryError("no memory"), accept_anyway=True)
    async with quick(api) as client:
        report = await BatchRunner(client).run(jobs(1))

        assert client.statistics().gate.tasks == 1
    assert report.counts[UNCERTAIN] == 1


# Ids


@virtual_with_journal
async def test_an_answer_after_a_second_cancellation_is_recorded(db: Path) -> None:
    """Whoever cancels twice leaves at once; closing the client waits until it is written."""
    api = FakeApi(duration=lambda _: 0.1, latency=0.4)
    async with quick(api) as client:
        runner = BatchRunner(client, journal=db)
        running = asyncio.create_task(runner.run(jobs(1)))
        await wait_until(lambda: api.requests)
        running.cancel()
        await asyncio.sleep(0.02)
        loop = asyncio.get_running_loop()
        began = loop.time()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        took = loop.time() - began

    assert took < 0.3
    assert len(asyncio.all_tasks()) == 1, "the journal is closed before the client is"
    assert (await entry_of(db, "k0")).task_id == "task_1"


@virtual_with_journal
async def test_an_id_that_cannot_be_recorded_is_logged(
    db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal was closed under it; the log is the last place that can keep it."""
    api = FakeApi(latency=0.3)
    async with quick(api) as client:
        stream = BatchRunner(client, journal=db).stream(jobs(1))
        async with stream:
            await wait_until(lambda: api.requests)
            journal = stream._journal
            assert journal is not None
            await journal.aclose()
            with caplog.at_level(logging.CRITICAL):
                await wait_until(lambda: not client.engine.submits_in_flight)

    assert "task_1" in caplog.text


@virtual_with_journal
async def test_one_task_is_never_taken_for_two_jobs_over_a_restart(db: Path) -> None:
    """The journal knows the ids of all runs."""
    api = FakeApi(duration=lambda _: 0.1)
    async with quick(api) as client:
        await BatchRunner(client, journal=db).run(jobs(1))
    api.on_submit = lambda *_: envelope({"taskId": "task_1"})
    async with quick(api) as client:
        report = await BatchRunner(client, journal=db).run(jobs(2))

    assert [outcome.status for outcome in report.outcomes] == [SUCCEEDED, UNCERTAIN]


@virtual_with_journal
async def test_one_id_seen_in_two_broken_answers_is_one_task() -> None:
    """Both are confirmed at the same time; only one of them can be the task's."""
    cut = Reply(200, b'{"code":200,"data":{"taskId":"task_x"')
    api = FakeApi(on_submit=lambda *_: cut)
    api.tasks["task_x"] = FakeTask("task_x", "", 0, 0)
    async with quick(api) as client:
        report = await BatchRunner(client).run(jobs(2))

    assert sorted(outcome.status for outcome in report.outcomes) == [SUCCEEDED, UNCERTAIN]


# Whatever is left open


@virtual_with_journal
async def test_closing_a_client_in_a_hurry_ends_its_batches(db: Path) -> None:
    """The POST is cut and its job is uncertain, on disk and as an outcome."""
    api = FakeApi(latency=30)
    client = quick(api)
    runner = BatchRunner(client, journal=db)
    running = asyncio.create_task(runner.run(jobs(1)))
    await wait_until(lambda: api.requests)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.aclose()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)

    assert [outcome.status for outcome in runner.report.outcomes] == [UNCERTAIN]
    assert (await entry_of(db, "k0")).state is JobState.UNCERTAIN


@virtual_with_journal
async def test_closing_a_client_in_a_hurry_ends_what_waits_for_its_record(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes its time with "about to send": nothing leaves, and that is on record."""
    written = Journal.record
    is_waiting = asyncio.Event()

    def slowly(
        self: Journal, number: int, event: events.JobEvent, *, keep_trying: bool
    ) -> asyncio.Future[Entry]:
        record = written(self, number, event, keep_trying=keep_trying)
        if not isinstance(event, events.Sending):
            return record
        is_waiting.set()
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Journal, "record", slowly)
    api = FakeApi()
    client = quick(api)
    runner = BatchRunner(client, journal=db)
    running = asyncio.create_task(runner.run(jobs(1)))
    await is_waiting.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.aclose()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)

    assert not api.requests
    assert [outcome.status for outcome in runner.report.outcomes] == [OutcomeStatus.NOT_STARTED]
    assert (await entry_of(db, "k0")).state is JobState.QUEUED


async def test_a_journal_whose_opening_was_cancelled_is_free(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread opens it and cannot be stopped; what it opens is closed when it is done."""
    opening, abandoning = Journal._open, Journal._abandon
    begun, go_on, is_closed = threading.Event(), threading.Event(), asyncio.Event()

    def slowly(self: Journal) -> None:
        begun.set()
        go_on.wait()
        opening(self)

    def abandoned(self: Journal, done: asyncio.Future[None]) -> None:
        abandoning(self, done)
        is_closed.set()

    monkeypatch.setattr(Journal, "_open", slowly)
    monkeypatch.setattr(Journal, "_abandon", abandoned)
    trying = asyncio.create_task(Journal.open(db))
    await asyncio.to_thread(begun.wait)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    go_on.set()
    await is_closed.wait()

    await (await Journal.open(db)).aclose()


class Broken:
    """An input that cannot be gone through."""

    def __iter__(self) -> Iterator[Request]:
        raise RuntimeError("no such input")


@virtual_with_journal
async def test_an_input_that_cannot_be_begun_leaves_the_journal_free(db: Path) -> None:
    """Its error is the caller's, and the next batch may have the journal."""
    async with quick(FakeApi()) as client:
        with pytest.raises(RuntimeError, match="no such input"):
            await BatchRunner(client, journal=db).run(Broken())

    await (await Journal.open(db)).aclose()


async def test_files_are_found_again_from_another_directory(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative place for videos means the directory where the batch was started."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = EmulatorSettings(speed=400, seed=1)
    report = BatchReport(())
    async with Emulator(settings) as emulator:
        for name in ("here", "there"):
            monkeypatch.chdir(tmp_path / name)
            async with ApixoClient(
                emulator.api_key, base_url=emulator.base_url, schedule=SCHEDULE
            ) as client:
                save_to = "videos" if name == "here" else tmp_path / "here" / "videos"
                report = await BatchRunner(client, journal=db, save_to=save_to).run(jobs(2))

        assert emulator.ledger.files_served == 2
    assert {file.path for outcome in report.outcomes for file in outcome.files} == {
        tmp_path / "here" / "videos" / f"k{n}.mp4" for n in range(2)
    }
