"""The record of jobs that many processes share: nothing leaves unless it says so first."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async.batch import events
from apixo_async.batch.admission import NotAdmittedError
from apixo_async.batch.journal import (
    Entry,
    JobState,
    after,
    check_same,
    doubt_after_crash,
)
from apixo_async.batch.outcomes import Job
from apixo_async.downloads import SavedFile
from apixo_async.durable.rows import Rows
from apixo_async.durable.steps import reconciled
from apixo_async.errors import InvalidRequestError, JournalError, StoreError

RETRY_FIRST: Final = 0.25
RETRY_MAX: Final = 5.0
"""Seconds between tries to write what must be written, such as the id of a paid task."""
CLOSE_SECONDS: Final = 30.0
"""For so long a ledger that is closed waits for what is still to be written."""
CLAIM_BYTES: Final = 8
KNOWN_MAX: Final = 100_000
"""Task ids that are remembered, so that a broken answer does not give one of them to another."""


class TakenError(NotAdmittedError):
    """Another process has begun to submit this job, or has done so: nothing was sent."""


class Ledger:
    """Jobs that any process may carry, each submitted by one at a time.

    A submit leaves only after its row went from `queued` to `sending` by a compare-and-swap, which
    of several processes one alone can win. It implements the `Record` of a job's carrier, so what
    is written, and when, is the same as in a journal; each carrying has it in a `Hand` of its own.

    Args:
        rows: Where the jobs are; the ledger closes it.

    Attributes:
        name: What callback URLs call it; `None` until it is open.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.name: str | None = None
        self._unsent: dict[int, Entry] = {}  # claims of which nobody knows whether they were kept
        self._lines: dict[int, asyncio.Task[Entry]] = {}  # the last write of each job
        self._task_ids: dict[str, None] = {}

    async def open(self) -> None:
        """Learns its name; to be awaited before anything is carried.

        Raises:
            StoreError: The table is away.
        """
        self.name = await self.rows.name()

    async def aclose(self) -> None:
        """Waits for what is still to be written, for 30 seconds at most, then closes."""
        try:
            if self._lines:
                await asyncio.wait(list(self._lines.values()), timeout=CLOSE_SECONDS)
            for number, line in self._lines.items():
                LOGGER.critical(
                    "what came of job number %d could not be recorded",
                    number,
                    extra=fields("ledger_unwritten", count=len(self._lines)),
                )
                line.cancel()
        finally:
            await self.rows.aclose()

    # Jobs

    async def add(self, job: Job) -> Entry:
        """The job as it stands; it is queued if it is new.

        Args:
            job: Its key must be set.

        Raises:
            InvalidRequestError: It has no key, or that was used for another request.
            StoreError: The table is away; nothing was added.
        """
        if job.key is None:
            raise InvalidRequestError("Job", [("key", "must be set: jobs are known by it")])
        asked = Entry.new(0, job, at=datetime.now(UTC))
        known = await self.rows.insert(asked)
        check_same(known, asked)
        return known

    async def read(self, key: str) -> Entry | None:
        """The job, once everything is written that this process knows of it.

        Args:
            key: The name of a job; `None` is returned if there is none.

        Raises:
            StoreError: The table is away.
        """
        entry = await self.rows.read(key)
        while entry is not None and (line := self._lines.get(entry.number)) is not None:
            await asyncio.wait([line])
            entry = await self.rows.read(key)
        if entry is not None and self._unsent.get(entry.number) == entry:
            entry = await self._take_back(entry)
        return entry

    async def _take_back(self, entry: Entry) -> Entry:
        """What was to be sent was kept as sent, and nobody could tell: it was not."""
        reason = "the record of this submit was lost, so it was not sent"
        queued = after(entry, events.NotSent(key=entry.key, attempt=entry.attempts, reason=reason))
        if await self.rows.replace(entry, queued):
            entry = queued
        self._unsent.pop(entry.number, None)
        return entry

    async def doubt(self, entry: Entry) -> None:
        """The process that was sending this job has not said what came of it: nobody can say.

        Args:
            entry: The job as it was read; if it has changed since, nothing is done.

        Raises:
            StoreError: The table is away.
        """
        told = doubt_after_crash(entry)
        if told is not None:
            await self.rows.replace(entry, after(entry, told))

    async def decide(
        self, key: str, event: events.Resubmitted | events.Abandoned | events.Identified
    ) -> Entry:
        """Records what a person decided about a job.

        Args:
            key: Its name.
            event: The decision.

        Raises:
            JournalError: There is no such job, or that cannot follow.
            StoreError: The table is away.
        """
        while True:
            entry = await self.rows.read(key)
            if entry is None:
                raise JournalError(f"there is no job {key!r} in the ledger")
            changed = after(entry, event)
            if changed == entry or await self.rows.replace(entry, changed):
                return changed

    def entries(self, *states: JobState) -> AsyncIterator[Entry]:
        """All jobs in these states, in the order in which they were added.

        Args:
            states: Of jobs that are wanted.

        Raises:
            StoreError: The table is away.
        """
        return self.rows.entries(states)

    # The `Record` of a job's carrier

    def has_task(self, task_id: str) -> bool:
        """Whether this process has recorded the task for a job.

        Args:
            task_id: The task.
        """
        return task_id in self._task_ids

    def files(self, number: int, *, named: bool = True) -> Sequence[SavedFile]:  # noqa: ARG002  # of none
        """None: results are saved by who reads the outcomes.

        Args:
            number: Of a job.
            named: Whether only files that have their names are wanted.
        """
        return ()

    def record(
        self,
        number: int,
        event: events.JobEvent,
        *,
        keep_trying: bool = False,
        hand: Hand | None = None,
    ) -> asyncio.Future[Entry]:
        """Writes what happened to a job, in the order of the calls for it.

        Args:
            number: Of the job.
            event: What happened.
            keep_trying: Whether it is tried until the table is there, as for the id of a task.
            hand: Whose submit it is about; `None` is nobody's.

        Raises:
            StoreError: When it is awaited: the table is away, and it was not to be tried again.
            JournalError: When it is awaited: the job is not there any more.
        """
        before = self._lines.get(number)
        record = self._record(before, number, event, hand or Hand(self), keep_trying=keep_trying)
        writing = asyncio.create_task(record)
        self._lines[number] = writing
        writing.add_done_callback(lambda done: self._written(number, done))
        # What has happened is written whoever has stopped waiting for that.
        return asyncio.ensure_future(asyncio.shield(writing))

    def _written(self, number: int, done: asyncio.Task[Entry]) -> None:
        if self._lines.get(number) is done:
            del self._lines[number]
        if not done.cancelled():
            done.exception()  # whoever waits for it is told

    async def _record(
        self,
        before: asyncio.Task[Entry] | None,
        number: int,
        event: events.JobEvent,
        hand: Hand,
        *,
        keep_trying: bool,
    ) -> Entry:
        if before is not None:
            await asyncio.wait([before])
        if isinstance(event, events.Sending):
            return await self._claim(number, event, hand)
        if isinstance(event, (events.Accepted, events.Identified)):
            self._know(event.task_id)
        pause = RETRY_FIRST
        while True:
            try:
                return await self._write(number, event, hand)
            except StoreError as error:
                if not keep_trying:
                    raise
                _warn(event, error, is_first=pause == RETRY_FIRST)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)

    def _know(self, task_id: str) -> None:
        if len(self._task_ids) >= KNOWN_MAX:
            del self._task_ids[next(iter(self._task_ids))]
        self._task_ids[task_id] = None

    async def _claim(self, number: int, event: events.Sending, hand: Hand) -> Entry:
        """From `queued` to `sending`, as the only one; raises `TakenError` if somebody else is."""
        entry = await self._numbered(number, event.key)
        if entry.state is not JobState.QUEUED:
            raise TakenError
        claimed = _marked(after(entry, event))
        self._unsent[number] = claimed
        has_won = await self.rows.replace(entry, claimed)
        self._unsent.pop(number, None)
        if not has_won:
            raise TakenError
        hand.attempt = claimed.attempts
        return claimed

    async def _write(self, number: int, event: events.JobEvent, hand: Hand) -> Entry:
        while True:
            entry = await self._numbered(number, event.key)
            told = reconciled(entry, event, attempt=hand.attempt)
            if told is None:
                return entry
            if told is not event:
                _tell_late(entry, event)
            changed = after(entry, told)
            if changed == entry or await self.rows.replace(entry, changed):
                return changed

    async def _numbered(self, number: int, key: str) -> Entry:
        entry = await self.rows.numbered(number)
        if entry is None:
            raise JournalError(f"job {key!r} is not in the ledger any more: was it purged?")
        return entry


class Hand:
    """The ledger as one carrying of a job has it, which knows its own submit from any other's.

    A process may have made two, the first of which ends late.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.attempt: int | None = None
        """Which of the job's submits this carrying has made, once it has."""

    @property
    def name(self) -> str | None:
        """That of the ledger."""
        return self._ledger.name

    def record(
        self, number: int, event: events.JobEvent, *, keep_trying: bool = False
    ) -> asyncio.Future[Entry]:
        """As the ledger does, about this submit."""
        return self._ledger.record(number, event, keep_trying=keep_trying, hand=self)

    def has_task(self, task_id: str) -> bool:
        """As the ledger does."""
        return self._ledger.has_task(task_id)

    def files(self, number: int, *, named: bool = True) -> Sequence[SavedFile]:
        """As the ledger does."""
        return self._ledger.files(number, named=named)


def _marked(claimed: Entry) -> Entry:
    """The row of a claim, which no other claim can be taken for, whenever it was made."""
    why = {**claimed.why(), "claim": secrets.token_hex(CLAIM_BYTES)}
    return claimed.changed({"note": json.dumps(why)})


def _warn(event: events.JobEvent, error: StoreError, *, is_first: bool) -> None:
    task_id = getattr(event, "task_id", None)
    if not is_first:
        return
    if task_id is None:
        LOGGER.warning(
            "what came of job %r is not recorded yet; it is tried until it is: %s",
            event.key,
            error,
            extra=fields("ledger_away", key=event.key, error=error),
        )
    else:
        LOGGER.critical(
            "task %s of job %r is billed and not recorded yet; it is tried until it is: %s",
            task_id,
            event.key,
            error,
            extra=fields("ledger_away", key=event.key, task_id=task_id, error=error),
        )


def _tell_late(entry: Entry, event: events.JobEvent) -> None:
    task_id = getattr(event, "task_id", None)
    LOGGER.warning(
        "task %s of job %r was recorded late, when the job was %s already",
        task_id,
        entry.key,
        entry.state,
        extra=fields("task_recorded_late", key=entry.key, task_id=task_id, state=entry.state),
    )
