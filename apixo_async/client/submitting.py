"""One submit, at most once: what is sent again, what never is, and what survives a cancellation."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs

from apixo_async._transport import Transport
from apixo_async._wire import (
    Reply,
    candidate_task_id,
    encode,
    excerpt,
    read_task_id,
    submit_body,
    submit_path,
    unwrap,
)
from apixo_async.client.closing import Closing
from apixo_async.errors import (
    APIError,
    ApixoError,
    NotSentError,
    RateLimitedError,
    SubmitUncertainError,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async.limits import Gate, Lease, Permit
from apixo_async.retries import SubmitVerdict, resubmit_delay, submit_verdict
from apixo_async.tasks import Task
from apixo_async.veo import Request

_LOGGER = logging.getLogger("apixo_async")


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

    async def accepted(self, task: Task) -> None:
        """The task exists."""

    async def rejected(self, error: ApixoError) -> None:
        """The API refused; there is no task."""

    async def uncertain(self, error: SubmitUncertainError) -> None:
        """Nobody can say whether there is a task."""

    def cut(self, error: SubmitUncertainError) -> None:
        """Nobody can say it, and nobody waits any more: the client is torn down."""

    def is_known(self, task_id: str) -> bool:
        """Whether another job is known to have this task; ours are known already."""
        ...


@attrs.define(eq=False)
class Submission:
    """One request on its way. `patience` is how long an unreachable host is put up with, in s."""

    request: Request
    lease: Lease
    patience: float
    observer: SubmitObserver | None = None
    callback_url: str | None = None
    post: asyncio.Task[Task] | None = attrs.field(default=None, init=False)


class Bookkeeper(Protocol):
    """What the submitter reports to, so that the slot follows the task and not the caller."""

    def is_known(self, task_id: str) -> bool:
        """Whether this id was given to one of our submits before."""
        ...

    def task_started(self, task: Task, lease: Lease) -> None:
        """The lease belongs to this task from now on."""

    def task_may_run(self, lease: Lease) -> None:
        """The lease is held for a stated time, because a task may be running."""


Confirm = Callable[[str, str], Awaitable[bool]]
"""Whether the API knows this task id (first argument) of this model (second)."""


class Submitter:
    """Sends submits. Owns the POSTs in flight, so that no answer is lost with its caller."""

    def __init__(
        self,
        transport: Transport,
        gate: Gate,
        books: Bookkeeper,
        closing: Closing,
        *,
        confirm: Confirm,
        rng: random.Random,
    ) -> None:
        self._transport = transport
        self._gate = gate
        self._books = books
        self._closing = closing
        self._confirm = confirm
        self._rng = rng
        self._posts: set[asyncio.Task[Task]] = set()

    @property
    def in_flight(self) -> int:
        """POSTs that were started and are not yet answered and recorded."""
        return len(self._posts)

    async def submit(self, submission: Submission) -> Task:
        """The accepted task; repeated only after `NotSentError` (within `patience`) and 429.

        On an error the lease is released, except when a task is or may be running behind it. A
        cancelled caller leaves at once; a POST in flight is still answered and recorded.
        """
        body = encode(submit_body(submission.request, callback_url=submission.callback_url))
        try:
            return await self._attempts(submission, body)
        except BaseException as error:
            post = submission.post
            if post is not None and not post.done():
                post.add_done_callback(lambda post: _settle_orphan(submission, post))
            elif post is not None and isinstance(error, asyncio.CancelledError):
                _settle_orphan(submission, post)  # it ended in the very moment of cancellation
            else:
                _release_unless_running(submission.lease)
            raise

    async def _attempts(self, submission: Submission, body: bytes) -> Task:
        loop = asyncio.get_running_loop()
        attempt, failures, failing_since = 0, 0, 0.0
        while True:
            attempt += 1
            try:
                return await self._attempt(submission, body, attempt)
            except RateLimitedError:
                failures = 0
            except NotSentError as error:
                failing_since = failing_since if failures else loop.time()
                failures += 1
                patience_left = submission.patience - (loop.time() - failing_since)
                if not error.is_retryable or patience_left <= 0:
                    raise
                delay = resubmit_delay(failures, unit=self._rng.random())
                with self._closing.waiting():
                    await asyncio.sleep(min(delay, patience_left))

    async def _attempt(self, submission: Submission, body: bytes, attempt: int) -> Task:
        submission.post = None
        with self._closing.waiting():
            turn = await self._gate.turn(submission.lease)
        post = asyncio.create_task(self._post(submission, body, attempt, turn.permit))
        # The turn ends with the POST, which a cancelled caller leaves behind.
        post.add_done_callback(lambda _: turn.end())
        post.add_done_callback(self._posts.discard)
        self._posts.add(post)
        submission.post = post
        return await asyncio.shield(post)

    async def _post(
        self, submission: Submission, body: bytes, attempt: int, permit: Permit
    ) -> Task:
        if submission.observer is not None:
            await submission.observer.sending(attempt)
        reply: Reply | None = None
        try:
            path = submit_path(submission.request.model)
            reply = await self._transport.send("POST", path, body=body)
            task_id = self._new_id(submission, read_task_id(unwrap(reply)))
        except ApixoError as error:
            failure = error
        except BaseException as error:
            # The client is torn down with the POST on its way, or something broke that never does.
            self._books.task_may_run(submission.lease)
            if submission.observer is not None:
                is_cut = isinstance(error, asyncio.CancelledError)
                why = "was cut before it was answered" if is_cut else f"broke: {error!r}"
                submission.observer.cut(_doubt(submission, f"the submit {why}"))
            raise
        else:
            return await self._accepted(submission, task_id, permit)
        if reply is not None and not isinstance(failure, RateLimitedError):
            self._gate.failed(permit)
        answer = reply.body.decode("utf-8", "replace") if reply is not None else _received(failure)
        candidate = candidate_task_id(answer)
        if candidate == getattr(submission.request, "task_id", None):
            candidate = None  # an extension's own source, quoted in a refusal
        if candidate is not None or submit_verdict(failure) is SubmitVerdict.UNCERTAIN:
            # An answer that holds a task id is no refusal, whatever else it says.
            return await self._uncertain(submission, failure, answer, candidate, permit)
        return await self._refused(submission, failure, attempt, permit)

    def _is_known(self, submission: Submission, task_id: str) -> bool:
        observer = submission.observer
        return self._books.is_known(task_id) or (
            observer is not None and observer.is_known(task_id)
        )

    def _new_id(self, submission: Submission, task_id: str) -> str:
        """The id, if it is new: one task must never be taken for the video of two jobs."""
        if self._is_known(submission, task_id):
            raise UnexpectedAnswerError(f"answered with the id of another task, {task_id}")
        return task_id

    async def _accepted(self, submission: Submission, task_id: str, permit: Permit) -> Task:
        task = Task(id=task_id, model=submission.request.model)
        self._gate.accepted(submission.lease, permit)
        self._books.task_started(task, submission.lease)
        if submission.observer is not None:
            try:
                await submission.observer.accepted(task)
            except BaseException as error:
                _LOGGER.critical(
                    "task %s (%s) was accepted, is running and billed, and could not be "
                    "recorded: %s",
                    task_id,
                    task.model,
                    type(error).__name__ if isinstance(error, asyncio.CancelledError) else error,
                    extra={"task_id": task_id, "model": task.model},
                )
                if isinstance(error, ApixoError):
                    error.task_id = task_id
                raise
        return task

    async def _refused(
        self, submission: Submission, failure: ApixoError, attempt: int, permit: Permit
    ) -> Task:
        """Surely no task exists: tells the observer what that means and raises it."""
        if isinstance(failure, RateLimitedError):
            self._gate.throttled(permit, retry_after=failure.retry_after, submit=True)
        elif submit_verdict(failure) is SubmitVerdict.REJECTED:
            self._gate.rejected(permit)
        if submission.observer is not None:
            if submit_verdict(failure) is SubmitVerdict.REJECTED:
                await submission.observer.rejected(failure)
            else:
                await submission.observer.not_sent(attempt, failure)
        raise failure

    async def _uncertain(
        self,
        submission: Submission,
        failure: ApixoError,
        answer: str,
        candidate: str | None,
        permit: Permit,
    ) -> Task:
        """A task may exist: it is saved if its id was seen and is confirmed, else stated."""
        model = submission.request.model
        self._books.task_may_run(submission.lease)
        if candidate is not None and self._is_known(submission, candidate):
            candidate = None
        # Another submit may have been given the same id while it was confirmed.
        if (
            candidate is not None
            and await self._confirm(candidate, model)
            and not self._is_known(submission, candidate)
        ):
            return await self._accepted(submission, candidate, permit)
        error = _doubt(submission, str(failure), failure, answer, candidate)
        if submission.observer is not None:
            await submission.observer.uncertain(error)
        raise error

    async def drain(self) -> None:
        """Waits until every POST in flight is answered and recorded; cancelled, it cuts them."""
        try:
            while self._posts:
                await asyncio.wait(self._posts)
        except asyncio.CancelledError:
            posts = list(self._posts)
            for post in posts:
                post.cancel()
            await asyncio.gather(*posts, return_exceptions=True)
            raise


def _doubt(
    submission: Submission,
    reason: str,
    failure: ApixoError | None = None,
    answer: str = "",
    candidate: str | None = None,
) -> SubmitUncertainError:
    received = answer.encode("utf-8", "replace")
    is_cut = failure is None or isinstance(failure, UnansweredError)
    return SubmitUncertainError(
        model=submission.request.model,
        reason=reason,
        phase="answer" if not is_cut else "answering" if received else "sent",
        received=excerpt(received),
        received_bytes=_size(failure, received),
        candidate_task_id=candidate,
        http_status=failure.http_status if isinstance(failure, APIError) else None,
    )


def _size(failure: ApixoError | None, received: bytes) -> int:
    """Bytes of the answer that arrived; what is left of a long one was shortened."""
    return failure.received_bytes if isinstance(failure, UnansweredError) else len(received)


def _received(failure: ApixoError) -> str:
    return failure.received if isinstance(failure, UnansweredError) else ""


def _release_unless_running(lease: Lease) -> None:
    if not lease.is_running:
        lease.release()


def _settle_orphan(submission: Submission, post: asyncio.Task[Task]) -> None:
    """The POST of a cancelled caller has ended: its slot and its task id are looked after."""
    _release_unless_running(submission.lease)
    model = submission.request.model
    if post.cancelled():
        _LOGGER.warning("a %s submit was cut; a task may be running", model)
    elif (error := post.exception()) is None:
        task_id = post.result().id
        _LOGGER.warning(
            "task %s (%s) was accepted after its caller was cancelled; it is running and billed",
            task_id,
            model,
            extra={"task_id": task_id, "model": model},
        )
    else:
        _LOGGER.warning("a submit whose caller was cancelled ended: %s", error)
