"""Jobs that processes share: each is submitted once, whoever dies, freezes or is cut off."""

import asyncio
from collections.abc import Mapping

import pytest

from apixo_async import (
    InvalidRequestError,
    Job,
    JournalError,
    OutcomeStatus,
    StopReason,
    StoreError,
    TextToVideo,
    UnansweredError,
)
from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState
from apixo_async.durable import DurableJobs, Ledger, MemoryRows
from apixo_async.durable.ledger import Hand
from tests.durable.processes import SCHEDULE, Process, job, lived
from tests.fakes import Answer, FakeApi, receiver, refusal

PATIENCE = 75.0
"""A submit may take 60 s, and its record 15 more."""


def reason(process: Process) -> StopReason | None:
    """Why it submits nothing."""
    return None if process.jobs.stopped is None else process.jobs.stopped[0]


async def begun(process: Process, key: str) -> asyncio.Task[object]:
    """Carries a job until its POST is at the API."""
    await process.jobs.add(job(key))
    work = process.carry(key)
    submits = len(process.api.submits)
    while len(process.api.submits) == submits:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    return work


@lived
async def test_a_job_is_carried_to_its_video() -> None:
    """Submitted, waited for, and recorded; asked again, the record answers."""
    api = FakeApi()
    process = Process(api, MemoryRows())
    await process.jobs.add(job("a"))
    outcome = await process.jobs.carry("a")
    assert (outcome.status, outcome.urls) == (
        OutcomeStatus.SUCCEEDED,
        ("https://files.test/task_1.mp4",),
    )
    assert (await process.jobs.carry("a")).urls == outcome.urls
    assert api.billed == ["a"]
    await process.end()


@lived
async def test_a_job_carried_by_many_at_once_is_submitted_once() -> None:
    """The others see that somebody is at it, and follow the same task."""
    api, rows = FakeApi(latency=2.0), MemoryRows()
    processes = [Process(api, rows) for _ in range(3)]
    await processes[0].jobs.add(job("a"))
    works = [process.carry("a") for process in processes for _ in range(2)]
    outcomes = await asyncio.gather(*works)
    assert {outcome.urls for outcome in outcomes} == {("https://files.test/task_1.mp4",)}
    assert api.billed == ["a"]
    for process in processes:
        await process.end()


@lived
async def test_a_key_means_one_request() -> None:
    """Another request under it is refused with both shown, and the first stays."""
    process = Process(FakeApi(), MemoryRows())
    first = await process.jobs.add(job("a"))
    assert await process.jobs.add(job("a")) == first
    with pytest.raises(InvalidRequestError, match="was used for another request"):
        await process.jobs.add(Job(TextToVideo("other"), key="a"))
    with pytest.raises(InvalidRequestError, match="must be set"):
        await process.jobs.add(Job(TextToVideo("a")))
    await process.end()


@lived
async def test_what_was_never_added_is_not_carried() -> None:
    """The message says what to do."""
    process = Process(FakeApi(), MemoryRows())
    with pytest.raises(JournalError, match="add it first"):
        await process.jobs.carry("a")
    await process.end()


# Death


@lived
async def test_a_submit_whose_process_died_is_uncertain_and_never_sent_again() -> None:
    """Its answer never came, so the next process says after a stated time that nobody knows."""
    api, rows = FakeApi(latency=2.0), MemoryRows()
    dead, alive = Process(api, rows), Process(api, rows)
    _ = await begun(dead, "a")
    dead.freeze()
    began = asyncio.get_running_loop().time()
    outcome = await alive.jobs.carry("a")
    took = asyncio.get_running_loop().time() - began
    assert outcome.status is OutcomeStatus.UNCERTAIN
    assert PATIENCE - 5 < took < PATIENCE + 5
    assert [one.key async for one in alive.jobs.uncertain()] == ["a"]
    assert api.billed == ["a"]
    await dead.end()
    await alive.end()


@lived
async def test_a_task_whose_process_died_is_followed_by_the_next() -> None:
    """Its id was on record before anybody saw it."""
    api, rows = FakeApi(), MemoryRows()
    dead, alive = Process(api, rows), Process(api, rows)
    _ = await begun(dead, "a")
    await asyncio.sleep(30)
    dead.freeze()
    outcome = await alive.jobs.carry("a")
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert alive.client.engine.gate.slots.peak == 1
    assert api.billed == ["a"]
    await dead.end()
    await alive.end()


@lived
async def test_a_process_that_only_froze_brings_its_tasks_id_home() -> None:
    """Declared uncertain meanwhile, the job gets its task after all, and is followed to its end."""
    api, rows = FakeApi(latency=2.0), MemoryRows()
    frozen, other = Process(api, rows), Process(api, rows)
    work = await begun(frozen, "a")
    frozen.freeze()
    assert (await other.jobs.carry("a")).status is OutcomeStatus.UNCERTAIN
    frozen.thaw()
    await work
    outcome = await other.jobs.outcome("a")
    assert outcome is not None
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert api.billed == ["a"]
    await frozen.end()
    await other.end()


@lived
async def test_a_process_that_froze_before_it_sent_does_not_send_beside_another() -> None:
    """While it stood still somebody had the job sent again: of the two, one POST leaves."""
    api, rows = FakeApi(), MemoryRows()
    frozen, other = Process(api, rows, delay=lambda: 4.0), Process(api, rows)
    await other.jobs.add(job("a"))
    work = frozen.carry("a")
    await asyncio.sleep(3.0)  # it has read the job as queued, and not claimed it
    frozen.freeze()
    assert (await other.jobs.carry("a")).status is OutcomeStatus.SUCCEEDED
    frozen.thaw()
    await work
    assert api.billed == ["a"]
    await frozen.end()
    await other.end()


# Callbacks


@lived
async def test_a_callback_names_the_task_of_a_process_that_died() -> None:
    """The next one asks the API about it, and follows it: nothing is uncertain."""
    taking = receiver()
    api = FakeApi(latency=2.0, duration=lambda _: 200.0, receiver=taking)
    rows = MemoryRows()
    dead = Process(api, rows, receiver=taking)
    await dead.ledger.open()
    _ = await begun(dead, "a")
    dead.freeze()
    assert dead.client.engine.callbacks is not None
    dead.client.engine.callbacks.close()  # what is dead hears nothing
    alive = Process(api, rows, receiver=taking)
    await alive.ledger.open()
    outcome = await alive.jobs.carry("a")
    assert (outcome.status, api.billed) == (OutcomeStatus.SUCCEEDED, ["a"])
    await dead.end()
    await alive.end()


@lived
async def test_a_lost_answer_is_made_up_for_by_a_callback() -> None:
    """In the process that lost it, too."""

    def lost(number: int, _: Mapping[str, object]) -> Answer:
        return UnansweredError("cut", host="api.test", reason="reset") if number == 1 else None

    taking = receiver()
    api = FakeApi(receiver=taking, on_submit=lost, accept_anyway=True)
    process = Process(api, MemoryRows(), receiver=taking)
    await process.ledger.open()
    await process.jobs.add(job("a"))
    outcome = await process.jobs.carry("a")
    assert (outcome.status, api.billed) == (OutcomeStatus.SUCCEEDED, ["a"])
    assert process.client.engine.callbacks is not None
    assert not process.client.engine.callbacks._tickets
    await process.end()


# Decisions


@lived
@pytest.mark.parametrize("decision", ["task_id", "resubmit", "abandon"])
async def test_a_person_settles_what_is_uncertain(decision: str) -> None:
    """By naming its task, having it sent again, or leaving it; the record then says so."""

    def lost(number: int, _: Mapping[str, object]) -> Answer:
        return UnansweredError("cut", host="api.test", reason="reset") if number == 1 else None

    api = FakeApi(on_submit=lost, accept_anyway=True)
    process = Process(api, MemoryRows())
    await process.jobs.add(job("a"))
    assert (await process.jobs.carry("a")).status is OutcomeStatus.UNCERTAIN
    await process.jobs.settle(
        "a",
        task_id="task_1" if decision == "task_id" else None,
        resubmit=decision == "resubmit",
        abandon=decision == "abandon",
    )
    outcome = await process.jobs.carry("a")
    expected = OutcomeStatus.FAILED if decision == "abandon" else OutcomeStatus.SUCCEEDED
    assert outcome.status is expected
    assert len(api.billed) == 1 + (decision == "resubmit")
    await process.end()


@lived
async def test_a_decision_is_one_and_fits_the_job() -> None:
    """Two at once, or one about a video that is there, are refused."""
    process = Process(FakeApi(), MemoryRows())
    await process.jobs.add(job("a"))
    await process.jobs.carry("a")
    with pytest.raises(ValueError, match="say one of"):
        await process.jobs.settle("a", resubmit=True, abandon=True)
    with pytest.raises(JournalError, match="cannot follow"):
        await process.jobs.settle("a", resubmit=True)
    with pytest.raises(JournalError, match="no job 'b'"):
        await process.jobs.settle("b", abandon=True)
    await process.end()


@lived
async def test_the_record_tells_where_a_job_stands() -> None:
    """Those that somebody carries are told from those that ended; `None` for a key of no job."""
    api = FakeApi(latency=2.0)
    process = Process(api, MemoryRows())
    await process.jobs.add(job("a"))
    states = [await process.jobs.state("a")]
    work = await begun(process, "a")
    states.append(await process.jobs.state("a"))
    await asyncio.sleep(5)
    states.append(await process.jobs.state("a"))
    await work
    states.append(await process.jobs.state("a"))
    assert states == ["queued", "sending", "accepted", "succeeded"]
    assert await process.jobs.state("b") is None
    await process.end()


@lived
async def test_what_is_left_is_what_somebody_has_to_carry() -> None:
    """Queued, in a dead process's hands, or running; not what ended, is in doubt or overdue."""
    api = FakeApi(latency=2.0, duration=lambda number: 120.0 if number == 1 else 10_000.0)
    process = Process(api, MemoryRows())

    async def left(untouched_for: float = 60.0) -> list[str]:
        return [key async for key in process.jobs.left(untouched_for=untouched_for)]

    for key in ("ended", "running", "queued"):
        await process.jobs.add(job(key))
    await process.carry("ended")
    running = process.carry("running")
    await asyncio.sleep(30)
    assert await left() == ["queued"]  # what was touched just now is in somebody's hands
    sending = await begun(process, "sending")
    process.freeze()
    await asyncio.sleep(61)
    assert await left() == ["running", "queued", "sending"]
    assert await left(untouched_for=600) == []
    process.thaw()
    await asyncio.wait([running, sending])
    assert await left() == ["queued"]
    await process.end()


# The ledger is away


@lived
async def test_nothing_is_sent_while_the_ledger_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and then the job goes on by itself; the next outage is told anew."""
    api = FakeApi()
    process = Process(api, MemoryRows())
    await process.jobs.add(job("a"))
    process.is_cut_off = True
    work = process.carry("a")
    await asyncio.sleep(60)
    assert not api.submits
    assert reason(process) is StopReason.JOURNAL
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    process.is_cut_off = False
    assert (await work).status is OutcomeStatus.SUCCEEDED
    assert reason(process) is None
    await process.jobs.add(job("b"))
    process.is_cut_off = True
    work = process.carry("b")
    await asyncio.sleep(60)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    await process.end()


@lived
async def test_a_tasks_id_waits_for_the_ledger_to_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told to the log meanwhile, because it is nowhere else."""
    api = FakeApi(latency=2.0)
    rows = MemoryRows()
    process = Process(api, rows)
    _ = await begun(process, "a")
    process.is_cut_off = True
    await asyncio.sleep(100)
    grave = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert [getattr(record, "apixo_task_id", None) for record in grave] == ["task_1"]
    process.is_cut_off = False
    await asyncio.sleep(10)
    entry = await rows.read("a")
    assert entry is not None
    assert entry.task_id == "task_1"
    assert all(work.done() is False for work in process.works)
    assert (await process.jobs.carry("a")).status is OutcomeStatus.SUCCEEDED
    assert api.billed == ["a"]
    await process.end()


@lived
async def test_a_claim_of_which_nobody_knows_whether_it_was_kept_is_taken_back() -> None:
    """The connection broke between the row and its answer: nothing was sent or lost."""
    api, rows = FakeApi(), MemoryRows()
    process = Process(api, rows, delay=lambda: 2.0)
    await process.jobs.add(job("a"))
    work = process.carry("a")
    while (await rows.read("a")).state is not JobState.SENDING:  # type: ignore[union-attr]  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    process.is_cut_off = True
    await asyncio.sleep(5)
    assert not api.submits
    process.is_cut_off = False
    assert (await work).status is OutcomeStatus.SUCCEEDED
    assert api.billed == ["a"]
    await process.end()


@lived
async def test_a_claim_is_not_taken_for_another_of_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes claim alike, one of them through a connection that breaks before its row."""

    async def lost(old: Entry, new: Entry) -> bool:
        raise StoreError("the table is away")

    api, rows = FakeApi(), MemoryRows()
    broken, other = Process(api, rows), Process(api, rows)
    added = await other.jobs.add(job("a"))
    sending = events.Sending(key="a", attempt=1)  # one value, so one moment
    with monkeypatch.context() as patch:
        patch.setattr(broken.ledger.rows, "replace", lost)
        with pytest.raises(StoreError):
            await broken.ledger.record(added.number, sending)
    await other.ledger.record(added.number, sending)
    entry = await broken.ledger.read("a")
    assert entry is not None
    assert entry.state is JobState.SENDING, "it is the other's"
    await broken.end()
    await other.end()


@lived
async def test_the_end_of_a_first_submit_is_not_that_of_the_second() -> None:
    """Though one process made both: one was called uncertain, and a person had it sent again."""
    rows = MemoryRows()
    process = Process(FakeApi(), rows)
    number = (await process.jobs.add(job("a"))).number
    first, second = Hand(process.ledger), Hand(process.ledger)
    entry = await first.record(number, events.Sending(key="a", attempt=1))
    await process.ledger.doubt(entry)
    await process.jobs.settle("a", resubmit=True)
    await second.record(number, events.Sending(key="a", attempt=1))
    await first.record(number, events.NotSent(key="a", attempt=1, reason="dns"))
    open_now = await rows.read("a")
    assert open_now is not None
    assert open_now.state is JobState.SENDING, "nobody may send it a third time"
    await process.end()


# What stops every submit alike


@lived
async def test_an_empty_balance_is_waited_out() -> None:
    """The job stays queued, a try a minute is made, and it goes on once there is money."""
    is_empty = True

    def poor(_: int, __: Mapping[str, object]) -> Answer:
        return refusal(402, "Insufficient credits") if is_empty else None

    api = FakeApi(on_submit=poor)
    process = Process(api, MemoryRows())
    for key in "abc":
        await process.jobs.add(job(key))
    works = [process.carry(key) for key in "abc"]
    await asyncio.sleep(300)
    assert reason(process) is StopReason.BALANCE
    assert 4 <= len(api.submits) <= 18
    is_empty = False
    outcomes = await asyncio.gather(*works)
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.SUCCEEDED}
    assert len(api.billed) == 3
    await process.end()


@lived
async def test_a_job_that_one_process_cannot_submit_is_given_back() -> None:
    """After the time that it was given; the next process is better off."""
    api, rows = FakeApi(on_submit=lambda *_: refusal(401, "no")), MemoryRows()
    sick = Process(api, rows)
    await sick.jobs.add(job("a"))
    began = asyncio.get_running_loop().time()
    outcome = await sick.jobs.carry("a", leave_after=100)
    assert outcome.status is OutcomeStatus.NOT_STARTED
    assert 100 <= asyncio.get_running_loop().time() - began < 110
    api.on_submit = lambda *_: None
    well = Process(api, rows)
    assert (await well.jobs.carry("a", leave_after=100)).status is OutcomeStatus.SUCCEEDED
    await sick.end()
    await well.end()


@lived
async def test_a_refused_request_is_the_end_of_its_job() -> None:
    """It is no reason to stop the others."""
    api = FakeApi(on_submit=lambda number, _: refusal(400, "bad prompt") if number == 1 else None)
    process = Process(api, MemoryRows())
    for key in "ab":
        await process.jobs.add(job(key))
    assert (await process.jobs.carry("a")).status is OutcomeStatus.FAILED
    assert (await process.jobs.carry("b")).status is OutcomeStatus.SUCCEEDED
    assert (await process.jobs.carry("a")).status is OutcomeStatus.FAILED
    assert api.billed == ["b"]
    await process.end()


@lived
async def test_many_doubts_in_a_row_stop_all_submits_for_good() -> None:
    """Each of them may be billed: nothing more leaves until somebody has looked."""
    cut = UnansweredError("cut", host="api.test", reason="reset")
    api = FakeApi(on_submit=lambda *_: cut, accept_anyway=True)
    process = Process(api, MemoryRows())
    keys = [f"k{number}" for number in range(200)]
    for key in keys:
        await process.jobs.add(job(key))
    for key in keys:
        _ = process.carry(key)
    await asyncio.sleep(7200)
    assert reason(process) is StopReason.DOUBT
    assert len(api.billed) < 64 + 32
    await process.end()


@lived
async def test_cancelled_it_leaves_its_task_on_record() -> None:
    """Whoever carries it next follows it."""
    api, rows = FakeApi(latency=2.0), MemoryRows()
    process = Process(api, rows)
    work = await begun(process, "a")
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    await asyncio.sleep(5)
    entry = await rows.read("a")
    assert entry is not None
    assert entry.state is JobState.ACCEPTED
    assert (await process.jobs.carry("a")).status is OutcomeStatus.SUCCEEDED
    assert api.billed == ["a"]
    await process.end()


@lived
async def test_every_step_is_an_event() -> None:
    """Those of a batch; a hook that raises changes nothing."""
    told: list[str] = []

    def hook(event: events.Event) -> None:
        told.append(type(event).__name__)
        raise RuntimeError("the user's fault")

    process = Process(FakeApi(), MemoryRows())
    jobs = DurableJobs(process.client, process.ledger, on_event=hook)
    await jobs.add(job("a"))
    assert (await jobs.carry("a")).status is OutcomeStatus.SUCCEEDED
    assert told == ["Sending", "Accepted", "Succeeded"]
    assert isinstance(process.ledger, Ledger)
    assert SCHEDULE.deadline == 900.0
    await process.end()
