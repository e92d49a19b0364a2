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
    at: datetime = attrs.field(factory=_now)


@attrs.frozen(kw_only=True)
class Queued(_JobEvent):
    """The job was taken from the input and has a slot."""

    index: int
    model: str
    mode: str | None = None


@attrs.frozen(kw_only=True)
class Sending(_JobEvent):
    """The POST is about to leave: from here on a task may exist."""

    attempt: int
    calls_back: bool = False
    """Whether a callback of the task will find us."""


@attrs.frozen(kw_only=True)
class NotSent(_JobEvent):
    """The POST did not leave, or was answered 429: the job is queued again."""

    attempt: int
    reason: str


@attrs.frozen(kw_only=True)
class Accepted(_JobEvent):
    """The task exists and is billed.

    `received` is the answer that said so, shortened, `answered_at` its time by the server's clock.
    """

    task_id: str
    model: str
    received: str = ""
    answered_at: datetime | None = None


@attrs.frozen(kw_only=True)
class Rejected(_JobEvent):
    """The API refused; there is no task.

    With `is_final` false every other job would be refused, too (wrong key, empty balance): the
    batch stops and the job is queued again.
    """

    reason: str
    error: str = "APIError"
    """The class of the error."""
    code: int | None = None
    http_status: int | None = None
    is_final: bool = True


@attrs.frozen(kw_only=True)
class Uncertain(_JobEvent):
    """Nobody can say whether a task exists. `received` is what arrived of the answer, shortened."""

    reason: str
    phase: str
    received: str = ""
    received_bytes: int | None = None
    """`None`: as many as `received` has."""
    candidate_task_id: str | None = None
    candidate_denied: bool = False
    """Whether the API was asked about it and does not know it."""


@attrs.frozen(kw_only=True)
class Succeeded(_JobEvent):
    """The task ended with a result."""

    task: Task


@attrs.frozen(kw_only=True)
class Failed(_JobEvent):
    """The task ended without a usable result."""

    task: Task
    reason: str


@attrs.frozen(kw_only=True)
class TimedOut(_JobEvent):
    """We stopped waiting; the task goes on."""

    task: Task
    reason: str


@attrs.frozen(kw_only=True)
class Saved(_JobEvent):
    """One result is on disk under its final name."""

    path: str
    size: int
    sha256: str


@attrs.frozen(kw_only=True)
class SaveFailed(_JobEvent):
    """A result could not be saved; the task is done and its URLs still work."""

    reason: str


@attrs.frozen(kw_only=True)
class Naming(_JobEvent):
    """One result is complete on disk and is about to get its final name."""

    path: str
    size: int
    sha256: str


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

    `attempt` counts all that were made, in all runs. Only what tells of a task that the record does
    not know is kept on disk.
    """

    attempt: int
    task_id: str | None = None
    state: str | None = None


@attrs.frozen(kw_only=True)
class Denied(_JobEvent):
    """The API does not know the candidate of an uncertain job; before, it could not be asked."""

    task_id: str


@attrs.frozen(kw_only=True)
class Identified(_JobEvent):
    """The task id of an uncertain job is known: by a person, or named and confirmed by the API."""

    task_id: str
    attempt: int | None = None
    """Which submit of the job made it, from 1; `None` if nothing says so."""


@attrs.frozen(kw_only=True)
class NotStarted(_JobEvent):
    """The batch stopped before this job was sent."""

    reason: str


@attrs.frozen(kw_only=True)
class Stopped:
    """The batch takes no more jobs; what is running is still awaited."""

    reason: str
    message: str = ""
    at: datetime = attrs.field(factory=_now)


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
Event: TypeAlias = JobEvent | Stopped
