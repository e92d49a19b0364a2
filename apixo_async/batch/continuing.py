"""Going on from a journal: what earlier processes left running, in doubt, or not saved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Final, Protocol

import attrs

from apixo_async import _killpoints
from apixo_async.batch import events
from apixo_async.batch.filing import are_there
from apixo_async.batch.journal import Entry, JobState, Journal, stamp
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.story import Story
from apixo_async.client.engine import Engine
from apixo_async.tasks import Task

_LOGGER = logging.getLogger("apixo_async")


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


class Continuation:
    """What a run takes over from its journal."""

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        settings: RunSettings,
        carry_on: CarryOn,
    ) -> None:
        self.journal = journal
        self._engine = engine
        self._settings = settings
        self._carry_on = carry_on
        self._going: dict[int, Story] = {}
        self._began = ""

    async def take_over(self, next_index: Callable[[], int] | None) -> None:
        """Before anything is submitted: slots for all that runs or may run, polls spread out.

        What runs is an outcome of this run when the input asks for it, or with `next_index` at
        once.
        """
        self._began = stamp(datetime.now(UTC))
        async for entry in self.journal.entries(JobState.ACCEPTED):
            task = entry.snapshot()
            if task is None:  # pragma: no cover  # what is accepted has an id
                continue
            self._engine.adopt(task, age=entry.age)
            index = UNCLAIMED if next_index is None else next_index()
            self._going[entry.number] = self._carry_on(entry, task, index, has_place=False)
        await self._hold_uncertain()

    async def _hold_uncertain(self) -> None:
        """An uncertain submit's task may be running: its slot is kept for a stated time.

        With the policy to resubmit, the job is queued again beside it.
        """
        async for entry in self.journal.entries(JobState.UNCERTAIN):
            self._engine.hold_for(self.name_of(entry), age=entry.doubt_age)
            if self._settings.uncertain == "resubmit":
                again = events.Resubmitted(key=entry.key, reason="policy")
                await self.journal.record(entry.number, again)

    def name_of(self, entry: Entry) -> object:
        """What the slot of this job's submit is known by."""
        return self.journal.path, entry.number

    def ended(self, number: int) -> None:
        """The job was carried to an end, or given up for now."""
        self._going.pop(number, None)

    # What the input asks for

    async def enqueue_all(self, jobs: AllJobs) -> None:
        """Makes an input of known length durable as a whole, before any of it is sent."""
        _killpoints.reached("K0")
        await self.journal.enqueue_all(jobs)
        _killpoints.reached("K1")

    def is_to_submit(self, entry: Entry) -> bool:
        """Whether a submit is what this job needs."""
        return entry.state is JobState.QUEUED

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
            yield entry.job()
        if self._settings.save_to is not None:
            async for entry in self.journal.entries(JobState.SUCCEEDED):
                # What has ended since we began is told by whoever saw it end.
                if (entry.ended_at or "") < self._began and self.is_to_fetch(entry):
                    yield entry.job()
                await asyncio.sleep(0)
