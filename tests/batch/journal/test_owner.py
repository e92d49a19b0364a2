import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apixo_async.batch.journal import JobState, Journal, JournalReader
from apixo_async.batch.journal.owner import OwnerLock, is_in_use, lock_path
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import SENDING, count_events, job, opened

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX")

OWNER = """
import asyncio, os, sys, time
from pathlib import Path
from apixo_async.batch.journal import Journal

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    child = os.fork() if sys.argv[2] == "fork" else 0
    if sys.argv[2] == "fork" and child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    await journal.aclose()

asyncio.run(main())
"""


@contextmanager
def owner(path: Path, *, how: str = "alone") -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Another process that owns the journal, and its forked child."""
    command = [sys.executable, "-W", "ignore", "-c", OWNER, str(path), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills as a system short of memory would."""
    process.kill()
    process.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


async def test_a_second_process_is_refused_by_the_name_of_the_first(path: Path) -> None:
    """Two processes never write one journal, and the error says whom to wait for."""
    with owner(path) as (process, _):
        with pytest.raises(JournalError, match=rf"in use by process {process.pid} on .* \(since"):
            await Journal.open(path)

        assert is_in_use(path)


async def test_a_second_opening_in_one_process_is_refused(path: Path) -> None:
    """One process is no exception, and the first goes on undisturbed."""
    async with opened(path) as journal:
        with pytest.raises(JournalError, match=f"in use by process {os.getpid()}"):
            await Journal.open(path)
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)

    assert count_events(path) == 2


async def test_a_killed_owner_leaves_the_journal_free(path: Path) -> None:
    """After kill -9 nobody has to wait or to remove a file."""
    with owner(path) as (process, _):
        kill(process)

        assert lock_path(path).exists()
        assert not is_in_use(path)
        async with opened(path):
            pass


async def test_a_forked_child_does_not_keep_the_journal_of_a_killed_owner(path: Path) -> None:
    """A worker that the owner forked and that lives on has no part in the ownership."""
    with owner(path, how="fork") as (process, child):
        kill(process)
        os.kill(child, 0)  # it lives

        async with opened(path):
            pass


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking with threads
async def test_a_fork_cannot_use_the_journal(path: Path) -> None:
    """Whatever a forked child asks of the journal is an error, and nothing is written."""
    journal = await Journal.open(path)
    entry = journal.enqueue(job())
    await journal.record(entry.number, SENDING)
    uses: dict[str, Callable[[], object]] = {
        "find": lambda: journal.find("k"),
        "enqueue": lambda: journal.enqueue(job("other")),
        "record": lambda: journal.record(entry.number, SENDING),
        "counts": journal.counts,
        "files": lambda: journal.files(1),
    }
    told, tell = os.pipe()
    if (child := os.fork()) == 0:
        for name, use in uses.items():
            try:
                use()
            except JournalError as error:
                if "this is a fork" in str(error):
                    os.write(tell, name.encode() + b" ")
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222  # it ends by itself
    os.close(tell)

    assert os.read(told, 1000).decode().split() == list(uses)
    os.close(told)
    await journal.aclose()
    assert count_events(path) == 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_fork_that_closes_the_journal_leaves_it_to_its_owner(path: Path) -> None:
    """Closing in a child does not take the owner's lock, log or file away."""
    journal = await Journal.open(path)
    if (child := os.fork()) == 0:
        try:
            journal.aclose().send(None)
        except StopIteration:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222  # it ends by itself

    assert status == 0
    assert is_in_use(path)
    entry = journal.enqueue(job())
    await journal.record(entry.number, SENDING)
    await journal.aclose()
    async with opened(path) as again:
        assert again.counts() == {JobState.SENDING: 1}


async def test_the_lock_file_goes_at_a_clean_end(path: Path) -> None:
    """After a clean end there is one file, with everything in it."""
    async with opened(path) as journal:
        journal.enqueue(job())
        assert lock_path(path).exists()

    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


def test_a_damaged_mark_is_not_believed(path: Path) -> None:
    """If the mark cannot be read nobody can say whether the journal is whole: that is loud."""
    lock = OwnerLock(path)
    lock.note(7)
    lock.release(is_clean=False)
    file = lock_path(path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    with pytest.raises(JournalError, match=r"damaged.*remove the .lock file"):
        OwnerLock(path)


def test_the_mark_is_found_by_the_next_owner(path: Path) -> None:
    """What was noted last is known after a crash."""
    lock = OwnerLock(path)
    for number in (1, 2**40):
        lock.note(number)
    lock.release(is_clean=False)
    again = OwnerLock(path)

    assert again.mark == 2**40
    again.release(is_clean=True)


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A directory that is missing is an error with the path."""
    with pytest.raises(JournalError, match=r"cannot write .*run.db.lock"):
        OwnerLock(tmp_path / "none" / "run.db")


async def test_a_file_that_is_no_journal_gets_nothing_beside_it(tmp_path: Path) -> None:
    """A wrong path leaves no trace."""
    foreign = tmp_path / "notes.txt"
    foreign.write_text("notes of mine")

    with pytest.raises(JournalError):
        await Journal.open(foreign)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("lines", [1, 40])
async def test_a_lock_file_of_somebody_else_is_left_alone(tmp_path: Path, lines: int) -> None:
    """Other programs have files of that name, too: `poetry.lock` is no lock of ours."""
    theirs = tmp_path / "poetry.lock"
    theirs.write_text("# written by another program\n" * lines)
    before = theirs.read_bytes()

    with pytest.raises(JournalError, match=r"poetry\.lock"):
        await Journal.open(tmp_path / "poetry")

    assert theirs.read_bytes() == before
    assert not (tmp_path / "poetry").exists()


async def test_a_journal_has_one_owner_by_whatever_name(path: Path) -> None:
    """A symbolic link leads to the same lock, and to the log of its owner."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with opened(path):
        with pytest.raises(JournalError, match="in use by process"):
            await Journal.open(link)
        with JournalReader(link) as reader:
            assert reader.owner is not None


async def test_a_journal_with_two_names_is_refused(path: Path) -> None:
    """SQLite's log lies beside one of them, so that the other would be behind."""
    async with opened(path):
        pass
    path.with_name("other.db").hardlink_to(path)

    with pytest.raises(JournalError, match=r"has 2 names \(hard links\)"):
        await Journal.open(path)
