"""`Journal`: the durable record of a batch, as its one owner uses it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from apixo_async._logs import LOGGER, fields
from apixo_async.batch import events
from apixo_async.batch.journal.entries import Entry, JobState
from apixo_async.batch.journal.history import PAST_TASKS
from apixo_async.batch.journal.ledger import Ledger
from apixo_async.batch.journal.leftovers import doubt_after_crash
from apixo_async.batch.journal.opening import (
    check_format,
    connect,
    prepare,
    read_meta,
    translating,
)
from apixo_async.batch.journal.owner import OwnerLock
from apixo_async.batch.journal.reads import CHUNK, Reads, Spent, are_open
from apixo_async.batch.journal.traffic import Traffic, add_traffic, has_traffic
from apixo_async.batch.journal.verifying import verify
from apixo_async.batch.journal.writer import Writer
from apixo_async.batch.outcomes import Job
from apixo_async.downloads import SavedFile
from apixo_async.errors import JournalError

NAME: Final = "callback_name"
_NAME_BYTES: Final = 12


class Journal:
    """The record of a batch in one SQLite file, for its one owner; see `docs/journal.md`.

    `open` it, `record` what happens and wait for the record where the next step must not come
    before it, and `aclose` it. `on_trouble` is called when the disk refuses something. Every error
    is a `JournalError`.
    """

    def __init__(self, path: Path) -> None:
        # The lock and the log lie beside the file itself, by whatever name it was reached.
        self.path = Path(os.path.realpath(path))
        self.on_trouble: Callable[[JournalError], None] | None = None
        self.options: dict[str, Any] = {}
        """What the batch was started with, to go on alike."""
        self._lock: OwnerLock
        self._writer: Writer
        self._reads: Reads
        self._ledger: Ledger
        self._database: sqlite3.Connection
        self._next_number = 1
        self._is_adding = False
        self._waiting: dict[str, Entry] = {}
        self._held_back: dict[str, str] = {}
        self._logged: set[str] = set()
        self._past_tasks: set[str] = set()
        self._has_traffic = False

    # Life

    @classmethod
    async def open(cls, path: Path, *, must_exist: bool = False) -> Self:
        """Takes possession of the journal and verifies all of it.

        One that is missing is made, or with `must_exist` an error.
        """
        if must_exist and not await asyncio.to_thread(path.exists):
            raise JournalError(f"there is no journal {path}")
        journal = cls(path)
        opening = asyncio.ensure_future(asyncio.to_thread(journal._open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: what it opens is closed when it is done.
            opening.add_done_callback(journal._abandon)
            raise
        journal._writer = Writer(
            journal._database,
            transactions=journal,
            on_trouble=journal._trouble,
            on_end=journal._end,
        )
        return journal

    def _open(self) -> None:
        self._lock = OwnerLock(self.path)
        try:
            is_new = prepare(self.path, mark=self._lock.mark)
            with translating(self.path):
                self._database = connect(self.path)
                try:
                    self._verify(is_new=is_new)
                    self._reads = Reads(self.path)
                    self._past_tasks = self._reads.past_tasks()
                except BaseException:
                    self._database.close()
                    raise
        except BaseException:
            # Without a mark nothing was ever noted there: a wrong path leaves no trace.
            self._lock.release(is_clean=self._lock.mark is None)
            raise

    def _abandon(self, opening: asyncio.Future[None]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._end(is_complete=True)

    def _verify(self, *, is_new: bool) -> None:
        database = self._database
        check_format(database, self.path)
        last = verify(database, self.path, mark=None if is_new else self._lock.mark)
        self._ledger = Ledger(database, last_event=last)
        self._lock.note(last)
        (number,) = database.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
        self._next_number = number + 1
        self.options = json.loads(read_meta(database, "options") or "{}")
        self._has_traffic = has_traffic(database)

    async def aclose(self) -> None:
        """Writes what waits, then gives the journal back."""
        if self._lock.was_forked:
            return  # neither the thread nor the files are ours
        await self._writer.aclose()

    def _end(self, is_complete: bool) -> None:  # noqa: FBT001  # called back with it
        self._reads.close()  # first: only the writer can empty the log when it closes
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        self._lock.release(is_complete)

    def _check_process(self) -> None:
        if self._lock.was_forked:
            raise JournalError(
                f"journal {self.path} belongs to the process that opened it, and this is a fork"
            )

    # For the writer

    def begin(self) -> None:
        """A transaction begins."""
        self._ledger.begin()

    def commit(self) -> None:
        """A transaction is on disk."""
        self._ledger.commit()
        self._lock.note(self._ledger.committed)

    def _trouble(self, error: JournalError) -> None:
        if new := self._held_back.keys() - self._logged:
            self._logged |= new
            ids = ", ".join(f"{key}: {task}" for key, task in self._held_back.items())
            LOGGER.critical(
                "%s; it is tried again as long as this process lives; "
                "tasks that are running and billed and not yet in the journal: %s",
                error,
                ids,
                extra=fields(
                    "tasks_unrecorded",
                    task_ids=list(self._held_back.values()),
                    path=self.path,
                    error=error,
                ),
            )
        elif not self._held_back:
            LOGGER.error("%s", error, extra=fields("journal_failed", path=self.path, error=error))
        if self.on_trouble is not None:
            self.on_trouble(error)

    # Jobs

    def find(self, key: str) -> Entry | None:
        """The job with this key, also one whose record is still being written."""
        self._check_process()
        return self._waiting.get(key) or self._reads.find(key)

    def numbered(self, number: int) -> Entry | None:
        """The job with this number, once its record is written."""
        self._check_process()
        return self._reads.numbered(number) if 0 < number < self._next_number else None

    def enqueue(self, job: Job) -> Entry:
        """Adds a job, its key set. Durable before any event of it that is recorded later."""
        self._check_process()
        if self._is_adding:
            raise JournalError("jobs are being added already; wait for the end of enqueue_all()")
        entry = Entry.new(self._next_number, job, at=datetime.now(UTC))
        future = self._writer.do(partial(self._ledger.add, entry))
        self._next_number += 1
        self._waiting[entry.key] = entry
        future.add_done_callback(lambda _: self._waiting.pop(entry.key, None))
        return entry

    async def enqueue_all(self, jobs: Iterable[Job]) -> int:
        """Adds all jobs that are not there yet, or none; returns how many were new.

        Their keys must be set. Raises `InvalidRequestError` that shows both requests if one has the
        key of another request.
        """
        self._check_process()
        if self._is_adding:
            raise JournalError("jobs are being added already; wait for the end of enqueue_all()")
        self._is_adding = True
        now = datetime.now(UTC)
        # Alone, as what is pulled from the input cannot be pulled again.
        work = partial(self._ledger.add_new, jobs, self._next_number, now)
        adding = self._writer.do(work, is_alone=True)
        adding.add_done_callback(self._set_added)
        # Cancelled, it goes on; jobs that come meanwhile would get the same numbers.
        return await asyncio.shield(adding)

    def _set_added(self, adding: asyncio.Future[int]) -> None:
        self._is_adding = False
        if not adding.cancelled() and adding.exception() is None:
            self._next_number += adding.result()

    async def entries(self, *states: JobState, last: int = 0) -> AsyncIterator[Entry]:
        """Jobs in these states in the order of their numbers, read a few at a time.

        What changes while one goes through them may or may not be seen. Jobs from `last` on (its
        number, exclusive) are skipped unless it is 0.
        """
        self._check_process()
        if are_open(states):
            pages = [partial(self._reads.in_state, state, before=last) for state in states]
        else:
            pages = [partial(self._reads.in_states, states, before=last)]
        merged = heapq.merge(*map(_one_by_one, pages), key=lambda entry: entry.number)
        for count, entry in enumerate(merged, 1):
            yield entry
            if count % CHUNK == 0:
                await asyncio.sleep(0)

    async def unsaved(self) -> AsyncIterator[Entry]:
        """Succeeded jobs whose files are not all on disk, by the record."""
        self._check_process()
        for entry in _one_by_one(self._reads.unsaved):
            yield entry

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state."""
        self._check_process()
        return self._reads.counts()

    def spent(self) -> list[Spent]:
        """Submits that cost something, or may have."""
        self._check_process()
        return self._reads.spent()

    def has_task(self, task_id: str) -> bool:
        """Whether a job has this task, or had it before it was submitted again."""
        self._check_process()
        return task_id in self._past_tasks or self._reads.has_task(task_id)

    def files(self, number: int, *, named: bool = True) -> list[SavedFile]:
        """The files of a job; with `named` false, those that were about to get their name."""
        self._check_process()
        return self._reads.files(number, named=named)

    # Records

    def record(
        self, number: int, event: events.JobEvent, *, keep_trying: bool = False
    ) -> asyncio.Future[Entry]:
        """Writes what happened to a job; the future is done when that is on disk.

        Once it has left the process, what happened must be told to the journal whatever the disk
        says: with `keep_trying` it is tried until it is written.
        """
        self._check_process()
        work = partial(self._ledger.change, number, event)
        if isinstance(event, events.Resubmitted):
            written = self._writer.do(work, keep_trying=keep_trying)
            written.add_done_callback(self._note_past)
            return written
        if not isinstance(event, (events.Accepted, events.Identified)):
            return self._writer.do(work, keep_trying=keep_trying)
        self._held_back[event.key] = event.task_id
        # Not by the future: whoever waits for it may be cancelled before the record is written.
        when_kept = partial(self._let_go, event.key)
        return self._writer.do(work, keep_trying=keep_trying, when_kept=when_kept)

    def _note_past(self, written: asyncio.Future[Entry]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._past_tasks.update(written.result().why().get(PAST_TASKS, ()))

    def _let_go(self, key: str) -> None:
        self._held_back.pop(key, None)
        self._logged.discard(key)

    async def recover(self) -> int:
        """Submits that were on their way when the last owner ended become uncertain."""
        doubts = [
            (entry.number, doubt)
            async for entry in self.entries(JobState.SENDING)
            if (doubt := doubt_after_crash(entry)) is not None
        ]
        for number, doubt in doubts:
            await self.record(number, doubt)
        return len(doubts)

    def note_traffic(self, sample: Traffic) -> None:
        """Notes what the client did, for whoever looks back.

        Nobody waits for it; what the disk refuses is lost, and so is all of it where the journal is
        older than that. Raises `JournalError` for a journal that is closed, or another process's.
        """
        self._check_process()
        if self._has_traffic:
            work = partial(add_traffic, self._database, sample)
            _ = self._writer.do(work, is_optional=True)

    @property
    def name(self) -> str | None:
        """What callback URLs call this journal, once it has a name (see `give_name`)."""
        return self.options.get(NAME)

    async def give_name(self) -> None:
        """Gives it a name that no other journal has, if it has none."""
        if self.name is None:
            await self.set_options({NAME: secrets.token_urlsafe(_NAME_BYTES)})

    async def set_options(self, options: Mapping[str, Any]) -> None:
        """Notes what the batch is started with, over what was noted before."""
        self.options = {**self.options, **options}
        text = json.dumps(self.options)
        await self._writer.do(partial(self._ledger.set_options, text))


def _one_by_one(page: Callable[..., list[Entry]]) -> Iterator[Entry]:
    after = 0
    while found := page(after=after):
        yield from found
        if len(found) < CHUNK:
            return
        after = found[-1].number
