"""What is to be done about a job in doubt that a run finds."""

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, is_to_submit_again, open_candidate
from apixo_async.batch.journal.history import after
from apixo_async.batch.journal.leftovers import doubt_after_crash
from tests.batch.journal.jobs import SENDING, UNCERTAIN, WAYS, K, job

PLAIN = events.Uncertain(key=K, reason="reset", phase="sent")
AT_ONCE = events.Uncertain(
    key=K, reason="reset", phase="answer", candidate_task_id="t9", candidate_denied=True
)
DENIED = events.Denied(key=K, task_id="t9")
CALLED_BACK = events.CalledBack(key=K, attempt=1, task_id="t8")


def came(*way: events.JobEvent) -> Entry:
    """A job that this has happened to."""
    entry = Entry.new(1, job(), at=SENDING.at)
    for event in way:
        entry = after(entry, event)
    return entry


@pytest.mark.parametrize(
    ("doubt", "candidate", "again"),
    [
        ((PLAIN,), None, True),
        ((UNCERTAIN,), "t9", False),
        ((UNCERTAIN, DENIED), None, True),
        ((AT_ONCE,), None, True),
        ((PLAIN, CALLED_BACK), None, False),
        ((UNCERTAIN, DENIED, CALLED_BACK), None, False),
        ((UNCERTAIN, CALLED_BACK), "t9", False),
    ],
    ids=[
        "nothing is known",
        "a candidate",
        "a candidate that was denied",
        "a candidate that was denied at once",
        "called back",
        "denied, and called back",
        "a candidate, and called back",
    ],
)
def test_only_what_is_not_named_is_submitted_again(
    doubt: tuple[events.JobEvent, ...], candidate: str | None, again: bool
) -> None:
    """Neither by an answer that the API has not denied, nor by a callback."""
    entry = came(SENDING, *doubt)

    assert open_candidate(entry) == candidate
    assert is_to_submit_again(entry, policy="resubmit") is again
    assert not is_to_submit_again(entry, policy="keep")


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.UNCERTAIN], ids=str)
def test_only_an_uncertain_job_has_a_candidate(state: JobState) -> None:
    """What is settled is not asked about."""
    assert open_candidate(came(*WAYS[state])) is None


def test_a_record_of_an_older_version_is_open() -> None:
    """It does not say whether the API was asked."""
    entry = came(SENDING, UNCERTAIN)

    assert "candidate_denied" not in entry.why()
    assert open_candidate(entry) == "t9"


@pytest.mark.parametrize("state", JobState, ids=str)
def test_only_a_submit_that_was_on_its_way_is_in_doubt_after_a_crash(state: JobState) -> None:
    """All other states say by themselves what came of the job."""
    doubt = doubt_after_crash(came(*WAYS[state]))

    assert (doubt is not None) is (state is JobState.SENDING)
    assert doubt is None or doubt.phase == "crash"
