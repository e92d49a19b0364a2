import json
from typing import Final, get_args

import attrs
import pytest

from apixo_async.batch import events
from apixo_async.batch.journal.entries import ENDED, Entry, JobState
from apixo_async.batch.journal.history import IDS_MAX, after, can_follow, event_row
from apixo_async.errors import JournalError
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

EVENTS: list[events.JobEvent] = [
    events.Queued(key=K, index=1, model="veo-3-1"),
    SENDING,
    events.NotSent(key=K, attempt=1, reason="dns"),
    ACCEPTED,
    REJECTED,
    attrs.evolve(REJECTED, is_final=False),
    UNCERTAIN,
    SUCCEEDED,
    events.Failed(key=K, task=FAILED, reason="no"),
    events.TimedOut(key=K, task=DONE, reason="late"),
    events.Naming(key=K, path="a", size=1, sha256="ab"),
    events.Saved(key=K, path="a", size=1, sha256="ab"),
    events.AllSaved(key=K),
    events.SaveFailed(key=K, reason="full"),
    events.Resubmitted(key=K, reason="settled"),
    events.Abandoned(key=K),
    events.CalledBack(key=K, attempt=1),
    events.Denied(key=K, task_id="t9"),
    events.Identified(key=K, task_id="t7"),
    events.NotStarted(key=K, reason="stopped"),
]

FOLLOWS: dict[str, dict[JobState, JobState]] = {
    "Sending": {Q: S},
    "NotSent": {S: Q},
    "Accepted": {S: A},
    "Rejected": {S: R},
    "Rejected for all": {S: Q},
    "Uncertain": {S: U},
    "Succeeded": {A: OK},
    "Failed": {A: F},
    "AllSaved": {OK: OK},
    "Resubmitted": {U: Q, F: Q, R: Q, GONE: Q},
    "Abandoned": {U: GONE, A: GONE},
    "Denied": {U: U},
    "Identified": {U: A, GONE: A},
}
"""By event, the states it may come in and the state that follows; all others are refused."""
ONLY_TOLD = {"Queued", "TimedOut", "Naming", "Saved", "SaveFailed", "NotStarted", "CalledBack"}
"""Events that change no state and may come in any."""


def name_of(event: events.JobEvent) -> str:
    """The event as the table calls it."""
    name = type(event).__name__
    return f"{name} for all" if getattr(event, "is_final", True) is False else name


def in_state(state: JobState) -> Entry:
    """A job that came into this state as jobs do."""
    entry = Entry.new(1, job(), at=SENDING.at)
    for event in WAYS[state]:
        entry = after(entry, event)
    assert entry.state is state
    return entry


def test_the_table_knows_every_event() -> None:
    """No event can be added without saying what follows it."""
    assert {type(event) for event in EVENTS} == set(get_args(events.JobEvent))
    assert {name_of(event) for event in EVENTS} == FOLLOWS.keys() | ONLY_TOLD


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_what_follows_in_each_state(event: events.JobEvent, state: JobState) -> None:
    """An event leads to the one state of the table, and is refused where the table has none."""
    entry, name = in_state(state), name_of(event)
    if name in ONLY_TOLD:
        assert after(entry, event) is entry
    elif state in FOLLOWS[name]:
        assert after(entry, event).state is FOLLOWS[name][state]
    else:
        with pytest.raises(JournalError, match=f"'k' is {state}; .* cannot follow"):
            after(entry, event)


@pytest.mark.parametrize("state", [state for state in JobState if state is not Q], ids=str)
def test_only_a_queued_job_is_sent(state: JobState) -> None:
    """Whatever was sent before is not sent again until somebody decides so."""
    with pytest.raises(JournalError):
        after(in_state(state), SENDING)


@pytest.mark.parametrize(("state", "charges"), [(Q, 0), (S, 0), (A, 1), (U, 1), (R, 0), (GONE, 1)])
def test_what_may_be_billed_is_counted(state: JobState, charges: int) -> None:
    """A task that exists costs, one that may exist may have cost; a refusal costs nothing."""
    assert in_state(state).charges == charges


def test_a_charge_is_counted_once_for_a_task_found_later() -> None:
    """The id of an uncertain job's task is no second bill; a second submit is."""
    uncertain = in_state(U)
    found = after(uncertain, events.Identified(key=K, task_id="t7"))
    queued = after(uncertain, events.Resubmitted(key=K, reason="policy"))
    again = after(after(queued, SENDING), ACCEPTED)

    assert (found.charges, found.task_id, found.accepted_at) == (1, "t7", uncertain.sending_at)
    assert (again.charges, again.attempts) == (2, 2)


KEPT: dict[JobState, dict[str, object]] = {
    U: {"other_task_ids": ["t9"], "doubted_attempts": 1},
    GONE: {"other_task_ids": ["t9"]},
    F: {"past_task_ids": ["t1"]},
    R: {},
}
"""By state, what stays noted when the job is submitted again."""


@pytest.mark.parametrize("state", [U, F, R, GONE], ids=str)
def test_a_job_submitted_anew_has_forgotten_its_task(state: JobState) -> None:
    """What is known of the first task does not stick to the second; the bill does."""
    before = in_state(state)
    entry = after(before, events.Resubmitted(key=K, reason="settled"))

    assert (entry.task_id, entry.task, entry.ended_at) == (None,) * 3
    assert entry.why() == KEPT[state]
    assert entry.charges == before.charges


CALLED_BACK = events.CalledBack(key=K, attempt=1, task_id="t2", state="success")


@pytest.mark.parametrize("state", [S, U], ids=str)
def test_an_open_submit_keeps_what_callbacks_name(state: JobState) -> None:
    """As a hint, until the API confirms it; repeated ones and those without an id add nothing."""
    entry = after(in_state(state), CALLED_BACK)

    assert (entry.state, entry.task_id) == (state, None)
    assert entry.why()["called_back"] == ["t2"]
    assert after(entry, CALLED_BACK) is entry
    assert after(entry, attrs.evolve(CALLED_BACK, task_id=None)) is entry


def test_a_crash_does_not_forget_what_callbacks_named() -> None:
    """The submit becomes uncertain, and the hint stays."""
    entry = after(after(in_state(S), CALLED_BACK), UNCERTAIN)
    identified = after(entry, events.Identified(key=K, task_id="t2"))

    assert (entry.state, entry.why()["called_back"]) == (U, ["t2"])
    assert (identified.task_id, identified.why()) == ("t2", {"other_task_ids": ["t9"]})


@pytest.mark.parametrize("state", [A, OK, F, R, GONE], ids=str)
def test_another_task_is_kept_for_ever(state: JobState) -> None:
    """Whatever happens to the job later, the second bill is not forgotten."""
    entry = after(in_state(state), CALLED_BACK)
    for event in (SUCCEEDED,) if state is A else ():
        entry = after(entry, event)

    assert entry.why()["other_task_ids"] == [*(["t9"] if state is GONE else []), "t2"]
    assert after(entry, attrs.evolve(CALLED_BACK, task_id=entry.task_id)) is entry


DENIED = events.Denied(key=K, task_id="t9")


def test_a_denial_is_noted_beside_the_rest() -> None:
    """Whether it comes with the doubt or later; that of another id adds nothing."""
    uncertain = in_state(U)
    late = after(uncertain, DENIED)
    at_once = after(in_state(S), attrs.evolve(UNCERTAIN, candidate_denied=True))

    assert late.why() == at_once.why() == {**uncertain.why(), "candidate_denied": True}
    assert late.charges == uncertain.charges
    assert after(uncertain, attrs.evolve(DENIED, task_id="t8")) is uncertain


@pytest.mark.parametrize("way", [(), (DENIED,)], ids=["open", "denied"])
@pytest.mark.parametrize(
    "then",
    [
        (events.Resubmitted(key=K, reason="policy"), SENDING, ACCEPTED, SUCCEEDED),
        (events.Abandoned(key=K),),
        (events.Identified(key=K, task_id="t1"), SUCCEEDED),
    ],
    ids=lambda then: type(then[0]).__name__,
)
def test_a_candidate_is_never_lost_from_sight(
    way: tuple[events.JobEvent, ...], then: tuple[events.JobEvent, ...]
) -> None:
    """It stays noted beside the job's own task, whatever is decided, and denied or not."""
    entry = in_state(U)
    for event in (*way, *then):
        entry = after(entry, event)

    assert entry.why()["other_task_ids"] == ["t9"]


def test_a_candidate_that_is_the_task_is_no_other_one() -> None:
    """Once the API has confirmed it."""
    assert after(in_state(U), events.Identified(key=K, task_id="t9")).note is None


def test_of_two_that_were_named_the_other_one_is_kept() -> None:
    """The answer, or what was confirmed, decides which is the job's own."""
    two = after(after(in_state(S), CALLED_BACK), attrs.evolve(CALLED_BACK, task_id="t3"))
    accepted = after(two, attrs.evolve(ACCEPTED, task_id="t3"))

    assert accepted.task_id == "t3"
    assert accepted.why()["other_task_ids"] == ["t2"]


def test_a_callback_of_an_earlier_attempt_is_no_surprise_if_its_task_is_known() -> None:
    """A sender repeats itself when the job is generated again."""
    again = after(after(in_state(F), events.Resubmitted(key=K, reason="retry")), SENDING)
    repeated = attrs.evolve(CALLED_BACK, task_id="t1")

    assert after(again, repeated) is again
    assert after(again, CALLED_BACK).why()["called_back_earlier"] == ["t2"]


NAMED: Final = attrs.evolve(CALLED_BACK, attempt=1)
NOT_SENT: Final = events.NotSent(key=K, attempt=1, reason="429")
AGAIN: Final = events.Resubmitted(key=K, reason="policy")


def happened(*told: events.JobEvent) -> Entry:
    """A new job to which this has happened."""
    entry = in_state(Q)
    for event in told:
        entry = after(entry, event)
    return entry


@pytest.mark.parametrize(
    ("before", "charges"),
    [
        ((SENDING, NOT_SENT), 1),
        ((SENDING, NOT_SENT, SENDING, NOT_SENT), 1),
        ((SENDING, UNCERTAIN, AGAIN), 1),
        ((SENDING, UNCERTAIN, AGAIN, SENDING, NOT_SENT), 1),
    ],
    ids=["refused", "refused twice", "given up", "given up, and refused"],
)
def test_a_job_that_waits_is_in_doubt_once_a_submit_of_it_is_named(
    before: tuple[events.JobEvent, ...], charges: int
) -> None:
    """It was accepted after all, and nothing may be sent; what counted as a doubt counts once."""
    named = after(happened(*before), NAMED)

    assert (named.state, named.charges) == (U, charges)
    assert named.why()["called_back"] == ["t2"]
    assert not can_follow(named.state, events.Sending)
    identified = after(named, events.Identified(key=K, task_id="t2", attempt=1))
    assert (identified.state, identified.task_id, identified.charges) == (A, "t2", charges)
    assert "open_attempt" not in identified.why()


def test_a_repeat_that_is_refused_leaves_the_doubt_of_the_submit_that_is_named() -> None:
    """The callback came while the repeat was on its way, and told of the submit before it."""
    refused = after(happened(SENDING, NOT_SENT, SENDING, NAMED), NOT_SENT)

    assert refused.state is U
    assert refused.why()["called_back"] == ["t2"]
    assert not can_follow(refused.state, events.Sending)


def test_a_job_that_was_never_sent_has_no_task_to_be_named() -> None:
    """Whoever names one for it is noted, and it is sent as ever."""
    named = after(in_state(Q), NAMED)

    assert named.state is Q
    assert named.why()["other_task_ids"] == ["t2"]


def test_a_later_submit_stays_open_when_an_earlier_one_made_the_task() -> None:
    """Its answer was lost: it may have made another task, whatever becomes of the job."""
    entry = happened(SENDING, UNCERTAIN, AGAIN, SENDING, UNCERTAIN)
    first = after(entry, events.Identified(key=K, task_id="t1", attempt=1))
    last = after(entry, events.Identified(key=K, task_id="t1", attempt=2))

    assert after(first, SUCCEEDED).why()["open_attempt"] == 2
    assert "open_attempt" not in last.why()


def test_only_so_many_ids_are_kept() -> None:
    """A URL that leaked may be called for ever."""
    entry = in_state(U)
    for number in range(100):
        entry = after(entry, attrs.evolve(CALLED_BACK, task_id=f"f{number}"))

    assert len(entry.why()["called_back"]) == IDS_MAX


@pytest.mark.parametrize("state", JobState, ids=str)
def test_an_ended_job_has_a_time_of_ending(state: JobState) -> None:
    """Ended jobs know when, open ones have no such time."""
    assert (in_state(state).ended_at is not None) == (state in ENDED)


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_an_event_is_written_with_all_its_fields(event: events.JobEvent) -> None:
    """The text of an event has every field but the time and the key, which have columns."""
    at, kind, data = event_row(event)
    fields = {field.name for field in attrs.fields(type(event))}

    assert (at, kind) == (event.at.isoformat(timespec="milliseconds"), type(event).__name__)
    assert json.loads(data).keys() == fields - {"key", "at"}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_what_may_follow_can_be_asked_before(event: events.JobEvent, state: JobState) -> None:
    """The answer is the same as that of the event itself."""
    allowed = name_of(event) in ONLY_TOLD or state in FOLLOWS[name_of(event)]

    assert can_follow(state, type(event)) is allowed


def test_what_callbacks_named_is_no_other_task_while_the_submit_is_open() -> None:
    """It may be the job's own."""
    assert "other_task_ids" not in after(after(in_state(S), CALLED_BACK), UNCERTAIN).why()


@pytest.mark.parametrize(("calls_back", "why"), [(True, {"calls_back": True}), (False, {})])
def test_a_submit_that_will_be_called_back_is_noted(
    calls_back: bool, why: dict[str, object]
) -> None:
    """After a crash it is waited for, and only then."""
    assert after(in_state(Q), attrs.evolve(SENDING, calls_back=calls_back)).why() == why


def test_an_event_is_written_with_its_values() -> None:
    """Of a task no more than what it is known by."""
    fields = {"reason": "bad", "error": "InvalidInputError", "code": 400, "http_status": 400}

    assert json.loads(event_row(REJECTED)[2]) == {**fields, "is_final": True}
    assert json.loads(event_row(SUCCEEDED)[2]) == {
        "task": {"id": "t1", "model": "veo-3-1", "state": "success"}
    }
