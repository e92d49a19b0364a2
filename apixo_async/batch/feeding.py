"""What feeds a run: pulls its input lazily and decides by the journal what each job needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sized
from datetime import UTC, datetime
from itertools import chain
from typing import Final, Protocol

from apixo_async._wire import fingerprint
from apixo_async.batch.carrying import Carrier
from apixo_async.batch.continuing import AllJobs, Continuation
from apixo_async.batch.journal import Entry, check_same
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, StopReason
from apixo_async.batch.source import Item, Source, as_job, item_of
from apixo_async.batch.story import Story
from apixo_async.client.engine import Engine
from apixo_async.errors import InvalidRequestError, JournalError
from apixo_async.limits import Lease

BACKLOG: Final = 256
"""Jobs that may be saving, or wait for their outcome to be taken, beside those with a slot."""
_CHECKED_AT_ONCE: Final = 256


class Consumer(Protocol):
    """What a feeder feeds."""

    def start_job(self, story: Story, lease: Lease) -> None:
        """This job has a slot and a place; `Feeder.leave` gives the place back."""

    async def tell(self, outcome: Outcome) -> None:
        """This job needs nothing more."""

    def stop(self, reason: StopReason, error: BaseException) -> None:
        """The input has an error, or the journal has."""

    def break_down(self, error: BaseException) -> None:
        """The input was refused as a whole, before anything of it was sent."""

    def end_at_once(self, error: BaseException) -> None:
        """The input has ended everything, with `SystemExit` or its like."""


def _what_is_left(past: Continuation | None) -> Source:
    nothing: list[Item] = []
    return nothing if past is None else past.jobs_left()


class Feeder:
    """Starts the jobs of `source`, each as soon as there is room and a slot.

    Without a `source`, the input is what the journal has left to do.
    """

    def __init__(
        self,
        source: Source | None,
        engine: Engine,
        carrier: Carrier,
        past: Continuation | None,
        consumer: Consumer,
    ) -> None:
        self._engine = engine
        self._carrier = carrier
        self._past = past
        self._consumer = consumer
        self._is_resuming = source is None
        source = _what_is_left(past) if source is None else source
        self._is_sized = isinstance(source, Sized) and isinstance(source, Iterable)
        self._source = iter(source) if isinstance(source, Iterable) else aiter(source)
        # What can be gone through more than once is checked, and made durable, as a whole before
        # any of it is sent.
        self._all: AllJobs | None = None
        if isinstance(source, Iterable) and self._is_sized and self._source is not source:
            self._all = AllJobs(source, as_job)
        # An async generator that is left half-way must be closed; other iterators have no end.
        self._close_source: Callable[[], Awaitable[None]] | None = getattr(
            self._source, "aclose", None
        )
        self._keys = KeyIndex()
        self._room = asyncio.Semaphore(engine.gate.limits.concurrent_tasks + BACKLOG)
        self._task: asyncio.Task[None] | None = None
        self._is_feeding = False
        self._is_stopped = False
        self._is_closed = False
        self._pulled: Item | None = None
        self._claimed: Job | None = None
        self._untold: Outcome | None = None
        self._spare: Lease | None = None
        self._index = 0

    # Life

    def start(self) -> asyncio.Task[None]:
        """Begins to pull; the task ends when there is nothing more to start."""
        self._task = asyncio.create_task(self._run())
        return self._task

    def stop(self) -> None:
        """Nothing more is started; what is left of an input of known length is told."""
        self._is_stopped = True
        if not self._is_feeding or self._task is None:
            return
        self._is_feeding = False
        # The feeder itself, or the input that it asks, sees the stop when it comes back.
        if asyncio.current_task(self._task.get_loop()) is not self._task:
            self._task.cancel()

    def close(self) -> None:
        """From now on a cancellation ends everything at once."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Frees what is held; once the task has ended."""
        self._release_spare()
        self._keys.close()
        if self._close_source is not None:
            await self._close_source()

    def leave(self) -> None:
        """One job that was started has ended: there is room for another."""
        self._room.release()

    def _release_spare(self) -> None:
        if self._spare is not None:
            self._spare.release()

    # Feeding

    async def _run(self) -> None:
        try:
            await self._prepare()
        except Exception as error:  # noqa: BLE001  # nothing of this input was sent
            is_journal = isinstance(error, JournalError)
            self._consumer.stop(StopReason.JOURNAL if is_journal else StopReason.INPUT, error)
            self._consumer.break_down(error)
            return
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # raised to whoever reads the outcomes
            self._consumer.end_at_once(error)
            return
        await self._feed()

    async def _prepare(self) -> None:
        """Checks the input, makes it durable, and takes over what runs already."""
        await self._check_prices()
        if self._past is None:
            return
        # Submits of a process that crashed may be billed: they count before anything new does.
        await self._past.journal.recover()
        self._carrier.note_spent(self._past.journal.spent())
        if self._all is not None:
            await self._past.enqueue_all(self._all)
        await self._past.take_over(self._next_index if self._is_resuming else None)

    async def _check_prices(self) -> None:
        """Under a cap every job has a price, or none of an input of known length is sent."""
        if self._carrier.budget.max_cost is None or self._all is None:
            return
        for number, job in enumerate(self._all):
            self._carrier.budget.check(job.request)
            if number % _CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _feed(self) -> None:
        self._is_feeding = not self._is_stopped
        try:
            while self._is_feeding and await self._feed_one():
                pass
        except asyncio.CancelledError:
            feeder = asyncio.current_task()
            if not self._is_stopped or self._is_closed or feeder is None:
                raise
            feeder.uncancel()
        except JournalError as error:
            self._consumer.stop(StopReason.JOURNAL, error)
        except Exception as error:  # noqa: BLE001  # whatever the input raises ends the input only
            self._consumer.stop(StopReason.INPUT, error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # raised to whoever reads the outcomes
            self._consumer.end_at_once(error)
        self._is_feeding = False
        self._release_spare()
        if self._is_stopped:
            try:
                await self._skip_rest()
            except Exception as error:  # noqa: BLE001  # as above
                self._consumer.stop(StopReason.INPUT, error)

    async def _feed_one(self) -> bool:
        """Starts the next job, or tells what is known of it; false at the end."""
        await self._room.acquire()
        lease: Lease | None = None
        try:
            # An async input may take its time, or slots of this client itself, and what a journal
            # knows may need no slot: both are asked without one, one item ahead.
            if self._past is None and not isinstance(self._source, AsyncIterator):
                lease = await self._lease()
            self._pulled = await item_of(self._source)
            if not self._is_feeding:
                self._give_up_place(lease)
                return False
            self._claimed = self._keys.claim(as_job(self._pulled))
            self._pulled = None
            is_placed = self._claimed is not None and await self._begin(self._claimed, lease)
            self._claimed = None
        except StopAsyncIteration:
            self._give_up_place(lease)
            return False
        except BaseException:
            self._give_up_place(lease)
            raise
        if not is_placed:
            self._room.release()
            self._spare = lease
        return True

    async def _lease(self) -> Lease:
        """A slot: the one that the last job did not need, or a new one."""
        spare, self._spare = self._spare, None
        return spare or await self._engine.lease()

    def _give_up_place(self, lease: Lease | None) -> None:
        self._room.release()
        if lease is not None:
            lease.release()

    async def _begin(self, job: Job, lease: Lease | None) -> bool:
        """Starts a job or tells its outcome; says whether it now has the place it was given."""
        self._carrier.budget.check(job.request)
        try:
            entry = self._entry_of(job)
        except InvalidRequestError:
            self._claimed = None  # its key is another job's
            raise
        if self._past is not None and entry is not None and not self._past.is_to_submit(entry):
            self._claimed = None
            return await self._tell(self._past, entry)
        lease = lease or await self._lease()
        if entry is not None and self._past is not None:
            entry = await self._past.now(entry) if entry.attempts else entry
            if not self._past.is_to_submit(entry):
                lease.release()  # a callback has told of its task meanwhile
                self._claimed = None
                return await self._tell(self._past, entry)
            lease.name = self._past.name_of(entry)
        story = self._carrier.story(self._next_index(), job, entry)
        self._consumer.start_job(story, lease)
        return True

    def _next_index(self) -> int:
        index, self._index = self._index, self._index + 1
        return index

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

    async def _tell(self, past: Continuation, entry: Entry) -> bool:
        """Tells the outcome, or claims it for when the job has ended; says if it took the place."""
        index = self._next_index()
        if past.is_to_fetch(entry):
            past.fetch(entry, index)
            return True
        await self._tell_outcome(past.claim(entry, index))
        return False

    async def _tell_outcome(self, outcome: Outcome | None) -> None:
        """Waits until there is room for it; a stop meanwhile must not lose it."""
        self._untold = outcome
        if outcome is not None:
            await self._consumer.tell(outcome)
            self._untold = None

    def take_untold(self) -> Outcome | None:
        """An outcome that nobody was told any more."""
        untold, self._untold = self._untold, None
        return untold

    # After a stop

    async def _skip_rest(self) -> None:
        """Every job of an input of known length gets an outcome, also those never begun.

        So does the one item that was taken from any other input and had no slot yet.
        """
        await self._tell_outcome(self._untold)
        if self._claimed is not None:
            await self._skip(self._claimed)
        rest: Iterable[Item] = () if self._pulled is None else (self._pulled,)
        if not isinstance(self._source, AsyncIterator) and self._is_sized:
            rest = chain(rest, self._source)
        for item in rest:
            try:
                job = self._keys.claim(as_job(item))
            except (TypeError, InvalidRequestError) as error:
                self._consumer.stop(StopReason.INPUT, error)
                continue
            if job is not None:
                await self._skip(job)

    async def _skip(self, job: Job) -> None:
        entry = None if self._past is None else self._past.journal.find(job.key or "")
        index = self._next_index()
        if self._past is None or entry is None or self._past.is_to_submit(entry):
            await self._tell_outcome(self._carrier.not_started(index, job))
        else:
            await self._tell_outcome(self._past.claim(entry, index))
