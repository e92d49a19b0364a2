import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apixo_async.batch.journal import JobState
from tests.batch.journal.jobs import opened
from tests.batch.journal.outage import JOBS
from tests.batch.journal.vfs import FULL, IOERR_FSYNC, IOERR_WRITE
from tests.thorough import every

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")

FOR_EVER = 1_000_000
KEYS = [f"k{number}" for number in range(JOBS)]


def live(path: Path, first: int, count: int, code: int) -> dict[str, Any]:
    """What a process says that used a journal on a failing disk."""
    command = [sys.executable, "-m", "tests.batch.journal.outage", str(path)]
    run = subprocess.run(
        [*command, str(first), str(count), str(code)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    return said


async def found(path: Path) -> dict[str, JobState]:
    """The state of every job, as another process finds it."""
    async with opened(path) as journal:
        return {entry.key: entry.state async for entry in journal.entries(*JobState)}


def check(path: Path, said: dict[str, Any]) -> None:
    """What was acknowledged is there, and what was sent is known."""
    states = asyncio.run(found(path))
    for key in said["accepted"]:
        assert states[key] is JobState.ACCEPTED, said
    for key in said["sending"]:
        assert states[key] in {JobState.SENDING, JobState.ACCEPTED}, said
    # The disk works again in time: whatever was sent has its task id in the end.
    assert said["accepted"] == said["sending"]


def calls_of_a_life(path: Path) -> int:
    """How many writes, truncations and syncs there are when nothing fails."""
    said = live(path, 0, 0, 0)
    assert said["accepted"] == KEYS
    number: int = said["calls"]
    return number


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("code", [IOERR_WRITE, IOERR_FSYNC, FULL])
@pytest.mark.parametrize("count", [1, FOR_EVER], ids=["once", "for ever"])
def test_every_call_of_the_disk_may_fail(tmp_path: Path, part: int, code: int, count: int) -> None:
    """Whichever call fails: nothing is sent without a record, and no record is lost."""
    calls = calls_of_a_life(tmp_path / "whole.db")
    assert calls > 20
    for first in range(1 + part, calls + 1, 4 * every(12)):
        path = tmp_path / f"{first}.db"
        check(path, live(path, first, count, code))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_some_calls_of_the_disk_fail(tmp_path: Path, share: float) -> None:
    """The same at a few calls."""
    calls = calls_of_a_life(tmp_path / "whole.db")
    path = tmp_path / "run.db"

    said = live(path, int(calls * share), FOR_EVER, FULL)
    check(path, said)


@pytest.mark.parametrize("kilobytes", [0, 1, 20, 40, 44, 52, 60, 68, 80])
def test_a_disk_that_is_full(tmp_path: Path, kilobytes: int) -> None:
    """A real refusal of the system, at the making of the file or later."""
    path = tmp_path / "run.db"
    said = live(path, kilobytes * 1024, -1, 0)
    if not said["opened"]:
        assert said["errors"]
        assert not said["sending"]
    check(path, said)
