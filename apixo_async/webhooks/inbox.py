"""A file in which callbacks wait, so that one process receives them and another one submits."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from apixo_async._wire import Claim
from apixo_async.errors import InvalidSettingError
from apixo_async.webhooks.capabilities import Slip
from apixo_async.webhooks.orphans import LIFETIME, Callback

_LOGGER = logging.getLogger("apixo_async")

LOOK_EVERY: Final = 1.0
"""Seconds between looks into the file for what another process has put there."""
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
"""
_FIELDS: Final = "number, job, attempt, task_id, state"
_SAME: Final = "job = ? AND attempt = ? AND task_id IS ? AND state IS ?"


class Inbox:
    """Callbacks that nobody has taken yet, in an SQLite file that processes of one machine share.

    They are on disk before their sender is answered, are given to whoever asks for their job, and
    go after a day. The file is made when it is missing, for its owner alone.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir():
            raise InvalidSettingError(f"inbox: there is no directory {self.path.parent}")

    async def put(self, callback: Callback) -> None:
        """Keeps it; the same one is kept once."""
        await asyncio.to_thread(self._put, callback)

    async def take(self, job: str) -> Sequence[Callback]:
        """Those of this job, which are given away."""
        return await asyncio.to_thread(self._take, job)

    async def watch(self, tell: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells of what is there and what comes, until cancelled; what is taken is gone."""
        last = 0
        while True:
            try:
                for number, callback in await asyncio.to_thread(self._after, last):
                    if await tell(callback):
                        await asyncio.to_thread(self._drop, number)
                    last = number
            except Exception:  # what nobody could record now is tried again with the next look
                _LOGGER.exception("callbacks in %s could not be handed on", self.path)
            await asyncio.sleep(LOOK_EVERY)

    # In a thread, each with a connection of its own: a file that is moved or full is no state

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        is_new = not self.path.exists()
        database = sqlite3.connect(self.path, timeout=_BUSY_MS / 1000, isolation_level=None)
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

    def _put(self, callback: Callback) -> None:
        slip, claim, now = callback.slip, callback.claim, time.time()
        row = (slip.job, slip.attempt, claim.task_id, claim.state)
        with self._transaction() as database:
            database.execute("DELETE FROM callbacks WHERE at < ?", (now - LIFETIME,))
            if database.execute(f"SELECT 1 FROM callbacks WHERE {_SAME}", row).fetchone() is None:
                database.execute(
                    "INSERT INTO callbacks (job, attempt, task_id, state, at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (*row, now),
                )

    def _take(self, job: str) -> Sequence[Callback]:
        with self._transaction() as database:
            rows = database.execute(
                f"SELECT {_FIELDS} FROM callbacks WHERE job = ? ORDER BY number", (job,)
            ).fetchall()
            database.execute("DELETE FROM callbacks WHERE job = ?", (job,))
        return [_callback(*row)[1] for row in rows]

    def _after(self, last: int) -> Sequence[tuple[int, Callback]]:
        if not self.path.exists():
            return []
        with self._transaction() as database:
            rows = database.execute(
                f"SELECT {_FIELDS} FROM callbacks WHERE number > ? ORDER BY number", (last,)
            ).fetchall()
        return [_callback(*row) for row in rows]

    def _drop(self, number: int) -> None:
        with self._transaction() as database:
            database.execute("DELETE FROM callbacks WHERE number = ?", (number,))


def _callback(
    number: int, job: str, attempt: int, task_id: str | None, state: str | None
) -> tuple[int, Callback]:
    return number, Callback(Slip(job, attempt), Claim(task_id, state))
