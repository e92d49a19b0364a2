"""What a client does, told to the hook of its user; made only where somebody listens."""

from __future__ import annotations

import asyncio
from typing import Literal, TypedDict

import attrs

from apixo_async import events
from apixo_async._hooks import Hook
from apixo_async._wire import Reply
from apixo_async.client.submission import Submission
from apixo_async.client.tracking import Tracked
from apixo_async.errors import APIError, SubmitUncertainError
from apixo_async.limits import Limits
from apixo_async.tasks import Task
from apixo_async.webhooks import Callback


def detection_delay(task: Task, *, age: float | None) -> float | None:
    """Seconds from the end of a task to when it was seen, of its `age` at that moment.

    By spans of time alone: the server's clock need not agree with ours.
    """
    if age is None or task.created_at is None or task.completed_at is None:
        return None
    return max(0.0, age - (task.completed_at - task.created_at).total_seconds())


class _About(TypedDict):
    submit: int
    model: str
    mode: str | None
    key: str | None


def _about(submission: Submission) -> _About:
    """What every event of a submit says."""
    request = submission.request
    return {
        "submit": submission.number,
        "model": request.model,
        "mode": request.mode,
        "key": submission.key,
    }


@attrs.define
class Call:
    """One HTTP request that is going on; seconds by the event loop's clock."""

    method: Literal["GET", "POST"]
    call: Literal["submit", "status", "balance"]
    path: str
    asked_at: float = 0.0
    sent_at: float = 0.0
    model: str | None = None
    task_id: str | None = None
    submit: int | None = None
    attempt: int | None = None

    def ask(self) -> None:
        """It waits for its turn from now on."""
        self.asked_at = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """It is its turn: it is sent now."""
        self.sent_at = asyncio.get_running_loop().time()


class Teller:
    """Makes events of the steps of submits, tasks and requests; each submit ends once."""

    def __init__(self, hook: Hook[events.ClientEvent], base_url: str) -> None:
        self.tell = hook
        self._base_url = base_url
        self._submits = 0

    def opened(self, limits: Limits) -> None:
        """The client is used for the first time."""
        self.tell(
            events.Opened(
                base_url=self._base_url,
                concurrent_tasks=limits.concurrent_tasks,
                requests_per_minute=limits.requests_per_minute,
            )
        )

    # Submits

    def queued(self, submission: Submission) -> None:
        """It has a slot."""
        self._number(submission)
        submission.is_open = True
        self.tell(events.Queued(**_about(submission)))

    def _number(self, submission: Submission) -> None:
        self._submits += 1
        submission.number = self._submits

    def accepted(self, submission: Submission, task_id: str) -> None:
        """There is a task."""
        submission.is_open = False
        self.tell(
            events.Accepted(
                **_about(submission),
                task_id=task_id,
                attempt=submission.attempt,
            )
        )

    def rejected(self, submission: Submission, error: Exception) -> None:
        """There is none."""
        submission.is_open = False
        answer = error if isinstance(error, APIError) else None
        self.tell(
            events.Rejected(
                **_about(submission),
                reason=str(error) if answer is None else answer.message,
                error=type(error).__name__,
                code=None if answer is None else answer.code,
                http_status=None if answer is None else answer.http_status,
            )
        )

    def uncertain(self, submission: Submission, doubt: SubmitUncertainError) -> None:
        """Nobody can say it."""
        if not submission.is_open:
            return
        submission.is_open = False
        self.tell(
            events.Uncertain(
                **_about(submission),
                reason=doubt.reason,
                phase=doubt.phase,
                candidate_task_id=doubt.candidate_task_id,
                candidate_denied=doubt.candidate_denied,
            )
        )

    def not_started(self, submission: Submission, error: BaseException | None) -> None:
        """Nothing came of it, unless it is told already what did."""
        if not submission.is_open:
            return
        submission.is_open = False
        is_left = error is None or isinstance(error, asyncio.CancelledError)
        self.tell(
            events.NotStarted(
                **_about(submission),
                reason="its caller left" if is_left else str(error),
            )
        )

    def identified(self, submission: Submission, task_id: str) -> None:
        """There is a task after all; its submit may have been made in an earlier process."""
        if not submission.number:
            self._number(submission)
        self.tell(
            events.Identified(
                **_about(submission),
                task_id=task_id,
            )
        )

    # Tasks

    def ended(self, task: Task, tracked: Tracked | None) -> None:
        """A task was seen to have ended; `tracked` is there if its slot was held until now."""
        now = asyncio.get_running_loop().time()
        age = None if tracked is None else now - tracked.accepted_at
        delay = detection_delay(task, age=age)
        if task.has_succeeded:
            self.tell(events.Succeeded(task=task, age=age, detection_delay=delay))
            return
        reason = task.fail_message or task.fail_code or "failed"
        self.tell(events.Failed(task=task, reason=reason, age=age, detection_delay=delay))

    def released(self, tracked: Tracked, reason: Literal["expired", "closed"]) -> None:
        """Its slot was given up."""
        self.tell(events.Released(task_id=tracked.task_id, model=tracked.model, reason=reason))

    def adopted(self, task: Task, *, age: float) -> None:
        """A task of an earlier process has a slot."""
        self.tell(events.Adopted(task_id=task.id, model=task.model, age=age))

    def called_back(self, callback: Callback) -> None:
        """Somebody called one of our URLs."""
        claim = callback.claim
        self.tell(
            events.CalledBack(
                attempt=callback.slip.attempt, task_id=claim.task_id, state=claim.state
            )
        )

    # Requests

    def requested(self, call: Call, reply: Reply | None, error: str | None) -> None:
        """A request is over."""
        now = asyncio.get_running_loop().time()
        self.tell(
            events.Requested(
                method=call.method,
                call=call.call,
                url=self._base_url + call.path,
                duration=now - call.sent_at,
                waited=call.sent_at - call.asked_at,
                http_status=None if reply is None else reply.status,
                error=error,
                model=call.model,
                task_id=call.task_id,
                submit=call.submit,
                attempt=call.attempt,
            )
        )
