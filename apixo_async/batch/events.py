"""What happens to a job, as facts: one vocabulary that everything else reads.

Progress shows these events, a record stores them, the report reads them. They are frozen values of
plain fields; `at` is UTC and set when the event is made.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import attrs

from apixo_async.tasks import Task


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class _JobEvent:
    key: str
    """The job's key."""
    at: datetime = attrs.field(factory=_now)
    """When it happened, in UTC; by default now."""


@attrs.frozen(kw_only=True)
class Queued(_JobEvent):
    """The job was taken from the input and has a slot."""

    index: int
    """The job's place in the input, counted from 0."""
    model: str
    """The model's id."""
    mode: str | None = None
    """`fast`, `quality`, or what else the model calls one; `None` where it has none."""


@attrs.frozen(kw_only=True)
class Sending(_JobEvent):
    """The POST is about to leave: from here on a task may exist."""

    attempt: int
    """Counts the tries of one submit, from 1. A job that is submitted anew begins with 1 again."""
    calls_back: bool = False
    """Whether a callback of the task will find us."""


@attrs.frozen(kw_only=True)
class NotSent(_JobEvent):
    """The POST did not leave, or was answered 429: the job is queued again."""

    attempt: int
    """The number of the try, as in `Sending`."""
    reason: str
    """What happened, in a sentence."""


@attrs.frozen(kw_only=True)
class Accepted(_JobEvent):
    """The task exists and is billed."""

    task_id: str
    """The API's name of the task."""
    model: str
    """The model's id; a status call has to name it."""
    received: str = ""
    """The answer that said so, the first 2,000 characters at most."""
    answered_at: datetime | None = None
    """The time of the answer by the server's clock, in UTC; `None` where it told none."""


@attrs.frozen(kw_only=True)
class Rejected(_JobEvent):
    """The API refused; there is no task.

    With `is_final` false every other job would be refused, too (wrong key, empty balance): the
    batch stops and the job is queued again.
    """

    reason: str
    """What the API said."""
    error: str = "APIError"
    """The name of the error's class."""
    code: int | None = None
    """The code in the envelope; `None` where it had none."""
    http_status: int | None = None
    """The status of the answer; `None` where it had none."""
    is_final: bool = True
    """Whether it is about this job alone."""


@attrs.frozen(kw_only=True)
class Uncertain(_JobEvent):
    """Nobody can say whether a task exists; it may be running and billed."""

    reason: str
    """What happened."""
    phase: str
    """How far it came: see `SubmitUncertainError`."""
    received: str = ""
    """What arrived of the answer, the first 2,000 characters at most."""
    received_bytes: int | None = None
    """How many bytes arrived; `None`: as many as `received` has."""
    candidate_task_id: str | None = None
    """An id seen in a broken answer, not confirmed; `None` if there was none."""
    candidate_denied: bool = False
    """Whether the API was asked about it and does not know it."""


@attrs.frozen(kw_only=True)
class Succeeded(_JobEvent):
    """The task ended with a result."""

    task: Task
    """Its last snapshot."""


@attrs.frozen(kw_only=True)
class Failed(_JobEvent):
    """The task ended without a usable result."""

    task: Task
    """Its last snapshot."""
    reason: str
    """Why, in a sentence."""


@attrs.frozen(kw_only=True)
class TimedOut(_JobEvent):
    """We stopped waiting; the task goes on."""

    task: Task
    """Its last snapshot."""
    reason: str
    """Why, in a sentence."""


@attrs.frozen(kw_only=True)
class Saved(_JobEvent):
    """One result is on disk under its final name."""

    path: str
    """Where it is."""
    size: int
    """Its size in bytes."""
    sha256: str
    """The SHA-256 of its content, in hex."""


@attrs.frozen(kw_only=True)
class SaveFailed(_JobEvent):
    """A result could not be saved; the task is done and its URLs still work."""

    reason: str
    """Why, in a sentence."""


@attrs.frozen(kw_only=True)
class Naming(_JobEvent):
    """One result is complete on disk and is about to get its final name."""

    path: str
    """Where it will be."""
    size: int
    """Its size in bytes."""
    sha256: str
    """The SHA-256 of its content, in hex."""


@attrs.frozen(kw_only=True)
class AllSaved(_JobEvent):
    """Every result of the job is on disk."""


@attrs.frozen(kw_only=True)
class Resubmitted(_JobEvent):
    """The job is queued again by a decision; what was billed before stays billed."""

    reason: str
    """`settled` by a person, `policy` for uncertain jobs, or `retry` of a fail code."""


@attrs.frozen(kw_only=True)
class Abandoned(_JobEvent):
    """An uncertain job was left at that by a decision."""


@attrs.frozen(kw_only=True)
class CalledBack(_JobEvent):
    """A callback came for an attempt to submit the job: a hint that nothing is believed of.

    Only what tells of a task that the record does not know is kept on disk.
    """

    attempt: int
    """The number of the try that it is for, from 1, over all submits of the job and all runs."""
    task_id: str | None = None
    """The task that it names, if any."""
    state: str | None = None
    """The state that it claims, if any."""


@attrs.frozen(kw_only=True)
class Denied(_JobEvent):
    """The API does not know the candidate of an uncertain job; before, it could not be asked."""

    task_id: str
    """The id that was asked for."""


@attrs.frozen(kw_only=True)
class Identified(_JobEvent):
    """The task id of an uncertain job is known: by a person, or named and confirmed by the API."""

    task_id: str
    """The API's name of the task."""
    attempt: int | None = None
    """Which submit of the job made it, from 1; `None` if nothing says so."""


@attrs.frozen(kw_only=True)
class NotStarted(_JobEvent):
    """The batch stopped before this job was sent."""

    reason: str
    """Why it stopped, in a sentence."""


@attrs.frozen(kw_only=True)
class Stopped:
    """The batch takes no more jobs; what is running is still awaited."""

    reason: str
    """One of the values of `StopReason`."""
    message: str = ""
    """The error behind it in words, if there is one."""
    at: datetime = attrs.field(factory=_now)
    """When it happened, in UTC; by default now."""


JobEvent: TypeAlias = (
    Queued
    | Sending
    | NotSent
    | Accepted
    | Rejected
    | Uncertain
    | Succeeded
    | Failed
    | TimedOut
    | Naming
    | Saved
    | AllSaved
    | SaveFailed
    | Resubmitted
    | Abandoned
    | CalledBack
    | Denied
    | Identified
    | NotStarted
)
"""What happens to one job."""
Event: TypeAlias = JobEvent | Stopped
"""What `BatchRunner(on_event=...)` is called with."""
