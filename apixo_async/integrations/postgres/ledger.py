"""A ledger in PostgreSQL: for jobs of any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apixo_async.durable import Ledger
from apixo_async.durable.sql import SCHEMA as TABLES
from apixo_async.durable.sql import SqlRows
from apixo_async.integrations.postgres._connection import SCHEMA, Database

_PREFIX = "{schema}."  # for `Database` to fill in
_STEPS = ["; ".join(statement.format(prefix=_PREFIX) for statement in TABLES)]


class PostgresRows(SqlRows):
    """Rows in tables of our schema."""

    def __init__(self, database: Database, *, is_owner: bool, account: str) -> None:
        super().__init__(account, prefix=_PREFIX)
        self._database = database
        self._is_owner = is_owner

    async def _fetch(self, query: str, values: Sequence[object] = ()) -> Sequence[Sequence[Any]]:
        await self._database.prepare("ledger", _STEPS)  # pyright: ignore[reportArgumentType]  # see below
        # Put together from the names of our own columns; values are always bound.
        ours = query.replace("?", "%s")
        return await self._database.fetch(ours, values)  # pyright: ignore[reportArgumentType]

    async def aclose(self) -> None:
        """Closes the connection, unless it came with a `Database`."""
        if self._is_owner:
            await self._database.aclose()


class PostgresLedger(Ledger):
    """The record of `DurableJobs` in PostgreSQL, for processes of any machines.

    It belongs to the event loop that first uses it, and connects when it is first used. The tables
    are made when they are missing.

    Args:
        database: A connection string for libpq, such as `postgresql://user:password@host/name`,
            or a `Database` that other parts use, too, which this one never closes.
        account: Whose jobs they are; keys of one say nothing about another.
        schema: Where the tables are. With a `Database`, its schema counts.

    Raises:
        InvalidSettingError: The connection string or the schema cannot be one.
        StoreError: From its methods: PostgreSQL cannot be used.
    """

    def __init__(
        self, database: str | Database, *, account: str = "default", schema: str = SCHEMA
    ) -> None:
        is_owner = not isinstance(database, Database)
        shared = database if isinstance(database, Database) else Database(database, schema=schema)
        super().__init__(PostgresRows(shared, is_owner=is_owner, account=account))
