"""One submit, at most once: what is sent again, what never is, and what survives a cancellation."""

from __future__ import annotations

import asyncio
import random

from apixo_async._logs import LOGGER, fields
from apixo_async._transport import Transport
from apixo_async._wire import (
    Reply,
    read_task_id,
    submit_path,
    unwrap,
)
from apixo_async.client.closing import Closing
from apixo_async.client.doubts import answer_of, denied, doubt_of
from apixo_async.client.hearing import Hearing
from apixo_async.client.judging import Judgement, judge
from apixo_async.client.submission import (
    BY_CALLBACK,
    Answer,
    Bookkeeper,
    Confirm,
    Submission,
)
from apixo_async.client.telling import Call, Teller
from apixo_async.errors import (
    ApixoError,
    ClientUsageError,
    NotSentError,
    RateLimitedError,
    SubmitUncertainError,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async.limits import Gate, Permit
from apixo_async.retries import SubmitVerdict, resubmit_delay
from apixo_async.tasks import Task


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
        teller: Teller | None = None,
    ) -> None:
        self._teller = teller
        self._transport = transport
        self._gate = gate
        self._books = books
        self._closing = closing
        self._confirm = confirm
        self._rng = rng
        self.posts: set[asyncio.Task[Task]] = set()
        """POSTs that were started and are not yet answered and recorded."""
        self.hearing = Hearing(
            closing, books, confirm=confirm, is_known=self._is_known, teller=teller
        )

    async def submit(self, submission: Submission) -> Task:
        """The accepted task; repeated only after `NotSentError` (within `patience`) and 429.

        On an error the lease is released, except when a task is or may be running behind it. A
        cancelled caller leaves at once; a POST in flight is still answered and recorded. One whose
        answer was lost becomes a task by what its answer or, with a `ticket`, a callback names.
        """
        if self._teller is not None:
            self._teller.queued(submission)
        try:
            return await self._attempts(submission)
        except SubmitUncertainError as error:
            doubt = error
        except BaseException as error:
            post = submission.post
            if post is not None and not post.done():
                post.add_done_callback(lambda post: self._settle_orphan(submission, post))
            elif post is not None and isinstance(error, asyncio.CancelledError):
                self._settle_orphan(submission, post)  # it ended as it was cancelled
            else:
                self._give_up(submission, error)
            if isinstance(error, asyncio.CancelledError):
                _raise_if_only_cut(submission)
            raise
        return await self.hearing.task_of(submission, doubt)

    async def _attempts(self, submission: Submission) -> Task:
        loop = asyncio.get_running_loop()
        attempt, failures, failing_since = 0, 0, 0.0
        while True:
            attempt += 1
            try:
                return await self._attempt(submission, attempt)
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

    async def _attempt(self, submission: Submission, attempt: int) -> Task:
        submission.post = submission.confirmed = None
        submission.attempt = attempt
        asked_at = asyncio.get_running_loop().time()
        with self._closing.waiting():
            turn = await self._gate.turn(submission.lease)
        post = asyncio.create_task(self._post(submission, attempt, turn.permit, asked_at))
        # The turn ends with the POST, which a cancelled caller leaves behind.
        post.add_done_callback(lambda _: turn.end())
        post.add_done_callback(self.posts.discard)
        self.posts.add(post)
        submission.post = post
        return await asyncio.shield(post)

    async def _hold(self, submission: Submission) -> SubmitUncertainError:
        """The doubt of a submit that does not leave: an earlier attempt was accepted after all."""
        self._books.task_may_run(submission.lease)
        reason = "before it was sent again, a callback named a task of an earlier attempt"
        error = SubmitUncertainError(
            model=submission.request.model, reason=reason, phase=BY_CALLBACK
        )
        if self._teller is not None:
            self._teller.uncertain(submission, error)
        if submission.observer is not None:
            await submission.observer.held(error)
        return error

    async def _post(
        self, submission: Submission, attempt: int, permit: Permit, asked_at: float
    ) -> Task:
        if submission.is_named:
            raise await self._hold(submission)
        # From here to the record of it there is no wait in which a callback could come.
        body = submission.body()
        submission.sent_at = asyncio.get_running_loop().time()
        if submission.observer is not None:
            await submission.observer.sending(attempt)
        reply: Reply | None = None
        try:
            if self._teller is None:
                reply = await self._answer(submission, body)
            else:
                reply = await self._told(self._teller, submission, body, asked_at)
            task_id = self._new_id(submission, read_task_id(unwrap(reply)))
        except ApixoError as error:
            failure = error
        except BaseException as error:
            # The client is torn down with the POST on its way, or something broke that never does.
            self._books.task_may_run(submission.lease)
            is_cut = isinstance(error, asyncio.CancelledError)
            why = "was cut before it was answered" if is_cut else f"broke: {error!r}"
            submission.cut(doubt_of(submission, f"the submit {why}"))
            if self._teller is not None and submission.doubt is not None:
                self._teller.uncertain(submission, submission.doubt)
            raise
        else:
            return await self._accepted(submission, task_id, permit, answer_of(reply))
        if reply is not None and not isinstance(failure, RateLimitedError):
            self._gate.failed(permit)
        judged = judge(submission.request, failure, reply, named=submission.named)
        if judged.verdict is SubmitVerdict.UNCERTAIN:
            return await self._uncertain(submission, failure, judged, permit)
        return await self._refused(submission, failure, judged.verdict, attempt, permit)

    async def _answer(self, submission: Submission, body: bytes) -> Reply:
        """The answer; raises `UnansweredError` if a callback named a task that is there without."""
        path = submit_path(submission.request.model)
        if submission.ticket is None:
            return await self._transport.send("POST", path, body=body)
        answer = asyncio.create_task(self._transport.send("POST", path, body=body))
        hint = asyncio.create_task(self.hearing.confirmed(submission, submission.ticket))
        try:
            await asyncio.wait((answer, hint), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and hint.exception() is None:
                submission.confirmed = hint.result()
                raise UnansweredError("a callback came, and no answer", host="", reason="timeout")
            return await answer  # an error of a look says nothing of the submit
        finally:
            answer.cancel()
            hint.cancel()
            await asyncio.gather(answer, hint, return_exceptions=True)

    async def _told(
        self, teller: Teller, submission: Submission, body: bytes, asked_at: float
    ) -> Reply:
        """As `_answer`, where somebody listens."""
        model = submission.request.model
        call = Call("POST", "submit", submit_path(model), asked_at, model=model)
        call.submit, call.attempt = submission.number, submission.attempt
        call.begin()
        reply: Reply | None = None
        failed: str | None = None
        try:
            answer = reply = await self._answer(submission, body)
            failed = _read_into(call, answer)
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            teller.requested(call, reply, failed)
        return answer

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

    async def _accepted(
        self, submission: Submission, task_id: str, permit: Permit, answer: Answer
    ) -> Task:
        task = Task(id=task_id, model=submission.request.model)
        self._gate.accepted(submission.lease, permit)
        self._books.task_started(task, submission.lease, ticket=submission.ticket)
        if self._teller is not None:
            self._teller.accepted(submission, task_id)
        if submission.observer is not None:
            try:
                await submission.observer.accepted(task, answer)
            except BaseException as error:
                LOGGER.critical(
                    "task %s (%s) was accepted, is running and billed, and could not be "
                    "recorded: %s",
                    task_id,
                    task.model,
                    type(error).__name__ if isinstance(error, asyncio.CancelledError) else error,
                    extra=fields(
                        "task_unrecorded",
                        task_id=task_id,
                        model=task.model,
                        key=submission.key,
                        attempt=submission.attempt,
                        error=error,
                    ),
                )
                if isinstance(error, ApixoError):
                    error.task_id = task_id
                raise
        return task

    async def _refused(
        self,
        submission: Submission,
        failure: ApixoError,
        verdict: SubmitVerdict,
        attempt: int,
        permit: Permit,
    ) -> Task:
        """Surely no task exists: tells the observer what that means and raises it."""
        if isinstance(failure, RateLimitedError):
            self._gate.throttled(permit, retry_after=failure.retry_after, submit=True)
        elif verdict is SubmitVerdict.REJECTED:
            self._gate.rejected(permit)
            if self._teller is not None:
                self._teller.rejected(submission, failure)
        if submission.observer is not None:
            if verdict is SubmitVerdict.REJECTED:
                await submission.observer.rejected(failure)
            else:
                await submission.observer.not_sent(attempt, failure)
        raise failure

    async def _uncertain(
        self, submission: Submission, failure: ApixoError, judged: Judgement, permit: Permit
    ) -> Task:
        """A task may exist: it is saved if its id was seen and is confirmed, else stated."""
        model, candidate = submission.request.model, judged.candidate
        self._books.task_may_run(submission.lease)
        if candidate is not None and self._is_known(submission, candidate):
            candidate = None
        error = doubt_of(submission, str(failure), failure, judged.answer.text, candidate)
        try:
            is_there = candidate is not None and (
                candidate == submission.confirmed or await self._confirm(candidate, model)
            )
        except asyncio.CancelledError:
            submission.cut(error)
            if self._teller is not None:
                self._teller.uncertain(submission, error)
            raise
        if candidate is not None and is_there:
            # Another submit may have been given the same id while it was confirmed.
            if not self._is_known(submission, candidate):
                return await self._accepted(submission, candidate, permit, judged.answer)
            error = denied(error)
        if self._teller is not None:
            self._teller.uncertain(submission, error)
        if submission.observer is not None:
            await submission.observer.uncertain(error)
        raise error

    def _settle_orphan(self, submission: Submission, post: asyncio.Task[Task]) -> None:
        """The POST of a cancelled caller has ended: its slot and its task id are looked after."""
        self._give_up(submission, None)
        if submission.ticket is not None:
            submission.ticket.leave()
        _log_orphan(submission, post)

    def _give_up(self, submission: Submission, error: BaseException | None) -> None:
        """Nothing came of it, unless a task is or may be running behind its lease."""
        if submission.lease.is_running:
            return
        submission.lease.release()
        if submission.ticket is not None:
            submission.ticket.close()
        if self._teller is not None:
            self._teller.not_started(submission, error)


def _read_into(call: Call, reply: Reply) -> str | None:
    """Takes the task id of an answer; the class of what is wrong with one that has none."""
    try:
        call.task_id = read_task_id(unwrap(reply))
    except ApixoError as error:
        return type(error).__name__  # raised where it is judged
    return None


def _raise_if_only_cut(submission: Submission) -> None:
    """A POST was cancelled, and nobody has cancelled its caller: the client was torn down."""
    caller = asyncio.current_task()
    if caller is None or caller.cancelling():
        return
    if submission.doubt is not None:
        raise submission.doubt from None
    if not submission.lease.is_running:
        raise ClientUsageError("the client was closed; nothing was sent") from None


def _log_orphan(submission: Submission, post: asyncio.Task[Task]) -> None:
    model, key = submission.request.model, submission.key
    if post.cancelled():
        if submission.doubt is not None:
            LOGGER.warning(
                "a submit was cut: %s",
                submission.doubt,
                extra=fields("submit_cut", model=model, key=key, error=submission.doubt),
            )
    elif (error := post.exception()) is None:
        task_id = post.result().id
        LOGGER.warning(
            "task %s (%s) was accepted after its caller was cancelled; it is running and billed",
            task_id,
            model,
            extra=fields("orphan_accepted", task_id=task_id, model=model, key=key),
        )
    else:
        LOGGER.warning(
            "a submit whose caller was cancelled ended: %s",
            error,
            extra=fields("orphan_ended", model=model, key=key, error=error),
        )
