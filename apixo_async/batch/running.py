"""One run of a batch: a feeder that pulls lazily, one task per running job, outcomes in a queue."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sized,
)
from datetime import UTC, datetime
from typing import Final

import attrs

from apixo_async._wire import fingerprint
from apixo_async.batch import events
from apixo_async.batch.admission import Admission
from apixo_async.batch.carrying import Carrier, RunSettings
from apixo_async.batch.continuing import UNCLAIMED, AllJobs, Continuation
from apixo_async.batch.journal import Entry, Journal, check_same
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.batch.source import Item, Source, as_job, item_of
from apixo_async.batch.story import Story
from apixo_async.client import ApixoClient
from apixo_async.errors import ApixoError, InvalidRequestError, JournalError
from apixo_async.limits import Lease
from apixo_async.tasks import Task

_LOGGER = logging.getLogger("apixo_async")

BACKLOG: Final = 256
"""Jobs that may be saving, or wait for their outcome to be taken, beside those with a slot."""

IDS_SHOWN: Final = 100
"""Ids of tasks that one line of the log names."""


def _task_ids(outcomes: Iterable[Outcome]) -> str:
    ids = [outcome.task.id for outcome in outcomes if outcome.task is not None]
    more = f" and {len(ids) - IDS_SHOWN:,} more" if len(ids) > IDS_SHOWN else ""
    return ", ".join(ids[:IDS_SHOWN]) + more


class Run:
    """One run. `start` it, read `outcomes` until `None`, and `aclose` it whatever happened."""

    def __init__(
        self,
        client: ApixoClient,
        source: Source | None,
        settings: RunSettings,
        *,
        journal: Journal | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self.admission = Admission(self._stopped)
        self._carrier = Carrier(client, settings, self.admission, self.publish, journal=journal)
        self._past: Continuation | None = None
        if journal is not None:
            self._past = Continuation(journal, client.engine, settings, self._carry_on)
            journal.on_trouble = self._journal_failed
        source = self._open_jobs() if source is None else source
        self._is_sized = isinstance(source, Sized) and isinstance(source, Iterable)
        self._source = iter(source) if isinstance(source, Iterable) else aiter(source)
        # What can be gone through more than once is made durable as a whole before any is sent.
        self._all: AllJobs | None = None
        if isinstance(source, Iterable) and self._is_sized and self._source is not source:
            self._all = AllJobs(source, as_job)
        # An async generator that is left half-way must be closed; other iterators have no end.
        self._close_source: Callable[[], Awaitable[None]] | None = getattr(
            self._source, "aclose", None
        )
        self._keys = KeyIndex()
        self._room = asyncio.Semaphore(client.engine.gate.limits.concurrent_tasks + BACKLOG)
        self._jobs: set[asyncio.Task[None]] = set()
        self._unbegun: dict[int, Lease] = {}
        self._feeder: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None
        self._is_feeding = False
        self._pulled: Item | None = None
        self._spare: Lease | None = None
        self._index = 0
        self.outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue(BACKLOG)
        self.left: list[Outcome] = []
        """After `aclose`: outcomes that nobody took, and those of the jobs that were given up."""
        self.bug: BaseException | None = None
        """An error that no job is responsible for, to be raised at the end."""

    def _open_jobs(self) -> Source:
        """What there is to go on with, as an input."""
        nothing: list[Item] = []
        return nothing if self._past is None else self._past.open_jobs()

    # Life of the run

    def start(self) -> None:
        """Begins to pull items and submit them."""
        self._feeder = asyncio.create_task(self._prepare_and_feed())
        self._main = asyncio.create_task(self._run())

    def _stopped(self, reason: StopReason, error: BaseException | None) -> None:
        self.publish(events.Stopped(reason=reason, message=str(error or "")))
        if not self._is_feeding or self._feeder is None:
            return
        self._is_feeding = False
        # The feeder itself, or the input that it asks, sees the stop when it comes back.
        if asyncio.current_task(self._feeder.get_loop()) is not self._feeder:
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
            self._gather_left()
            if self._spare is not None:
                self._spare.release()
            self._keys.close()
            if self._close_source is not None:
                await self._close_source()

    def _gather_left(self) -> None:
        """Takes what nobody took."""
        while not self.outcomes.empty():
            outcome = self.outcomes.get_nowait()
            if outcome is not None:
                self.left.append(outcome)
        given_up, self._carrier.given_up = self._carrier.given_up, []
        self.left += [outcome for outcome in given_up if outcome.index != UNCLAIMED]
        running = [done for done in given_up if done.status is OutcomeStatus.TIMED_OUT]
        if running:
            _LOGGER.warning(
                "%d tasks go on at the server: ids %s",
                len(running),
                _task_ids(running),
                extra={"given_up": len(running)},
            )

    async def _run(self) -> None:
        if self._feeder is not None:
            await asyncio.wait([self._feeder])
        while self._jobs:
            await asyncio.wait(self._jobs)
        await self.outcomes.put(None)

    def tell_end(self) -> None:
        """Once all outcomes were taken: whoever still waits for one is told that there is none."""
        with contextlib.suppress(asyncio.QueueFull):  # then the mark is there
            self.outcomes.put_nowait(None)

    def publish(self, event: events.Event) -> None:
        """Hands an event to the user's callback, whose faults are its own."""
        if self._settings.on_event is None:
            return
        try:
            self._settings.on_event(event)
        except Exception:  # the user's code must not cost anyone a paid task
            _LOGGER.exception("on_event failed for %s", type(event).__name__)

    def _journal_failed(self, error: JournalError) -> None:
        self.admission.stop(StopReason.JOURNAL, error)

    # Feeding

    async def _prepare_and_feed(self) -> None:
        """Makes the input durable and takes over what runs already, then feeds."""
        try:
            if self._past is not None:
                await self._prepare(self._past)
        except asyncio.CancelledError:
            feeder = asyncio.current_task()
            if self.admission.stopped is None or self.admission.is_closed or feeder is None:
                raise
            feeder.uncancel()
        except Exception as error:  # noqa: BLE001  # nothing of this input was sent
            self.bug = error
            self.admission.stop(StopReason.JOURNAL, error)
            return
        await self._feed()

    async def _prepare(self, past: Continuation) -> None:
        self._carrier.note_spent(past.journal.spent())
        if self._all is not None:
            await past.enqueue_all(self._all)
        await past.take_over()

    async def _feed(self) -> None:
        self._is_feeding = self.admission.stopped is None
        try:
            while self._is_feeding and await self._feed_one():
                pass
        except asyncio.CancelledError:
            feeder = asyncio.current_task()
            if self.admission.stopped is None or self.admission.is_closed or feeder is None:
                raise
            feeder.uncancel()
        except Exception as error:  # noqa: BLE001  # whatever the input raises ends the input only
            self.admission.stop(StopReason.INPUT, error)
        self._is_feeding = False
        if self._spare is not None:
            self._spare.release()
        if self.admission.stopped is not None:
            try:
                await self._skip_rest()
            except Exception as error:  # noqa: BLE001  # as above
                self.admission.stop(StopReason.INPUT, error)

    async def _feed_one(self) -> bool:
        """Starts the next job as soon as there is room and a slot; false at the end."""
        await self._room.acquire()
        lease, self._spare = self._spare, None
        try:
            if isinstance(self._source, AsyncIterator):
                # It may take its time, or slots of this client itself: it is asked without one.
                self._pulled = await item_of(self._source)
                if not self._is_feeding:
                    self._give_up_place(lease)
                    return False
                lease = lease or await self._client.engine.lease()
                item, self._pulled = self._pulled, None
            else:
                lease = lease or await self._client.engine.lease()
                item = await item_of(self._source)
            job = self._keys.claim(as_job(item))
            if job is not None:
                self._carrier.budget.check(job.request)
            entry = None if job is None else self._entry_of(job)
            if job is None or not await self._needs_submit(entry):
                # Whoever is next can have the slot.
                self._spare, lease = lease, None
                self._room.release()
                return True
        except StopAsyncIteration:
            self._give_up_place(lease)
            return False
        except BaseException:
            self._give_up_place(lease)
            raise
        self._start_job(job, lease, entry)
        return True

    def _entry_of(self, job: Job) -> Entry | None:
        """The job in the journal, if there is one; a new job is added to it."""
        if self._past is None:
            return None
        journal = self._past.journal
        entry = journal.find(job.key or "")
        if entry is None:
            return journal.enqueue(job)
        if fingerprint(job.request) != entry.fingerprint:
            check_same(entry, Entry.new(entry.number, job, at=datetime.now(UTC)))
        return entry

    async def _needs_submit(self, entry: Entry | None) -> bool:
        """Whether the job is to be sent; what is told of it already goes to the outcomes."""
        if self._past is None or entry is None or self._past.is_to_submit(entry):
            return True
        await self._tell(self._past, entry)
        return False

    async def _tell(self, past: Continuation, entry: Entry) -> None:
        index, self._index = self._index, self._index + 1
        outcome = past.claim(entry, index)
        if outcome is not None:
            await self.outcomes.put(outcome)

    def _give_up_place(self, lease: Lease | None) -> None:
        self._room.release()
        if lease is not None:
            lease.release()

    def _start_job(self, job: Job, lease: Lease, entry: Entry | None) -> None:
        index, self._index = self._index, self._index + 1
        self._unbegun[index] = lease
        story = self._carrier.story(index, job, 0 if entry is None else entry.number)
        task = asyncio.create_task(self._job(story))
        self._jobs.add(task)
        task.add_done_callback(functools.partial(self._job_done, index))

    def _job_done(self, index: int | None, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if index is not None:
            self._room.release()
        lease = None if index is None else self._unbegun.pop(index, None)
        if lease is not None:  # cancelled before its first step
            lease.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("a job of the batch broke", exc_info=error)
            self.bug = self.bug or error

    async def _skip_rest(self) -> None:
        """Every job of an input of known length gets an outcome, also those never begun.

        So does the one item that was taken from an async input and had no slot yet.
        """
        rest: Iterable[Item] = () if self._pulled is None else (self._pulled,)
        if not isinstance(self._source, AsyncIterator) and self._is_sized:
            rest = self._source
        for item in rest:
            try:
                job = self._keys.claim(as_job(item))
            except (TypeError, InvalidRequestError) as error:
                self.admission.stop(StopReason.INPUT, error)
                continue
            if job is None:
                continue
            entry = None if self._past is None else self._past.journal.find(job.key or "")
            if self._past is not None and entry and not self._past.is_to_submit(entry):
                await self._tell(self._past, entry)
                continue
            outcome = self._carrier.not_started(self._index, job, self.admission.refusal)
            self._index += 1
            await self.outcomes.put(outcome)

    # Jobs

    async def _job(self, story: Story) -> None:
        lease = self._unbegun.pop(story.index)
        job = story.job
        self.publish(
            events.Queued(
                key=story.key, index=story.index, model=job.request.model, mode=job.request.mode
            )
        )
        outcome = await self._carrier.carry_out(story, lease)
        again = 0
        while self._carrier.is_to_repeat(outcome, again):
            again += 1
            story = self._carrier.story(story.index, job, story.number)
            outcome = await self._again(story, outcome)
        await self._put(outcome)

    async def _again(self, story: Story, outcome: Outcome) -> Outcome:
        """Pays for a job once more, by a policy of its user; the same outcome if it is too late."""
        lease: Lease | None = None
        try:
            lease = await self._client.engine.lease()
            reason = "policy" if outcome.status is OutcomeStatus.UNCERTAIN else "retry"
            await story.recorder.write(events.Resubmitted(key=story.key, reason=reason))
        except ApixoError:
            if lease is not None:
                lease.release()
            return outcome
        except asyncio.CancelledError:
            if lease is not None:
                lease.release()
            self.left.append(outcome)
            raise
        return await self._carrier.carry_out(story, lease)

    async def _put(self, outcome: Outcome) -> None:
        try:
            await self.outcomes.put(outcome)
        except asyncio.CancelledError:
            self.left.append(outcome)
            raise

    # Jobs of earlier processes

    def _carry_on(self, entry: Entry, task: Task) -> Story:
        story = self._carrier.story(UNCLAIMED, entry.job(), entry.number)
        if entry.accepted_at is not None and not task.is_terminal:
            accepted = datetime.fromisoformat(entry.accepted_at)
            self.publish(
                events.Accepted(key=entry.key, at=accepted, task_id=task.id, model=task.model)
            )
        carried = asyncio.create_task(self._carried(story, task))
        self._jobs.add(carried)
        carried.add_done_callback(functools.partial(self._job_done, None))
        return story

    async def _carried(self, story: Story, task: Task) -> None:
        outcome = await self._carrier.carry_on(story, task)
        if self._past is not None:
            self._past.ended(story.number)
        if story.index != UNCLAIMED:
            await self._put(attrs.evolve(outcome, index=story.index))
