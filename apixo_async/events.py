"""What one client does, as facts: frozen values that `ApixoClient(on_event=...)` is called with.

Names and fields that `apixo_async.batch.events` has as well mean the same there. A submit begins
with `Queued` and ends with exactly one of `Accepted`, `Rejected`, `Uncertain` and `NotStarted`. A
task begins with `Accepted`, `Identified` or `Adopted` and ends with exactly one of `Succeeded`,
`Failed` and `Released`. Requests, callbacks and waits that time out come in between.

`at` is UTC and set when the event is made. No event holds the API key or a prompt; a `Task` holds
the URLs of results.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

import attrs

from apixo_async.tasks import Task


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class _ClientEvent:
    at: datetime = attrs.field(factory=_now)
    """When it was made, in UTC."""


@attrs.frozen(kw_only=True)
class Opened(_ClientEvent):
    """The client is used for the first time."""

    base_url: str
    """Where the API is."""
    concurrent_tasks: int
    """The limit of unfinished tasks that the client was made with."""
    requests_per_minute: int
    """The limit of requests that it was made with."""


@attrs.frozen(kw_only=True)
class Closed(_ClientEvent):
    """The client is closed: the last event."""


@attrs.frozen(kw_only=True)
class _SubmitEvent(_ClientEvent):
    submit: int
    """The number of the submit in this client, from 1."""
    model: str
    """The model of the request."""
    mode: str | None = None
    """The mode of the request; `None` for models that have none."""
    key: str | None = None
    """The key of the batch's job; `None` for a single call."""


@attrs.frozen(kw_only=True)
class Queued(_SubmitEvent):
    """The submit has a slot among the unfinished tasks, and waits for its turn."""


@attrs.frozen(kw_only=True)
class Accepted(_SubmitEvent):
    """The task exists and is billed."""

    task_id: str
    """The API's name of the task."""
    attempt: int = 1
    """Which POST of the submit it was."""


@attrs.frozen(kw_only=True)
class Rejected(_SubmitEvent):
    """The API refused; there is no task."""

    reason: str
    """What the API said."""
    error: str = "APIError"
    """The class of the error."""
    code: int | None = None
    """The code of its answer, if there was one."""
    http_status: int | None = None
    """The HTTP status of its answer, if there was one."""


@attrs.frozen(kw_only=True)
class Uncertain(_SubmitEvent):
    """Nobody can say whether a task exists; `Identified` may follow."""

    reason: str
    """What happened."""
    phase: str
    """How far it came, as in `SubmitUncertainError`."""
    candidate_task_id: str | None = None
    """An id that its broken answer names, not confirmed; `None` if there is none."""
    candidate_denied: bool = False
    """Whether the API was asked about it and does not know it."""


@attrs.frozen(kw_only=True)
class NotStarted(_SubmitEvent):
    """Nothing came of the submit, and there is no task.

    Its host could not be reached, its caller left, or the client was closed.
    """

    reason: str
    """Why."""


@attrs.frozen(kw_only=True)
class Identified(_SubmitEvent):
    """The task id of an uncertain submit is known: named, and confirmed by the API.

    Without a `Queued` before it if an earlier process had made the submit.
    """

    task_id: str
    """The API's name of the task."""


@attrs.frozen(kw_only=True)
class _TaskEvent(_ClientEvent):
    task_id: str
    """The API's name of the task."""
    model: str
    """The model that makes it."""


@attrs.frozen(kw_only=True)
class Adopted(_TaskEvent):
    """A batch goes on with a task that was submitted earlier, `age` seconds ago."""

    age: float
    """Seconds since its submit."""


@attrs.frozen(kw_only=True)
class CalledBack(_ClientEvent):
    """A callback came for an attempt of a submit: a hint that nothing is believed of."""

    attempt: int
    """Which POST of its submit the URL was made for, from 1."""
    task_id: str | None = None
    """What it claims to be the task; `None` if it names none."""
    state: str | None = None
    """What it claims the state to be, as it came."""


@attrs.frozen(kw_only=True)
class Succeeded(_ClientEvent):
    """The task was seen to have ended with a result."""

    task: Task
    """The task as it was seen."""
    age: float | None = None
    """Seconds from its acceptance to this moment; `None` for a task that was not accepted here."""
    detection_delay: float | None = None
    """Seconds of `age` that the server did not work on the task; `None` where it does not say."""


@attrs.frozen(kw_only=True)
class Failed(_ClientEvent):
    """The task was seen to have ended without a result."""

    task: Task
    """The task as it was seen."""
    reason: str
    """What the API gave as the reason."""
    age: float | None = None
    """Seconds, as in `Succeeded`."""
    detection_delay: float | None = None
    """Seconds, as in `Succeeded`."""


@attrs.frozen(kw_only=True)
class Released(_TaskEvent):
    """The slot of a task was given up, though nobody has seen it end; it may go on."""

    reason: Literal["expired", "closed"]
    """Its slot's lifetime is over, or the client was closed."""


@attrs.frozen(kw_only=True)
class TimedOut(_ClientEvent):
    """We stopped waiting; the task goes on."""

    task: Task
    """The task as it was seen last."""
    reason: str
    """Why nobody waits any longer."""


@attrs.frozen(kw_only=True)
class Requested(_ClientEvent):
    """One HTTP request to the API is over; told at its end, answered or not.

    Downloads are no requests to the API.
    """

    method: Literal["GET", "POST"]
    """Its HTTP method."""
    call: Literal["submit", "status", "balance"]
    """What it was for."""
    url: str
    """In full; task ids may be in it, secrets are not."""
    duration: float
    """Seconds from sending to the answer."""
    waited: float
    """Seconds before that for the request rate, an open gate and, for a POST, its turn."""
    http_status: int | None = None
    """`None` if no answer came."""
    error: str | None = None
    """The class of what went wrong, `NotSentError` if nothing left; `None` for a good answer."""
    model: str | None = None
    """The model that it was about; `None` for the balance."""
    task_id: str | None = None
    """The task that a status call asks about, or that a submit was answered with."""
    submit: int | None = None
    """As in `Queued`, for a POST."""
    attempt: int | None = None
    """Which POST of its submit this is, from 1."""


@attrs.frozen(kw_only=True)
class Paused(_ClientEvent):
    """A 429 has closed the gate, for everybody or for submits only."""

    seconds: float
    """For how many seconds."""
    only_submits: bool = False
    """Whether status calls go on."""
    retry_after: float | None = None
    """What the server asked for, in seconds."""


@attrs.frozen(kw_only=True)
class LimitFound(_ClientEvent):
    """A limit of the account was found to be other than it was taken to be until now."""

    limit: Literal["tasks", "requests"]
    """Unfinished tasks, or requests a minute."""
    value: int
    """What it is found to be."""
    configured: int
    """What the client was made with."""


SubmitEvent: TypeAlias = Queued | Accepted | Rejected | Uncertain | NotStarted | Identified
TaskEvent: TypeAlias = Adopted | CalledBack | Succeeded | Failed | Released | TimedOut
ClientEvent: TypeAlias = Opened | Closed | SubmitEvent | TaskEvent | Requested | Paused | LimitFound
"""Any of them."""
