"""Where a ledger keeps its jobs: the same contract in memory, in a file and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from apixo_async import StoreError
from apixo_async.batch.journal import Entry, JobState, after
from apixo_async.durable import MemoryRows, Rows
from apixo_async.integrations.postgres import Database
from apixo_async.integrations.postgres.ledger import PostgresRows
from apixo_async.integrations.sqlite.ledger import SqliteRows
from tests.batch.journal.jobs import ACCEPTED, SENDING, SUCCEEDED, WAYS
from tests.durable.processes import job
from tests.services import POSTGRES, postgres_schema


@pytest.fixture(params=["memory", "file", "postgres"])
async def rows(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rows]:
    """An empty table of each kind."""
    if request.param == "memory":
        yield MemoryRows()
        return
    if request.param == "file":
        file = SqliteRows(tmp_path / "jobs.db")
        yield file
        await file.aclose()
        return
    with postgres_schema() as schema:
        database = Database(POSTGRES, schema=schema)
        yield PostgresRows(database, is_owner=True, account="default")
        await database.aclose()


def new(key: str) -> Entry:
    """A job that was never added."""
    return Entry.new(0, job(key), at=datetime.now(UTC))


async def test_a_job_is_numbered_and_read_back_as_it_was(rows: Rows) -> None:
    """By its key and by its number; every column."""
    asked = Entry.new(0, job("ключ 🎬"), at=datetime.now(UTC))
    added = await rows.insert(asked)
    assert attrs.evolve(added, number=0) == asked
    assert await rows.read("ключ 🎬") == added
    assert await rows.numbered(added.number) == added
    assert await rows.read("other") is None
    assert await rows.numbered(added.number + 1) is None


async def test_a_key_is_added_once(rows: Rows) -> None:
    """The second is told what is there, also when both come at once."""
    first = await rows.insert(new("a"))
    assert await rows.insert(new("a")) == first
    both = await asyncio.gather(rows.insert(new("b")), rows.insert(new("b")))
    assert both[0] == both[1]


async def test_numbers_are_never_given_twice(rows: Rows) -> None:
    """They name jobs in callbacks."""
    added = await asyncio.gather(*(rows.insert(new(f"k{number}")) for number in range(20)))
    assert len({entry.number for entry in added}) == 20


async def test_of_two_that_change_a_row_one_wins(rows: Rows) -> None:
    """The other is told that it has changed: this is what lets one submit alone."""
    added = await rows.insert(new("a"))
    claimed = after(added, SENDING)
    won = await asyncio.gather(*(rows.replace(added, claimed) for _ in range(4)))
    assert sorted(won) == [False, False, False, True]
    assert await rows.read("a") == claimed
    assert await rows.replace(claimed, after(claimed, ACCEPTED))
    assert not await rows.replace(claimed, after(claimed, ACCEPTED))


async def test_jobs_are_found_by_their_state(rows: Rows) -> None:
    """In the order of their numbers, more than a page of them."""
    added = [await rows.insert(new(f"k{number}")) for number in range(620)]
    for entry in added[::2]:
        assert await rows.replace(entry, after(entry, SENDING))
    queued = [entry.key async for entry in rows.entries([JobState.QUEUED])]
    assert queued == [entry.key for entry in added[1::2]]
    every = [entry.number async for entry in rows.entries(list(JobState))]
    assert every == [entry.number for entry in added]
    numbers = [entry.number for entry in added]
    assert len(await rows.among(numbers, [JobState.SENDING])) == 310
    assert await rows.among(numbers[:1], [JobState.QUEUED]) == []


async def test_what_ended_long_ago_can_be_deleted(rows: Rows) -> None:
    """Nothing that is open ever is."""
    ended = opened = await rows.insert(new("a"))
    for event in WAYS[JobState.SUCCEEDED]:
        changed = after(ended, event)
        assert await rows.replace(ended, changed)
        ended = changed
    opened = await rows.insert(new("b"))
    assert await rows.purge(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await rows.purge(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert await rows.read("a") is None
    assert await rows.read("b") == opened
    assert SUCCEEDED.task.id == "t1"


async def test_a_table_has_one_name(rows: Rows) -> None:
    """Random, and without the dash that parts it from a number in callback URLs."""
    names = await asyncio.gather(*(rows.name() for _ in range(3)))
    assert len(set(names)) == 1
    assert "-" not in names[0]


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """Each has a connection of its own."""
    one, other = SqliteRows(tmp_path / "jobs.db"), SqliteRows(tmp_path / "jobs.db")
    added = await one.insert(new("a"))
    assert await other.read("a") == added
    assert await other.name() == await one.name()
    won = await asyncio.gather(
        one.replace(added, after(added, SENDING)), other.replace(added, after(added, SENDING))
    )
    assert sorted(won) == [False, True]
    await one.aclose()
    await other.aclose()


async def test_accounts_share_a_table_and_nothing_else(tmp_path: Path) -> None:
    """The same key is another job for each."""
    one = SqliteRows(tmp_path / "jobs.db", account="one")
    other = SqliteRows(tmp_path / "jobs.db", account="other")
    mine, theirs = await one.insert(new("a")), await other.insert(new("a"))
    assert mine.number != theirs.number
    assert await one.numbered(theirs.number) is None
    assert [entry.number async for entry in other.entries([JobState.QUEUED])] == [theirs.number]
    await one.aclose()
    await other.aclose()


async def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Prompts are nobody else's business."""
    rows = SqliteRows(tmp_path / "jobs.db")
    await rows.insert(new("a"))
    assert (tmp_path / "jobs.db").stat().st_mode & 0o077 == 0
    await rows.aclose()


async def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    """With what is wrong with it."""
    (tmp_path / "jobs.db").write_bytes(b"this is no database, not by a long way" * 100)
    with pytest.raises(StoreError, match=r"jobs\.db cannot be used: .*not a database"):
        await SqliteRows(tmp_path / "jobs.db").insert(new("a"))
