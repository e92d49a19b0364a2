"""Looks from outside into what replicas share: the rows of the ledger, of limits and of DBOS."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, LiteralString

import attrs
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from apixo_async.batch.journal import Entry, JobState
from apixo_async.durable import Ledger
from apixo_async.integrations.postgres import PostgresLedger
from apixo_async.integrations.sqlite import SqliteLedger

SQLITE: Final = "sqlite:///"
_SENDING: Final = "SELECT count(*) FROM {}jobs WHERE state = 'sending'"
_SLOTS: Final = """
SELECT coalesce(sum(greatest(held, granted)), 0) FROM apixo.members
WHERE until > clock_timestamp() AND member LIKE %s
"""
_SENT_BY: Final = """
SELECT count(*) FROM apixo.jobs JOIN dbos.workflow_status ON split_part(workflow_uuid, '/', 2) = key
WHERE state = 'sending' AND status = 'PENDING' AND executor_id LIKE %s
"""
_CARRIED: Final = """
SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id LIKE %s
"""


@attrs.define(eq=False)
class Watch:
    """What is in the database; a process is known by its pid, which is part of its name there."""

    database: str

    async def sending(self) -> int:
        """Jobs whose POST is about to leave, or under way, by the record."""
        if self.database.startswith(SQLITE):
            path = Path(self.database.removeprefix(SQLITE))
            file = path.with_name(f"{path.stem}.jobs{path.suffix}")
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                return int(database.execute(_SENDING.format("")).fetchone()[0])
        return await self._number("SELECT count(*) FROM apixo.jobs WHERE state = 'sending'")

    async def sending_by(self, pid: int) -> int:
        """Those of a process."""
        return await self._number(_SENT_BY, [f"%-{pid}-%"])

    async def slots_of(self, pid: int) -> int:
        """Slots that are kept for a process by its lease."""
        return await self._number(_SLOTS, [f"%-{pid}-%"])

    async def carried_by(self, pid: int) -> int:
        """Jobs that DBOS takes to be carried by a process."""
        return await self._number(_CARRIED, [f"%-{pid}-%"])

    async def _number(self, query: LiteralString, values: Sequence[object] = ()) -> int:
        async with await AsyncConnection.connect(self.database) as connection:
            cursor = await connection.execute(query, values)
            row = await cursor.fetchone()
        return 0 if row is None else int(row[0])

    async def entries(self) -> list[Entry]:
        """All jobs of the ledger."""
        ledger: Ledger
        if self.database.startswith(SQLITE):
            path = Path(self.database.removeprefix(SQLITE))
            ledger = SqliteLedger(path.with_name(f"{path.stem}.jobs{path.suffix}"))
        else:
            ledger = PostgresLedger(self.database)
        await ledger.open()
        try:
            return [entry async for entry in ledger.entries(*JobState)]
        finally:
            await ledger.aclose()


@asynccontextmanager
async def database_of_its_own(url: str) -> AsyncGenerator[str]:
    """A new database on a server, which is dropped in the end."""
    name = f"replicas_{secrets.token_hex(6)}"
    await _run(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield with_database(url, name)
    finally:
        await _run(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    head, slash, rest = url.partition("://")[2].partition("/")
    query = rest.partition("?")[2]
    return f"postgresql://{head}{slash or '/'}{name}{'?' + query if query else ''}"


async def _run(url: str, statement: Any) -> None:  # noqa: ANN401  # psycopg's own
    async with await AsyncConnection.connect(make_conninfo(url), autocommit=True) as connection:
        await connection.execute(statement)
