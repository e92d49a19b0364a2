"""Callbacks in PostgreSQL: whichever replica receives one, the one that submitted gets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, LiteralString

from apixo_async._wire import Claim
from apixo_async.integrations.postgres._connection import SCHEMA, Database, Row
from apixo_async.webhooks.boxes import MOST, PAGE, GroupedPuts, watch
from apixo_async.webhooks.capabilities import Slip
from apixo_async.webhooks.orphans import LIFETIME, Callback

_TABLES: Final = (
    """
    CREATE TABLE {schema}.callbacks (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        job text NOT NULL,
        attempt integer NOT NULL,
        task_id text,
        state text,
        at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX callbacks_of_job ON {schema}.callbacks (job);
    CREATE INDEX callbacks_by_time ON {schema}.callbacks (at);
    """,
)
_ONE_AT_A_TIME: Final = """
-- Numbers are given when a row is made, and rows are seen when they are committed: without it, one
-- with a lower number might be seen after one with a higher number, and nobody would look for it.
SELECT pg_advisory_xact_lock(hashtext('apixo callbacks'), hashtext(%s))
"""
_DROP_OLD: Final = (
    "DELETE FROM {schema}.callbacks WHERE at < clock_timestamp() - make_interval(secs => %s)"
)
_INSERT: Final = """
INSERT INTO {schema}.callbacks (job, attempt, task_id, state)
SELECT job, attempt, task_id, state
FROM unnest(%s::text[], %s::integer[], %s::text[], %s::text[]) WITH ORDINALITY
    AS new (job, attempt, task_id, state, place)
WHERE NOT EXISTS (
    SELECT 1 FROM {schema}.callbacks AS old
    WHERE old.job = new.job AND old.attempt = new.attempt
        AND old.task_id IS NOT DISTINCT FROM new.task_id
        AND old.state IS NOT DISTINCT FROM new.state
)
ORDER BY place
"""
_DROP_MANY: Final = """
DELETE FROM {schema}.callbacks WHERE number <= (SELECT max(number) FROM {schema}.callbacks) - %s
"""
_FIND: Final = """
SELECT job, attempt, task_id, state FROM {schema}.callbacks WHERE job = %s ORDER BY number
"""
_AFTER: Final = """
SELECT number, job, attempt, task_id, state FROM {schema}.callbacks WHERE number > %s
ORDER BY number LIMIT %s
"""
_JOBS: Final = "SELECT DISTINCT job FROM {schema}.callbacks"
_DROP: Final = """
DELETE FROM {schema}.callbacks WHERE job = %s AND attempt = %s
    AND task_id IS NOT DISTINCT FROM %s AND state IS NOT DISTINCT FROM %s
"""


class PostgresInbox:
    """Callbacks that nobody has taken yet, for processes of any machines.

    Pass it as `WebhookReceiver(inbox=...)` in all of them. A callback is committed before its
    sender is answered, is given to whoever asks for its job, within about a second, and goes after
    a day. While PostgreSQL cannot be used, senders are told to come again.

    Args:
        database: A connection string for libpq, such as `postgresql://user:password@host/name`,
            or a `Database` that other parts use, too, which this one never closes.
        schema: Where the table is, which is made when it is missing. With a `Database`, its schema
            counts.

    Raises:
        InvalidSettingError: The connection string or the name of the schema cannot be one.

    Attributes:
        place: The database, for whoever reads the log.
    """

    is_durable = True
    """Whether what is kept outlives this process: it does."""

    def __init__(self, database: str | Database, *, schema: str = SCHEMA) -> None:
        self._is_owner = not isinstance(database, Database)
        self._database = (
            database if isinstance(database, Database) else Database(database, schema=schema)
        )
        self.place = self._database
        self._puts = GroupedPuts(self._put)

    async def put(self, callback: Callback) -> None:
        """Keeps it; the same one is kept once. What comes meanwhile shares the next write.

        Args:
            callback: What came.

        Raises:
            StoreError: PostgreSQL cannot be used; the sender has to come again.
        """
        await self._puts.put(callback)

    async def find(self, job: str) -> Sequence[Callback]:
        """Those of this job, the oldest first.

        Args:
            job: As in the URL of a callback.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """
        return [_callback(*row) for row in await self._fetch(_FIND, [job])]

    async def jobs(self) -> Collection[str]:
        """Those that it keeps anything for.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """
        return {job for (job,) in await self._fetch(_JOBS)}

    async def drop(self, callback: Callback) -> None:
        """Somebody has taken it.

        Args:
            callback: What is not needed any more.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """
        await self._fetch(_DROP, _row(callback))

    async def watch(self, tell: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells of what is there and what comes, until cancelled; what is taken is gone.

        Args:
            tell: Is true of what somebody here has now.
        """
        try:
            await watch(self, tell)
        finally:
            # The event loop that looked may end now, and nobody else would close its connection.
            await self.aclose()

    async def after(self, last: int) -> Sequence[tuple[int, Callback]]:
        """A page of those that came after number `last`, with their numbers.

        Args:
            last: 0 is before the first.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """
        rows = await self._fetch(_AFTER, [last, PAGE])
        return [(number, _callback(*row)) for number, *row in rows]

    async def aclose(self) -> None:
        """Closes the connection of this event loop, unless it came with a `Database`."""
        if self._is_owner:
            await self._database.aclose()

    async def _fetch(
        self, statement: LiteralString, parameters: Sequence[object] = ()
    ) -> list[Row]:
        await self._database.prepare("inbox", _TABLES)
        return await self._database.fetch(statement, parameters)

    async def _put(self, callbacks: Sequence[Callback]) -> None:
        columns = zip(*map(_row, dict.fromkeys(callbacks)), strict=True)
        await self._database.prepare("inbox", _TABLES)
        async with self._database.transaction() as fetch:
            await fetch(_ONE_AT_A_TIME, [self._database.schema])
            await fetch(_DROP_OLD, [LIFETIME])
            await fetch(_INSERT, [list(column) for column in columns])
            await fetch(_DROP_MANY, [MOST])


def _row(callback: Callback) -> tuple[str, int, str | None, str | None]:
    slip, claim = callback.slip, callback.claim
    return slip.job, slip.attempt, claim.task_id, claim.state


def _callback(job: str, attempt: int, task_id: str | None, state: str | None) -> Callback:
    return Callback(Slip(job, attempt), Claim(task_id, state))
