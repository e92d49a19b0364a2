import asyncio
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apixo_async.batch.journal import writer as module
from apixo_async.batch.journal.writer import Writer
from apixo_async.errors import JournalError

FULL = sqlite3.OperationalError("database or disk is full")


class Disk:
    """A connection whose commits fail on demand, and wait for a gate."""

    def __init__(self, path: Path) -> None:
        self.real = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.real.execute("CREATE TABLE t (x UNIQUE)")
        self.commits = 0
        self.refuses = False
        self.gate = threading.Event()
        self.gate.set()

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:  # noqa: ANN401  # SQLite's own
        if query == "COMMIT":
            self.gate.wait()
            if self.refuses:
                raise FULL
            self.commits += 1
        return self.real.execute(query, *values)

    def rows(self) -> list[int]:
        return [row for (row,) in self.real.execute("SELECT x FROM t ORDER BY rowid")]

    def begin(self) -> None:
        pass

    def commit(self) -> None:
        pass


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk of our own."""
    return Disk(tmp_path / "t.db")


class Told:
    """What the writer said of trouble and of its end."""

    def __init__(self) -> None:
        self.troubles: list[JournalError] = []
        self.ends: list[bool] = []
        self.trouble = asyncio.Event()

    def on_trouble(self, error: JournalError) -> None:
        self.troubles.append(error)
        self.trouble.set()


def writer(disk: Disk, told: Told) -> Writer:
    """A writer on this disk."""
    database: Any = disk
    return Writer(database, transactions=disk, on_trouble=told.on_trouble, on_end=told.ends.append)


def put(disk: Disk, number: int) -> Callable[[], int]:
    """Work that writes a number and returns it."""

    def work() -> int:
        disk.execute("INSERT INTO t VALUES (?)", (number,))
        return number

    return work


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again does not wait."""
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.setattr(module, "PAUSE_MAX", 0.001)


async def test_work_is_done_in_order_and_in_groups(disk: Disk) -> None:
    """What waits while a commit runs shares the next one; the order is that of the calls."""
    told = Told()
    writing = writer(disk, told)
    disk.gate.clear()
    futures = [writing.do(put(disk, number)) for number in range(200)]
    disk.gate.set()

    assert await asyncio.gather(*futures) == list(range(200))
    assert disk.rows() == list(range(200))
    assert disk.commits <= 10
    await writing.aclose()
    assert told.ends == [True]


async def test_a_faulty_piece_fails_alone(disk: Disk) -> None:
    """Its neighbours in the transaction are written, each once and in order."""
    writing = writer(disk, Told())
    disk.gate.clear()
    futures = [writing.do(put(disk, number)) for number in (1, 2, 1, 3)]

    def broken() -> int:
        raise ZeroDivisionError

    futures += [writing.do(broken), writing.do(put(disk, 4))]
    disk.gate.set()
    results = await asyncio.gather(*futures, return_exceptions=True)

    assert disk.rows() == [1, 2, 3, 4]
    assert [type(result) for result in results] == [
        *[int, int, JournalError],
        *[int, ZeroDivisionError, int],
    ]
    await writing.aclose()


async def test_what_a_file_cannot_hold_is_not_tried_for_ever(disk: Disk) -> None:
    """A value that SQLite cannot take fails at once, kept or not."""
    writing = writer(disk, Told())
    work = partial(disk.execute, "INSERT INTO t VALUES (?)", ("\ud800",))

    with pytest.raises(JournalError, match="cannot hold this"):
        await writing.do(work, keep_trying=True)
    await writing.aclose()


@pytest.mark.usefixtures("quick")
async def test_what_must_be_kept_outlives_an_outage(disk: Disk) -> None:
    """It is written once the disk works again, before all that came later; the rest fails."""
    told = Told()
    writing = writer(disk, told)
    disk.refuses = True
    kept = writing.do(put(disk, 1), keep_trying=True)
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        await writing.do(put(disk, 2))
    later = writing.do(put(disk, 3), keep_trying=True)

    assert not kept.done()
    disk.refuses = False
    assert (await kept, await later) == (1, 3)
    assert disk.rows() == [1, 3]
    assert told.troubles
    await writing.aclose()


@pytest.mark.usefixtures("quick")
async def test_memory_that_ran_out_is_an_outage(disk: Disk) -> None:
    """What must be kept is tried again when memory was short, too."""
    writing = writer(disk, Told())
    failures = [MemoryError()]

    def work() -> int:
        if failures:
            raise failures.pop()
        return put(disk, 1)()

    assert await writing.do(work, keep_trying=True) == 1
    await writing.aclose()


@pytest.mark.usefixtures("quick")
async def test_a_rollback_that_fails_does_not_stop_the_writer(disk: Disk) -> None:
    """A transaction that was left open is ended before the next begins."""
    writing = writer(disk, Told())
    disk.real.execute("BEGIN IMMEDIATE")
    disk.real.execute("INSERT INTO t VALUES (99)")

    await writing.do(put(disk, 1))

    assert disk.rows() == [1]
    await writing.aclose()


@pytest.mark.usefixtures("quick")
async def test_closing_writes_what_waits(disk: Disk) -> None:
    """What was given before the end is on disk after it; nothing can be given later."""
    told = Told()
    writing = writer(disk, told)
    disk.refuses = True
    futures = [writing.do(put(disk, number), keep_trying=True) for number in range(3)]
    closing = asyncio.create_task(writing.aclose())
    await told.trouble.wait()
    assert not closing.done()
    disk.refuses = False
    await closing

    assert all(future.done() for future in futures)
    assert (disk.rows(), told.ends) == ([0, 1, 2], [True])
    with pytest.raises(JournalError, match="closed"):
        await writing.do(put(disk, 4))


@pytest.mark.usefixtures("quick")
async def test_a_cancelled_close_gives_up_what_the_disk_refuses(disk: Disk) -> None:
    """Somebody who will not wait for the disk is told that something was not written."""
    told = Told()
    writing = writer(disk, told)
    disk.refuses = True
    kept = writing.do(put(disk, 1), keep_trying=True)
    closing = asyncio.create_task(writing.aclose())
    await told.trouble.wait()
    closing.cancel()

    with pytest.raises(JournalError, match="given up"):
        await kept
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(writing._thread.join)
    assert told.ends == [False]


async def test_the_loop_goes_on_while_the_disk_is_slow(disk: Disk) -> None:
    """A commit that takes its time keeps no other task waiting."""
    writing = writer(disk, Told())
    disk.gate.clear()
    future = writing.do(put(disk, 1))
    for _ in range(100):
        await asyncio.sleep(0)

    assert not future.done()
    disk.gate.set()
    await future
    await writing.aclose()


async def test_closing_twice_is_closing_once(disk: Disk) -> None:
    """Both wait for the end, of which there is one."""
    told = Told()
    writing = writer(disk, told)
    await asyncio.gather(writing.aclose(), writing.aclose())
    await writing.aclose()

    assert told.ends == [True]


async def test_a_transaction_has_its_bounds(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits, so much of it is written at once and no more."""
    monkeypatch.setattr(module, "GROUP_MAX", 3)
    writing = writer(disk, Told())
    disk.gate.clear()
    futures = [writing.do(put(disk, 0))]
    while not disk.real.in_transaction:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.001)
    futures += [writing.do(put(disk, number)) for number in range(1, 8)]
    disk.gate.set()

    assert await asyncio.gather(*futures) == list(range(8))
    assert disk.commits == 1 + 3
    await writing.aclose()


async def test_what_is_alone_shares_no_transaction(disk: Disk) -> None:
    """Neither with what came before it nor with what comes after."""
    writing = writer(disk, Told())
    disk.gate.clear()
    futures = [writing.do(put(disk, 0))]
    while not disk.real.in_transaction:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.001)
    futures += [writing.do(put(disk, number), is_alone=number in {3, 4}) for number in range(1, 7)]
    disk.gate.set()
    await asyncio.gather(*futures)

    assert disk.rows() == list(range(7))
    assert disk.commits == 1 + len([(1, 2), (3,), (4,), (5, 6)])
    await writing.aclose()


async def test_who_asked_to_be_told_is_told_once_it_is_kept(disk: Disk) -> None:
    """Also when nobody waits any more, and not for what failed."""
    writing, kept = writer(disk, Told()), list[str]()
    waiting = writing.do(put(disk, 1), when_kept=lambda: kept.append("one"))
    waiting.cancel()
    twice = writing.do(put(disk, 1), when_kept=lambda: kept.append("again"))
    await asyncio.gather(twice, return_exceptions=True)

    assert isinstance(twice.exception(), JournalError)
    assert kept == ["one"]
    await writing.aclose()


async def test_pauses_between_tries_grow_to_five_seconds(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a fifth of a second; a disk that works again begins anew."""
    told = Told()
    writing, waits = writer(disk, told), list[float]()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        disk.refuses = len(waits) not in {8, 10}
        return False

    monkeypatch.setattr(writing._give_up, "wait", wait)
    disk.refuses = True
    await writing.do(put(disk, 1), keep_trying=True)
    disk.refuses = True
    await writing.do(put(disk, 2), keep_trying=True)

    assert waits == [0.2 * 2**n for n in range(1, 5)] + [5.0] * 4 + [0.4, 0.8]
    await writing.aclose()


async def test_only_work_that_counts_is_trouble(disk: Disk, quick: None) -> None:
    """What is optional fails in silence when the disk refuses it, and takes nobody with it."""
    told = Told()
    writing = writer(disk, told)
    disk.refuses = True

    with pytest.raises(JournalError, match="full"):
        await writing.do(put(disk, 1), is_optional=True)
    assert told.troubles == []

    disk.gate.clear()
    first = writing.do(put(disk, 2), is_optional=True)
    both = [writing.do(put(disk, 3), is_optional=True), writing.do(put(disk, 4))]
    disk.gate.set()
    await asyncio.gather(first, *both, return_exceptions=True)
    await told.trouble.wait()
    disk.refuses = False
    await writing.aclose()

    assert disk.rows() == []
