"""Looking at a journal: while its owner writes, after a crash, and when it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.overview import Standing
from apixo_async.batch.journal.owner import OwnerLock, lock_path
from apixo_async.batch.journal.reading import JournalReader
from apixo_async.batch.journal.schema import APPLICATION_ID, checksum
from apixo_async.batch.journal.verifying import is_whole
from apixo_async.batch.spending import Prices
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import ACCEPTED, SENDING, fill, job, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


def crashed(path: Path) -> Path:
    """The files of an open journal as a crash in this moment would leave them."""
    place = path.parent / "crashed"
    place.mkdir()
    for name in (path.name, f"{path.name}-wal", f"{path.name}.lock"):
        shutil.copyfile(path.parent / name, place / name)
    return place / path.name


def refused(path: Path) -> str:
    """Why a journal cannot be read."""

    def read() -> None:
        with JournalReader(path) as reader:
            list(reader.entries())
            list(reader.with_files())

    with pytest.raises(JournalError) as caught:
        read()
    return str(caught.value)


# What is read


async def test_a_finished_journal_is_read(path: Path) -> None:
    """Nobody owns it, nothing crashed, and every job is counted."""
    async with opened(path) as journal:
        await fill(journal)

    with JournalReader(path) as reader:
        seen = reader.overview(Prices({"quality": "2"}))
        entries = list(reader.entries())

    assert (seen.owner, seen.has_crashed) == (None, False)
    assert [entry.key for entry in entries] == [state.value for state in JobState]
    assert seen.total == sum(seen.counts.values()) == len(JobState)
    assert seen.counts[Standing.UNCERTAIN] == 2
    assert seen.known_cost == 2 * seen.charges == 2 * 6  # what is being sent may be billed


async def test_a_journal_is_read_while_another_writes_it(path: Path) -> None:
    """What was committed is seen at once, the owner is named, and its submits are running."""
    async with opened(path) as journal:
        await fill(journal)
        with JournalReader(path) as reader:
            before = reader.overview()
            await journal.record(journal.enqueue(job("late")).number, SENDING)
            later = reader.overview()

    assert before.owner is not None
    assert f"process {os.getpid()} on " in before.owner
    assert before.counts[Standing.UNCERTAIN] == 1
    assert before.counts[Standing.RUNNING] == 2
    assert later.counts[Standing.RUNNING] == 3


async def test_a_pass_sees_one_moment_and_stops_nobody(path: Path) -> None:
    """Jobs and files that come while one reads are not seen half; the owner need not wait."""
    async with opened(path) as journal:
        await fill(journal)
        with JournalReader(path) as reader:
            receipts = reader.with_files()
            first = next(receipts)
            await journal.record(journal.enqueue(job("late")).number, SENDING)
            rest = list(receipts)
            again = list(reader.with_files())

    assert first[0].state is JobState.QUEUED
    assert len(rest) == len(JobState) - 1
    assert len(again) == len(JobState) + 1


async def test_a_pass_may_be_left_half_way(path: Path) -> None:
    """Who stops reading leaves nothing open that would be in the way later."""
    async with opened(path) as journal:
        await fill(journal)
    with JournalReader(path) as reader:
        next(left := reader.with_files())
        left.close()
        next(forgotten := reader.with_files())
    forgotten.close()

    with JournalReader(path) as reader:
        assert len(list(reader.with_files())) == len(JobState)


async def test_saved_files_come_with_their_job(path: Path) -> None:
    """Only those that have their name, also one that no UTF-8 can hold."""
    odd = os.fsdecode(b"odd-\xff.mp4")
    async with opened(path) as journal:
        await fill(journal)
        entry = journal.find("succeeded")
        assert entry is not None
        saved = events.Saved(key=entry.key, path=odd, size=1, sha256="ef")
        await journal.record(entry.number, saved)

    with JournalReader(path) as reader:
        files = {entry.key: [str(one) for one in saved] for entry, saved in reader.with_files()}

    assert sorted(files.pop("succeeded")) == sorted(["b.mp4", odd])
    assert not any(files.values())


async def test_a_change_changes_the_version(path: Path) -> None:
    """So that whoever follows a journal reads it only if there is something new."""
    async with opened(path) as journal:
        with JournalReader(path) as reader:
            first = reader.version()
            assert reader.version() == first
            await journal.record(journal.enqueue(job()).number, SENDING)
            assert reader.version() != first


async def test_what_the_batch_was_started_with_is_told(path: Path) -> None:
    """As it was noted; nothing before that."""
    async with opened(path) as journal:
        with JournalReader(path) as reader:
            assert reader.options() == {}
            await journal.set_options({"prices": {"fast": "0.2"}})
            assert reader.options() == {"prices": {"fast": "0.2"}}


# After a crash


async def test_after_a_crash_submits_on_their_way_are_doubts(path: Path) -> None:
    """Everything committed is there, though nobody tidied up; nothing is changed by looking."""
    async with opened(path) as journal:
        await fill(journal)
        left = crashed(path)
    log = left.with_name("run.db-wal").read_bytes()

    with JournalReader(left) as reader:
        seen = reader.overview()

    assert (seen.owner, seen.has_crashed) == (None, True)
    assert {doubt.key for doubt in seen.doubts} == {"sending", "uncertain"}
    assert seen.total == len(JobState)
    assert left.with_name("run.db-wal").read_bytes() == log


def test_a_killed_process_leaves_a_journal_that_is_read(path: Path) -> None:
    """A real one: killed while it owns the journal, with a job on its way."""
    code = (
        "import asyncio, os, signal\n"
        "from pathlib import Path\n"
        "from apixo_async.batch.journal import Journal\n"
        "from tests.batch.journal.jobs import fill\n"
        "async def main():\n"
        f"    journal = await Journal.open(Path({str(path)!r}))\n"
        "    await fill(journal)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parent.parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)

    with JournalReader(path) as reader:
        seen = reader.overview()

    assert done.returncode == -9
    assert (seen.owner, seen.has_crashed) == (None, True)
    assert seen.counts[Standing.UNCERTAIN] == 2


async def test_a_log_that_lost_its_end_is_not_read_as_if_it_were_whole(path: Path) -> None:
    """SQLite would drop it without a word, and with it perhaps a task that is running."""
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
        await journal.record(entry.number, ACCEPTED)
        left = crashed(path)
    log = left.with_name("run.db-wal")
    log.write_bytes(log.read_bytes()[:-5000])

    reason = refused(left)
    assert "events that were written are missing" in reason
    assert "task ids" in reason


async def test_tries_that_did_not_leave_are_told_of_their_job(path: Path) -> None:
    """Whoever comes before and after it in the journal."""
    async with opened(path) as journal:
        numbers = [journal.enqueue(job(key)).number for key in "abc"]
        for _ in range(3):
            await journal.record(numbers[1], SENDING)
            await journal.record(numbers[1], events.NotSent(key="b", attempt=1, reason="x"))
        for number in numbers:
            await journal.record(number, SENDING)
        await journal.set_options({"max_cost": "3", "save_to": "v"})

    with JournalReader(path) as reader:
        seen = reader.overview()
    assert (seen.submits, seen.retries, seen.not_sent) == (3, 0, 3)
    assert (str(seen.max_cost), seen.save_to) == ("3", "v")


# What cannot be read


def test_a_missing_journal_is_named(path: Path) -> None:
    """And nothing is made by looking for it."""
    assert refused(path) == f"there is no journal {path}"
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"a\nb\n", "is not a journal"), (b"SQLite format 3\0" + b"x" * 99, "")],
)
def test_what_is_no_journal_is_refused(path: Path, content: bytes, said: str) -> None:
    """The file is named, and left alone."""
    path.write_bytes(content)

    reason = refused(path)
    assert said in reason
    assert "run.db" in reason
    assert path.read_bytes() == content


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """By its name, not with an error of the operating system."""
    assert refused(tmp_path) == f"{tmp_path} is a directory, not a journal"


def test_a_database_of_somebody_else_is_refused(path: Path) -> None:
    """Not everything that SQLite reads is a journal."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE jobs (number INTEGER)")

    assert "not a journal of apixo-async" in refused(path)


def test_another_major_version_is_refused(path: Path) -> None:
    """The error says which versions meet."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 99")

    assert "format 99" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET charges = 0 WHERE key = 'succeeded'",
        "UPDATE files SET size = 4 WHERE path = 'b.mp4'",
        "UPDATE meta SET value = '0' WHERE name = 'schema'",
        "DROP TABLE files",
    ],
)
async def test_a_damaged_journal_is_refused(path: Path, change: str) -> None:
    """What no owner wrote is not told as if it were true."""
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(change)

    assert "damaged" in refused(path)


async def test_a_torn_file_is_refused_with_advice(path: Path) -> None:
    """Pages that are no pages any more."""
    async with opened(path) as journal:
        await fill(journal)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)

    assert "restore a copy" in refused(path)


# Owners and lookers


async def test_looking_keeps_no_owner_out(path: Path) -> None:
    """Asking for the owner takes its lock for a moment; who opens just then tries again."""
    async with opened(path) as journal:
        await fill(journal)
    with JournalReader(path) as reader:
        for _ in range(20):
            lock = OwnerLock(path)
            assert reader.owner is not None
            lock.release(is_clean=True)
            assert reader.owner is None

    assert not lock_path(path).exists()


async def test_memory_is_flat(path: Path) -> None:
    """Ten times as many jobs need no memory worth mentioning: one is held at a time."""
    now = datetime.now(UTC)
    async with opened(path) as journal:
        await journal.enqueue_all([job(f"{number}") for number in range(3_000)])
    with JournalReader(path) as reader:
        reader.overview(now=now)
        tracemalloc.start()
        try:
            reader.overview(now=now + timedelta(seconds=1))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert most < 200_000


async def test_a_job_of_a_newer_version_is_told_from_damage(path: Path) -> None:
    """Its checksum is right, so the file is as it was written."""
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path)) as database:
        *values, _ = database.execute("SELECT * FROM jobs WHERE number = 1").fetchone()
        values[2] = "paused"
        change = "UPDATE jobs SET state = 'paused', checksum = ? WHERE number = 1"
        database.execute(change, (checksum(values),))
        database.commit()

    said = refused(path)
    assert said.startswith(f"{path}: job 'queued' has the unknown state 'paused'")
    assert "damaged" not in said


async def test_a_file_without_its_job_belongs_to_no_other(path: Path) -> None:
    """It is passed over, and those behind it come with theirs."""
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path)) as database:
        values = (0, "lost.mp4", 1, "ef", 1)
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", (*values, checksum(values)))
        database.commit()

    with JournalReader(path) as reader:
        files = {entry.key: [str(one) for one in saved] for entry, saved in reader.with_files()}

    assert files.pop("succeeded") == ["b.mp4"]
    assert not any(files.values())


def test_a_row_that_no_text_can_hold_is_not_whole() -> None:
    """Half a character is not what was written, whatever its checksum says."""
    assert is_whole(("a", None, 1, checksum(("a", None, 1))))
    assert not is_whole(("\ud800", 0))
    assert not is_whole(("a", 1, checksum(("a", "1", 2))))
