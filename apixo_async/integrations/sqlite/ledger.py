"""A ledger in an SQLite file: for jobs of one machine, with no server."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from apixo_async.durable import Ledger
from apixo_async.durable.sql import SCHEMA, SqlRows
from apixo_async.errors import StoreError
from apixo_async.integrations.sqlite._sharing import share

_BUSY_SECONDS: Final = 5.0


class SqliteRows(SqlRows):
    """Rows in a file of their own, on no network drive; processes of one machine may share it."""

    def __init__(self, path: str | os.PathLike[str], *, account: str = "default") -> None:
        super().__init__(account)
        self._path = Path(path)
        self._lock = asyncio.Lock()
        self._database: sqlite3.Connection | None = None

    async def _fetch(self, query: str, values: Sequence[object] = ()) -> Sequence[Sequence[Any]]:
        async with self._lock:
            # What runs in a thread cannot be cancelled: it is waited for, whoever has left.
            asking = asyncio.ensure_future(asyncio.to_thread(self._ask, query, values))
            try:
                return await asyncio.shield(asking)
            except asyncio.CancelledError:
                await asyncio.wait([asking])
                raise

    def _ask(self, query: str, values: Sequence[object]) -> Sequence[Sequence[Any]]:
        try:
            if self._database is None:
                self._database = self._open()
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the ledger {self._path} cannot be used: {error}") from None

    def _open(self) -> sqlite3.Connection:
        is_new = not self._path.exists()
        database = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if is_new:
                self._path.chmod(0o600)  # prompts are nobody else's business
            share(database, timeout=_BUSY_SECONDS)
            database.execute("PRAGMA synchronous = FULL")  # what it says was paid for
            for statement in SCHEMA:
                database.execute(statement.format(prefix=""))
        except BaseException:
            database.close()
            raise
        return database

    async def aclose(self) -> None:
        """Closes the file; it is opened anew when it is needed."""
        async with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None


class SqliteLedger(Ledger):
    """The record of `DurableJobs` in a file, made when it is missing, for its owner alone.

    Args:
        path: The file. Several processes of one machine may use it.
        account: Whose jobs they are; keys of one say nothing about another.

    Raises:
        StoreError: From its methods: the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, account: str = "default") -> None:
        super().__init__(SqliteRows(path, account=account))
