"""Where a ledger keeps its jobs: one row each, changed only by who has seen it as it is."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Final, Protocol

import attrs

from apixo_async.batch.journal import ENDED, Entry, JobState

NAME_BYTES: Final = 12
"""Of a ledger's random name, which callback URLs show."""


class Rows(Protocol):
    """A table of jobs that processes share: what a ledger of yours has to have.

    `replace` is what lets one process alone submit a job, so it has to be one atomic step of the
    database, and durable when it returns. Every method raises `StoreError` if the table is away.
    """

    async def name(self) -> str:
        """The table's random name, without a dash; the same in every process, for good."""
        ...

    async def insert(self, entry: Entry) -> Entry:
        """The job of this key as it is there: this one, which is given a number, or an earlier.

        Args:
            entry: A new job. Its number is the next, and no other job ever gets it.
        """
        ...

    async def read(self, key: str) -> Entry | None:
        """The job of this key; `None` if there is none.

        Args:
            key: The name of a job.
        """
        ...

    async def numbered(self, number: int) -> Entry | None:
        """The job of this number; `None` if there is none.

        Args:
            number: As `insert` gave it.
        """
        ...

    async def replace(self, old: Entry, new: Entry) -> bool:
        """Puts `new` in the place of `old`; false, and nothing is changed, if that has changed.

        Args:
            old: The row as it was read; each field of it counts.
            new: What it becomes, under the same key and number.
        """
        ...

    def entries(self, states: Collection[JobState]) -> AsyncIterator[Entry]:
        """All jobs in these states, in the order of their numbers.

        Args:
            states: Of jobs that are wanted.
        """
        ...

    async def among(self, numbers: Sequence[int], states: Collection[JobState]) -> Sequence[Entry]:
        """Those of these jobs that are in these states.

        Args:
            numbers: Of jobs, thousands at most.
            states: Of jobs that are wanted.
        """
        ...

    async def purge(self, ended_before: datetime) -> int:
        """Deletes jobs that ended before then; returns how many.

        Args:
            ended_before: With a time zone.
        """
        ...

    async def aclose(self) -> None:
        """Closes the connection."""


class MemoryRows:
    """Jobs in memory, for tests and for programs whose jobs may end with them."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._name = secrets.token_hex(NAME_BYTES)
        self._last = 0

    async def name(self) -> str:
        """A random one."""
        return self._name

    async def insert(self, entry: Entry) -> Entry:
        """Numbers it if it is new."""
        if entry.key not in self._entries:
            self._last += 1
            self._entries[entry.key] = attrs.evolve(entry, number=self._last)
        return self._entries[entry.key]

    async def read(self, key: str) -> Entry | None:
        """As it is."""
        return self._entries.get(key)

    async def numbered(self, number: int) -> Entry | None:
        """As it is."""
        found = (entry for entry in self._entries.values() if entry.number == number)
        return next(found, None)

    async def replace(self, old: Entry, new: Entry) -> bool:
        """If it is still the old one."""
        if self._entries.get(old.key) != old:
            return False
        self._entries[old.key] = new
        return True

    async def entries(self, states: Collection[JobState]) -> AsyncIterator[Entry]:
        """By number."""
        for entry in list(self._entries.values()):
            if entry.state in states:
                yield entry

    async def among(self, numbers: Sequence[int], states: Collection[JobState]) -> Sequence[Entry]:
        """By number and state."""
        wanted = set(numbers)
        entries = self._entries.values()
        return [one for one in entries if one.number in wanted and one.state in states]

    async def purge(self, ended_before: datetime) -> int:
        """By the time of their end."""
        old = [
            entry.key
            for entry in self._entries.values()
            if entry.state in ENDED
            and entry.ended_at is not None
            and datetime.fromisoformat(entry.ended_at) < ended_before
        ]
        for key in old:
            del self._entries[key]
        return len(old)

    async def aclose(self) -> None:
        """There is nothing to close."""
