"""What is particular to a file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from apixo_async import InvalidSettingError, StoreError
from apixo_async.integrations.sqlite import SqliteLimits
from apixo_async.integrations.sqlite import limits as ours
from apixo_async.limits import BucketSize

SIZE = BucketSize(5.0, 20.0)


async def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whoever could write there could stop us; the umask makes no difference."""
    before = os.umask(0)
    limits = SqliteLimits(tmp_path / "limits.db")
    try:
        await limits.reserve(1, SIZE)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
        await limits.aclose()

    assert modes == dict.fromkeys(modes, 0o600)
    assert "limits.db" in modes


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    """Before anything is shared."""
    with pytest.raises(InvalidSettingError, match="path: there is no directory"):
        SqliteLimits(tmp_path / "no" / "limits.db")


async def test_a_file_that_is_none_of_ours_is_an_error_until_it_is_gone(tmp_path: Path) -> None:
    """Each call says so; then the next one makes a new one."""
    path = tmp_path / "limits.db"
    path.write_bytes(b"this is no database, whatever it is called" * 100)
    limits = SqliteLimits(path)
    for _ in range(2):
        with pytest.raises(StoreError, match=f"^limits {path}: file is not a database"):
            await limits.reserve(1, SIZE)
    path.unlink()

    assert await limits.reserve(1, SIZE) == 0.0
    await limits.aclose()


async def test_a_file_that_was_moved_away_is_left(tmp_path: Path) -> None:
    """Who comes later shares the new one, and so does who was there before."""
    path = tmp_path / "limits.db"
    first, second = SqliteLimits(path), SqliteLimits(path)
    await first.reserve(3, SIZE)
    path.rename(tmp_path / "moved.db")
    for name in ("limits.db-wal", "limits.db-shm"):
        (tmp_path / name).rename(tmp_path / name.replace("limits", "moved"))
    await second.reserve(1, SIZE)
    await first.reserve(1, SIZE)

    assert (await first.slots(held=0, wanted=1, cap=1)).requests == 2
    await first.aclose()
    await second.aclose()


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """Who does not know it says so, and what to do."""
    path = tmp_path / "limits.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
    limits = SqliteLimits(path)
    with pytest.raises(StoreError, match="of version 7, and this apixo-async knows 1; update it"):
        await limits.reserve(1, SIZE)

    await limits.aclose()


async def test_a_file_that_somebody_holds_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends with an error, and the next one is answered."""
    monkeypatch.setattr(ours, "TIMEOUT", 0.05)
    path = tmp_path / "limits.db"
    limits = SqliteLimits(path)
    await limits.reserve(1, SIZE)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked"):
            await limits.reserve(1, SIZE)

    await limits.reserve(1, SIZE)
    assert (await limits.slots(held=0, wanted=1, cap=1)).requests == 2
    await limits.aclose()


async def test_nobody_on_the_loop_waits_for_the_file(tmp_path: Path) -> None:
    """Nor does any other thread of the program, but for the one that is for it."""
    path = tmp_path / "limits.db"
    limits = SqliteLimits(path)
    await limits.reserve(1, SIZE)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(limits.reserve(1, SIZE)) for _ in range(50)]
        done = await asyncio.gather(*(asyncio.to_thread(int, n) for n in range(100)))
        assert not any(task.done() for task in waiting)
        database.execute("COMMIT")
    await asyncio.gather(*waiting)

    assert done == list(range(100))
    await limits.aclose()


async def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    """One makes it, and nobody hears that another one was about to."""
    for number in range(40):
        path = tmp_path / f"{number}.db"
        members = [SqliteLimits(path) for _ in range(4)]
        spans = await asyncio.gather(*(member.reserve(1, SIZE) for member in members))
        for member in members:
            await member.aclose()

        assert spans == [0.0] * 4
