"""The limits of an account in PostgreSQL, for processes that share nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from apixo_async.integrations._member import member_settings
from apixo_async.integrations.postgres._connection import SCHEMA, Database, Fetch
from apixo_async.limits.buckets import BucketSize
from apixo_async.limits.roster import Kept, Roster, gone, renewed
from apixo_async.limits.sharing import LEASE_SECONDS, Grant

_TABLES: Final = (
    """
    -- Unlogged: a request must not wait for a disk, nor fill the log that replicas read. After a
    -- crash of the server it is empty, which is a full bucket.
    CREATE UNLOGGED TABLE {schema}.buckets (
        account text PRIMARY KEY,
        changed_at timestamptz NOT NULL,
        ahead double precision NOT NULL,
        tokens double precision NOT NULL,
        requests bigint NOT NULL
    ) WITH (fillfactor = 20);
    CREATE TABLE {schema}.accounts (
        account text PRIMARY KEY,
        seen_at timestamptz NOT NULL
    );
    CREATE TABLE {schema}.members (
        account text NOT NULL,
        member text NOT NULL,
        held integer NOT NULL,
        wanted integer NOT NULL,
        granted integer NOT NULL,
        until timestamptz NOT NULL,
        has_left boolean NOT NULL,
        PRIMARY KEY (account, member)
    );
    """,
)

_NEW_BUCKET: Final = """
INSERT INTO {schema}.buckets VALUES (%(account)s, clock_timestamp(), 0, 'Infinity', 0)
ON CONFLICT DO NOTHING
"""
# As Line.joined in apixo_async/limits/reservations.py. Where another member has the row, all of
# this is reckoned anew when it is free, with the time of then.
_RESERVE: Final = """
UPDATE {schema}.buckets AS kept SET (changed_at, ahead, tokens, requests) = (
    SELECT
        clock.now,
        greatest(0, past.behind) + greatest(0, %(requests)s - bucket.tokens) / %(per_second)s,
        greatest(0, bucket.tokens - %(requests)s),
        kept.requests + %(requests)s
    FROM (SELECT clock_timestamp() AS now) AS clock
    CROSS JOIN LATERAL (
        SELECT kept.ahead - greatest(0, extract(epoch FROM clock.now - kept.changed_at)::float8)
            AS behind
    ) AS past
    CROSS JOIN LATERAL (
        SELECT least(%(burst)s, kept.tokens + greatest(0, - past.behind) * %(per_second)s)
            AS tokens
    ) AS bucket
)
WHERE account = %(account)s
RETURNING ahead
"""
_LOCK: Final = """
INSERT INTO {schema}.accounts VALUES (%s, clock_timestamp())
ON CONFLICT (account) DO UPDATE SET account = excluded.account
RETURNING extract(epoch FROM seen_at)::float8
"""
_MEMBERS: Final = """
SELECT member, held, wanted, granted, extract(epoch FROM until)::float8, has_left
FROM {schema}.members WHERE account = %s
"""
_PRESENT: Final = """
SELECT member FROM {schema}.members
WHERE account = %s AND NOT has_left
    AND until > clock_timestamp() + %s::float8 * interval '1 second'
"""
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_SEEN: Final = "UPDATE {schema}.accounts SET seen_at = to_timestamp(%s) WHERE account = %s"
_FORGET: Final = "DELETE FROM {schema}.members WHERE account = %s AND member <> ALL (%s)"
_KEEP: Final = """
INSERT INTO {schema}.members VALUES (%s, %s, %s, %s, %s, to_timestamp(%s), %s)
ON CONFLICT (account, member) DO UPDATE SET
    held = excluded.held, wanted = excluded.wanted, granted = excluded.granted,
    until = excluded.until, has_left = excluded.has_left
"""
_REQUESTS: Final = "SELECT requests FROM {schema}.buckets WHERE account = %s"


class PostgresLimits:
    """A member of an account whose limits are in PostgreSQL: pass it as `Gate(shared=...)`.

    It belongs to the event loop that first uses it, and connects when it is first used, to
    PostgreSQL 10 or newer. Each member has one connection. A pooler has to be one of sessions.

    Args:
        database: A connection string for libpq, such as `postgresql://user:password@host/name`,
            or a `Database` that other parts use, too, which this one never closes.
        account: Whose limits they are: all members that name the same one share them.
        lease: Seconds for which slots are kept for a member that gives no sign of life, from 1 to
            a week. Shorter than a task, the account may get more than its cap; longer, the slots
            of a process that died are idle.
        member: Its name among the others, which nobody else may have; `None` draws one.
        schema: Where the tables are, which are made when they are missing. With a `Database`, its
            schema counts.

    Attributes:
        account: As it was given.
        member: Its name.
        lease: Seconds.

    Raises:
        InvalidSettingError: The connection string or another setting cannot be one.
    """

    def __init__(
        self,
        database: str | Database,
        *,
        account: str = "default",
        lease: float = LEASE_SECONDS,
        member: str | None = None,
        schema: str = SCHEMA,
    ) -> None:
        own = member_settings(account=account, lease=lease, member=member)
        self.account, self.member, self.lease = own.account, own.member, own.lease
        self._is_owner = not isinstance(database, Database)
        self._database = (
            database if isinstance(database, Database) else Database(database, schema=schema)
        )

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """Takes so many requests out of the bucket of all; seconds until they may leave.

        Args:
            requests: How many; they are taken whether or not they leave.
            size: The bucket as this member knows it.

        Raises:
            StoreError: PostgreSQL cannot be used. They may have been taken all the same.
        """
        await self._database.prepare("limits", _TABLES)
        given = {
            "account": self.account,
            "requests": requests,
            "burst": float(size.burst),
            "per_second": float(size.per_second),
        }
        while not (found := await self._database.fetch(_RESERVE, given)):
            await self._database.fetch(_NEW_BUCKET, given)
        return float(found[0][0])

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """Tells what this member holds and has use for, renews its lease, and gives its slots.

        Args:
            held: Slots that it holds; they stay, whatever the cap.
            wanted: Slots that it has use for.
            cap: What the account has for all.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """

        def change(roster: Roster, now: float) -> Roster:
            return renewed(
                roster, self.member, held=held, wanted=wanted, cap=cap, lease=self.lease, now=now
            )

        roster, requests = await self._change(change)
        return Grant(cap=roster.members[self.member].granted, requests=requests)

    async def members(self, *, left: float = 0.0) -> Collection[str]:
        """Names of the members whose lease has not ended and who have not left.

        Args:
            left: Seconds that a member's lease must have left to count; one that lives renews it
                when two thirds of it are left.

        Raises:
            StoreError: PostgreSQL cannot be used.
        """
        await self._database.prepare("limits", _TABLES)
        found = await self._database.fetch(_PRESENT, [self.account, left])
        return [name for (name,) in found]

    async def leave(self, *, held: int) -> None:
        """This member goes; what it held is kept for its tasks until its lease ends.

        Args:
            held: Slots whose tasks go on without it.

        Raises:
            StoreError: PostgreSQL cannot be used; then its lease just ends.
        """

        def change(roster: Roster, now: float) -> Roster:
            return gone(roster, self.member, held=held, lease=self.lease, now=now)

        await self._change(change)

    async def aclose(self) -> None:
        """Closes the connection, unless it came with a `Database`."""
        if self._is_owner:
            await self._database.aclose()

    async def _change(self, change: Callable[[Roster, float], Roster]) -> tuple[Roster, int]:
        """Changes the members while nobody else does; also the requests of all so far."""
        await self._database.prepare("limits", _TABLES)
        async with self._database.transaction() as fetch:
            before, now = await self._read(fetch)
            after = change(before, now)
            await fetch(_SEEN, [after.seen_at, self.account])
            await fetch(_FORGET, [self.account, list(after.members)])
            for name, member in after.members.items():
                if member != before.members.get(name):
                    await fetch(_KEEP, _row(self.account, name, member))
            counted = await fetch(_REQUESTS, [self.account])
        return after, int(counted[0][0]) if counted else 0

    async def _read(self, fetch: Fetch) -> tuple[Roster, float]:
        """The members, of whom nobody else changes one meanwhile, and the time of now."""
        [(seen_at,)] = await fetch(_LOCK, [self.account])
        rows = await fetch(_MEMBERS, [self.account])
        [(now,)] = await fetch(_NOW)
        members = {
            name: Kept(held=held, wanted=wanted, granted=granted, until=until, has_left=has_left)
            for name, held, wanted, granted, until, has_left in rows
        }
        return Roster(members=members, seen_at=seen_at), now


def _row(account: str, name: str, member: Kept) -> tuple[object, ...]:
    return (
        account,
        name,
        member.held,
        member.wanted,
        member.granted,
        member.until,
        member.has_left,
    )
