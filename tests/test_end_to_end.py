"""The whole of it over real HTTP: batches against the emulator, whose ledger is the judge."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from apixo_async import (
    ApixoClient,
    BatchReport,
    BatchRunner,
    Limits,
    OutcomeStatus,
    PollSchedule,
    Request,
    TextToVideo,
    Timeouts,
)
from apixo_async.emulator import Emulator, EmulatorSettings
from apixo_async.emulator.ledger import Ledger

SPEED = 240
"""A task of two minutes takes half a second."""
SCHEDULE = PollSchedule(first=90 / SPEED, interval=5 / SPEED, deadline=3)
PATIENT = attrs.evolve(SCHEDULE, deadline=40)
"""Pauses after a 429 are real seconds, which no emulator can shorten."""
IMPATIENT = Timeouts(submit=1.0, status=1.0)
"""For answers that take longer; a busy machine may make any answer one of those."""

SUCCEEDED, FAILED, UNCERTAIN = (
    OutcomeStatus.SUCCEEDED,
    OutcomeStatus.FAILED,
    OutcomeStatus.UNCERTAIN,
)
TIMED_OUT, NOT_STARTED = OutcomeStatus.TIMED_OUT, OutcomeStatus.NOT_STARTED


def prompts(count: int) -> list[Request]:
    """So many different requests."""
    return [TextToVideo(f"prompt {number}", mode="fast") for number in range(count)]


async def run_batch(
    count: int,
    faults: Mapping[str, float],
    *,
    save_to: Path | None = None,
    schedule: PollSchedule = PATIENT,
    timeout: Timeouts | None = None,
) -> tuple[BatchReport, Ledger]:
    """A batch on an emulator with these faults; its report and the server's own count."""
    settings = EmulatorSettings(speed=SPEED, seed=11, faults=faults, drip_seconds=5.0)
    limits = Limits(requests_per_minute=10_000 * SPEED)
    async with (
        Emulator(settings) as emulator,
        ApixoClient(
            emulator.api_key,
            base_url=emulator.base_url,
            schedule=schedule,
            limits=limits,
            timeout=timeout,
        ) as client,
    ):
        report = await BatchRunner(client, save_to=save_to).run(prompts(count))
        return report, emulator.ledger


async def test_a_batch_ends_with_playable_files_and_an_agreeing_ledger(tmp_path: Path) -> None:
    """300 jobs become 300 videos on disk, each billed once, without a 429 or a leaked key."""
    report, ledger = await run_batch(300, {}, save_to=tmp_path)

    files = sorted(tmp_path.iterdir())
    assert report.counts[SUCCEEDED] == 300
    assert len(files) == 300
    assert all(file.suffix == ".mp4" and file.read_bytes()[4:8] == b"ftyp" for file in files)
    assert ledger.billed_total == 300
    assert not ledger.billed_twice
    assert sum(ledger.throttled.values()) == 0
    assert ledger.files_asked_with_key == 0


HARMLESS = [
    "submit_429",
    "submit_429_retry_after",
    "status_429",
    "status_429_retry_after",
    "status_503",
    "status_502_html",
    "status_cut",
    "status_truncated_json",
    "status_error_in_200",
    "early_404",
    "processing_r2",
    "unknown_state",
    "missing_fields",
    "result_object",
    "short_download",
    "download_503",
    "download_html",
]


@pytest.mark.parametrize("fault", HARMLESS)
async def test_faults_that_cost_time_only(fault: str, tmp_path: Path) -> None:
    """With a fault of this kind now and then, every job succeeds, is saved, and is paid once."""
    report, ledger = await run_batch(25, {fault: 0.15}, save_to=tmp_path)

    assert report.counts[SUCCEEDED] == 25
    assert [outcome.error for outcome in report.outcomes if outcome.error is not None] == []
    assert ledger.billed_total == 25
    assert not ledger.billed_twice


# What a submit with this fault always ends as, and whether the server has billed it.
DECIDED = {
    "submit_503_before": (UNCERTAIN, 0),
    "submit_502_html_before": (UNCERTAIN, 0),
    "submit_502_html_after": (UNCERTAIN, 1),
    "submit_cut_before": (UNCERTAIN, 0),
    "submit_cut_after": (UNCERTAIN, 1),
    "submit_500_after": (UNCERTAIN, 1),
    "submit_drip_after": (UNCERTAIN, 1),
    "redirect_307": (UNCERTAIN, 0),
    "no_task_id": (UNCERTAIN, 1),
    "never_ending": (TIMED_OUT, 1),
    "failed_task": (FAILED, 1),
    "content_violation": (FAILED, 1),
    "invalid_image_url": (FAILED, 1),
    "result_broken": (FAILED, 1),
    "result_empty": (FAILED, 1),
}


@pytest.mark.parametrize(
    ("fault", "status", "billed"), [(name, *end) for name, end in DECIDED.items()]
)
async def test_faults_that_decide_the_outcome(
    fault: str, status: OutcomeStatus, billed: int
) -> None:
    """A fault of this kind ends every job in the stated outcome, and nothing is sent twice."""
    schedule = SCHEDULE if status is TIMED_OUT else PATIENT
    timeout = IMPATIENT if "drip" in fault else None
    report, ledger = await run_batch(3, {fault: 1.0}, schedule=schedule, timeout=timeout)

    assert [outcome.status for outcome in report.outcomes] == [status] * 3
    assert ledger.billed_total == 3 * billed
    assert max(ledger.submits_seen.values()) == 1


async def test_a_cut_answer_that_shows_the_task_id_is_saved() -> None:
    """Answers cut behind the task id lose nothing: the id is confirmed, the video collected."""
    report, ledger = await run_batch(5, {"submit_partial_after": 1.0})

    ends = {outcome.status for outcome in report.outcomes}
    assert ends <= {SUCCEEDED, UNCERTAIN}
    assert ledger.billed_total == 5
    assert max(ledger.submits_seen.values()) == 1


async def test_everything_at_once() -> None:
    """With every kind of fault mixed in, each job has an outcome and none is billed twice."""
    every = [*HARMLESS, *DECIDED, "submit_truncated_json_after", "error_in_200", "huge_body"]
    # These end the batch or the clock's patience; they have tests of their own.
    every = [name for name in every if name not in {"error_in_200", "never_ending"}]
    report, ledger = await run_batch(400, dict.fromkeys(every, 0.02), timeout=IMPATIENT)

    assert len(report.outcomes) == 400
    assert not ledger.billed_twice
    paid = {prompt for prompt, count in ledger.billed.items() if count}
    for outcome in report.outcomes:
        prompt = outcome.job.request.prompt  # type: ignore[union-attr]  # all are texts
        if outcome.status in {SUCCEEDED, TIMED_OUT}:
            assert prompt in paid
        if outcome.status is NOT_STARTED:
            assert prompt not in paid
    unseen = paid - {
        outcome.job.request.prompt  # type: ignore[union-attr]  # all are texts
        for outcome in report.outcomes
        if outcome.status in {SUCCEEDED, FAILED, TIMED_OUT, UNCERTAIN}
    }
    assert not unseen, "nothing was paid for without an outcome that says so"


@pytest.mark.parametrize("way", ["400", "200", "402"])
async def test_an_empty_balance_stops_with_what_runs_collected(way: str) -> None:
    """However the API words it, an empty balance stops the batch and loses nothing."""
    settings = EmulatorSettings(speed=SPEED, balance=1.0, insufficient_as=way)  # type: ignore[arg-type]
    async with (
        Emulator(settings) as emulator,
        ApixoClient(emulator.api_key, base_url=emulator.base_url, schedule=PATIENT) as client,
    ):
        report = await BatchRunner(client).run(prompts(60))

    assert report.stopped == "balance"
    assert report.counts[SUCCEEDED] == emulator.ledger.billed_total == 5
    assert report.counts[NOT_STARTED] == 55
