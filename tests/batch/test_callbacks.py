"""A batch that is called back: lost answers are found, crashes survived, and all of it recorded."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import pytest

from apixo_async import (
    BatchReport,
    BatchRunner,
    Job,
    Limits,
    OutcomeStatus,
    PollSchedule,
    TextToVideo,
    UnansweredError,
)
from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, Journal, JournalReader
from apixo_async.client import ApixoClient
from apixo_async.limits import buckets
from apixo_async.webhooks import Slip
from tests import fakes
from tests.fakes import Answer, FakeApi, FakeTask, receiver, refusal
from tests.inline import virtual_with_journal

CUT = UnansweredError("the connection was closed", host="api.test", reason="reset")
FAST = PollSchedule(first=0.9, interval=0.05, deadline=18.0)
"""The documented schedule on a clock that goes a hundred times as fast."""


def client_for(api: FakeApi) -> ApixoClient:
    """A client on the fast clock."""
    return fakes.client_for(api, schedule=FAST)


def lasting(first: float, others: float) -> Callable[[int], float]:
    """The duration of the first task, and of all others."""
    return lambda number: first if number == 1 else others


def called_back(
    *,
    duration: Callable[[int], float] = lambda _: 0.3,
    on_submit: Callable[[int, object], Answer] = lambda *_: None,
    callbacks: Callable[[FakeTask], tuple[float, ...]] = lambda _: (0.01,),
) -> FakeApi:
    """An API on the fast clock that calls back; answers that get lost were given."""
    return FakeApi(
        receiver=receiver(),
        duration=duration,
        latency=0.002,
        on_submit=on_submit,
        callbacks=callbacks,
        accept_anyway=True,
    )


def lost_at_first(number: int, _: object) -> Answer:
    """The first answer gets lost."""
    return CUT if number == 1 else None


def lost_now_and_then(number: int, _: object) -> Answer:
    """One answer in ten gets lost."""
    return CUT if number % 10 == 0 else None


def jobs(count: int) -> list[Job]:
    """So many different jobs."""
    return [Job(TextToVideo(f"prompt {n}"), key=f"k{n}") for n in range(count)]


def happened(report: BatchReport) -> dict[OutcomeStatus, int]:
    """How many jobs ended how."""
    return {status: count for status, count in report.counts.items() if count}


async def entries(db: Path) -> dict[str, Entry]:
    """All jobs of the journal, by key."""
    journal = await Journal.open(db)
    try:
        return {entry.key: entry async for entry in journal.entries(*JobState)}
    finally:
        await journal.aclose()


async def leave_once_sent(db: Path, api: FakeApi, count: int) -> None:
    """A batch that nobody waits for any more once all its tasks run."""
    async with client_for(api) as client, BatchRunner(client, journal=db).stream(jobs(count)):
        while len(api.tasks) < count:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)


async def all_end(api: FakeApi) -> None:
    """All tasks end now, and the API calls back for each."""
    for task, body in zip(api.tasks.values(), api.bodies, strict=True):
        task.ends_at = asyncio.get_running_loop().time()
        done = {"code": 200, "data": {"state": "success", "taskId": task.id}}
        await api.call(body["callback_url"], json.dumps(done).encode())


async def crash_while_sending(db: Path, *, told: str | None = None) -> Slip:
    """A process ended with its only submit on the way; returns what its URL was for."""
    journal = await Journal.open(db)
    await journal.give_name()
    entry = journal.enqueue(jobs(1)[0])
    await journal.record(entry.number, events.Sending(key="k0", attempt=1, calls_back=True))
    if told is not None:
        await journal.record(entry.number, events.CalledBack(key="k0", attempt=1, task_id=told))
    await journal.aclose()
    return Slip(f"{journal.name}-{entry.number}", 1)


def sent_before(api: FakeApi) -> FakeApi:
    """What the dead process had sent was accepted."""
    api._submit(b'{"input": {"prompt": "prompt 0"}}')
    return api


def url_of(api: FakeApi, slip: Slip) -> str:
    """Where the API was told to call back."""
    assert api.receiver is not None
    return api.receiver.url(slip)


# Lost answers


@virtual_with_journal
async def test_every_lost_answer_is_made_up_for(tmp_path: Path) -> None:
    """All succeed, none stays uncertain, none is paid for twice, and the journal says how."""
    api = called_back(on_submit=lost_now_and_then)
    told = Counter[str]()
    async with client_for(api) as client:
        runner = BatchRunner(
            client,
            journal=tmp_path / "run.db",
            on_event=lambda event: told.update([type(event).__name__]),
        )
        report = await runner.run(jobs(200))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 200}
    assert len(api.billed) == len(set(api.billed)) == 200
    assert (told["Uncertain"], told["Identified"], told["Accepted"]) == (20, 20, 180)
    found = await entries(tmp_path / "run.db")
    assert {(entry.state, entry.charges) for entry in found.values()} == {(JobState.SUCCEEDED, 1)}


@virtual_with_journal
async def test_the_policy_to_pay_again_waits_for_the_callback(tmp_path: Path) -> None:
    """Nobody pays twice for what a callback will tell."""
    api = called_back(on_submit=lost_now_and_then)
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=tmp_path / "run.db", uncertain="resubmit")
        report = await runner.run(jobs(50))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 50}
    assert len(api.billed) == 50


@virtual_with_journal
async def test_without_a_journal_it_is_the_same() -> None:
    """What happens in one process needs no record."""
    api = called_back(on_submit=lost_now_and_then)
    async with client_for(api) as client:
        report = await BatchRunner(client).run(jobs(50))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 50}
    assert len(api.billed) == 50


@virtual_with_journal
async def test_each_attempt_has_its_own_url(tmp_path: Path) -> None:
    """A job that is generated again after a failure is told by the second callback alone."""
    api = called_back()
    api.failure = lambda task: "BUSY" if task.id == "task_1" else None
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=tmp_path / "run.db", retry_codes=["BUSY"])
        report = await runner.run(jobs(1))

    urls = [body["callback_url"] for body in api.bodies]
    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert [url.split(".")[-2] for url in urls] == ["1", "2"]


@virtual_with_journal
async def test_evidence_after_the_verdict_is_kept_for_the_next_run(tmp_path: Path) -> None:
    """A callback that comes after the deadline still ends the doubt, at the next run."""
    db = tmp_path / "run.db"
    api = called_back(on_submit=lost_at_first, duration=lambda _: 0.7)
    async with client_for(api) as client:
        first = await BatchRunner(client, journal=db, deadline=0.6).run(jobs(1))
        assert happened(first) == {OutcomeStatus.UNCERTAIN: 1}
        await asyncio.sleep(0.3)
        second = await BatchRunner(client, journal=db, deadline=0.6).resume()

    assert happened(second) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.billed) == 1


# Crashes


@virtual_with_journal
async def test_a_callback_finds_a_submit_of_a_process_that_is_gone(tmp_path: Path) -> None:
    """Killed between the submit and its answer, resumed, and then called back."""
    slip = await crash_while_sending(tmp_path / "run.db")
    api = sent_before(called_back())
    api.call_in(0.4, url_of(api, slip), {"taskId": "task_1"})
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=tmp_path / "run.db").resume()

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.billed) == 1


@virtual_with_journal
async def test_a_callback_that_was_recorded_before_a_crash_is_enough(tmp_path: Path) -> None:
    """It need not come again; the API is asked about the id that it named."""
    await crash_while_sending(tmp_path / "run.db", told="task_1")
    api = sent_before(called_back(duration=lambda _: 0.05))
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=tmp_path / "run.db").resume()

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}


@virtual_with_journal
async def test_the_same_input_again_waits_for_the_callback_too(tmp_path: Path) -> None:
    """`run` with the same jobs goes on as `resume` does, and has their outcomes in order."""
    slip = await crash_while_sending(tmp_path / "run.db")
    api = sent_before(called_back())
    api.call_in(0.4, url_of(api, slip), {"taskId": "task_1"})
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=tmp_path / "run.db").run(jobs(3))

    assert [outcome.key for outcome in report.outcomes] == ["k0", "k1", "k2"]
    assert happened(report) == {OutcomeStatus.SUCCEEDED: 3}
    assert len(api.billed) == 3


@virtual_with_journal
async def test_without_a_receiver_a_crash_leaves_a_doubt(tmp_path: Path) -> None:
    """Nobody waits for what cannot come."""
    await crash_while_sending(tmp_path / "run.db")
    async with fakes.client_for(FakeApi(), schedule=FAST) as client:
        report = await BatchRunner(client, journal=tmp_path / "run.db").resume()

    assert happened(report) == {OutcomeStatus.UNCERTAIN: 1}


@virtual_with_journal
async def test_what_came_while_no_batch_ran_is_taken_by_the_next(tmp_path: Path) -> None:
    """Callbacks for tasks that were left are kept in the receiver, and looked into at once."""
    api = called_back(duration=lambda _: 600.0, callbacks=lambda _: ())
    await leave_once_sent(tmp_path / "run.db", api, 5)
    await all_end(api)
    slow = PollSchedule(first=60.0, interval=60.0, deadline=600.0)
    async with fakes.client_for(api, schedule=slow) as client:
        report = await asyncio.wait_for(
            BatchRunner(client, journal=tmp_path / "run.db").resume(), slow.first / 2
        )

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 5}
    assert api.receiver is not None
    assert api.receiver.statistics().orphans == 5


@virtual_with_journal
async def test_the_same_client_goes_on_with_what_it_left(tmp_path: Path) -> None:
    """Its tasks are known to it still; the callbacks of both runs ring for them."""
    db = tmp_path / "run.db"
    api = called_back(duration=lambda _: 0.5)
    async with client_for(api) as client:
        async with BatchRunner(client, journal=db).stream(jobs(5)):
            while len(api.tasks) < 5:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time()
        report = await BatchRunner(client, journal=db).resume()
        took = asyncio.get_running_loop().time() - started

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 5}
    assert took < FAST.first
    assert len(api.billed) == 5


@virtual_with_journal
async def test_all_that_was_in_doubt_is_told(tmp_path: Path) -> None:
    """Doubts that end while the journal is still being read are outcomes of the run, too."""
    db = tmp_path / "run.db"
    api = called_back(on_submit=lambda *_: CUT, duration=lambda _: 600.0, callbacks=lambda _: ())
    await leave_once_sent(db, api, 40)
    for task, body in zip(api.tasks.values(), api.bodies, strict=True):
        task.ends_at = asyncio.get_running_loop().time()
        api.call_in(0.0, body["callback_url"], {"taskId": task.id})
    await asyncio.sleep(0.05)
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=db).resume()

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 40}
    assert sorted(outcome.index for outcome in report.outcomes) == list(range(40))


@virtual_with_journal
async def test_a_task_that_was_named_is_not_made_again(tmp_path: Path) -> None:
    """While the API cannot be asked about it, the policy to pay again has to wait."""
    api = called_back(on_submit=lost_at_first, duration=lambda _: 0.1)
    api.on_status = lambda _: refusal(503)
    async with client_for(api) as client:
        runner = BatchRunner(
            client, journal=tmp_path / "run.db", uncertain="resubmit", deadline=0.5
        )
        first = await runner.run(jobs(1))
        api.on_status = lambda _: None
        second = await runner.resume()

    assert happened(first) == {OutcomeStatus.UNCERTAIN: 1}
    assert happened(second) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.billed) == 1


@virtual_with_journal
async def test_a_task_of_an_earlier_try_is_the_job_s(tmp_path: Path) -> None:
    """Its callback comes when the job was submitted again and is in doubt again: enough is paid."""
    api = called_back(on_submit=lambda *_: CUT, callbacks=lambda _: ())
    async with client_for(api) as client:
        runner = BatchRunner(
            client, journal=tmp_path / "run.db", uncertain="resubmit", deadline=0.5
        )
        running = asyncio.create_task(runner.run(jobs(1)))
        while len(api.tasks) < 2:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        api.call_in(0.0, api.bodies[0]["callback_url"], {"taskId": "task_1"})
        report = await running

    (outcome,) = report.outcomes
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert outcome.task is not None
    assert outcome.task.id == "task_1"
    assert len(api.billed) == 2


@virtual_with_journal
async def test_nobody_is_answered_before_the_task_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback for a task whose record waits for the disk has to wait as well."""
    order: list[str] = []
    record = Journal.record

    def slow(
        self: Journal, number: int, event: events.JobEvent, **more: bool
    ) -> asyncio.Future[Entry]:
        if not isinstance(event, events.Accepted):
            return record(self, number, event, **more)

        async def later() -> Entry:
            await asyncio.sleep(0.3)
            order.append("recorded")
            return await record(self, number, event, **more)

        return asyncio.ensure_future(later())

    monkeypatch.setattr(Journal, "record", slow)
    api = called_back(duration=lambda _: 0.05)
    async with (
        client_for(api) as client,
        BatchRunner(client, journal=tmp_path / "run.db").stream(jobs(1)) as outcomes,
    ):
        while not api.called:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)
        order.append("answered")
        assert [outcome.status async for outcome in outcomes] == [OutcomeStatus.SUCCEEDED]

    assert order == ["recorded", "answered"]


@virtual_with_journal
async def test_a_repeated_callback_of_an_earlier_try_is_no_second_task(tmp_path: Path) -> None:
    """The first task failed and was made again by the user's policy; its callback comes twice."""
    api = called_back(callbacks=lambda _: (0.01, 0.15), duration=lasting(0.1, 0.4))
    api.failure = lambda task: "BUSY" if task.id == "task_1" else None
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=tmp_path / "run.db", retry_codes=["BUSY"])
        report = await runner.run(jobs(1))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    with JournalReader(tmp_path / "run.db") as reader:
        assert not reader.overview().doubled


# Two tasks for one job


@virtual_with_journal
async def test_two_tasks_for_one_job_are_both_kept_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first is the job's; the other one is in the journal, in the log, and in the overview."""
    db = tmp_path / "run.db"
    api = called_back()
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=db)
        async with runner.stream(jobs(1)) as outcomes:
            while not api.tasks:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)
            api.call_in(0.01, api.bodies[0]["callback_url"], {"taskId": "another"})
            with caplog.at_level(logging.CRITICAL, logger="apixo_async"):
                done = [outcome async for outcome in outcomes]

    assert done[0].task is not None
    assert (done[0].status, done[0].task.id) == (OutcomeStatus.SUCCEEDED, "task_1")
    assert "task another beside its own task_1" in caplog.text
    with JournalReader(db) as reader:
        (doubled,) = reader.overview().doubled
    assert (doubled.key, doubled.task_id, doubled.others) == ("k0", "task_1", ("another",))


@virtual_with_journal
async def test_a_task_of_an_attempt_that_was_given_up_is_reported(tmp_path: Path) -> None:
    """The user had it submitted again; the first task turns up after all."""
    db = tmp_path / "run.db"
    api = called_back(on_submit=lost_at_first, duration=lasting(0.7, 0.5))
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=db, uncertain="resubmit", deadline=0.6)
        report = await runner.run(jobs(1))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    with JournalReader(db) as reader:
        (doubled,) = reader.overview().doubled
    assert (doubled.task_id, doubled.others) == ("task_2", ("task_1",))


@virtual_with_journal
async def test_a_late_repetition_changes_nothing(tmp_path: Path) -> None:
    """A sender that was not heard repeats itself when the job has long ended."""
    db = tmp_path / "run.db"
    api = called_back(duration=lasting(0.1, 0.5))
    api.callbacks = lambda task: (0.01, 0.1, 0.2) if task.id == "task_1" else (0.01,)
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=db).run(jobs(2))

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 2}
    assert [int(status) for status in api.called] == [200] * 4
    with JournalReader(db) as reader:
        assert not reader.overview().doubled


async def the_only_one(db: Path) -> Entry:
    """The job of a journal that has one."""
    (entry,) = (await entries(db)).values()
    return entry


@pytest.mark.parametrize("policy", ["keep", "resubmit"])
@virtual_with_journal
async def test_what_was_refused_and_accepted_is_not_sent_again(
    policy: Literal["keep", "resubmit"], tmp_path: Path
) -> None:
    """The callback comes while the job waits for its turn: its task is the job's only one."""
    api = called_back(
        on_submit=lambda number, _: refusal(429, retry_after="1") if number == 1 else None
    )
    told = Counter[str]()
    async with client_for(api) as client:
        runner = BatchRunner(
            client,
            journal=tmp_path / "run.db",
            uncertain=policy,
            on_event=lambda event: told.update([type(event).__name__]),
        )
        report = await runner.run(jobs(1))
    entry = await the_only_one(tmp_path / "run.db")

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.billed) == 1
    assert (entry.task_id, entry.charges, entry.note) == ("task_1", 1, None)
    assert (told["Sending"], told["NotSent"], told["Identified"]) == (1, 1, 1)


def lost_then_refused(number: int, _: object) -> Answer:
    """The answer of the first submit gets lost, the second is refused for now."""
    answers: dict[int, Answer] = {1: CUT, 2: refusal(429, retry_after="1")}
    return answers.get(number)


@virtual_with_journal
async def test_a_second_try_that_waits_is_given_up_for_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The policy has decided to pay again, and the callback comes before it has."""
    monkeypatch.setattr(buckets, "TEST_SECONDS", 0.02)
    api = called_back(on_submit=lost_then_refused, callbacks=lambda _: ())
    async with client_for(api) as client:
        runner = BatchRunner(client, journal=tmp_path / "run.db", uncertain="resubmit", deadline=2)
        running = asyncio.create_task(runner.run(jobs(1)))
        while len(api.submits) < 2:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        del api.tasks["task_2"]  # that one was refused in truth
        api.call_in(0.1, api.bodies[0]["callback_url"], {"taskId": "task_1"})
        report = await running
    entry = await the_only_one(tmp_path / "run.db")

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert (len(api.submits), entry.task_id, entry.charges) == (2, "task_1", 1)


@pytest.mark.parametrize("policy", ["keep", "resubmit"])
@virtual_with_journal
async def test_a_job_that_was_named_while_it_waited_is_heard_by_the_next_run(
    policy: Literal["keep", "resubmit"], tmp_path: Path
) -> None:
    """Its process ended before it could be sent again; no run sends it."""
    db, api = tmp_path / "run.db", called_back()
    journal = await Journal.open(db)
    await journal.give_name()
    entry = journal.enqueue(jobs(1)[0])
    for event in (
        events.Sending(key="k0", attempt=1, calls_back=True),
        events.NotSent(key="k0", attempt=1, reason="429"),
        events.CalledBack(key="k0", attempt=1, task_id="task_1"),
    ):
        await journal.record(entry.number, event)
    await journal.aclose()
    sent_before(api)
    async with client_for(api) as client:
        report = await BatchRunner(client, journal=db, uncertain=policy).resume()

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.submits) == 1, "that of the dead process"


@virtual_with_journal
async def test_a_later_try_that_nobody_named_stays_on_record(tmp_path: Path) -> None:
    """The job has the task of its first try; the second, whose answer was lost, may be billed."""
    api = called_back(
        on_submit=lambda *_: CUT,
        duration=lasting(0.8, 600.0),
        callbacks=lambda task: (0.01,) if task.id == "task_1" else (),
    )
    async with client_for(api) as client:
        runner = BatchRunner(
            client, journal=tmp_path / "run.db", uncertain="resubmit", deadline=0.5
        )
        report = await runner.run(jobs(1))
        held = client.statistics().gate.tasks
    entry = await the_only_one(tmp_path / "run.db")

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 1}
    assert (entry.task_id, entry.charges) == ("task_1", 2)
    assert entry.why()["open_attempt"] == 2
    assert held >= 1, "the second task may run"


@virtual_with_journal
async def test_no_policy_pays_on_while_a_later_try_is_open(tmp_path: Path) -> None:
    """The task of the first try has failed; that of the second may have a result."""
    api = called_back(
        on_submit=lambda *_: CUT,
        duration=lasting(0.8, 600.0),
        callbacks=lambda task: (0.01,) if task.id == "task_1" else (),
    )
    api.failure = lambda _: "INTERNAL"
    async with client_for(api) as client:
        runner = BatchRunner(
            client,
            journal=tmp_path / "run.db",
            uncertain="resubmit",
            retry_codes=["INTERNAL"],
            deadline=0.5,
        )
        report = await runner.run(jobs(1))

    assert happened(report) == {OutcomeStatus.FAILED: 1}
    assert len(api.submits) == 2


@virtual_with_journal
async def test_a_job_that_is_named_while_it_waits_for_a_slot_is_not_begun(tmp_path: Path) -> None:
    """Also in the moment in which that is being recorded."""
    db, api = tmp_path / "run.db", called_back()
    journal = await Journal.open(db)
    await journal.give_name()
    entry = journal.enqueue(jobs(1)[0])
    await journal.record(entry.number, events.Sending(key="k0", attempt=1, calls_back=True))
    await journal.record(entry.number, events.NotSent(key="k0", attempt=1, reason="429"))
    slip = Slip(f"{journal.name}-{entry.number}", 1)
    await journal.aclose()
    sent_before(api)
    assert api.receiver is not None
    async with fakes.client_for(api, schedule=FAST, limits=Limits(concurrent_tasks=1)) as client:
        last = await client.engine.lease()
        running = asyncio.create_task(BatchRunner(client, journal=db).run(jobs(1)))
        while not client.engine.gate.slots.waiting:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        telling = asyncio.create_task(api.receiver.take(slip, b'{"taskId": "task_1"}'))
        await asyncio.sleep(0)
        last.release()
        first = await running
        status = await telling
        second = await BatchRunner(client, journal=db).resume()

    assert (status, first.stopped) == (HTTPStatus.OK, None)
    assert happened(first) == {OutcomeStatus.UNCERTAIN: 1}
    assert happened(second) == {OutcomeStatus.SUCCEEDED: 1}
    assert len(api.submits) == 1, "that of the dead process"
