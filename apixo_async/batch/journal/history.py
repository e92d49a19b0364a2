"""What an event changes in a job's row, and how events are written: pure functions.

Events that only one run is concerned with (`TimedOut`, `NotStarted`, `SaveFailed`) change nothing
but are part of the history.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeGuard

import attrs

from apixo_async.batch import events
from apixo_async.batch.journal.entries import Entry, JobState, stamp, task_text, text_of
from apixo_async.errors import JournalError
from apixo_async.tasks import Task

_LEFT_OUT: Final = frozenset({"key", "at"})


@functools.cache
def _fields_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind) if field.name not in _LEFT_OUT)


def event_row(event: events.JobEvent) -> tuple[str, str, str]:
    """Time, kind and the other fields as JSON; the key is the job's and is left out."""
    kind = type(event)
    fields = {name: _plain(getattr(event, name)) for name in _fields_of(kind)}  # type: ignore[arg-type]  # classes can be hashed
    return stamp(event.at), kind.__name__, text_of(fields)


def _plain(value: object) -> object:
    if isinstance(value, Task):
        return {"id": value.id, "model": value.model, "state": str(value.state)}
    return stamp(value) if isinstance(value, datetime) else value


def can_follow(state: JobState, kind: type[events.JobEvent]) -> bool:
    """Whether an event of this kind may happen to a job in this state."""
    change = _CHANGES.get(kind)
    return change is None or state in change[0]


def after(entry: Entry, event: events.JobEvent) -> Entry:
    """The entry once this has happened.

    Raises `JournalError` for what cannot follow from its state, such as a second submit of a job
    that has a task: the last line of defence against paying twice.
    """
    change = _CHANGES.get(type(event))
    if change is None:
        return entry
    allowed, changes = change
    if entry.state not in allowed:
        raise JournalError(
            f"job {entry.key!r} is {entry.state}; {type(event).__name__} cannot follow that"
        )
    changed = changes(entry, event)
    return entry.changed(changed) if changed else entry


def is_unheard_of(
    told: str | None, *, own: str | None, past: Collection[str] = ()
) -> TypeGuard[str]:
    """Whether a callback names a task that is neither the job's `own` nor one of its `past`."""
    return told is not None and told != own and told not in past


_Changes = Callable[[Entry, Any], dict[str, Any]]


def _sending(entry: Entry, event: events.Sending) -> dict[str, Any]:
    return {
        "state": JobState.SENDING,
        "attempts": entry.attempts + 1,
        "sending_at": stamp(event.at),
        "note": _note(entry, {"calls_back": True} if event.calls_back else {}),
    }


def _not_sent(entry: Entry, event: events.NotSent) -> dict[str, Any]:
    if named := [told for name in NAMED for told in entry.why().get(name, ())]:
        return _accepted_after_all(entry, named, attempt=entry.attempts - 1)
    return {"state": JobState.QUEUED, "note": _note(entry, {"reason": event.reason})}


def _accepted(entry: Entry, event: events.Accepted) -> dict[str, Any]:
    return {
        "state": JobState.ACCEPTED,
        "charges": entry.charges + 1,
        "accepted_at": stamp(event.at),
        "task_id": event.task_id,
        "task": None,
        "note": _note(entry, {}, task_id=event.task_id),
    }


def _rejected(entry: Entry, event: events.Rejected) -> dict[str, Any]:
    note = _note(entry, _fields(event, "reason", "error", "code", "http_status"))
    if not event.is_final:
        return {"state": JobState.QUEUED, "note": note}
    return {"state": JobState.REJECTED, "ended_at": stamp(event.at), "note": note}


def _uncertain(entry: Entry, event: events.Uncertain) -> dict[str, Any]:
    names = ("reason", "phase", "received", "received_bytes", "candidate_task_id")
    why, before = _fields(event, *names), entry.why()
    if event.candidate_denied:
        why["candidate_denied"] = True
    why.update({name: before[name] for name in ("calls_back", *NAMED) if name in before})
    note = _note(entry, why, is_open=True)
    return {"state": JobState.UNCERTAIN, "charges": entry.charges + 1, "note": note}


def _succeeded(entry: Entry, event: events.Succeeded) -> dict[str, Any]:
    return {
        "state": JobState.SUCCEEDED,
        "ended_at": stamp(event.at),
        "task": task_text(event.task),
        "note": _note(entry, {}),
    }


def _failed(entry: Entry, event: events.Failed) -> dict[str, Any]:
    why = {"reason": event.reason, "fail_code": event.task.fail_code}
    return {
        "state": JobState.FAILED,
        "ended_at": stamp(event.at),
        "task": task_text(event.task),
        "note": _note(entry, why),
    }


def _resubmitted(entry: Entry, event: events.Resubmitted) -> dict[str, Any]:
    cleared = dict.fromkeys(("task_id", "task", "accepted_at", "ended_at"))
    repeats = entry.repeats + (event.reason == "retry")
    past = entry.why().get(PAST_TASKS, [])
    if entry.task_id is not None:
        past = [*past, entry.task_id][-IDS_MAX:]
    why: dict[str, Any] = {PAST_TASKS: past} if past else {}
    if entry.state is JobState.UNCERTAIN:
        why[DOUBTED] = entry.attempts
    note = _note(entry, why)
    return {"state": JobState.QUEUED, "repeats": repeats, "note": note, **cleared}


def _abandoned(entry: Entry, event: events.Abandoned) -> dict[str, Any]:
    why = {"reason": f"it was {entry.state} and was abandoned by decision"}
    return {"state": JobState.ABANDONED, "ended_at": stamp(event.at), "note": _note(entry, why)}


def _called_back(entry: Entry, event: events.CalledBack) -> dict[str, Any]:
    why = dict(entry.why())
    told = event.task_id
    if not is_unheard_of(told, own=entry.task_id, past=why.get(PAST_TASKS, ())):
        return {}
    if entry.state is JobState.QUEUED and entry.attempts:
        return _accepted_after_all(entry, [told], attempt=event.attempt)
    name = OTHER_TASKS
    if entry.state in _OPEN_POSTS:
        name = CALLED_BACK if event.attempt == entry.attempts else EARLIER
    ids = why.get(name, [])
    if told in ids or len(ids) >= IDS_MAX:
        return {}
    return {"note": text_of({**why, name: [*ids, told]})}


def _accepted_after_all(entry: Entry, named: Sequence[str], *, attempt: int) -> dict[str, Any]:
    """A submit that counted for nothing, or for a doubt, has made a task: none is to leave now."""
    why = {
        "reason": "while it waited to be sent again, a callback named a task of an earlier submit",
        "phase": "callback",
        "calls_back": True,
        CALLED_BACK: named,
    }
    is_news = attempt > entry.why().get(DOUBTED, 0)
    note = _note(entry, why, is_open=True)
    return {"state": JobState.UNCERTAIN, "charges": entry.charges + is_news, "note": note}


def _denied(entry: Entry, event: events.Denied) -> dict[str, Any]:
    why = entry.why()
    if why.get("candidate_task_id") != event.task_id:
        return {}
    return {"note": text_of({**why, "candidate_denied": True})}


def _identified(entry: Entry, event: events.Identified) -> dict[str, Any]:
    # The charge was counted when the submit became uncertain.
    began = entry.sending_at or stamp(event.at)
    why: dict[str, Any] = {}
    before = entry.why()
    last = before.get(DOUBTED, 0) if before.get("phase") == "callback" else entry.attempts
    if event.attempt is not None and event.attempt < last:
        why[OPEN_ATTEMPT] = last
    return {
        "state": JobState.ACCEPTED,
        "accepted_at": began,
        "task_id": event.task_id,
        "task": None,
        "note": _note(entry, why, task_id=event.task_id),
    }


def _all_saved(_: Entry, __: events.AllSaved) -> dict[str, Any]:
    return {"saved": 1}


def _fields(event: events.JobEvent, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


def _note(
    entry: Entry, why: Mapping[str, Any], *, task_id: str | None = None, is_open: bool = False
) -> str | None:
    """What is noted instead of what was: `why`, and for ever the tasks that are one too many.

    Unless the submit is still open, what callbacks or a broken answer have named and is not
    `task_id` is one of them.
    """
    if entry.note is None:
        return text_of(why) if why else None
    before = entry.why()
    named: list[str] = []
    if not is_open:
        named += (told for name in NAMED for told in before.get(name, ()))
    if not is_open and (candidate := before.get("candidate_task_id")) is not None:
        named.append(candidate)
    others: list[str] = [*before.get(OTHER_TASKS, []), *named]
    kept = [name for name in dict.fromkeys(others) if name != task_id][:IDS_MAX]
    note: dict[str, Any] = {**why, **({OTHER_TASKS: kept} if kept else {})}
    for name in _KEPT:
        if name in before:
            note.setdefault(name, before[name])
    return text_of(note) if note else None


CALLED_BACK: Final = "called_back"
"""Noted: tasks that callbacks name for the submit that is open."""
EARLIER: Final = "called_back_earlier"
"""Noted: tasks that they name for a submit before that one, which is not over by that."""
NAMED: Final = (CALLED_BACK, EARLIER)
OTHER_TASKS: Final = "other_task_ids"
"""Noted: tasks that callbacks or broken answers name beside its own; each may be billed."""
PAST_TASKS: Final = "past_task_ids"
"""Noted: tasks of the job that ended before it was submitted again."""
DOUBTED: Final = "doubted_attempts"
"""Noted: up to which attempt each that may have made a task is counted as a charge."""
OPEN_ATTEMPT: Final = "open_attempt"
"""Noted: a submit whose answer was lost, beside the earlier one that made the job's task."""
_KEPT: Final = (PAST_TASKS, DOUBTED, OPEN_ATTEMPT)
IDS_MAX: Final = 8
_OPEN_POSTS: Final = frozenset({JobState.SENDING, JobState.UNCERTAIN})


_UNDECIDED: Final = frozenset({JobState.UNCERTAIN, JobState.ACCEPTED})
"""A task that the API no longer knows stays accepted until somebody decides about it."""
_SETTLED: Final = frozenset(
    {JobState.UNCERTAIN, JobState.FAILED, JobState.REJECTED, JobState.ABANDONED}
)
_CHANGES: Final[Mapping[type[Any], tuple[frozenset[JobState], _Changes]]] = {
    events.Sending: (frozenset({JobState.QUEUED}), _sending),
    events.NotSent: (frozenset({JobState.SENDING}), _not_sent),
    events.Accepted: (frozenset({JobState.SENDING}), _accepted),
    events.Rejected: (frozenset({JobState.SENDING}), _rejected),
    events.Uncertain: (frozenset({JobState.SENDING}), _uncertain),
    events.Succeeded: (frozenset({JobState.ACCEPTED}), _succeeded),
    events.Failed: (frozenset({JobState.ACCEPTED}), _failed),
    events.AllSaved: (frozenset({JobState.SUCCEEDED}), _all_saved),
    events.Resubmitted: (_SETTLED, _resubmitted),
    events.Abandoned: (_UNDECIDED, _abandoned),
    events.CalledBack: (frozenset(JobState), _called_back),
    events.Denied: (frozenset({JobState.UNCERTAIN}), _denied),
    events.Identified: (frozenset({JobState.UNCERTAIN, JobState.ABANDONED}), _identified),
}


def open_attempt(entry: Entry) -> int | None:
    """A later submit than that which made the job's task, if it may have made one, too."""
    return None if entry.note is None else entry.why().get(OPEN_ATTEMPT)


def past_tasks(entry: Entry) -> Collection[str]:
    """Tasks of the job that ended before it was submitted again."""
    return () if entry.note is None else entry.why().get(PAST_TASKS, ())
