"""`Journal`: the durable record of a batch, as its one owner uses it."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import attrs

from apixo_async.batch import events
from apixo_async.batch.journal.entries import Entry, JobState
from apixo_async.batch.journal.history import after, event_row
from apixo_async.batch.journal.opening import (
    check_format,
    connect,
    prepare,
    read_meta,
    translating,
    verify,
    write_meta,
)
from apixo_async.batch.journal.owner import OwnerLock
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum
from apixo_async.batch.journal.writer import Writer
from apixo_async.batch.outcomes import Job
from apixo_async.downloads import SavedFile
from apixo_async.errors import InvalidRequestError, JournalError

_LOGGER = logging.getLogger("apixo_async")

CHUNK: Final = 256
"""Jobs that are read, or taken over from an input, at a time."""
CRASHED: Final = "crash"
"""The phase of a submit that was on its way when its process ended."""

_COLUMNS: Final = ", ".join(JOB_COLUMNS) + ", checksum"
_INSERT: Final = f"INSERT INTO jobs VALUES ({', '.join('?' * (len(JOB_COLUMNS) + 1))})"
_UPDATE: Final = (
    f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in (*JOB_COLUMNS[1:], 'checksum'))}"
    " WHERE number = ?"
)


@attrs.define
class Spent:
    """How many submits of one kind made a task, or may have made one."""

    model: str
    mode: str | None
    charges: int


class Journal:
    """The record of a batch in one SQLite file, for its one owner; see `docs/journal.md`.

    `open` it, `record` what happens and wait for the record where the next step must not come
    before it, and `aclose` it. `on_trouble` is called when the disk refuses what must be kept.
    Every error is a `JournalError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_trouble: Callable[[JournalError], None] | None = None
        self.options: dict[str, Any] = {}
        """What the batch was started with, to go on alike."""
        self._lock: OwnerLock
        self._writer: Writer
        self._reader: sqlite3.Connection
        self._database: sqlite3.Connection
        self._next_number = 1
        self._next_event = 1
        self._waiting: dict[str, Entry] = {}
        self._held_back: dict[str, str] = {}
        self._is_troubled = False

    # Life

    @classmethod
    async def open(cls, path: Path, *, must_exist: bool = False) -> Self:
        """Takes possession of the journal and verifies all of it.

        One that is missing is made, or with `must_exist` an error.
        """
        if must_exist and not await asyncio.to_thread(path.exists):
            raise JournalError(f"there is no journal {path}")
        journal = cls(path)
        await asyncio.to_thread(journal._open)
        journal._writer = Writer(
            journal._database, on_commit=journal._committed, on_trouble=journal._trouble
        )
        return journal

    def _open(self) -> None:
        self._lock = OwnerLock(self.path)
        try:
            is_new = prepare(self.path)
            with translating(self.path):
                self._database = connect(self.path)
                try:
                    self._verify(is_new=is_new)
                    self._reader = connect(self.path, mode="ro")
                except BaseException:
                    self._database.close()
                    raise
        except BaseException:
            self._lock.release(is_clean=False)
            raise

    def _verify(self, *, is_new: bool) -> None:
        database = self._database
        check_format(database, self.path)
        last = verify(database, self.path, mark=None if is_new else self._lock.mark)
        self._next_event = last + 1
        self._lock.note(last)
        (number,) = database.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
        self._next_number = number + 1
        self.options = json.loads(read_meta(database, "options") or "{}")

    async def aclose(self) -> None:
        """Writes what waits, then gives the journal back."""
        is_clean = False
        try:
            await self._writer.aclose()
            is_clean = not self._held_back
        finally:
            self._reader.close()
            if not self._lock.was_forked:
                self._database.close()
                self._lock.release(is_clean=is_clean)

    def _check_process(self) -> None:
        if self._lock.was_forked:
            raise JournalError(
                f"journal {self.path} belongs to the process that opened it, and this is a fork"
            )

    def _committed(self) -> None:
        self._lock.note(self._next_event - 1)

    def _trouble(self, error: JournalError) -> None:
        if self._held_back:
            ids = ", ".join(f"{key}: {task}" for key, task in self._held_back.items())
            _LOGGER.critical(
                "%s; it is tried again as long as this process lives; "
                "tasks that are running and billed and not yet in the journal: %s",
                error,
                ids,
            )
        elif not self._is_troubled:
            _LOGGER.error("%s", error)
        self._is_troubled = True
        if self.on_trouble is not None:
            self.on_trouble(error)

    # Jobs

    def find(self, key: str) -> Entry | None:
        """The job with this key, also one whose record is still being written."""
        self._check_process()
        if (entry := self._waiting.get(key)) is not None:
            return entry
        with translating(self.path):
            row = self._reader.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE key = ?",
                (key,),
            ).fetchone()
        return None if row is None else Entry.of_row(row)

    def enqueue(self, job: Job) -> Entry:
        """Adds a job, its key set. Durable before any event of it that is recorded later."""
        self._check_process()
        entry = Entry.new(self._next_number, job, at=datetime.now(UTC))
        self._next_number += 1
        self._waiting[entry.key] = entry
        future = self._writer.do(lambda database: self._insert(database, entry))
        future.add_done_callback(lambda _: self._waiting.pop(entry.key, None))
        return entry

    def _insert(self, database: sqlite3.Connection, entry: Entry) -> None:
        database.execute(_INSERT, entry.row())
        queued = events.Queued(
            key=entry.key,
            at=datetime.fromisoformat(entry.queued_at),
            index=entry.number,
            model=entry.model,
            mode=entry.mode,
        )
        self._add_event(database, entry.number, queued)

    def _add_event(self, database: sqlite3.Connection, job: int, event: events.JobEvent) -> None:
        # The number is taken from the table: work may be rolled back and done again.
        (last,) = database.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
        values = (last + 1, job, *event_row(event))
        database.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*values, checksum(values))
        )
        self._next_event = last + 2

    async def enqueue_all(self, jobs: Iterable[Job]) -> int:
        """Adds all jobs that are not there yet, or none; returns how many were new.

        Their keys must be set and different. Raises `InvalidRequestError` that shows both requests
        if one has the key of another request.
        """
        self._check_process()
        number = self._next_number
        now = datetime.now(UTC)

        def add(database: sqlite3.Connection) -> int:
            added = 0
            for job in jobs:
                entry = Entry.new(number + added, job, at=now)
                row = database.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE key = ?",
                    (entry.key,),
                ).fetchone()
                if row is not None:
                    check_same(Entry.of_row(row), entry)
                    continue
                self._insert(database, entry)
                added += 1
            return added

        added = await self._writer.do(add)
        self._next_number = number + added
        return added

    async def entries(self, *states: JobState, last: int = 0) -> AsyncIterator[Entry]:
        """Jobs in these states in the order of their numbers, read a few at a time.

        What changes while one goes through them may or may not be seen. Jobs from `last` on (its
        number, exclusive) are skipped unless it is 0.
        """
        marks = ", ".join(f"'{state}'" for state in states)
        after_number = 0
        while True:
            with translating(self.path):
                rows = self._reader.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE state IN ({marks}) AND number > ?"
                    " AND (? = 0 OR number < ?) ORDER BY number LIMIT ?",
                    (after_number, last, last, CHUNK),
                ).fetchall()
            for row in rows:
                yield Entry.of_row(row)
            if len(rows) < CHUNK:
                return
            after_number = rows[-1][0]
            await asyncio.sleep(0)

    async def unsaved(self) -> AsyncIterator[Entry]:
        """Succeeded jobs whose files are not all on disk, by the record."""
        after_number = 0
        while True:
            with translating(self.path):
                rows = self._reader.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE state = 'succeeded' AND saved = 0"
                    " AND number > ? ORDER BY number LIMIT ?",
                    (after_number, CHUNK),
                ).fetchall()
            for row in rows:
                yield Entry.of_row(row)
            if len(rows) < CHUNK:
                return
            after_number = rows[-1][0]

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state."""
        with translating(self.path):
            rows = self._reader.execute("SELECT state, count(*) FROM jobs GROUP BY state")
            return Counter({JobState(state): number for state, number in rows})

    def spent(self) -> list[Spent]:
        """Submits that cost something, or may have."""
        with translating(self.path):
            rows = self._reader.execute(
                "SELECT model, mode, sum(charges) FROM jobs WHERE charges > 0 GROUP BY model, mode"
            )
            return [Spent(*row) for row in rows]

    def has_task(self, task_id: str) -> bool:
        """Whether a job has this task."""
        with translating(self.path):
            row = self._reader.execute("SELECT 1 FROM jobs WHERE task_id = ?", (task_id,))
            return row.fetchone() is not None

    # Records

    def record(
        self, number: int, event: events.JobEvent, *, keep_trying: bool = False
    ) -> asyncio.Future[Entry]:
        """Writes what happened to a job; the future is done when that is on disk.

        Once it has left the process, what happened must be told to the journal whatever the disk
        says: with `keep_trying` it is tried until it is written.
        """
        self._check_process()

        def write(database: sqlite3.Connection) -> Entry:
            row = database.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE number = ?",
                (number,),
            ).fetchone()
            entry = Entry.of_row(row)
            changed = after(entry, event)
            if changed is not entry:
                values = changed.row()
                database.execute(_UPDATE, (*values[1:], number))
            self._write_file(database, number, event)
            self._add_event(database, number, event)
            return changed

        future = self._writer.do(write, keep_trying=keep_trying)
        if isinstance(event, events.Accepted):
            self._held_back[event.key] = event.task_id
            future.add_done_callback(lambda _: self._held_back.pop(event.key, None))
        return future

    def _write_file(
        self, database: sqlite3.Connection, number: int, event: events.JobEvent
    ) -> None:
        if isinstance(event, (events.Naming, events.Saved)):
            is_named = int(isinstance(event, events.Saved))
            values = (number, event.path, event.size, event.sha256, is_named)
            database.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                (*values, checksum(values)),
            )

    def files(self, number: int, *, named: bool = True) -> list[SavedFile]:
        """The files of a job; with `named` false, those that were about to get their name."""
        with translating(self.path):
            rows = self._reader.execute(
                "SELECT path, size, sha256 FROM files WHERE job = ? AND is_named = ? ORDER BY path",
                (number, int(named)),
            )
            return [SavedFile(Path(path), size, sha256) for path, size, sha256 in rows]

    async def recover(self) -> int:
        """Submits that were on their way when the last owner ended become uncertain."""
        found = 0
        async for entry in self.entries(JobState.SENDING):
            await self.record(
                entry.number,
                events.Uncertain(
                    key=entry.key,
                    reason="the process ended while this submit was on its way",
                    phase=CRASHED,
                ),
            )
            found += 1
        return found

    async def set_options(self, options: Mapping[str, Any]) -> None:
        """Notes what the batch is started with, over what was noted before."""
        self.options = {**self.options, **options}
        text = json.dumps(self.options)
        await self._writer.do(lambda database: write_meta(database, "options", text))


def check_same(known: Entry, asked: Entry) -> None:
    """Raises `InvalidRequestError` that shows both, if one key was used for two requests."""
    if known.fingerprint == asked.fingerprint:
        return
    rule = (
        f"was used for another request: the journal has {known.request[:200]}, "
        f"now it is {asked.request[:200]}; give the new one a key of its own"
    )
    raise InvalidRequestError(f"job {asked.key!r}", [("key", rule)])
