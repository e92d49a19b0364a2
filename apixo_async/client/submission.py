"""One submit on its way, and whom its steps are told."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final, Protocol

import attrs

from apixo_async._wire import encode, prepare, submit_body
from apixo_async.client.callbacks import Ticket
from apixo_async.errors import ApixoError, NotSentError, SubmitUncertainError
from apixo_async.limits import Lease
from apixo_async.tasks import Task
from apixo_async.veo import Request

BY_CALLBACK: Final = "callback"
"""The phase of a submit that did not leave again, because a callback told of its task."""


@attrs.frozen
class Answer:
    """What came back for a submit, and when the server says that it sent it."""

    text: str
    sent_at: datetime | None = None


class SubmitObserver(Protocol):
    """Told of every step of a submit; what keeps a record of it waits here for its disk.

    Each method is awaited before the submit goes on: `sending` before the first byte leaves (an
    error raised there stops the submit, nothing is sent), `accepted` before anyone sees the task.
    Once `sending` was called, the rest is called even if the caller is cancelled meanwhile.
    """

    async def sending(self, attempt: int) -> None:
        """The POST is about to leave."""

    async def not_sent(self, attempt: int, error: ApixoError) -> None:
        """It did not leave, or was answered 429: the job is queued again."""

    async def accepted(self, task: Task, answer: Answer) -> None:
        """The task exists."""

    async def rejected(self, error: ApixoError) -> None:
        """The API refused; there is no task."""

    async def uncertain(self, error: SubmitUncertainError) -> None:
        """Nobody can say whether there is a task."""

    async def held(self, error: SubmitUncertainError) -> None:
        """Instead of `sending`: a callback has named a task of an earlier attempt meanwhile."""

    async def denied(self, error: SubmitUncertainError) -> None:
        """After `uncertain`: the API does not know the task that a broken answer named."""

    async def identified(self, task: Task) -> None:
        """After `uncertain`: a callback or a broken answer named the task, and the API knows it."""

    def cut(self, error: SubmitUncertainError) -> None:
        """Nobody can say it, and nobody waits any more: the client is torn down."""

    def is_known(self, task_id: str) -> bool:
        """Whether another job is known to have this task; ours are known already."""
        ...


@attrs.define(eq=False)
class Submission:
    """One request on its way, and who is told. Times are seconds.

    `patience` is how long an unreachable host is put up with, `window` how long after a lost answer
    a callback is waited for, and `sent_at` when the last attempt was made. `callback_url` is the
    caller's own; a `ticket` makes one of ours for each attempt.
    """

    request: Request
    lease: Lease
    patience: float
    observer: SubmitObserver | None = None
    callback_url: str | None = None
    ticket: Ticket | None = None
    window: float = 0.0
    sent_at: float = 0.0
    key: str | None = None
    """That of the batch's job, if it is one."""
    number: int = attrs.field(default=0, init=False)
    attempt: int = attrs.field(default=0, init=False)
    is_open: bool = attrs.field(default=False, init=False)
    """Whether its end is to be told to a hook, and was not yet."""
    post: asyncio.Task[Task] | None = attrs.field(default=None, init=False)
    confirmed: str | None = attrs.field(default=None, init=False)
    """A task of this attempt that a callback named and the API knew before there was an answer."""
    doubt: SubmitUncertainError | None = attrs.field(default=None, init=False)
    """What is known of a POST that was cut, or whose answer was lost."""

    def cut(self, doubt: SubmitUncertainError) -> None:
        """The POST is given up, and nobody can say what came of it."""
        self.doubt = doubt
        if self.observer is not None:
            self.observer.cut(doubt)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last attempt may have made a task that nobody has named."""
        return self.doubt is not None and self.doubt.phase != BY_CALLBACK

    @property
    def named(self) -> str | None:
        """What a callback names as the task of this attempt; best what the API has confirmed."""
        if self.confirmed is not None or self.ticket is None:
            return self.confirmed
        return self.ticket.named()

    @property
    def is_named(self) -> bool:
        """Whether a callback has named a task of an attempt that was not accepted."""
        return self.ticket is not None and self.ticket.named(of_any=True) is not None

    def body(self) -> bytes:
        """What is sent for one more attempt; raises `NotSentError` where it cannot be made."""
        try:
            prepare()
        except OSError as error:  # the first submit of a process imports it, from files
            msg = f"a submit could not be prepared: {error.strerror or error}"
            raise NotSentError(msg, host="", reason="resources") from None
        url = self.callback_url if self.ticket is None else self.ticket.next_url()
        return encode(submit_body(self.request, callback_url=url))


class Bookkeeper(Protocol):
    """What the submitter reports to, so that the slot follows the task and not the caller."""

    def is_known(self, task_id: str) -> bool:
        """Whether this id was given to one of our submits before."""
        ...

    def task_started(
        self, task: Task, lease: Lease, *, ticket: Ticket | None, age: float = 0.0
    ) -> None:
        """The lease belongs to this task from now on, which is `age` seconds old at most."""

    def adopt(self, task: Task, *, age: float, ticket: Ticket | None = None) -> None:
        """A slot of its own belongs to this task, which is `age` seconds old at most."""

    def task_may_run(self, lease: Lease) -> None:
        """The lease is held for a stated time, because a task may be running."""


class Confirm(Protocol):
    """Asks whether the API knows a task."""

    async def __call__(self, task_id: str, model: str) -> bool | None:
        """`None` if it could not be asked."""
        ...
