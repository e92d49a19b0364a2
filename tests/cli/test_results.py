from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    BadRequestError,
    ContentViolationError,
    DownloadError,
    Job,
    Outcome,
    OutcomeStatus,
    SavedFile,
    SubmitUncertainError,
    Task,
    TaskTimeoutError,
    TextToVideo,
    UnexpectedAnswerError,
)
from apixo_async.cli.results import (
    GROUPS_MAX,
    KEYS_SHOWN,
    OTHER_REASONS,
    Failures,
    failure_line,
    is_saved,
    outcome_as_json,
    reason_of,
)

TASK = Task(id="t1", model="veo-3-1-extend", state="failed", fail_code="X", fail_message="why")
GONE = DownloadError("gone", url="https://x.example/a", reason="gone")


def outcome(status: str, error: ApixoError | None = None, **more: Any) -> Outcome:  # noqa: ANN401  # its fields
    """An outcome of that status."""
    job = Job(TextToVideo("a"), key=more.pop("key", "k"))
    return Outcome(job=job, index=0, status=OutcomeStatus(status), error=error, **more)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ContentViolationError(TASK), "X: why"),
        (TaskTimeoutError(TASK, waited=9), "still running when we stopped waiting"),
        (GONE, "finished, but not saved (gone)"),
        (SubmitUncertainError(model="m", reason="HTTP 500"), "HTTP 500"),
        (UnexpectedAnswerError("x", task=TASK), "no usable result URL"),
        (ApixoError("odd"), "ApixoError: odd"),
        (None, "no reason given"),
    ],
)
def test_equal_failures_share_their_reason(error: ApixoError | None, reason: str) -> None:
    """A reason holds neither ids nor URLs, so that failures can be grouped by it."""
    assert reason_of(outcome("failed", error)) == reason


def test_a_failure_line_shows_the_way_back() -> None:
    """What is paid for comes with the command that fetches it."""
    timed_out = outcome("timed_out", TaskTimeoutError(TASK, waited=9), task=TASK)
    not_saved = outcome("succeeded", GONE, task=TASK)
    uncertain = SubmitUncertainError(model="m", reason="HTTP 500", candidate_task_id="t9")

    assert "apixo wait t1 --model veo-3-1-extend" in failure_line(timed_out)
    assert "apixo download t1 --model veo-3-1-extend" in failure_line(not_saved)
    assert failure_line(outcome("uncertain", uncertain)).endswith("may be task t9")


def test_a_failure_line_says_where_the_api_is() -> None:
    """Where that was said, or else the command would ask another one."""
    again = ("--base-url", "http://a")
    timed_out = outcome("timed_out", TaskTimeoutError(TASK, waited=9), task=TASK)
    not_saved = outcome("succeeded", GONE, task=TASK)

    for one in (timed_out, not_saved):
        line = failure_line(one, again)
        assert line.endswith("t1 --model veo-3-1-extend --base-url http://a")


@pytest.mark.parametrize(("width", "has_id"), [(None, True), (80, True), (79, False)])
def test_a_narrow_terminal_gets_no_id_of_what_failed(width: int | None, has_id: bool) -> None:
    """It would fill a line, and there is nothing more to fetch."""
    line = failure_line(outcome("failed", ContentViolationError(TASK), task=TASK), width=width)

    assert line.endswith("(task t1)" if has_id else "k: X: why")


def test_a_failure_line_says_that_a_candidate_was_denied() -> None:
    """Nobody has to look for it."""
    denied = SubmitUncertainError(
        model="m", reason="reset", candidate_task_id="t9", candidate_denied=True
    )

    assert failure_line(outcome("uncertain", denied)).endswith("t9, which the API does not know")


def test_an_uncertain_job_without_a_candidate_names_no_task() -> None:
    """Where no task can be meant, the line ends with the reason."""
    uncertain = SubmitUncertainError(model="m", reason="answered with the id of another task")

    assert failure_line(outcome("uncertain", uncertain)).endswith("id of another task")


def test_saved_is_only_a_success_without_an_error() -> None:
    """A success that lacks its files is not saved."""
    assert is_saved(outcome("succeeded"))
    assert not is_saved(outcome("succeeded", GONE))
    assert not is_saved(outcome("failed", GONE))


def test_failures_take_no_more_memory_than_a_few_groups() -> None:
    """However many reasons and keys there are, few are kept and all are counted."""
    failures = Failures()
    for number in range(1_000):
        error = BadRequestError(f"reason {number}")
        failures.add(outcome("failed", error, key=f"k{number}"))
        failures.add(outcome("failed", BadRequestError("often"), key=f"o{number}"))

    groups = failures.groups
    assert len(groups) <= GROUPS_MAX + 1
    assert sum(group.count for group in groups.values()) == 2_000
    often = reason_of(outcome("failed", BadRequestError("often")))
    assert groups["failed", often].keys == [f"o{n}" for n in range(KEYS_SHOWN)]
    assert groups["failed", often].advice == "change what the API refuses, then try again"
    assert not groups["failed", OTHER_REASONS].advice
    counts = [group.count for group in groups.values()]
    assert counts == sorted(counts, reverse=True)


def test_an_outcome_in_json_can_always_be_written() -> None:
    """Every field is there, files and error included, and the whole is JSON."""
    whole = outcome_as_json(
        outcome("succeeded", GONE, task=TASK, files=(SavedFile(Path("a.mp4"), 3, "ff"),))
    )

    assert json.loads(json.dumps(whole)) == whole
    assert whole["files"] == [{"path": "a.mp4", "size": 3, "sha256": "ff"}]
    assert whole["error"] == {"type": "DownloadError", "message": "gone", "reason": "gone"}


def test_an_outcome_without_a_task_in_json() -> None:
    """A job that never began has empty fields, not missing ones."""
    whole = outcome_as_json(outcome("not_started", ApixoError("stopped")))

    assert (whole["task_id"], whole["urls"], whole["files"]) == (None, [], [])
    assert whole["error"]["reason"] is None
