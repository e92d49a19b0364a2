"""What went wrong, with what it means and what to do."""

from __future__ import annotations

import pytest

from apixo_async import (
    ApixoError,
    DownloadError,
    Job,
    Outcome,
    OutcomeStatus,
    Task,
    TaskFailedError,
    TaskTimeoutError,
    TextToVideo,
)
from apixo_async.cli.reasons import OTHERS, REASONS_MAX, Reason, Reasons
from apixo_async.cli.results import outcome_advice

TASK = Task(id="t1", model="veo-3-1", state="processing")


def ended(status: OutcomeStatus, error: ApixoError | None, key: str = "k") -> Outcome:
    """A job that ended so."""
    return Outcome(job=Job(TextToVideo("a"), key=key), index=0, status=status, error=error)


def failed(code: str, key: str = "k") -> Outcome:
    """A job whose task failed with this code."""
    task = Task(id="t", model="veo-3-1", state="failed", fail_code=code)
    return ended(OutcomeStatus.FAILED, TaskFailedError(task), key)


def test_equal_reasons_are_one() -> None:
    """With their number and the key of the last."""
    reasons = Reasons()
    for outcome in (failed("X", "a"), failed("Y", "b"), failed("X", "c")):
        reasons.add(outcome)

    assert [(one.status, one.count, one.why, one.last) for one in reasons.latest] == [
        ("failed", 2, "X", "c"),
        ("failed", 1, "Y", "b"),
    ]


def test_memory_stays_small() -> None:
    """However many reasons there are, those beyond some are counted together."""
    reasons = Reasons()
    for number in range(REASONS_MAX + 5):
        reasons.add(failed(f"E{number}", f"k{number}"))

    assert reasons.latest[0] == Reason("failed", 5, OTHERS, "", f"k{REASONS_MAX + 4}")
    assert len(reasons.latest) == REASONS_MAX + 1


def test_a_video_that_is_done_and_not_saved_is_told() -> None:
    """A success without any fault is not, nor what never began."""
    reasons = Reasons()
    lost = DownloadError("gone", url="https://a/b", reason="gone")
    reasons.add(ended(OutcomeStatus.SUCCEEDED, lost))
    reasons.add(ended(OutcomeStatus.SUCCEEDED, None))
    reasons.add(ended(OutcomeStatus.NOT_STARTED, ApixoError("x")))

    (one,) = reasons.latest
    assert (one.status, one.why) == ("not saved", "finished, but not saved (gone)")
    assert "apixo download" in one.advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (None, ""),
        (TaskTimeoutError(TASK, waited=9), "its task goes on and is billed"),
        (TaskFailedError(TASK), "change the request"),
    ],
)
def test_what_to_do_names_no_job(error: ApixoError | None, advice: str) -> None:
    """It stands for all jobs of that reason."""
    assert outcome_advice(error).startswith(advice)
    assert "t1" not in outcome_advice(error)
