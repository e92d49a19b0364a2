"""What several processes share: limits, callbacks, jobs, and where they are kept."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, assert_type

from apixo_async import ApixoClient, Gate, Limits, WebhookReceiver
from apixo_async.integrations.postgres import (
    Database,
    PostgresInbox,
    PostgresLedger,
    PostgresLimits,
)
from apixo_async.integrations.redis import RedisLimits
from apixo_async.integrations.sqlite import SqliteLedger, SqliteLimits
from apixo_async.limits import BucketSize
from apixo_async.webhooks import Callback
from apixo_async.webhooks.orphans import SharedOrphans


def stores() -> None:
    """Each of them is what a gate may share."""
    database = Database("postgresql://apixo@db.internal/videos", schema="apixo")
    assert_type(database.schema, str)
    for shared in (
        PostgresLimits(database, account="videos"),
        PostgresLimits("host=db.internal", lease=60, member="one", schema="limits"),
        RedisLimits("redis://127.0.0.1", account="videos", lease=60, prefix="limits"),
        SqliteLimits("limits.db", lease=60.0),
        SqliteLimits(Path("limits.db"), member="one"),
    ):
        ApixoClient(gate=Gate(Limits(), shared=shared))


async def a_store(limits: PostgresLimits | RedisLimits | SqliteLimits) -> None:
    """What it answers."""
    assert_type(await limits.reserve(1, BucketSize(10.0, 2.0)), float)
    grant = await limits.slots(held=0, wanted=4, cap=10)
    assert_type(grant.cap, int)
    assert_type(grant.requests, int)
    assert_type(await limits.members(), Collection[str])
    assert_type(limits.member, str)
    assert_type(limits.account, str)
    assert_type(limits.lease, float)
    await limits.leave(held=0)
    await limits.aclose()


async def a_database(database: Database) -> None:
    """Statements are written out, and parameters bound."""
    assert_type(await database.fetch("SELECT %s", [1]), list[tuple[Any, ...]])
    await database.prepare("mine", ["CREATE TABLE {schema}.mine (name text)"])
    async with database.transaction() as fetch:
        assert_type(await fetch("SELECT %(a)s", {"a": 1}), list[tuple[Any, ...]])
    await database.aclose()


async def an_inbox(callback: Callback, other: SharedOrphans) -> None:
    """One for all replicas, or one of your own."""
    inbox = PostgresInbox(Database())
    WebhookReceiver("https://example.com", secret="of sixteen bytes", inbox=inbox)
    WebhookReceiver("https://example.com", secret="of sixteen bytes", inbox=other)
    await inbox.put(callback)
    assert_type(await inbox.find("job"), Sequence[Callback])
    assert_type(await inbox.jobs(), Collection[str])
    assert_type(await inbox.after(0), Sequence[tuple[int, Callback]])
    assert_type(inbox.is_durable, bool)
    await inbox.drop(callback)
    await inbox.aclose()

    async def tell(_: Callback) -> bool:
        return False

    await inbox.watch(tell)


def ledgers() -> None:
    """In the same database, or in a file."""
    PostgresLedger(Database(), account="videos")
    SqliteLedger("jobs.db")
