"""One connection to PostgreSQL, our tables there, and what is said of what goes wrong."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from apixo_async import InvalidSettingError, StoreError
from apixo_async.integrations.postgres import Database, PostgresLimits
from apixo_async.integrations.postgres import _connection as connection
from apixo_async.limits import BucketSize
from tests.services import POSTGRES, postgres_schema

OURS = r"^PostgreSQL: "
SIZE = BucketSize(5.0, 20.0)
THINGS = ("CREATE TABLE {schema}.things (name text PRIMARY KEY)",)
BOXES = (*THINGS, "ALTER TABLE {schema}.things ADD COLUMN box text DEFAULT 'none'")


@pytest.fixture
def schema() -> Iterator[str]:
    """A name that nobody else has."""
    with postgres_schema() as name:
        yield name


async def test_what_it_is_asked_for(schema: str) -> None:
    """Rows of a statement, nothing of one without rows, and its parameters by place or name."""
    database = Database(POSTGRES, schema=schema)

    assert await database.fetch("SELECT %s::int + 1, 'x'", [1]) == [(2, "x")]
    assert await database.fetch("SELECT %(a)s::text", {"a": "%"}) == [("%",)]
    assert await database.fetch("CREATE SCHEMA {schema}") == []
    await database.aclose()


async def test_a_transaction_is_done_as_a_whole_or_not_at_all(schema: str) -> None:
    """An error that leaves it undoes what was done in it; the connection is as good as before."""
    database = Database(POSTGRES, schema=schema)
    await database.prepare("things", THINGS)
    async with database.transaction() as fetch:
        await fetch("INSERT INTO {schema}.things VALUES ('one')")

    async def inserted(*names: str) -> None:
        async with database.transaction() as fetch:
            for name in names:
                await fetch("INSERT INTO {schema}.things VALUES (%s)", [name])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await inserted("two")
    with pytest.raises(StoreError, match="duplicate key"):
        await inserted("three", "one")

    assert await database.fetch("SELECT name FROM {schema}.things") == [("one",)]
    await database.aclose()


async def test_many_may_make_the_tables_at_once(schema: str) -> None:
    """Each from a connection of its own, with nothing there: one makes them, all find them."""
    databases = [Database(POSTGRES, schema=schema) for _ in range(6)]
    await asyncio.gather(*(database.fetch("SELECT 1") for database in databases))
    await asyncio.gather(*(database.prepare("things", THINGS) for database in databases))
    rows = [await database.fetch("SELECT * FROM {schema}.versions") for database in databases]

    assert rows == [[("things", 1)]] * 6
    await asyncio.gather(*(database.aclose() for database in databases))


async def test_tables_of_an_older_version_are_changed(schema: str) -> None:
    """Only what is new is done; what is in them stays; other parts are not touched."""
    old, new = Database(POSTGRES, schema=schema), Database(POSTGRES, schema=schema)
    await old.prepare("things", THINGS)
    await old.prepare("other", ("CREATE TABLE {schema}.other (name text)",))
    await old.fetch("INSERT INTO {schema}.things VALUES ('one')")
    await new.prepare("things", BOXES)

    assert await new.fetch("SELECT * FROM {schema}.things") == [("one", "none")]
    versions = await new.fetch("SELECT * FROM {schema}.versions ORDER BY part")
    assert versions == [("other", 1), ("things", 2)]
    await old.aclose()
    await new.aclose()


async def test_tables_of_a_newer_version_are_left_alone(schema: str) -> None:
    """Who does not know them says so, and what to do."""
    old, new = Database(POSTGRES, schema=schema), Database(POSTGRES, schema=schema)
    await new.prepare("things", BOXES)
    says = f"tables of things in schema {schema} are of version 2, .* knows 1; update it"
    with pytest.raises(StoreError, match=says):
        await old.prepare("things", THINGS)

    await old.aclose()
    await new.aclose()


async def test_who_may_make_no_tables_may_use_them(schema: str) -> None:
    """A role without any right but to read and write what is there."""
    role = sql.Identifier(schema)
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        maker = Database(POSTGRES, schema=schema)
        await maker.prepare("things", THINGS)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(role))
        try:
            admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(role, role))
            admin.execute(
                sql.SQL("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {} TO {}").format(role, role)
            )
            poor = Database(make_conninfo(POSTGRES, user=schema, password="pw"), schema=schema)
            await poor.prepare("things", THINGS)
            await poor.fetch("INSERT INTO {schema}.things VALUES ('one')")
            with pytest.raises(StoreError, match="permission denied"):
                await poor.prepare("boxes", THINGS)
            await poor.aclose()
        finally:
            admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(role))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))
            await maker.aclose()


async def test_a_connection_that_the_server_ends_is_made_anew(schema: str) -> None:
    """Whoever was at it hears of it, in a transaction as well; the next one does not."""
    database, other = Database(POSTGRES, schema=schema), Database(POSTGRES, schema=schema)
    await database.prepare("things", THINGS)
    for _ in range(2):
        [(process,)] = await database.fetch("SELECT pg_backend_pid()")
        await other.fetch("SELECT pg_terminate_backend(%s, 5000)", [process])
        with pytest.raises(StoreError, match=OURS):
            await database.fetch("SELECT 1")
        assert await database.fetch("SELECT 1") == [(1,)]

    async def ended_inside() -> None:
        async with database.transaction() as fetch:
            [(process,)] = await fetch("SELECT pg_backend_pid()")
            await fetch("INSERT INTO {schema}.things VALUES ('one')")
            await other.fetch("SELECT pg_terminate_backend(%s, 5000)", [process])
            await fetch("SELECT 1")

    with pytest.raises(StoreError, match=OURS):
        await ended_inside()

    assert await database.fetch("SELECT * FROM {schema}.things") == []
    await database.aclose()
    await other.aclose()


async def test_one_who_is_cancelled_leaves_it_usable(schema: str) -> None:
    """While it waits for an answer, or within a transaction."""
    database = Database(POSTGRES, schema=schema)
    await database.prepare("things", THINGS)
    sleeping = asyncio.create_task(database.fetch("SELECT pg_sleep(60)"))
    inside = asyncio.Event()

    async def insert() -> None:
        async with database.transaction() as fetch:
            await fetch("INSERT INTO {schema}.things VALUES ('one')")
            inside.set()
            await asyncio.sleep(60)

    await asyncio.sleep(0.05)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    inserting = asyncio.create_task(insert())
    await inside.wait()
    inserting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inserting

    assert await database.fetch("SELECT * FROM {schema}.things") == []
    await database.aclose()


async def test_a_statement_does_not_take_for_ever(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it, and says so."""
    monkeypatch.setitem(connection._SESSION, "statement_timeout", "50ms")
    database = Database(POSTGRES, schema=schema)
    with pytest.raises(StoreError, match="canceling statement due to statement timeout"):
        await database.fetch("SELECT pg_sleep(60)")

    await database.aclose()


async def test_a_server_that_says_nothing_is_not_waited_for(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for its own timeout."""
    monkeypatch.setattr(connection, "TIMEOUT", 0.1)
    database = Database(POSTGRES, schema=schema)
    with pytest.raises(StoreError, match=r"^PostgreSQL: TimeoutError$"):
        await database.fetch("SELECT pg_sleep(60)")

    assert await database.fetch("SELECT 1") == [(1,)]
    await database.aclose()


async def test_sessions_are_read_committed_and_the_users_settings_count(schema: str) -> None:
    """Whatever the database says of the first, and whatever we say of the others."""
    chosen = make_conninfo(
        POSTGRES, application_name="mine", options="-c default_transaction_isolation=serializable"
    )
    database = Database(chosen, schema=schema)
    shown = [
        (await database.fetch("SELECT current_setting(%s)", [name]))[0][0]
        for name in ("application_name", "default_transaction_isolation", "statement_timeout")
    ]

    assert shown == ["mine", "read committed", "5s"]
    await database.aclose()


async def test_the_time_after_waiting_for_others_counts(schema: str) -> None:
    """Who waits for another's request reckons with the bucket, and at the time, of afterwards."""
    limits, other = PostgresLimits(POSTGRES, schema=schema), Database(POSTGRES, schema=schema)
    await limits.reserve(1, SIZE)
    async with other.transaction() as fetch:
        await fetch("UPDATE {schema}.buckets SET requests = requests + 1")
        waiting = asyncio.create_task(limits.reserve(1, SIZE))
        await fetch("SELECT pg_sleep(0.2)")
        [(released,)] = await fetch("SELECT clock_timestamp()")
    await waiting
    [(changed_at, requests)] = await other.fetch(
        "SELECT changed_at, requests FROM {schema}.buckets"
    )

    assert changed_at >= released
    assert requests == 3
    await limits.aclose()
    await other.aclose()


async def test_parts_may_share_a_database(schema: str) -> None:
    """They have one connection, which is closed by whoever made it."""
    database = Database(POSTGRES, schema=schema)
    one, other = PostgresLimits(database), PostgresLimits(database, account="another")
    await asyncio.gather(one.reserve(1, SIZE), other.reserve(1, SIZE))
    [(process,)] = await database.fetch("SELECT pg_backend_pid()")
    await one.aclose()
    await other.reserve(1, SIZE)

    assert await database.fetch("SELECT pg_backend_pid()") == [(process,)]
    await database.aclose()


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://me:S3CRET@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=S3CRET",
    ],
)
async def test_no_error_shows_the_password(conninfo: str) -> None:
    """Nor does what it is shown as."""
    database = Database(conninfo)
    with pytest.raises(StoreError, match=r"^PostgreSQL: connection failed: .*refused") as caught:
        await database.fetch("SELECT 1")

    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
    assert "S3CRET" not in repr(database)


async def test_a_wrong_password_is_not_shown(schema: str) -> None:
    """The server names the role alone."""
    database = Database(make_conninfo(POSTGRES, user="nobody_here", password="S3CRET"))
    with pytest.raises(StoreError, match="nobody_here") as caught:
        await database.fetch("SELECT 1")

    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("conninfo", ["S3CRET", "postgresql://me:S3CRET@[", "password=S3CRET x", 5])
def test_what_is_no_connection_string_is_told_at_once(conninfo: str) -> None:
    """Without what was given, for a password may be in it."""
    with pytest.raises(InvalidSettingError, match="conninfo must be") as caught:
        Database(conninfo)

    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["", "Apixo", "a-b", "1a", 'a"b', "x" * 64])
def test_what_is_no_schema_is_told_at_once(name: str) -> None:
    """Names that mean the same with quotes and without."""
    with pytest.raises(InvalidSettingError, match="schema must be"):
        Database(POSTGRES, schema=name)
