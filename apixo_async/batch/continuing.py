"""Going on from a journal: what earlier processes left running, in doubt, or not saved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from typing import Final

import attrs

from apixo_async import _killpoints
from apixo_async.batch import events
from apixo_async.batch.carrying import RunSettings
from apixo_async.batch.filing import are_there
from apixo_async.batch.journal import Entry, JobState, Journal
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus
from apixo_async.batch.story import Story
from apixo_async.client.engine import Engine
from apixo_async.tasks import Task

_LOGGER = logging.getLogger("apixo_async")


UNCLAIMED: Final = -1
"""The index of a job that is carried on and that the input has not asked for."""


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
        carry_on: Callable[[Entry, Task, int], Story],
    ) -> None:
        self.journal = journal
        self._engine = engine
        self._settings = settings
        self._carry_on = carry_on
        self._going: dict[int, Story] = {}

    async def take_over(self) -> None:
        """Before anything is submitted: slots for all that runs or may run, polls spread out."""
        await self.journal.recover()
        await self._hold_uncertain()
        async for entry in self.journal.entries(JobState.ACCEPTED):
            task = entry.snapshot()
            if task is None:  # pragma: no cover  # what is accepted has an id
                continue
            lease = await self._engine.occupied()
            self._engine.adopt(task, lease, age=entry.age)
            self._going[entry.number] = self._carry_on(entry, task, UNCLAIMED)

    async def _hold_uncertain(self) -> None:
        """An uncertain submit's task may be running: its slot is kept for a stated time.

        With the policy to resubmit, the job is queued again beside it.
        """
        hold = self._engine.schedule.uncertain_hold
        async for entry in self.journal.entries(JobState.UNCERTAIN):
            if entry.doubt_age < hold:
                lease = await self._engine.occupied()
                self._engine.hold(lease, hold - entry.doubt_age)
            if self._settings.uncertain == "resubmit":
                again = events.Resubmitted(key=entry.key, reason="policy")
                await self.journal.record(entry.number, again)

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
            self._carry_on(entry, task, index)

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

    async def open_jobs(self) -> AsyncIterator[Job]:
        """Every job of the journal that has something left to do or to say, as an input."""
        states = (JobState.ACCEPTED, JobState.UNCERTAIN, JobState.QUEUED)
        async for entry in self.journal.entries(*states):
            yield entry.job()
        if self._settings.save_to is not None:
            async for entry in self.journal.entries(JobState.SUCCEEDED):
                if self.is_to_fetch(entry):
                    yield entry.job()
                await asyncio.sleep(0)
