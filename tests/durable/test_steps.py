"""What a job of many processes needs next, and what of a late word is recorded."""

from datetime import UTC, datetime, timedelta

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, after
from apixo_async.durable.steps import Step, reconciled, step_of
from tests.batch.journal.jobs import (
    ACCEPTED,
    DONE,
    FAILED,
    REJECTED,
    SENDING,
    SUCCEEDED,
    UNCERTAIN,
    WAYS,
    K,
    job,
)

Q, S, A, U = JobState.QUEUED, JobState.SENDING, JobState.ACCEPTED, JobState.UNCERTAIN
OK, F, R, GONE = JobState.SUCCEEDED, JobState.FAILED, JobState.REJECTED, JobState.ABANDONED
NOT_SENT = events.NotSent(key=K, attempt=1, reason="dns")
IDENTIFIED = events.Identified(key=K, task_id="t1", attempt=1)
FAILED_TASK = events.Failed(key=K, task=FAILED, reason="no")
DENIED = events.Denied(key=K, task_id="t9")


def entry_in(state: JobState) -> Entry:
    """A job that came to this state on the usual way."""
    entry = Entry.new(1, job(K), at=datetime.now(UTC))
    for event in WAYS[state]:
        entry = after(entry, event)
    return entry


def submitted_again(state: JobState) -> Entry:
    """A job whose first submit was uncertain; somebody had it sent again, and so far it came."""
    entry = entry_in(U)
    entry = after(entry, events.Resubmitted(key=K, reason="decision"))
    if state is not Q:
        entry = after(entry, SENDING)
    if state is A:
        entry = after(entry, events.Accepted(key=K, task_id="t2", model="veo-3-1"))
    return entry


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (Q, Step.SUBMIT),
        (S, Step.LET_BE),
        (A, Step.FOLLOW),
        (U, Step.HEAR),
        (OK, Step.NOTHING),
        (F, Step.NOTHING),
        (R, Step.NOTHING),
        (GONE, Step.NOTHING),
    ],
)
def test_the_record_says_what_a_job_needs(state: JobState, step: Step) -> None:
    """Whoever takes it up goes by its state alone."""
    assert step_of(entry_in(state), patience=1e9) is step


@pytest.mark.parametrize(("age", "step"), [(74, Step.LET_BE), (76, Step.DOUBT)])
def test_a_submit_under_way_is_let_be_for_as_long_as_it_may_take(age: float, step: Step) -> None:
    """After that its process is taken for dead, and nobody can say what came of it."""
    began = datetime.now(UTC) - timedelta(seconds=age)
    entry = after(entry_in(Q), events.Sending(key=K, at=began, attempt=1))
    assert step_of(entry, patience=75.0) is step


SAME = "itself"
EVENTS: list[tuple[events.JobEvent, dict[JobState, str]]] = [
    (ACCEPTED, {S: SAME, U: "Identified", GONE: "Identified", Q: "CalledBack", R: "CalledBack"}),
    (IDENTIFIED, {S: "CalledBack", U: SAME, GONE: SAME, Q: "CalledBack", R: "CalledBack"}),
    (NOT_SENT, {S: SAME}),
    (REJECTED, {S: SAME}),
    (UNCERTAIN, {S: SAME}),
    (SUCCEEDED, {A: SAME}),
    (FAILED_TASK, {A: SAME}),
    (DENIED, {U: SAME}),
]


@pytest.mark.parametrize(("event", "told"), EVENTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("state", JobState)
def test_what_comes_late_is_recorded_as_far_as_it_is_news(
    event: events.JobEvent, told: dict[JobState, str], state: JobState
) -> None:
    """A task's id always, whatever others have said of its submit; the rest while it is open."""
    recorded = reconciled(entry_in(state), event, attempt=1)
    expected = told.get(state)
    if expected is None:
        assert recorded is None
    elif expected is SAME:
        assert recorded is event
    else:
        assert type(recorded).__name__ == expected
        assert getattr(recorded, "task_id", None) == "t1"


@pytest.mark.parametrize("event", [event for event, _ in EVENTS], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("state", JobState)
def test_what_is_to_be_recorded_can_be(event: events.JobEvent, state: JobState) -> None:
    """The record never refuses it."""
    entry = entry_in(state)
    told = reconciled(entry, event, attempt=1)
    assert told is None or after(entry, told) is not None


@pytest.mark.parametrize("state", [Q, S, A])
def test_the_first_submits_late_task_is_not_taken_for_the_seconds(state: JobState) -> None:
    """It is noted beside it: the job was paid for twice, or will be."""
    entry = submitted_again(state)
    told = reconciled(entry, ACCEPTED, attempt=1)
    assert isinstance(told, events.CalledBack)
    assert told.task_id == "t1"
    assert "t1" in (after(entry, told).note or "")
    assert after(entry, told).task_id == entry.task_id


@pytest.mark.parametrize("event", [NOT_SENT, REJECTED, UNCERTAIN], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("attempt", [None, 1])
def test_nobody_ends_the_submit_of_another(event: events.JobEvent, attempt: int | None) -> None:
    """What came of the first submit, or of none, says nothing of the second."""
    assert reconciled(submitted_again(S), event, attempt=attempt) is None


def test_the_end_of_another_task_is_not_the_jobs() -> None:
    """Only that of the task that the record names."""
    assert reconciled(submitted_again(A), SUCCEEDED, attempt=1) is None
    assert DONE.id == "t1"
