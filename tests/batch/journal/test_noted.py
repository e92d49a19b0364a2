"""What is noted in a journal, read without owning it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from apixo_async.batch.journal import JobState, read_noted
from apixo_async.batch.journal.overview import Standing
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import fill, opened


async def make(path: Path) -> None:
    """A journal with one job in every state."""
    async with opened(path) as journal:
        await fill(journal)
        await journal.set_options({"save_to": "v"})


async def test_options_and_standings_are_read_in_one_go(tmp_path: Path) -> None:
    """Also what is left to do, with results that are to be saved or without."""
    await make(tmp_path / "run.db")
    noted = read_noted(tmp_path / "run.db")

    assert noted.options == {"save_to": "v"}
    assert sum(noted.counts.values()) == len(JobState)
    assert noted.counts[Standing.UNCERTAIN] == 2
    assert (noted.left(saves=False), noted.left(saves=True)) == (4, 5)
    assert {group.kind for group in noted.groups} == {("veo-3-1", "quality")}


@pytest.mark.parametrize(
    ("state", "is_to_pay"), [(JobState.QUEUED, True), (JobState.REJECTED, False)]
)
async def test_what_costs_is_what_was_made_or_is_to_be(
    tmp_path: Path, state: JobState, is_to_pay: bool
) -> None:
    """A job that was refused never needs a price."""
    await make(tmp_path / "run.db")
    (group,) = (one for one in read_noted(tmp_path / "run.db").groups if one.state == state)

    assert group.is_to_pay is is_to_pay


async def test_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """With the advice to upgrade."""
    path = tmp_path / "run.db"
    await make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE jobs SET state = 'paused' WHERE number = 1")

    with pytest.raises(JournalError, match=r"'paused'.*upgrade"):
        read_noted(path)


# Where nothing may be written

LOOK = """
import os, sys
from pathlib import Path
from apixo_async.batch.journal import JournalReader, read_noted
from apixo_async.errors import JournalError
if os.getuid() == 0:  # who may do everything
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    noted = read_noted(Path(sys.argv[1]))
    with JournalReader(Path(sys.argv[1])) as reader:
        print(sum(noted.counts.values()), len(list(reader.entries())), reader.overview().total)
except JournalError as error:
    print(error)
"""


@pytest.fixture
def locked() -> Iterator[Path]:
    """A journal that all may read, in a directory in which nobody may write."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.db"
        asyncio.run(make(path))
        path.chmod(0o644)
        path.parent.chmod(0o555)
        yield path
        path.parent.chmod(0o755)


def look(path: Path) -> str:
    """What somebody else reads of the journal."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", LOOK, str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_journal_can_be_looked_at_where_nothing_may_be_written(locked: Path) -> None:
    """As on a read-only file system, or in somebody else's directory."""
    assert look(locked) == "8 8 8"
    assert list(locked.parent.iterdir()) == [locked]


def test_a_log_that_cannot_be_read_is_named_as_the_cause(locked: Path) -> None:
    """The file is not complete without it, and nothing is damaged."""
    locked.parent.chmod(0o755)
    log = locked.with_name("run.db-wal")
    log.write_bytes(b"x")
    log.chmod(0o644)
    locked.parent.chmod(0o555)
    said = look(locked)

    assert f"no permission to write in {locked.parent}" in said
    assert "run.db-wal; copy both" in said
    assert "restore" not in said


def test_a_file_of_somebody_else_is_refused_with_the_reason(locked: Path) -> None:
    """Journals can be read by their owner alone unless that is changed."""
    locked.chmod(0o600) if os.getuid() == 0 else locked.chmod(0)

    assert look(locked) == f"cannot read journal {locked}: Permission denied"
