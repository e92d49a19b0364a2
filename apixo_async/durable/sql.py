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
        account TEXT NOT NULL,
        number BIGINT PRIMARY KEY,
        key TEXT NOT NULL,
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
        checksum BIGINT NOT NULL,
        UNIQUE (account, key)
    )
    """,
    "CREATE INDEX IF NOT EXISTS jobs_by_state ON {prefix}jobs (account, state, number)",
)
"""Columns as those of a journal's table `jobs`; `ledger` has one row."""


class SqlRows(abc.ABC):
    """The rows of one account, in tables named with `prefix`; `?` stands for a value."""

    def __init__(self, account: str, *, prefix: str = "") -> None:
        columns = ", ".join((*JOB_COLUMNS, "checksum"))
        marks = ", ".join("?" * (len(JOB_COLUMNS) + 2))
        changes = ", ".join(f"{name} = ?" for name in (*JOB_COLUMNS, "checksum"))
        self._select = f"SELECT {columns} FROM {prefix}jobs"
        self._insert = (
            f"INSERT INTO {prefix}jobs (account, {columns}) VALUES ({marks})"
            " ON CONFLICT (account, key) DO NOTHING"
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
            f"DELETE FROM {prefix}jobs WHERE account = ? AND state IN ({ended}) AND ended_at < ?"
            " RETURNING number"
        )
        self._prefix = prefix
        self._account = account
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
        await self._fetch(self._insert, (self._account, *numbered.row()))
        return await self.read(entry.key) or numbered

    async def read(self, key: str) -> Entry | None:
        """By its key."""
        found = await self._fetch(
            f"{self._select} WHERE account = ? AND key = ?", (self._account, key)
        )
        return Entry.of_row(found[0]) if found else None

    async def numbered(self, number: int) -> Entry | None:
        """By its number."""
        query = f"{self._select} WHERE account = ? AND number = ?"
        found = await self._fetch(query, (self._account, number))
        return Entry.of_row(found[0]) if found else None

    async def replace(self, old: Entry, new: Entry) -> bool:
        """One statement: of several processes, one alone changes the row as it was."""
        before = (old.number, old.row()[-1], old.state.value, old.attempts)
        return bool(await self._fetch(self._replace, (*new.row(), *before)))

    async def entries(self, states: Collection[JobState]) -> AsyncIterator[Entry]:
        """A page at a time."""
        marks, last = ", ".join("?" * len(states)), 0
        query = (
            f"{self._select} WHERE account = ? AND state IN ({marks}) AND number > ?"
            f" ORDER BY number LIMIT {PAGE}"
        )
        wanted = [state.value for state in states]
        while found := await self._fetch(query, (self._account, *wanted, last)):
            for row in found:
                entry = Entry.of_row(row)
                last = entry.number
                yield entry

    async def among(self, numbers: Sequence[int], states: Collection[JobState]) -> Sequence[Entry]:
        """A page at a time."""
        found: list[Entry] = []
        for first in range(0, len(numbers), PAGE):
            page = numbers[first : first + PAGE]
            some, one_of = ", ".join("?" * len(page)), ", ".join("?" * len(states))
            query = (
                f"{self._select} WHERE account = ? AND number IN ({some}) AND state IN ({one_of})"
            )
            values = (self._account, *page, *(state.value for state in states))
            found += [Entry.of_row(row) for row in await self._fetch(query, values)]
        return found

    async def purge(self, ended_before: datetime) -> int:
        """By the time of their end, which the record has as UTC."""
        return len(await self._fetch(self._purge, (self._account, stamp(ended_before))))

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Closes the connection."""
