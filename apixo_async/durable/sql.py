"""The rows of a ledger in an SQL database: the same statements for SQLite and PostgreSQL."""

from __future__ import annotations

import abc
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from apixo_async.batch.journal import ENDED, Entry, JobState, stamp
from apixo_async.batch.journal.schema import JOB_COLUMNS
from apixo_async.durable.rows import NAME_BYTES

PAGE: Final = 500
"""Jobs that are read at a time."""
SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS {prefix}ledger (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        name TEXT NOT NULL,
        last_number BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS {prefix}jobs (
        number BIGINT PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        model TEXT NOT NULL,
        mode TEXT,
        fingerprint TEXT NOT NULL,
        request TEXT NOT NULL,
        metadata TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        charges INTEGER NOT NULL,
        repeats INTEGER NOT NULL,
        queued_at TEXT NOT NULL,
        sending_at TEXT,
        accepted_at TEXT,
        ended_at TEXT,
        task_id TEXT,
        task TEXT,
        note TEXT,
        saved INTEGER NOT NULL,
        checksum BIGINT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS jobs_by_state ON {prefix}jobs (state, number)",
)
"""Columns as those of a journal's table `jobs`; `ledger` has one row."""


class SqlRows(abc.ABC):
    """Rows in tables whose names begin with `prefix`; `?` stands for a value."""

    def __init__(self, prefix: str = "") -> None:
        columns = ", ".join((*JOB_COLUMNS, "checksum"))
        marks = ", ".join("?" * (len(JOB_COLUMNS) + 1))
        changes = ", ".join(f"{name} = ?" for name in (*JOB_COLUMNS, "checksum"))
        self._select = f"SELECT {columns} FROM {prefix}jobs"
        self._insert = (
            f"INSERT INTO {prefix}jobs ({columns}) VALUES ({marks}) ON CONFLICT (key) DO NOTHING"
        )
        # The checksum would do but for one chance in four billion, which costs money.
        self._replace = (
            f"UPDATE {prefix}jobs SET {changes}"
            " WHERE number = ? AND checksum = ? AND state = ? AND attempts = ? RETURNING number"
        )
        self._count = (
            f"UPDATE {prefix}ledger SET last_number = last_number + 1 RETURNING last_number"
        )
        ended = ", ".join(f"'{state.value}'" for state in sorted(ENDED))
        self._purge = (
            f"DELETE FROM {prefix}jobs WHERE state IN ({ended}) AND ended_at < ? RETURNING number"
        )
        self._prefix = prefix
        self._name: str | None = None

    @abc.abstractmethod
    async def _fetch(self, query: str, values: Sequence[object] = ()) -> Sequence[Sequence[Any]]:
        """The rows that one statement gives, committed; `StoreError` if the database is away."""

    async def name(self) -> str:
        """That of the table's only row, made at first."""
        if self._name is None:
            made = secrets.token_hex(NAME_BYTES)
            await self._fetch(
                f"INSERT INTO {self._prefix}ledger (id, name, last_number) VALUES (1, ?, 0)"
                " ON CONFLICT (id) DO NOTHING",
                (made,),
            )
            ((name,),) = await self._fetch(f"SELECT name FROM {self._prefix}ledger")
            self._name = str(name)
        return self._name

    async def insert(self, entry: Entry) -> Entry:
        """Numbered and added, unless its key is there."""
        known = await self.read(entry.key)
        if known is not None:
            return known
        await self.name()
        ((number,),) = await self._fetch(self._count)
        numbered = attrs.evolve(entry, number=number)
        await self._fetch(self._insert, numbered.row())
        return await self.read(entry.key) or numbered

    async def read(self, key: str) -> Entry | None:
        """By its key."""
        found = await self._fetch(f"{self._select} WHERE key = ?", (key,))
        return Entry.of_row(found[0]) if found else None

    async def numbered(self, number: int) -> Entry | None:
        """By its number."""
        found = await self._fetch(f"{self._select} WHERE number = ?", (number,))
        return Entry.of_row(found[0]) if found else None

    async def replace(self, old: Entry, new: Entry) -> bool:
        """One statement: of several processes, one alone changes the row as it was."""
        before = (old.number, old.row()[-1], old.state.value, old.attempts)
        return bool(await self._fetch(self._replace, (*new.row(), *before)))

    async def entries(self, states: Collection[JobState]) -> AsyncIterator[Entry]:
        """A page at a time."""
        marks, last = ", ".join("?" * len(states)), 0
        query = (
            f"{self._select} WHERE state IN ({marks}) AND number > ? ORDER BY number LIMIT {PAGE}"
        )
        while found := await self._fetch(query, (*(state.value for state in states), last)):
            for row in found:
                entry = Entry.of_row(row)
                last = entry.number
                yield entry

    async def purge(self, ended_before: datetime) -> int:
        """By the time of their end, which the record has as UTC."""
        return len(await self._fetch(self._purge, (stamp(ended_before),)))

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Closes the connection."""
