"""A file in which callbacks wait, so that one process receives them and another one submits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from apixo_async._wire import Claim
from apixo_async.errors import InvalidSettingError
from apixo_async.webhooks.boxes import MOST, PAGE, GroupedPuts, watch
from apixo_async.webhooks.capabilities import Slip
from apixo_async.webhooks.orphans import LIFETIME, Callback

_BUSY_MS: Final = 500
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS callbacks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    task_id TEXT,
    state TEXT,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS of_job ON callbacks (job);
CREATE INDEX IF NOT EXISTS by_time ON callbacks (at);
"""
_INSERT: Final = "INSERT INTO callbacks (job, attempt, task_id, state, at) VALUES (?, ?, ?, ?, ?)"
_FIELDS: Final = "number, job, attempt, task_id, state"
_SAME: Final = "job = ? AND attempt = ? AND task_id IS ? AND state IS ?"


class Inbox:
    """Callbacks that nobody has taken yet, in an SQLite file that processes of one machine share.

    They are on disk before their sender is answered, are given to whoever asks for their job, and
    go after a day. The file is made when it is missing, for its owner alone.
    """

    is_durable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir():
            raise InvalidSettingError(f"inbox: there is no directory {self.path.parent}")
        self.place = self.path
        self._puts = GroupedPuts(lambda group: asyncio.to_thread(self._put, group))

    async def put(self, callback: Callback) -> None:
        """Keeps it; the same one is kept once. What comes meanwhile shares the next write."""
        await self._puts.put(callback)

    async def find(self, job: str) -> Sequence[Callback]:
        """Those of this job, the oldest first."""
        return await asyncio.to_thread(self._find, job)

    async def jobs(self) -> Collection[str]:
        """Those that it keeps anything for."""
        return await asyncio.to_thread(self._jobs)

    async def drop(self, callback: Callback) -> None:
        """Somebody has taken it."""
        await asyncio.to_thread(self._drop, callback)

    async def watch(self, tell: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells of what is there and what comes, until cancelled; what is taken is gone."""
        await watch(self, tell)

    async def after(self, last: int) -> Sequence[tuple[int, Callback]]:
        """A page of those that came after number `last`, with their numbers."""
        return await asyncio.to_thread(self._after, last)

    # In a thread, each with a connection of its own: a file that is moved or full is no state

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        try:
            is_new = not self.path.exists()
            database = sqlite3.connect(self.path, timeout=_BUSY_MS / 1000, isolation_level=None)
        except sqlite3.Error as error:
            raise OSError(f"inbox {self.path}: {error}") from error
        try:
            if is_new:
                self.path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_SCHEMA)
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise OSError(f"inbox {self.path}: {error}") from error
        finally:
            database.close()

    def _put(self, callbacks: Sequence[Callback]) -> None:
        now = time.time()
        with self._transaction() as database:
            database.execute("DELETE FROM callbacks WHERE at < ?", (now - LIFETIME,))
            for callback in callbacks:
                row = _row(callback)
                if database.execute(f"SELECT 1 FROM callbacks WHERE {_SAME}", row).fetchone():
                    continue
                database.execute(_INSERT, (*row, now))
            database.execute(
                "DELETE FROM callbacks WHERE number <= (SELECT max(number) FROM callbacks) - ?",
                (MOST,),
            )

    def _find(self, job: str) -> Sequence[Callback]:
        query = f"SELECT {_FIELDS} FROM callbacks WHERE job = ? ORDER BY number"
        return [callback for _, callback in self._read(query, job)]

    def _after(self, last: int) -> Sequence[tuple[int, Callback]]:
        query = f"SELECT {_FIELDS} FROM callbacks WHERE number > ? ORDER BY number LIMIT {PAGE}"
        return self._read(query, last)

    def _read(self, query: str, value: object) -> Sequence[tuple[int, Callback]]:
        if not self.path.exists():
            return []
        with self._transaction() as database:
            return [_callback(*row) for row in database.execute(query, (value,))]

    def _jobs(self) -> Collection[str]:
        if not self.path.exists():
            return ()
        with self._transaction() as database:
            return {job for (job,) in database.execute("SELECT DISTINCT job FROM callbacks")}

    def _drop(self, callback: Callback) -> None:
        with self._transaction() as database:
            database.execute(f"DELETE FROM callbacks WHERE {_SAME}", _row(callback))


def _row(callback: Callback) -> tuple[str, int, str | None, str | None]:
    slip, claim = callback.slip, callback.claim
    return slip.job, slip.attempt, claim.task_id, claim.state


def _callback(
    number: int, job: str, attempt: int, task_id: str | None, state: str | None
) -> tuple[int, Callback]:
    return number, Callback(Slip(job, attempt), Claim(task_id, state))
