"""What is to be done about a job that any process may work on: pure answers."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Final

from apixo_async.batch import events
from apixo_async.batch.journal import ENDED, Entry, JobState


class Step(enum.Enum):
    """What a job needs next."""

    NOTHING = "nothing"
    """It has ended."""
    SUBMIT = "submit"
    """Surely no task exists."""
    FOLLOW = "follow"
    """Its task runs."""
    LET_BE = "let be"
    """A process is sending it at this moment, and will say what came of it."""
    DOUBT = "doubt"
    """The process that was sending it has not said what came of it in all the time it had."""
    HEAR = "hear"
    """Nobody can say whether it has a task; a callback may."""


_BY_STATE: Final = {
    JobState.QUEUED: Step.SUBMIT,
    JobState.ACCEPTED: Step.FOLLOW,
    JobState.UNCERTAIN: Step.HEAR,
    **dict.fromkeys(ENDED, Step.NOTHING),
}
TO_CARRY: Final = (JobState.QUEUED, JobState.SENDING, JobState.ACCEPTED)
"""States in which a job goes on as soon as somebody carries it."""


def step_of(entry: Entry, *, patience: float) -> Step:
    """What a job needs; a submit under way is given `patience` seconds to be answered."""
    if entry.state is JobState.SENDING:
        return Step.DOUBT if entry.doubt_age > patience else Step.LET_BE
    return _BY_STATE[entry.state]


def untouched(entry: Entry, now: datetime) -> float:
    """Seconds since the last step of a job that has not ended."""
    stamps = (entry.queued_at, entry.sending_at, entry.accepted_at)
    latest = max(datetime.fromisoformat(stamp) for stamp in stamps if stamp is not None)
    return (now - latest).total_seconds()


def reconciled(
    entry: Entry, event: events.JobEvent, *, attempt: int | None
) -> events.JobEvent | None:
    """What is to be recorded of `event`, which others may have come before; `None` for nothing.

    `attempt` is the submit that it is about, `None` if this process has made none. A process that
    stood still while others declared its
    submit uncertain, or a person had the job submitted again, comes late with its answer: the id
    of a task is recorded in any case, the rest only while it still says something.
    """
    match event:
        case events.Accepted():
            return _accepted(entry, event, attempt)
        case events.NotSent() | events.Rejected() | events.Uncertain():
            is_open = entry.state is JobState.SENDING and attempt == entry.attempts
            return event if is_open else None
        case events.Identified():
            return _identified(entry, event, attempt)
        case events.Succeeded() | events.Failed():
            is_its_task = entry.task_id == event.task.id
            return event if entry.state is JobState.ACCEPTED and is_its_task else None
        case events.Denied():
            return event if entry.state is JobState.UNCERTAIN else None
        case _:
            return event


def _accepted(entry: Entry, event: events.Accepted, attempt: int | None) -> events.JobEvent | None:
    if entry.task_id == event.task_id:
        return None
    if entry.state is JobState.SENDING and attempt == entry.attempts:
        return event
    named = events.Identified(key=event.key, at=event.at, task_id=event.task_id, attempt=attempt)
    return _identified(entry, named, attempt)


def _identified(
    entry: Entry, event: events.Identified, attempt: int | None
) -> events.JobEvent | None:
    if entry.task_id == event.task_id:
        return None
    if entry.state in {JobState.UNCERTAIN, JobState.ABANDONED}:
        return event
    told = entry.attempts if attempt is None else attempt
    return events.CalledBack(key=event.key, at=event.at, attempt=told, task_id=event.task_id)
