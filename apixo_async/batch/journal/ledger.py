"""What is written to a journal, inside the transactions of its writer."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from apixo_async.batch import events
from apixo_async.batch.journal.entries import ENDED, Entry, stamp
from apixo_async.batch.journal.history import after, event_row
from apixo_async.batch.journal.opening import write_meta
from apixo_async.batch.journal.reads import SELECT
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError, JournalError

CHUNK: Final = 256
"""Jobs that are taken over from an input at a time."""
KNOWN_MAX: Final = 4_096
"""Jobs under way that are remembered instead of read again, as nobody else changes them."""

# A file of a newer minor version has columns that this version does not know: all are named.
_ADD_JOB: Final = (
    f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}, checksum)"
    f" VALUES ({', '.join('?' * (len(JOB_COLUMNS) + 1))})"
)
_ADD_EVENT: Final = (
    "INSERT INTO events (number, job, at, kind, data, checksum) VALUES (?, ?, ?, ?, ?, ?)"
)
_PUT_FILE: Final = (
    "INSERT INTO files (job, path, size, sha256, is_named, checksum) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (job, path) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256,"
    " is_named = excluded.is_named, checksum = excluded.checksum"
)
_BY_NUMBER: Final = f"{SELECT} WHERE number = ?"
_BY_KEYS: Final = f"{SELECT} WHERE key IN (SELECT value FROM json_each(?))"


@functools.cache
def _update(columns: tuple[int, ...]) -> str:
    # Only what changes: SQLite renews the index of every column that is named.
    names = [JOB_COLUMNS[column] for column in columns]
    changed = ", ".join(f"{name} = ?" for name in (*names, "checksum"))
    return f"UPDATE jobs SET {changed} WHERE number = ?"


class Ledger:
    """Writes jobs, their events and files, and counts the events.

    The owner is the only writer, so the count need not be asked of the table; after a rollback it
    goes back to where it was at the last commit.
    """

    def __init__(self, database: sqlite3.Connection, *, last_event: int) -> None:
        self._database = database
        self._last = self.committed = last_event
        self._known: dict[int, Entry] = {}

    def begin(self) -> None:
        """A transaction begins, perhaps after one that failed."""
        if self._last != self.committed:  # it failed: what it wrote is not there
            self._last = self.committed
            self._known.clear()

    def commit(self) -> None:
        """What was written since `begin` is on disk."""
        self.committed = self._last

    def add(self, entry: Entry) -> None:
        """A new job."""
        self._database.execute(_ADD_JOB, entry.row())
        self._database.execute(_ADD_EVENT, self._event(entry.number, _queued(entry)))

    def add_new(self, jobs: Iterable[Job], number: int, at: datetime) -> int:
        """Those of the jobs that are not there yet, numbered from `number`; returns how many."""
        left, first = iter(jobs), number
        while chunk := list(islice(left, CHUNK)):
            keys = json.dumps([job.key for job in chunk])
            known = {
                entry.key: entry
                for entry in map(Entry.of_row, self._database.execute(_BY_KEYS, (keys,)))
            }
            new: list[Entry] = []
            for job in chunk:
                entry = Entry.new(number, job, at=at)
                same = known.setdefault(entry.key, entry)
                if same is entry:
                    new.append(entry)
                    number += 1
                else:
                    check_same(same, entry)
            self._database.executemany(_ADD_JOB, [entry.row() for entry in new])
            told = [self._event(entry.number, _queued(entry)) for entry in new]
            self._database.executemany(_ADD_EVENT, told)
        return number - first

    def change(self, number: int, event: events.JobEvent) -> Entry:
        """What happened to a job."""
        entry = self._known.get(number) or self._read(number, event.key)
        changed = after(entry, event)
        if changed is not entry:
            self._update(entry.values(), changed.row())
            self._know(changed)
        if isinstance(event, (events.Naming, events.Saved)):
            self._put_file(number, event)
        if changed is not entry or not isinstance(event, events.CalledBack):  # it may come for ever
            self._database.execute(_ADD_EVENT, self._event(number, event))
        return changed

    def _read(self, number: int, key: str) -> Entry:
        row = self._database.execute(_BY_NUMBER, (number,)).fetchone()
        if row is None:
            raise JournalError(f"job {key!r} (number {number}) is not in the journal")
        return Entry.of_row(row)

    def _know(self, entry: Entry) -> None:
        if entry.state in ENDED:
            self._known.pop(entry.number, None)
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[entry.number] = entry

    def _update(self, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
        columns = tuple(at for at, value in enumerate(new[:-1]) if value != old[at])
        values = [new[column] for column in columns]
        self._database.execute(_update(columns), (*values, new[-1], new[0]))

    def _put_file(self, number: int, event: events.Naming | events.Saved) -> None:
        is_named = int(isinstance(event, events.Saved))
        values = (number, event.path, event.size, event.sha256, is_named)
        summed = (*values, checksum(values))
        self._database.execute(_PUT_FILE, (number, _path_value(event.path), *summed[2:]))

    def set_options(self, text: str) -> None:
        """What the batch is started with; an event as well, so that its loss would be noticed."""
        write_meta(self._database, "options", text)
        told = (stamp(datetime.now(UTC)), "OptionsSet", text)
        self._database.execute(_ADD_EVENT, self._numbered(None, *told))

    def _event(self, job: int, event: events.JobEvent) -> tuple[Any, ...]:
        return self._numbered(job, *event_row(event))

    def _numbered(self, *others: object) -> tuple[Any, ...]:
        self._last += 1
        values = (self._last, *others)
        return (*values, checksum(values))


def _queued(entry: Entry) -> events.Queued:
    return events.Queued(
        key=entry.key,
        at=datetime.fromisoformat(entry.queued_at),
        index=entry.number,
        model=entry.model,
        mode=entry.mode,
    )


def _path_value(path: str) -> str | bytes:
    """A path as it is bound; POSIX allows names that are no UTF-8, which no text can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def check_same(known: Entry, asked: Entry) -> None:
    """Raises `InvalidRequestError` that shows both, if one key was used for two requests."""
    if known.fingerprint == asked.fingerprint:
        return
    rule = (
        f"was used for another request: the journal has {known.request[:200]}, "
        f"now it is {asked.request[:200]}; give the new one a key of its own"
    )
    raise InvalidRequestError(f"job {asked.key!r}", [("key", rule)])
