"""Going on from a journal: what earlier processes left running, in doubt, or not saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

import attrs

from apixo_async import _killpoints
from apixo_async.batch import events
from apixo_async.batch.doubts import window_of
from apixo_async.batch.filing import are_there
from apixo_async.batch.journal import (
    OTHER_TASKS,
    Entry,
    JobState,
    Journal,
    is_to_submit,
    is_to_submit_again,
    is_unheard_of,
    stamp,
)
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.story import Story, warn_of_two
from apixo_async.client.engine import Engine
from apixo_async.limits import Lease
from apixo_async.tasks import Task
from apixo_async.webhooks import Callback

UNCLAIMED: Final = -1
"""The index of a job that is carried on and that the input has not asked for."""


class CarryOn(Protocol):
    """Waits for a task that was submitted earlier, or saves what it made."""

    def __call__(self, entry: Entry, task: Task, index: int, *, has_place: bool) -> Story:
        """With `has_place` it has a place of the feeder, which is given back at the end."""
        ...


class AllJobs(Iterable[Job]):
    """The jobs of an input with their keys, each key once; named anew by each iteration."""

    def __init__(self, items: Iterable[object], as_job: Callable[[object], Job]) -> None:
        self._items = items
        self._as_job = as_job

    def __iter__(self) -> Iterator[Job]:
        with closing(KeyIndex()) as keys:
            for item in self._items:
                job = keys.claim(self._as_job(item))
                if job is not None:
                    yield job


class Heard(Protocol):
    """Looks for the tasks of submits whose answers were lost in an earlier process."""

    def story_of(self, entry: Entry) -> Story | None:
        """The job, with a ticket if a callback may name its task; `None` if nothing does."""

    def hear(self, story: Story, entry: Entry, lease: Lease | None, window: float) -> None:
        """For so many seconds. `lease` is what is held for its task, if anything."""


class Continuation:
    """What a run takes over from its journal."""

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        settings: RunSettings,
        carry_on: CarryOn,
        heard: Heard,
    ) -> None:
        self.journal = journal
        self._engine = engine
        self._settings = settings
        self._carry_on = carry_on
        self._heard = heard
        self._told: set[int] = set()
        self._going: dict[int, Story] = {}
        self._recording: dict[int, set[asyncio.Future[Entry]]] = {}
        self._began = ""

    async def take_over(self, next_index: Callable[[], int] | None) -> None:
        """Before anything is submitted: slots for all that runs or may run, polls spread out.

        What runs is an outcome of this run when the input asks for it, or with `next_index` at
        once.
        """
        self._began = stamp(datetime.now(UTC))
        if self._engine.callbacks is not None:
            self._engine.callbacks.connect(self._called_back)
        async for entry in self.journal.entries(JobState.ACCEPTED):
            task = entry.snapshot()
            if task is None:  # pragma: no cover  # what is accepted has an id
                continue
            index = UNCLAIMED if next_index is None else next_index()
            story = self._carry_on(entry, task, index, has_place=False)
            self._engine.books.adopt(task, age=entry.age, ticket=story.ticket)
            self._going[entry.number] = story
        await self._hold_uncertain(next_index)
        await self._take_orphans()

    async def _take_orphans(self) -> None:
        """Now that all that goes on has a ticket: what came before it had one."""
        callbacks = self._engine.callbacks
        if callbacks is None:
            return
        waiting = await callbacks.orphaned()
        for story in list(self._going.values()) if waiting else ():
            if story.ticket is not None and story.ticket.job in waiting:
                await callbacks.take_orphans(story.ticket)

    async def _hold_uncertain(self, next_index: Callable[[], int] | None) -> None:
        """An uncertain submit's task may be running: its slot is kept for a stated time.

        It is asked about if its broken answer named it, and its callback is waited for if there may
        be one. Else, with the policy to resubmit, the job is queued again beside it, unless a task
        was named that nobody has denied.
        """
        async for entry in self.journal.entries(JobState.UNCERTAIN):
            lease = self._engine.books.hold_for(self.name_of(entry), age=entry.doubt_age)
            if await self._hear(entry, lease, next_index):
                continue
            now = self.journal.numbered(entry.number)
            if now and is_to_submit_again(now, policy=self._settings.uncertain):
                again = events.Resubmitted(key=entry.key, reason="policy")
                await self.journal.record(entry.number, again)

    async def _hear(
        self, entry: Entry, lease: Lease | None, next_index: Callable[[], int] | None
    ) -> bool:
        """Looks for the task of a submit whose answer was lost, if it may still be found."""
        story = self._heard.story_of(entry)
        if story is None:
            return False
        # From here on callbacks ring its ticket; before that, they were kept or recorded.
        self._going[entry.number] = story
        window = await window_of(
            self._engine.callbacks,
            story,
            entry,
            partial(self._now, entry),
            deadline=self._settings.deadline,
        )
        if window <= 0:
            if story.ticket is not None:
                story.ticket.close()
            self.ended(entry.number)
            return False
        if next_index is not None:
            story.index = next_index()
            self._told.add(entry.number)
        self._heard.hear(story, entry, lease, window)
        return True

    async def _record(self, entry: Entry, callback: Callback) -> Entry:
        """The job once what a callback tells of its task is on disk, if it is anything new."""
        claim = callback.claim
        if not is_unheard_of(claim.task_id, own=entry.task_id):
            return entry
        event = events.CalledBack(
            key=entry.key,
            attempt=callback.slip.attempt,
            task_id=claim.task_id,
            state=claim.state,
        )
        changed = await self._recorded(entry.number, event)
        story, callbacks = self._going.get(entry.number), self._engine.callbacks
        if story is not None and story.ticket is not None and callbacks is not None:
            callbacks.ring(story.ticket, callback)  # it was made while this was written
        others = changed.why().get(OTHER_TASKS, ())
        if claim.task_id in others and claim.task_id not in entry.why().get(OTHER_TASKS, ()):
            warn_of_two(entry.key, entry.task_id, claim.task_id)
        return changed

    async def _recorded(self, number: int, event: events.CalledBack) -> Entry:
        record = self.journal.record(number, event)
        self._recording.setdefault(number, set()).add(record)
        try:
            return await record
        finally:
            self._recording[number].discard(record)

    async def _now(self, entry: Entry) -> Entry:
        return self.journal.numbered(entry.number) or entry

    async def now(self, entry: Entry) -> Entry:
        """The job by its record, in which all is that callbacks have said until this returns."""
        while records := self._recording.get(entry.number):
            await asyncio.wait(records)
        self._recording.pop(entry.number, None)
        return self.journal.numbered(entry.number) or entry

    def name_of(self, entry: Entry) -> object:
        """What the slot of this job's submit is known by."""
        return self.journal.path, entry.number

    def ended(self, number: int) -> None:
        """The job was carried to an end, or given up for now."""
        self._going.pop(number, None)

    def close(self) -> None:
        """Callbacks are recorded no more."""
        if self._engine.callbacks is not None:
            self._engine.callbacks.disconnect(self._called_back)

    async def _called_back(self, callback: Callback) -> bool:
        """Records a callback for a job of this journal that nobody waits for any more."""
        name, _, number = callback.slip.job.rpartition("-")
        if name != self.journal.name or not number.isdecimal():
            return False
        entry = self.journal.numbered(int(number))
        if entry is not None:
            await self._record(entry, callback)
        return entry is not None

    # What the input asks for

    async def enqueue_all(self, jobs: AllJobs) -> None:
        """Makes an input of known length durable as a whole, before any of it is sent."""
        _killpoints.reached("K0")
        await self.journal.enqueue_all(jobs)
        _killpoints.reached("K1")

    def is_to_submit(self, entry: Entry) -> bool:
        """Whether a submit is what this job needs, and nobody is at it."""
        return entry.number not in self._going and is_to_submit(entry)

    def claim(self, entry: Entry, index: int) -> Outcome | None:
        """The outcome of a job that needs no submit; `None` if it comes when the job has ended."""
        going = self._going.get(entry.number)
        if going is None:
            return self.outcome(entry, index)
        going.index = index
        return None

    def fetch(self, entry: Entry, index: int) -> None:
        """Begins to download what is missing; the outcome comes when that has ended."""
        task = entry.snapshot()
        if task is not None:
            self._carry_on(entry, task, index, has_place=True)

    def outcome(self, entry: Entry, index: int) -> Outcome:
        """How a job ended before, or how it stands."""
        outcome = entry.outcome(index)
        if outcome.status is not OutcomeStatus.SUCCEEDED:
            return outcome
        return attrs.evolve(outcome, files=tuple(self.journal.files(entry.number)))

    def is_to_fetch(self, entry: Entry) -> bool:
        """Whether results are not on disk that ought to be, and nobody is at it."""
        if self._settings.save_to is None or entry.state is not JobState.SUCCEEDED:
            return False
        if entry.number in self._going or entry.task_id is None:
            return False
        return not entry.saved or not are_there(self.journal.files(entry.number))

    async def jobs_left(self) -> AsyncIterator[Job]:
        """What the journal has left to do or to say beside the tasks that run, as an input."""
        async for entry in self.journal.entries(JobState.UNCERTAIN, JobState.QUEUED):
            if entry.number not in self._told:
                yield entry.job()
        if self._settings.save_to is not None:
            async for entry in self.journal.entries(JobState.SUCCEEDED):
                # What has ended since we began is told by whoever saw it end.
                if (entry.ended_at or "") < self._began and self.is_to_fetch(entry):
                    yield entry.job()
                await asyncio.sleep(0)
