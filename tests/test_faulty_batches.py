"""Thousands of jobs with every fault at once: journal and ledger must say the same in the end."""

import json
from collections import Counter
from pathlib import Path

import pytest

from apixo_async import ApixoClient, BatchRunner, Job, Limits, PollSchedule, TextToVideo, Timeouts
from apixo_async.batch.journal import Entry, JobState, Journal, JournalReader
from apixo_async.emulator import FAULTS, EmulatorSettings
from apixo_async.testing import EmulatorThread
from tests.thorough import at_most

SPEED = 240
ROUNDS = 60
"""The balance is empty now and then, which stops a batch; it is resumed so often at most."""
SCHEDULE = PollSchedule(first=90 / SPEED, interval=5 / SPEED, deadline=60)
"""On the emulator's clock, too; the one that learns never looks twice a second."""
NEVER_SEEN = {"never_ending"}
"""Its tasks keep their slots, so that with many of them a batch would wait for slots alone."""
SELDOM = {fault for fault in FAULTS if "429" in fault} | {"error_in_200", "status_error_in_200"}
"""Some of these end a run, the others pause everybody, in seconds that no emulator speeds up."""

NO_TASK = {JobState.QUEUED, JobState.REJECTED}
ONE_TASK = {JobState.ACCEPTED, JobState.SUCCEEDED, JobState.FAILED}


def client_of(emulator: EmulatorThread) -> ApixoClient:
    """A client on the emulator's clock, whose patience with pauses is in real seconds."""
    return ApixoClient(
        emulator.api_key,
        base_url=emulator.base_url,
        schedule=SCHEDULE,
        limits=Limits(requests_per_minute=10_000 * SPEED),
        timeout=Timeouts(submit=1.0, status=1.0),
    )


async def run_to_the_end(emulator: EmulatorThread, db: Path, videos: Path, jobs: list[Job]) -> int:
    """Runs the batch and resumes it until nothing is left to submit; how many runs it took."""
    for run in range(1, ROUNDS):
        async with client_of(emulator) as client:
            runner = BatchRunner(client, journal=db, save_to=videos, schedule=SCHEDULE)
            report = await (runner.run(jobs) if run == 1 else runner.resume())
        if report.stopped is None:
            return run
    pytest.fail(f"not done after {ROUNDS} runs")


async def entries(db: Path) -> list[Entry]:
    """All jobs of the journal."""
    journal = await Journal.open(db)
    try:
        return [entry async for entry in journal.entries(*JobState)]
    finally:
        await journal.aclose()


def prompt_of(entry: Entry) -> str:
    """What was asked for."""
    prompt: str = json.loads(entry.request)["input"]["prompt"]
    return prompt


async def check(emulator: EmulatorThread, db: Path, videos: Path, count: int) -> None:
    """Every job in a stated outcome; nothing billed but what the journal knows, and that once."""
    found = await entries(db)
    ledger = emulator.ledger
    states = Counter(entry.state for entry in found)
    assert len(found) == count
    assert set(states) <= ONE_TASK | {JobState.REJECTED, JobState.UNCERTAIN}
    for entry in found:
        billed = ledger.billed[prompt_of(entry)]
        if entry.state in NO_TASK:
            assert (billed, entry.charges) == (0, 0), entry
        elif entry.state in ONE_TASK:
            assert (billed, entry.charges) == (1, 1), entry
        else:
            assert billed <= entry.charges == 1, entry
    assert not ledger.billed_twice
    unclear = sum(ledger.billed[prompt_of(e)] for e in found if e.state is JobState.UNCERTAIN)
    assert ledger.billed_total == sum(states[state] for state in ONE_TASK) + unclear
    with JournalReader(db) as reader:
        overview = reader.overview()
    assert overview.total == count == sum(overview.counts.values())
    assert overview.charges == sum(entry.charges for entry in found)
    saved = [entry for entry in found if entry.saved]
    assert len(list(videos.iterdir())) >= len(saved) > count // 4


SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("count", "rate"),
    [
        (300, 0.01),
        pytest.param(at_most(1_000, 5_000), 0.05, marks=SLOW),
    ],
)
async def test_with_every_fault_at_once_the_journal_says_what_was_billed(
    count: int, rate: float, tmp_path: Path
) -> None:
    """However much goes wrong: totals add up, and no prompt is billed but as the journal says."""
    faults = dict.fromkeys(FAULTS.keys() - NEVER_SEEN, rate)
    for fault in SELDOM:
        faults[fault] = 0.01
    settings = EmulatorSettings(speed=SPEED, seed=4, faults=faults, drip_seconds=2.0)
    jobs = [Job(TextToVideo(f"prompt {n}", mode="fast"), key=f"k{n}") for n in range(count)]
    db, videos = tmp_path / "run.db", tmp_path / "videos"
    with EmulatorThread(settings) as emulator:
        runs = await run_to_the_end(emulator, db, videos, jobs)

        assert runs >= 1
        await check(emulator, db, videos, count)
