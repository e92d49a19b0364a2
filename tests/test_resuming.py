"""Batches with a journal over real HTTP: going on, guards, decisions; the ledger is the judge."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import attrs
import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    InvalidRequestError,
    Job,
    JournalError,
    Limits,
    Outcome,
    OutcomeStatus,
    PollSchedule,
    StopReason,
    Task,
    TextToVideo,
)
from apixo_async.batch import events, feeding
from apixo_async.batch.carrying import Carrier
from apixo_async.batch.journal import JobState, Journal
from apixo_async.batch.story import Story
from apixo_async.emulator import Emulator, EmulatorSettings
from apixo_async.errors import InvalidSettingError

SPEED = 240
SCHEDULE = PollSchedule(first=90 / SPEED, interval=5 / SPEED, deadline=45)
SUCCEEDED, FAILED = OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED
UNCERTAIN, NOT_STARTED = OutcomeStatus.UNCERTAIN, OutcomeStatus.NOT_STARTED


def jobs(count: int, *, mode: Literal["fast", "quality"] = "fast") -> list[Job]:
    """So many jobs with the keys k0, k1, ..."""
    return [Job(TextToVideo(f"prompt {n}", mode=mode), key=f"k{n}") for n in range(count)]


@asynccontextmanager
async def emulated(**faults: float) -> AsyncGenerator[Emulator]:
    """An emulator whose tasks take half a second."""
    async with Emulator(EmulatorSettings(speed=SPEED, seed=3, faults=faults)) as emulator:
        yield emulator


def client_of(emulator: Emulator) -> ApixoClient:
    """A client on the emulator's clock."""
    return ApixoClient(
        emulator.api_key,
        base_url=emulator.base_url,
        schedule=SCHEDULE,
        limits=Limits(requests_per_minute=10_000 * SPEED),
    )


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where the journal of a test is."""
    return tmp_path / "run.db"


async def states(path: Path) -> Mapping[JobState, int]:
    """What the journal says of its jobs."""
    journal = await Journal.open(path)
    try:
        return dict(journal.counts())
    finally:
        await journal.aclose()


async def test_the_same_input_with_the_same_journal_is_paid_once(db: Path) -> None:
    """The second run gives the same outcomes without a single submit."""
    async with emulated() as emulator:
        async with client_of(emulator) as client:
            first = await BatchRunner(client, journal=db).run(jobs(20))
        async with client_of(emulator) as client:
            second = await BatchRunner(client, journal=db).run(jobs(20))

        assert emulator.ledger.billed_total == 20
    assert second.urls == first.urls
    assert [outcome.status for outcome in second.outcomes] == [SUCCEEDED] * 20
    assert [outcome.job for outcome in second.outcomes] == jobs(20)


async def test_a_longer_input_only_pays_for_what_is_new(db: Path) -> None:
    """A journal may be used for an input that has grown."""
    async with emulated() as emulator, client_of(emulator) as client:
        await BatchRunner(client, journal=db).run(jobs(5))
        report = await BatchRunner(client, journal=db).run(iter(jobs(8)))

        assert emulator.ledger.billed_total == 8
    assert [outcome.key for outcome in report.outcomes] == [f"k{n}" for n in range(8)]


async def test_a_key_with_another_request_sends_nothing_and_shows_both(db: Path) -> None:
    """The whole input is refused, not only the jobs from there on."""
    changed = [*jobs(3), Job(TextToVideo("another prompt"), key="k3")]
    async with emulated() as emulator, client_of(emulator) as client:
        await BatchRunner(client, journal=db).run([Job(TextToVideo("a first prompt"), key="k3")])
        with pytest.raises(InvalidRequestError, match=r"a first prompt.*another prompt"):
            await BatchRunner(client, journal=db).run(changed)

        assert emulator.ledger.billed_total == 1
    assert await states(db) == {JobState.SUCCEEDED: 1}


@pytest.mark.parametrize("is_lazy", [False, True], ids=["list", "iterator"])
async def test_a_cancelled_run_is_resumed_from_the_journal_alone(db: Path, is_lazy: bool) -> None:
    """Running tasks are waited for, nothing is submitted twice; an iterator is as far as it got."""
    async with emulated() as emulator:
        async with client_of(emulator) as client:
            accepted = asyncio.Event()
            wanted: Iterator[Job] | list[Job] = iter(jobs(30)) if is_lazy else jobs(30)

            def note(event: events.Event) -> None:
                if isinstance(event, events.Accepted):
                    accepted.set()

            runner = BatchRunner(client, journal=db, on_event=note)
            running = asyncio.create_task(runner.run(wanted))
            await accepted.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with client_of(emulator) as client:
            runner = BatchRunner(client, journal=db)
            report = await runner.resume()

        assert not emulator.ledger.billed_twice
        assert emulator.ledger.billed_total == len(report.outcomes)
    assert {outcome.status for outcome in report.outcomes} == {SUCCEEDED}
    if not is_lazy:
        assert len(report.outcomes) == 30


async def test_finished_videos_whose_files_are_missing_are_downloaded(
    db: Path, tmp_path: Path
) -> None:
    """A file that was removed comes back, and nothing is generated for it."""
    videos = tmp_path / "videos"
    async with emulated() as emulator, client_of(emulator) as client:
        await BatchRunner(client, journal=db).run(jobs(3))
        first = await BatchRunner(client, journal=db, save_to=videos).resume()
        (videos / "k1.mp4").unlink()
        again = await BatchRunner(client, journal=db, save_to=videos).run(jobs(3))

        assert emulator.ledger.billed_total == 3
    assert len(first.outcomes) == 3
    assert {str(path.name) for path in videos.iterdir()} == {"k0.mp4", "k1.mp4", "k2.mp4"}
    assert [len(outcome.files) for outcome in again.outcomes] == [1, 1, 1]


async def test_an_uncertain_job_stays_uncertain_until_somebody_decides(db: Path) -> None:
    """It is an outcome of every run, and never sent again by itself."""
    async with emulated() as emulator, client_of(emulator) as client:
        emulator.set_faults({"submit_cut_after": 1.0})
        first = await BatchRunner(client, journal=db).run(jobs(2))
        emulator.set_faults({})
        second = await BatchRunner(client, journal=db).resume()

        assert max(emulator.ledger.submits_seen.values()) == 1
    assert [outcome.status for outcome in (*first.outcomes, *second.outcomes)] == [UNCERTAIN] * 4


async def test_the_policy_to_resubmit_sends_uncertain_jobs_again(db: Path) -> None:
    """Who allows it gets every video, and may pay twice."""
    async with emulated() as emulator, client_of(emulator) as client:
        emulator.set_faults({"submit_cut_after": 1.0})
        await BatchRunner(client, journal=db).run(jobs(2))
        emulator.set_faults({})
        report = await BatchRunner(client, journal=db, uncertain="resubmit").resume()

        assert len(emulator.ledger.billed_twice) == 2
    assert [outcome.status for outcome in report.outcomes] == [SUCCEEDED] * 2


async def test_max_cost_is_never_passed_also_over_several_runs(db: Path) -> None:
    """What earlier runs submitted counts; the first job that does not fit ends the batch."""
    prices = {"fast": "0.20"}
    async with emulated() as emulator, client_of(emulator) as client:
        first = await BatchRunner(client, journal=db, max_cost=1, prices=prices).run(jobs(12))
        second = await BatchRunner(client, journal=db, max_cost="1.3", prices=prices).resume()

        assert emulator.ledger.billed_total == 6
    assert first.stopped is second.stopped is StopReason.BUDGET
    assert first.counts[SUCCEEDED] == 5
    assert second.counts == {**dict.fromkeys(OutcomeStatus, 0), SUCCEEDED: 1, NOT_STARTED: 6}


async def test_a_cap_without_a_price_is_refused_before_anything_is_sent(db: Path) -> None:
    """The error names what has no price, also where that comes late in a list."""
    late = [*jobs(5), Job(TextToVideo("at the end", mode="quality"), key="last")]
    async with emulated() as emulator, client_of(emulator) as client:
        for journal in (db, None):
            runner = BatchRunner(client, journal=journal, max_cost=9, prices={"fast": 0.2})
            with pytest.raises(InvalidSettingError, match="quality"):
                await runner.run(late)

        assert emulator.ledger.submits_seen.total() == 0


async def test_a_repeat_that_does_not_fit_under_the_cap_leaves_the_job_failed(db: Path) -> None:
    """What was paid for is told as it ended, not as if it had never begun."""
    async with emulated(failed_task=1.0) as emulator, client_of(emulator) as client:
        runner = BatchRunner(
            client,
            journal=db,
            max_cost="0.2",
            prices={"fast": "0.2"},
            retry_codes=["GENERATION_FAILED"],
        )
        report = await runner.run(jobs(1))

        assert emulator.ledger.billed_total == 1
    assert [outcome.status for outcome in report.outcomes] == [FAILED]
    assert await states(db) == {JobState.FAILED: 1}


async def test_missing_files_are_fetched_a_few_at_a_time(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, only a bounded number of jobs is carried on at once."""
    monkeypatch.setattr(feeding, "BACKLOG", 2)
    async with emulated() as emulator, client_of(emulator) as client:
        await BatchRunner(client, journal=db).run(jobs(40))
        most = 0
        saving = Carrier.carry_on

        async def carry_on(self: Carrier, story: Story, task: Task) -> Outcome:
            nonlocal most
            most = max(most, sum("_carried" in repr(task) for task in asyncio.all_tasks()))
            return await saving(self, story, task)

        monkeypatch.setattr(Carrier, "carry_on", carry_on)
        few = attrs.evolve(client.engine.gate.limits, concurrent_tasks=3)
        monkeypatch.setattr(client.engine.gate, "limits", few)
        report = await BatchRunner(client, journal=db, save_to=tmp_path / "videos").resume()

    assert len(report.outcomes) == 40
    assert all(outcome.files for outcome in report.outcomes)
    assert 0 < most <= 5


async def test_a_journal_in_use_names_its_owner(db: Path) -> None:
    """A second runner is refused, whichever process it is in."""
    async with emulated() as emulator, client_of(emulator) as client:
        other = BatchRunner(client, journal=db)
        async with BatchRunner(client, journal=db).stream(jobs(1)):
            refused = pytest.raises(JournalError, match=r"in use by process \d+")
            with refused:
                await other.run(jobs(1))


async def test_a_journal_that_is_not_there_cannot_be_resumed(db: Path) -> None:
    """A wrong path is said so, and no file is made."""
    async with emulated() as emulator, client_of(emulator) as client:
        with pytest.raises(JournalError, match="no journal"):
            await BatchRunner(client, journal=db).resume()

    assert not db.exists()


async def test_a_failed_task_is_generated_again_only_where_its_code_was_named(db: Path) -> None:
    """Each repeat costs money, so nothing is repeated by itself, and no job without end."""
    async with emulated(failed_task=1.0) as emulator, client_of(emulator) as client:
        await BatchRunner(client, journal=db).run(jobs(2))
        more = [Job(TextToVideo("one more"), key="more")]
        codes = ["GENERATION_FAILED"]
        report = await BatchRunner(client, journal=db, retry_codes=codes, retries=2).run(more)

        assert emulator.ledger.billed_total == 2 + 3
    assert [outcome.status for outcome in report.outcomes] == [FAILED]


async def test_a_content_violation_is_never_generated_again(db: Path) -> None:
    """The same prompt would be refused again, so naming its code changes nothing."""
    async with emulated(content_violation=1.0) as emulator, client_of(emulator) as client:
        codes = ["CONTENT_VIOLATION"]
        await BatchRunner(client, journal=db, retry_codes=codes, retries=2).run(jobs(2))

        assert emulator.ledger.billed_total == 2
