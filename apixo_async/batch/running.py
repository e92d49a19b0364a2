"""One run of a batch: a feeder that pulls lazily, one task per running job, outcomes in a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch import events
from apixo_async.batch.keys import KeyIndex
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
from apixo_async.veo import Request, is_request

_LOGGER = logging.getLogger("apixo_async")

BACKLOG: Final = 256
"""Jobs that may be saving, or wait for their outcome to be taken, beside those with a slot."""
PATIENCE: Final = 300.0
"""Seconds for which a batch puts up with a host that was reached before and is gone now."""
PATIENCE_AT_START: Final = 15.0

Item: TypeAlias = Request | Job
Source: TypeAlias = Iterable[Item] | AsyncIterable[Item]


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a runner was told, for one run. `deadline` is in seconds per task."""

    schedule: PollSchedule
    deadline: float
    save_to: Path | None
    on_event: Callable[[events.Event], None] | None


class NotAdmittedError(ApixoError):
    """The batch had stopped before this job was sent."""


def as_job(item: object) -> Job:
    """A job from what the input held; `TypeError` for what is neither a request nor a job."""
    if is_request(item):
        return Job(item)
    if isinstance(item, Job) and is_request(item.request):
        return item
    msg = f"expected a request or a Job, got {type(item).__name__}"
    raise TypeError(msg)


async def _next_of(source: Iterator[Item] | AsyncIterator[Item]) -> Item:
    """The next item; raises `StopAsyncIteration` at the end."""
    if isinstance(source, AsyncIterator):
        return await anext(source)
    try:
        return next(source)
    except StopIteration:
        pass
    raise StopAsyncIteration


class Run:
    """One run. `start` it, read `outcomes` until `None`, and `aclose` it whatever happened."""

    def __init__(self, client: ApixoClient, source: Source, settings: RunSettings) -> None:
        self._client = client
        self._settings = settings
        self._is_sized = isinstance(source, Sized) and isinstance(source, Iterable)
        self._source = iter(source) if isinstance(source, Iterable) else aiter(source)
        self._keys = KeyIndex()
        self._room = asyncio.Semaphore(client.engine.gate.limits.concurrent_tasks + BACKLOG)
        self._jobs: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None
        self._sending = 0
        self._none_sending = asyncio.Event()
        self._none_sending.set()
        self._index = 0
        self._closing = False
        self.outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue(BACKLOG)
        self.stopped: StopReason | None = None
        self.stop_error: BaseException | None = None

    # Life of the run

    def start(self) -> None:
        """Begins to pull items and submit them."""
        self._feeder = asyncio.create_task(self._feed())
        self._main = asyncio.create_task(self._run())

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Takes no more items and sends no more submits; what is running is still awaited."""
        if self.stopped is not None:
            return
        self.stopped, self.stop_error = reason, error
        self.publish(events.Stopped(reason=reason, message=str(error or "")))
        if self._feeder is not None:
            self._feeder.cancel()

    async def aclose(self) -> None:
        """Ends the run at once: POSTs in flight are answered and recorded, then waiting stops."""
        if self._main is not None and not self._main.done():
            self.stop(StopReason.REQUESTED)
        self._closing = True
        try:
            await self._none_sending.wait()
        finally:
            ours = [task for task in (self._feeder, self._main, *self._jobs) if task is not None]
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            self._keys.close()

    async def _run(self) -> None:
        if self._feeder is not None:
            await asyncio.wait([self._feeder])
        while self._jobs:
            await asyncio.wait(self._jobs)
        await self.outcomes.put(None)

    def publish(self, event: events.Event) -> None:
        """Hands an event to the user's callback, whose faults are its own."""
        if self._settings.on_event is None:
            return
        try:
            self._settings.on_event(event)
        except Exception:  # the user's code must not cost anyone a paid task
            _LOGGER.exception("on_event failed for %s", type(event).__name__)

    # Feeding

    async def _feed(self) -> None:
        try:
            while await self._feed_one():
                pass
        except asyncio.CancelledError:
            if self.stopped is None:
                raise
        except Exception as error:  # noqa: BLE001  # whatever the input raises ends the input only
            self.stop(StopReason.INPUT, error)
        if self.stopped is not None and self._is_sized:
            await self._skip_rest()

    async def _feed_one(self) -> bool:
        """Starts the next job as soon as there is room and a slot; false at the end."""
        await self._room.acquire()
        lease: Lease | None = None
        try:
            lease = await self._client.engine.lease()
            job = self._keys.claim(as_job(await _next_of(self._source)))
        except StopAsyncIteration:
            self._give_up_place(lease)
            return False
        except BaseException:
            self._give_up_place(lease)
            raise
        if job is None:
            self._give_up_place(lease)
        else:
            self._start_job(job, lease)
        return True

    def _give_up_place(self, lease: Lease | None) -> None:
        self._room.release()
        if lease is not None:
            lease.release()

    def _start_job(self, job: Job, lease: Lease) -> None:
        index, self._index = self._index, self._index + 1
        task = asyncio.create_task(self._job(index, job, lease))
        self._jobs.add(task)
        task.add_done_callback(self._job_done)

    def _job_done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(StopReason.INPUT, error)

    async def _skip_rest(self) -> None:
        """Every job of an input of known length gets an outcome, also those never begun."""
        if isinstance(self._source, AsyncIterator):
            return
        for item in self._source:
            job = self._keys.claim(as_job(item))
            if job is not None:
                outcome = self._not_started(self._index, job, None)
                self._index += 1
                await self.outcomes.put(outcome)

    # One job

    async def _job(self, index: int, job: Job, lease: Lease) -> None:
        mode = job.request.mode
        self.publish(
            events.Queued(key=job.key or "", index=index, model=job.request.model, mode=mode)
        )
        await self.outcomes.put(await self._carry_out(index, job, lease))

    async def _carry_out(self, index: int, job: Job, lease: Lease) -> Outcome:
        worked = self._client.engine.key_worked
        try:
            task = await self._client.engine.submit(
                job.request,
                lease=lease,
                observer=_Recorder(self, job.key or ""),
                patience=PATIENCE if worked else PATIENCE_AT_START,
            )
        except SubmitUncertainError as error:
            return Outcome(job=job, index=index, status=OutcomeStatus.UNCERTAIN, error=error)
        except NotAdmittedError:
            return self._not_started(index, job, self.stop_error)
        except ApixoError as error:
            if not stops_batch(error):
                return Outcome(job=job, index=index, status=OutcomeStatus.FAILED, error=error)
            self.stop(_stop_reason(error), error)
            return self._not_started(index, job, error)
        return await self._collect(index, job, task)

    def _not_started(self, index: int, job: Job, error: BaseException | None) -> Outcome:
        why = error if isinstance(error, ApixoError) else NotAdmittedError("the batch had stopped")
        self.publish(events.NotStarted(key=job.key or "", reason=str(why)))
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
            self.publish(events.Failed(key=key, task=ended, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.FAILED, ended, error)
        except ApixoError as error:
            last = getattr(error, "task", None) or task
            self.publish(events.TimedOut(key=key, task=last, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.TIMED_OUT, last, error)
        if not task.has_succeeded:
            return self._failed(index, job, task, task_failure(task))
        self.publish(events.Succeeded(key=key, task=task))
        return await self._save(index, job, task)

    def _failed(self, index: int, job: Job, task: Task, error: TaskFailedError) -> Outcome:
        self.publish(events.Failed(key=job.key or "", task=task, reason=str(error)))
        if means_no_credits(task.fail_code):
            self.stop(StopReason.BALANCE, error)
        return _outcome(job, index, OutcomeStatus.FAILED, task, error)

    async def _save(self, index: int, job: Job, task: Task) -> Outcome:
        if self._settings.save_to is None:
            return _outcome(job, index, OutcomeStatus.SUCCEEDED, task, None)
        key = job.key or ""
        try:
            files = await self._client.save(task, self._settings.save_to, name=key)
        except ApixoError as error:
            self.publish(events.SaveFailed(key=key, reason=str(error)))
            return _outcome(job, index, OutcomeStatus.SUCCEEDED, task, error)
        for file in files:
            self.publish(events.Saved(key=key, path=str(file), size=file.size, sha256=file.sha256))
        done = _outcome(job, index, OutcomeStatus.SUCCEEDED, task, None)
        return attrs.evolve(done, files=tuple(files))

    # What the recorder reports

    def begin_sending(self) -> None:
        """A POST is about to leave; refused once the run has stopped.

        A broken input only ends the input: what was taken from it before is still sent.
        """
        if self._closing or self.stopped not in {None, StopReason.INPUT}:
            msg = "the batch had stopped before this job was sent"
            raise NotAdmittedError(msg)
        self._sending += 1
        self._none_sending.clear()

    def end_sending(self) -> None:
        """A POST is answered and recorded."""
        self._sending -= 1
        if self._sending == 0:
            self._none_sending.set()


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

    def __init__(self, run: Run, key: str) -> None:
        self._run = run
        self._key = key

    async def sending(self, attempt: int) -> None:
        self._run.begin_sending()
        self._run.publish(events.Sending(key=self._key, attempt=attempt))

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
        self._run.publish(event)
        self._run.end_sending()
