from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from apixo_async import (
    ApixoError,
    AuthenticationError,
    ContentViolationError,
    Job,
    Limits,
    Outcome,
    OutcomeStatus,
    SubmitUncertainError,
    Task,
    TextToVideo,
)
from apixo_async.cli.leftovers import Leftovers
from apixo_async.cli.progress import OpenJob
from apixo_async.cli.results import Failures
from apixo_async.cli.running import stopping_lines
from apixo_async.cli.summary import LedgerExtract, Summary

TASK = Task(id="t1", model="veo-3-1", state="failed", fail_code="X", fail_message="why")
LEFT = (OpenJob("k1", task_id="t1", model="veo-3-1"), OpenJob("k2", task_id="t2", model="other"))


@pytest.mark.parametrize(
    ("ended", "left", "not_started"),
    [
        ({"succeeded": 10}, (), 0),
        ({"succeeded": 3, "not_started": 7}, (), 7),
        ({"succeeded": 3}, LEFT, 5),
        ({}, (), 10),
    ],
)
def test_totals_reconcile(
    ended: dict[str, int], left: tuple[OpenJob, ...], not_started: int
) -> None:
    """Whatever ended the batch, each job is in exactly one total."""
    counts = Summary(jobs=10, ended=ended, left=Leftovers(left)).counts

    assert sum(counts.values()) == 10
    assert counts["not_started"] == not_started


def test_left_tasks_come_with_their_commands() -> None:
    """Each task left behind is named with the command to wait for it, its model included."""
    lines = list(Summary(jobs=2, ended={}, left=Leftovers(LEFT), signal="SIGINT").lines())

    assert "interrupted by SIGINT" in lines
    assert "  k1  apixo wait t1" in lines
    assert "  k2  apixo wait t2 --model other" in lines


def test_tasks_of_an_emulator_cannot_be_fetched_later() -> None:
    """Where the emulator ends with the batch, no command is offered that could not work."""
    text = "\n".join(Summary(jobs=2, ended={}, left=Leftovers(LEFT), is_emulated=True).lines())

    assert "2 tasks still running, gone with the emulator" in text
    assert "apixo wait" not in text


def test_a_stop_says_why_and_what_to_do() -> None:
    """The reason, the API's own words and the advice are shown."""
    error = AuthenticationError("Invalid key")
    text = "\n".join(Summary(jobs=1, ended={}, stopped="key", stop_error=error).lines())

    assert "stopped early because the API refused the key: Invalid key" in text
    assert "APIXO_API_KEY" in text


def test_a_summary_in_json_has_every_total() -> None:
    """Programs find all totals, also those that are zero, and the tasks left behind."""
    whole = Summary(jobs=3, ended={"succeeded": 1}, left=Leftovers(LEFT)).as_json()

    assert json.loads(json.dumps(whole)) == whole
    assert (whole["failed"], whole["still_running"]) == (0, 2)
    assert [job["task_id"] for job in whole["left_behind"]] == ["t1", "t2"]


def test_the_ledger_is_shown_beside_the_limits() -> None:
    """Of an emulator's ledger the numbers appear that tell whether all went well."""
    ledger = {
        "billed_total": 200,
        "billed_twice": ["a"],
        "throttled": {"rate": 1, "concurrency": 2, "injected": 0},
        "peak_requests_per_window": 1_234,
        "peak_unfinished": 50,
    }

    first, second = LedgerExtract.of(ledger).lines(Limits())

    assert first == "emulator: 200 tasks billed, 1 prompt billed twice, 3 answered 429"
    words = "busiest minute 1,234 of 10,000 requests, at most 50 of 1,000 tasks unfinished"
    assert second.strip() == words


def test_more_than_was_expected_is_no_less_than_nothing() -> None:
    """The total is what was told and what is left."""
    summary = Summary(jobs=1, ended={"succeeded": 3}, left=Leftovers(LEFT))

    assert summary.counts["not_started"] == 0
    assert next(iter(summary.lines())).startswith("5 jobs = 3 succeeded")
    assert summary.as_json()["jobs"] == 5


def test_results_that_are_gone_are_nothing_to_go_on_with() -> None:
    """Trying again would say the same for ever."""
    lost = Summary(jobs=2, ended={"succeeded": 2}, journal=Path("r.db"), not_saved=2, gone=2)

    assert lost.resume_command is None
    assert attrs.evolve(lost, gone=1).resume_command == "apixo resume r.db"


@pytest.mark.parametrize(
    ("unanswered", "journal", "is_failing", "said"),
    [
        (3, None, False, ["stopping; waiting for 3 submits to be answered; once more"]),
        (
            1,
            Path("-r.db"),
            False,
            [
                "stopping; waiting for 1 submit to be answered and recorded; once more",
                "go on with: apixo resume ./-r.db",
            ],
        ),
        (0, None, False, ["stopping; no submit is on its way"]),
        (2, None, True, ["stopping; waiting until the journal can be written: make room"]),
    ],
)
def test_a_stop_says_what_it_waits_for(
    unanswered: int, journal: Path | None, is_failing: bool, said: list[str]
) -> None:
    """And how to go on, because a second signal ends everything at once."""
    lines = list(stopping_lines(unanswered, journal=journal, is_journal_failing=is_failing))

    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_the_advice_about_doubts_stands_below_them() -> None:
    """However many failures of other kinds there are."""
    failures = Failures()
    job = Job(TextToVideo("a"), key="a")
    error = SubmitUncertainError(model="m", reason="lost")
    failures.add(Outcome(job=job, index=0, status=OutcomeStatus.UNCERTAIN, error=error))
    for _ in range(2):
        failures.add(
            Outcome(job=job, index=0, status=OutcomeStatus.FAILED, error=ApixoError("other"))
        )
    summary = Summary(jobs=3, ended={"uncertain": 1, "failed": 2}, failures=failures)

    starts = [line.split()[0] for line in summary.lines()]

    assert starts[-3:] == ["uncertain:", "a", "Nobody"]


AGAIN = ("--base-url", "http://a:1")


def test_where_the_api_is_is_said_again() -> None:
    """A command that goes on would else be sent, with the key, somewhere else."""
    whole = Summary(jobs=2, ended={}, journal=Path("r.db"), again=AGAIN, stopped="budget")
    left = Summary(jobs=2, ended={}, left=Leftovers(LEFT), again=AGAIN)
    stopping = stopping_lines(0, journal=Path("r.db"), is_journal_failing=False, again=AGAIN)

    assert whole.resume_command == "apixo resume r.db --base-url http://a:1 --max-cost USD"
    assert whole.as_json()["resume"] == whole.resume_command
    assert "  k2  apixo wait t2 --model other --base-url http://a:1" in left.lines()
    assert "go on with: apixo resume r.db --base-url http://a:1" in stopping


def test_failures_come_with_what_to_do() -> None:
    """Once for each reason; about doubts more is said below."""
    failures = Failures()
    for key in "ab":
        failures.add(failed(key, ContentViolationError(TASK), OutcomeStatus.FAILED))
    doubt = SubmitUncertainError(model="m", reason="reset")
    failures.add(failed("c", doubt, OutcomeStatus.UNCERTAIN))
    lines = list(Summary(jobs=3, ended={"failed": 2}, failures=failures).lines())
    at = lines.index("failed: 2 x X: why")

    assert lines[at + 1 : at + 3] == [
        "  a, b",
        "  what to do: change the prompt: the same one would be refused again",
    ]
    assert sum("what to do" in line for line in lines) == 1


def failed(key: str, error: ApixoError, status: OutcomeStatus) -> Outcome:
    """A job that ended so."""
    return Outcome(job=Job(TextToVideo("a"), key=key), index=0, status=status, error=error)
