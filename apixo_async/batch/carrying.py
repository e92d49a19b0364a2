"""One job of a batch from its lease to its outcome: submit, wait, save."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch import events
from apixo_async.batch.admission import Admission, NotAdmittedError
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.client import ApixoClient
from apixo_async.downloads import SavedFile
from apixo_async.errors import (
    APIError,
    ApixoError,
    AuthenticationError,
    DownloadError,
    InsufficientCreditsError,
    SubmitUncertainError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.limits import Lease
from apixo_async.polling import PollSchedule
from apixo_async.retries import stops_batch
from apixo_async.tasks import Task

PATIENCE: Final = 300.0
"""Seconds for which a batch puts up with a host that was reached before and is gone now."""
PATIENCE_AT_START: Final = 15.0

_LOGGER = logging.getLogger("apixo_async")

Publish = Callable[[events.Event], None]


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a runner was told, for one run. `deadline` is in seconds per task."""

    schedule: PollSchedule
    deadline: float
    save_to: Path | None
    on_event: Publish | None


class _StoppedWaitingError(ApixoError):
    """We left while the task was still running."""

    def __init__(self) -> None:
        super().__init__(
            "the batch was ended before this task was; it goes on: wait for it by its id"
        )


class _UnexpectedError(ApixoError):
    """An error that nothing here provides for; the log has its traceback.

    It is not chained to its cause, which may be an aiohttp error, whose repr holds the API key.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"unexpected {type(cause).__name__}: {cause}")


class Carrier:
    """Carries jobs out. Whatever goes wrong with one job is its outcome, a bug of ours included."""

    def __init__(
        self, client: ApixoClient, settings: RunSettings, admission: Admission, publish: Publish
    ) -> None:
        self._client = client
        self._settings = settings
        self._admission = admission
        self._publish = publish
        self.given_up: list[Outcome] = []
        """Jobs that were cancelled and have a task, or may have one."""

    async def carry_out(self, index: int, job: Job, lease: Lease) -> Outcome:
        """The outcome of one job; its lease is settled whatever happens.

        Cancelled with a task accepted, or maybe accepted, it leaves the outcome in `given_up`.
        """
        story = _Story(self._admission, self._publish, job.key or "")
        try:
            return await self._carry_out(index, job, lease, story)
        except asyncio.CancelledError:
            if story.task is not None:
                self.given_up.append(self._cut_short(index, job, story, _StoppedWaitingError()))
            elif story.doubt is not None:
                self.given_up.append(_uncertain(index, job, story.doubt))
            raise
        except Exception as error:
            _LOGGER.exception("job %r met an error that is a bug", job.key)
            if story.task is None and not story.is_sent:
                lease.release()
            return await self._after_bug(index, job, story, _UnexpectedError(error))

    async def _carry_out(self, index: int, job: Job, lease: Lease, story: _Story) -> Outcome:
        try:
            task = await self._submit(job, lease, story)
        except SubmitUncertainError as error:
            return _uncertain(index, job, error)
        except NotAdmittedError:
            lease.release()
            return self.not_started(index, job, self._admission.refusal)
        except ApixoError as error:
            if not stops_batch(error):
                return Outcome(job=job, index=index, status=OutcomeStatus.FAILED, error=error)
            self._admission.stop(_stop_reason(error), error)
            return self.not_started(index, job, error)
        return await self._collect(index, job, task, story)

    async def _submit(self, job: Job, lease: Lease, story: _Story) -> Task:
        """The accepted task; raises `NotAdmittedError` if the batch stopped before it was sent."""
        worked = self._client.engine.key_worked
        with story.waiting_to_send() as asyncio_task:
            try:
                return await self._client.engine.submit(
                    job.request,
                    lease=lease,
                    observer=story,
                    patience=PATIENCE if worked else PATIENCE_AT_START,
                )
            except asyncio.CancelledError:
                if not self._admission.has_called_back(asyncio_task):
                    raise
                asyncio_task.uncancel()
                raise NotAdmittedError from None

    async def _after_bug(self, index: int, job: Job, story: _Story, error: ApixoError) -> Outcome:
        if not story.is_sent:
            return self._cut_short(index, job, story, error)
        uncertain = SubmitUncertainError(model=job.request.model, reason=str(error))
        await story.uncertain(uncertain)
        return _uncertain(index, job, uncertain)

    def _cut_short(self, index: int, job: Job, story: _Story, error: ApixoError) -> Outcome:
        """The outcome of a job that did not come to its end, by how far it came."""
        key, task = job.key or "", story.task
        if task is None:
            return Outcome(job=job, index=index, status=OutcomeStatus.FAILED, error=error)
        if task.has_succeeded:
            lost = DownloadError(str(error), url="", reason="cut_short")
            return self._saved(index, job, story, task, lost)
        if task.is_terminal:
            return _outcome(job, index, OutcomeStatus.FAILED, task, error)
        self._publish(events.TimedOut(key=key, task=task, reason=str(error)))
        return _outcome(job, index, OutcomeStatus.TIMED_OUT, task, error)

    def not_started(self, index: int, job: Job, error: BaseException | None) -> Outcome:
        """The outcome of a job that the stop of the batch came before."""
        why = error if isinstance(error, ApixoError) else NotAdmittedError()
        self._publish(events.NotStarted(key=job.key or "", reason=str(why)))
        return Outcome(job=job, index=index, status=OutcomeStatus.NOT_STARTED, error=why)

    async def _collect(self, index: int, job: Job, task: Task, story: _Story) -> Outcome:
        key = job.key or ""
        settings = self._settings
        try:
            task = await self._client.engine.wait(
                task, schedule=settings.schedule, timeout=settings.deadline
            )
        except UnexpectedAnswerError as error:
            ended = error.task or task
            self._publish(events.Failed(key=key, task=ended, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.FAILED, ended, error)
        except ApixoError as error:
            last = getattr(error, "task", None) or task
            self._publish(events.TimedOut(key=key, task=last, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.TIMED_OUT, last, error)
        story.task = task
        if not task.has_succeeded:
            return self._failed(index, job, task, task_failure(task))
        self._publish(events.Succeeded(key=key, task=task))
        return await self._save(index, job, task, story)

    def _failed(self, index: int, job: Job, task: Task, error: TaskFailedError) -> Outcome:
        self._publish(events.Failed(key=job.key or "", task=task, reason=str(error)))
        if means_no_credits(task.fail_code):
            self._admission.stop(StopReason.BALANCE, error)
        return _outcome(job, index, OutcomeStatus.FAILED, task, error)

    async def _save(self, index: int, job: Job, task: Task, story: _Story) -> Outcome:
        if self._settings.save_to is None:
            return _outcome(job, index, OutcomeStatus.SUCCEEDED, task, None)
        key, failure = job.key or "", None
        try:
            await self._client.save(task, self._settings.save_to, name=key, observer=story)
        except ApixoError as error:
            failure = error
        return self._saved(index, job, story, task, failure)

    def _saved(
        self, index: int, job: Job, story: _Story, task: Task, error: ApixoError | None
    ) -> Outcome:
        """The outcome of a success with the files that were saved, all of them or not."""
        key = job.key or ""
        for file in story.files:
            self._publish(events.Saved(key=key, path=str(file), size=file.size, sha256=file.sha256))
        if error is not None:
            self._publish(events.SaveFailed(key=key, reason=str(error)))
        done = _outcome(job, index, OutcomeStatus.SUCCEEDED, task, error)
        return attrs.evolve(done, files=tuple(story.files))


def _outcome(
    job: Job, index: int, status: OutcomeStatus, task: Task, error: ApixoError | None
) -> Outcome:
    return Outcome(job=job, index=index, status=status, task=task, error=error)


def _uncertain(index: int, job: Job, error: SubmitUncertainError) -> Outcome:
    return Outcome(job=job, index=index, status=OutcomeStatus.UNCERTAIN, error=error)


def _stop_reason(error: ApixoError) -> StopReason:
    match error:
        case AuthenticationError():
            return StopReason.KEY
        case InsufficientCreditsError():
            return StopReason.BALANCE
        case _:
            return StopReason.UNREACHABLE


class _Story:
    """How far one job has come; turns the steps of its submit into events."""

    def __init__(self, admission: Admission, publish: Publish, key: str) -> None:
        self._admission = admission
        self._publish = publish
        self._key = key
        self._job: asyncio.Task[Any] | None = None
        self.is_sent = False
        """Whether a POST left that may have made a task, and nothing was recorded about it."""
        self.task: Task | None = None
        """The task as last seen, from its acceptance on."""
        self.doubt: SubmitUncertainError | None = None
        """Why nobody can say whether there is a task."""
        self.files: list[SavedFile] = []
        """What was saved of its results."""

    @contextmanager
    def waiting_to_send(self) -> Generator[asyncio.Task[Any]]:
        """The submit takes place in this block; gives the asyncio task that waits for it."""
        job = self._job = asyncio.current_task()
        if job is None:  # pragma: no cover  # there is always one in a coroutine
            raise NotAdmittedError
        self._admission.enter(job)
        try:
            yield job
        finally:
            self._admission.leave(job)

    async def sending(self, attempt: int) -> None:
        if self._job is not None:
            self._admission.begin(self._job)
        self.is_sent = True
        self._publish(events.Sending(key=self._key, attempt=attempt))

    async def not_sent(self, attempt: int, error: ApixoError) -> None:
        event = events.NotSent(key=self._key, attempt=attempt, reason=str(error))
        self._end(event, will_wait=True)

    async def accepted(self, task: Task) -> None:
        self.task = task
        self._end(events.Accepted(key=self._key, task_id=task.id, model=task.model))

    async def rejected(self, error: ApixoError) -> None:
        code = error.code if isinstance(error, APIError) else None
        self._end(events.Rejected(key=self._key, reason=str(error), code=code))

    async def uncertain(self, error: SubmitUncertainError) -> None:
        self.doubt = error
        self._end(
            events.Uncertain(
                key=self._key,
                reason=error.reason,
                phase=error.phase,
                received=error.received,
                candidate_task_id=error.candidate_task_id,
            )
        )

    def _end(self, event: events.Event, *, will_wait: bool = False) -> None:
        self.is_sent = False
        self._publish(event)
        if self._job is not None:
            self._admission.end(self._job, will_wait=will_wait)

    async def naming(self, file: SavedFile) -> None:
        pass  # nothing is kept of it yet

    async def saved(self, file: SavedFile) -> None:
        self.files.append(file)
