"""One connection to PostgreSQL, made at first use and anew when it broke, and our tables there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, LiteralString, TypeAlias
from weakref import WeakKeyDictionary

import attrs
from psycopg import AsyncConnection, Error, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from apixo_async._narrow import shown
from apixo_async.errors import InvalidSettingError, StoreError

SCHEMA: Final = "apixo"
TIMEOUT: Final = 5.0
"""Seconds for a connection or a statement: nothing is sent meanwhile, and all of ours are small."""
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_LOCK: Final = 0x6170_6978_6F  # "apixo"
"""Who makes or changes tables holds this lock: two `CREATE ... IF NOT EXISTS` at once collide."""
_CALM: Final = {
    "connect_timeout": int(TIMEOUT),
    "application_name": "apixo-async",
    "client_encoding": "utf8",
    # A host that is gone is noticed, whether or not something is on its way.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": int(TIMEOUT * 1000),
}
"""What is set unless the user set it."""
_IS_THERE: Final = """
-- Not to_regclass(), which may answer out of a cache of before the lock.
SELECT 1 FROM pg_catalog.pg_class AS made JOIN pg_catalog.pg_namespace AS place
ON place.oid = made.relnamespace WHERE place.nspname = %s AND made.relname = 'versions'
"""
_SESSION: Final = {
    "statement_timeout": f"{TIMEOUT:.0f}s",
    # Who stops in the middle of a transaction does not keep the others out.
    "idle_in_transaction_session_timeout": f"{2 * TIMEOUT:.0f}s",
    # After waiting for a row, what others have made of it counts.
    "default_transaction_isolation": "read committed",
}

Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]
Fetch: TypeAlias = Callable[..., Awaitable[list[Row]]]
"""Takes a statement and its parameters, as `Database.fetch` does."""


@attrs.define(eq=False)
class _Session:
    """What one event loop has."""

    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    connection: AsyncConnection[Row] | None = None
    ready: set[str] = attrs.field(factory=set[str])
    """Parts whose tables were looked at over this connection."""

    def is_ready(self, part: str) -> bool:
        """Whether they need not be looked at again."""
        is_open = self.connection is not None and not self.connection.closed
        return is_open and part in self.ready

    async def drop(self) -> None:
        """Closes the connection, if there is one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()


class Database:
    """A connection that several parts of a program may share, one statement at a time.

    Each event loop that uses it has one of its own. In statements, `{schema}` stands for ours.

    Args:
        conninfo: A URL or a connection string as libpq reads them; what it leaves out comes from
            the environment (`PGHOST`, `PGPASSWORD` and others).
        schema: Where our tables are, in lower case; it is made when it is missing.

    Raises:
        InvalidSettingError: The connection string or the name of the schema cannot be one.
    """

    def __init__(self, conninfo: str = "", *, schema: str = SCHEMA) -> None:
        self._settings = {**_CALM, **_checked(conninfo)}
        if not _NAME.fullmatch(schema):
            raise InvalidSettingError(
                "schema must be 1 to 63 lower-case letters, digits and _, not beginning with a "
                f"digit, got {shown(schema)}"
            )
        self.schema = schema
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = WeakKeyDictionary()

    async def fetch(self, statement: LiteralString, parameters: Parameters = ()) -> list[Row]:
        """Runs one statement, which is committed by itself; its rows.

        Args:
            statement: One statement, with `%s` or `%(name)s` where parameters go.
            parameters: What goes there.

        Raises:
            StoreError: PostgreSQL cannot be reached or refuses. It may have been done all the same.
        """
        async with self._connected() as connection:
            return await _fetch(connection, self._composed(statement), parameters)

    def transaction(self) -> AbstractAsyncContextManager[Fetch]:
        """A transaction: what it gives runs statements as `fetch` does, until it is left.

        Nobody else gets to the connection meanwhile, so nothing slow belongs in there. It is rolled
        back if an error leaves it.

        Raises:
            StoreError: As `fetch`, also when it is left.
        """
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Fetch]:
        async with self._connected() as connection:

            async def fetch(statement: LiteralString, parameters: Parameters = ()) -> list[Row]:
                with self._told():
                    return await _fetch(connection, self._composed(statement), parameters)

            # By statements, which wait for so long and no longer. An error ends the connection.
            await fetch("BEGIN")
            yield fetch
            await fetch("COMMIT")

    async def prepare(self, part: str, steps: Sequence[LiteralString]) -> None:
        """Makes the tables of a part of ours, or changes them, once for each connection.

        Args:
            part: Its name.
            steps: Statements for each version from the first; what is done is not done again.

        Raises:
            StoreError: PostgreSQL cannot be reached, refuses, or has tables of a newer version.
        """
        if self._here().is_ready(part):
            return
        if await self._version(self.fetch, part) != len(steps):
            async with self.transaction() as fetch:
                await fetch("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                await self._bring(fetch, part, steps)
        self._here().ready.add(part)

    async def _version(self, fetch: Fetch, part: str) -> int:
        """Of a part's tables, 0 if there are none; it needs no right to make any."""
        if not await fetch(_IS_THERE, [self.schema]):
            return 0
        found = await fetch("SELECT version FROM {schema}.versions WHERE part = %s", [part])
        return int(found[0][0]) if found else 0

    async def _bring(self, fetch: Fetch, part: str, steps: Sequence[LiteralString]) -> None:
        version = await self._version(fetch, part)
        if version > len(steps):
            raise StoreError(
                f"PostgreSQL: the tables of {part} in schema {self.schema} are of version "
                f"{version}, and this apixo-async knows {len(steps)}; update it"
            )
        await fetch("CREATE SCHEMA IF NOT EXISTS {schema}")
        await fetch(
            "CREATE TABLE IF NOT EXISTS {schema}.versions"
            " (part text PRIMARY KEY, version integer NOT NULL)"
        )
        for step in steps[version:]:
            await fetch(step)
        await fetch(
            "INSERT INTO {schema}.versions VALUES (%s, %s)"
            " ON CONFLICT (part) DO UPDATE SET version = excluded.version",
            [part, len(steps)],
        )

    async def aclose(self) -> None:
        """Closes the connection of this event loop; the next call makes another one."""
        session = self._here()
        async with session.lock:
            await session.drop()

    def _here(self) -> _Session:
        return self._sessions.setdefault(asyncio.get_running_loop(), _Session())

    def _composed(self, statement: LiteralString) -> sql.Composed:
        return sql.SQL(statement).format(schema=sql.Identifier(self.schema))

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[AsyncConnection[Row]]:
        """The connection for one alone; one that is left in an unknown state is not used again."""
        session = self._here()
        async with session.lock:
            try:
                with self._told():
                    yield await self._open(session)
            finally:
                if session.connection is not None and not _is_idle(session.connection):
                    await session.drop()

    @contextmanager
    def _told(self) -> Generator[None]:
        """Errors of PostgreSQL and the network as ours, without the password."""
        try:
            yield
        except (Error, OSError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            password = self._settings.get("password")
            text = text.replace(str(password), "***") if password else text
            raise StoreError(f"PostgreSQL: {text}") from error

    async def _open(self, session: _Session) -> AsyncConnection[Row]:
        if session.connection is None:
            session.ready.clear()
            session.connection = await AsyncConnection.connect(
                make_conninfo("", **self._settings),
                autocommit=True,
                # Prepared statements do not get through every pooler, and ours are soon planned.
                prepare_threshold=None,
            )
            for name, value in _SESSION.items():
                await session.connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        return session.connection

    def __repr__(self) -> str:
        host = self._settings.get("host", "")
        return f"<{type(self).__name__} {host} {self._settings.get('dbname', '')} {self.schema}>"


async def _fetch(
    connection: AsyncConnection[Row], statement: sql.Composed, parameters: Parameters
) -> list[Row]:
    # The server ends what takes too long; a server that does not even do that is not waited for.
    async with asyncio.timeout(2 * TIMEOUT):
        cursor = await connection.execute(statement, parameters)
        return [] if cursor.description is None else await cursor.fetchall()


def _is_idle(connection: AsyncConnection[Row]) -> bool:
    is_open = not connection.closed
    return is_open and connection.info.transaction_status == TransactionStatus.IDLE


def _checked(conninfo: object) -> dict[str, Any]:
    try:
        if isinstance(conninfo, str):
            return conninfo_to_dict(conninfo)
    except Error:
        pass
    # Not what was given, and not what was wrong with it: a password may be in either.
    raise InvalidSettingError(
        "conninfo must be postgresql://user:password@host/database, or keyword=value for libpq"
    )
