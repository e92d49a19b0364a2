"""One job of a batch from its lease to its outcome: submit, wait, save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch import events
from apixo_async.batch.admission import Admission, NotAdmittedError
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.client import ApixoClient
from apixo_async.errors import (
    APIError,
    ApixoError,
    AuthenticationError,
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

Publish = Callable[[events.Event], None]


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a runner was told, for one run. `deadline` is in seconds per task."""

    schedule: PollSchedule
    deadline: float
    save_to: Path | None
    on_event: Publish | None


class Carrier:
    """Carries jobs out. Every expected error is an outcome; others are bugs and pass through."""

    def __init__(
        self, client: ApixoClient, settings: RunSettings, admission: Admission, publish: Publish
    ) -> None:
        self._client = client
        self._settings = settings
        self._admission = admission
        self._publish = publish

    async def carry_out(self, index: int, job: Job, lease: Lease) -> Outcome:
        """The outcome of one job; its lease is settled whatever happens."""
        worked = self._client.engine.key_worked
        try:
            task = await self._client.engine.submit(
                job.request,
                lease=lease,
                observer=_Recorder(self._admission, self._publish, job.key or ""),
                patience=PATIENCE if worked else PATIENCE_AT_START,
            )
        except SubmitUncertainError as error:
            return Outcome(job=job, index=index, status=OutcomeStatus.UNCERTAIN, error=error)
        except NotAdmittedError:
            return self.not_started(index, job, self._admission.error)
        except ApixoError as error:
            if not stops_batch(error):
                return Outcome(job=job, index=index, status=OutcomeStatus.FAILED, error=error)
            self._admission.stop(_stop_reason(error), error)
            return self.not_started(index, job, error)
        return await self._collect(index, job, task)

    def not_started(self, index: int, job: Job, error: BaseException | None) -> Outcome:
        """The outcome of a job that the stop of the batch came before."""
        why = error if isinstance(error, ApixoError) else NotAdmittedError()
        self._publish(events.NotStarted(key=job.key or "", reason=str(why)))
        return Outcome(job=job, index=index, status=OutcomeStatus.NOT_STARTED, error=why)

    async def _collect(self, index: int, job: Job, task: Task) -> Outcome:
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
        if not task.has_succeeded:
            return self._failed(index, job, task, task_failure(task))
        self._publish(events.Succeeded(key=key, task=task))
        return await self._save(index, job, task)

    def _failed(self, index: int, job: Job, task: Task, error: TaskFailedError) -> Outcome:
        self._publish(events.Failed(key=job.key or "", task=task, reason=str(error)))
        if means_no_credits(task.fail_code):
            self._admission.stop(StopReason.BALANCE, error)
        return _outcome(job, index, OutcomeStatus.FAILED, task, error)

    async def _save(self, index: int, job: Job, task: Task) -> Outcome:
        if self._settings.save_to is None:
            return _outcome(job, index, OutcomeStatus.SUCCEEDED, task, None)
        key = job.key or ""
        try:
            files = await self._client.save(task, self._settings.save_to, name=key)
        except ApixoError as error:
            self._publish(events.SaveFailed(key=key, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.SUCCEEDED, task, error)
        for file in files:
            self._publish(events.Saved(key=key, path=str(file), size=file.size, sha256=file.sha256))
        done = _outcome(job, index, OutcomeStatus.SUCCEEDED, task, None)
        return attrs.evolve(done, files=tuple(files))


def _outcome(
    job: Job, index: int, status: OutcomeStatus, task: Task, error: ApixoError | None
) -> Outcome:
    return Outcome(job=job, index=index, status=status, task=task, error=error)


def _stop_reason(error: ApixoError) -> StopReason:
    match error:
        case AuthenticationError():
            return StopReason.KEY
        case InsufficientCreditsError():
            return StopReason.BALANCE
        case _:
            return StopReason.UNREACHABLE


class _Recorder:
    """Turns the steps of one submit into events."""

    def __init__(self, admission: Admission, publish: Publish, key: str) -> None:
        self._admission = admission
        self._publish = publish
        self._key = key

    async def sending(self, attempt: int) -> None:
        self._admission.begin()
        self._publish(events.Sending(key=self._key, attempt=attempt))

    async def not_sent(self, attempt: int, error: ApixoError) -> None:
        self._end(events.NotSent(key=self._key, attempt=attempt, reason=str(error)))

    async def accepted(self, task: Task) -> None:
        self._end(events.Accepted(key=self._key, task_id=task.id, model=task.model))

    async def rejected(self, error: ApixoError) -> None:
        code = error.code if isinstance(error, APIError) else None
        self._end(events.Rejected(key=self._key, reason=str(error), code=code))

    async def uncertain(self, error: SubmitUncertainError) -> None:
        self._end(
            events.Uncertain(
                key=self._key,
                reason=error.reason,
                phase=error.phase,
                received=error.received,
                candidate_task_id=error.candidate_task_id,
            )
        )

    def _end(self, event: events.Event) -> None:
        self._publish(event)
        self._admission.end()
