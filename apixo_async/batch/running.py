"""One run of a batch: a feeder that pulls lazily, one task per running job, outcomes in a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sized,
)
from typing import Final, TypeAlias

from apixo_async.batch import events
from apixo_async.batch.admission import Admission
from apixo_async.batch.carrying import Carrier, RunSettings
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, StopReason
from apixo_async.client import ApixoClient
from apixo_async.limits import Lease
from apixo_async.veo import Request, is_request

_LOGGER = logging.getLogger("apixo_async")

BACKLOG: Final = 256
"""Jobs that may be saving, or wait for their outcome to be taken, beside those with a slot."""

Item: TypeAlias = Request | Job
Source: TypeAlias = Iterable[Item] | AsyncIterable[Item]


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
        # An async generator that is left half-way must be closed; other iterators have no end.
        self._close_source: Callable[[], Awaitable[None]] | None = getattr(
            self._source, "aclose", None
        )
        self._keys = KeyIndex()
        self._room = asyncio.Semaphore(client.engine.gate.limits.concurrent_tasks + BACKLOG)
        self._jobs: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None
        self._index = 0
        self.admission = Admission(self._stopped)
        self._carrier = Carrier(client, settings, self.admission, self.publish)
        self.outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue(BACKLOG)

    # Life of the run

    def start(self) -> None:
        """Begins to pull items and submit them."""
        self._feeder = asyncio.create_task(self._feed())
        self._main = asyncio.create_task(self._run())

    def _stopped(self, reason: StopReason, error: BaseException | None) -> None:
        self.publish(events.Stopped(reason=reason, message=str(error or "")))
        if self._feeder is not None:
            self._feeder.cancel()

    async def aclose(self) -> None:
        """Ends the run at once: POSTs in flight are answered and recorded, then waiting stops."""
        if self._main is not None and not self._main.done():
            self.admission.stop(StopReason.REQUESTED)
        self.admission.close()
        try:
            await self.admission.wait_none_sending()
        finally:
            ours = [task for task in (self._feeder, self._main, *self._jobs) if task is not None]
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            self._keys.close()
            if self._close_source is not None:
                await self._close_source()

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
            if self.admission.stopped is None:
                raise
        except Exception as error:  # noqa: BLE001  # whatever the input raises ends the input only
            self.admission.stop(StopReason.INPUT, error)
        if self.admission.stopped is not None and self._is_sized:
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
            self.admission.stop(StopReason.INPUT, error)

    async def _skip_rest(self) -> None:
        """Every job of an input of known length gets an outcome, also those never begun."""
        if isinstance(self._source, AsyncIterator):
            return
        for item in self._source:
            job = self._keys.claim(as_job(item))
            if job is not None:
                outcome = self._carrier.not_started(self._index, job, None)
                self._index += 1
                await self.outcomes.put(outcome)

    # Jobs

    async def _job(self, index: int, job: Job, lease: Lease) -> None:
        mode = job.request.mode
        self.publish(
            events.Queued(key=job.key or "", index=index, model=job.request.model, mode=mode)
        )
        await self.outcomes.put(await self._carrier.carry_out(index, job, lease))
