import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apixo_async.batch.journal import JobState, Journal, JournalReader
from apixo_async.batch.journal import owner as owner_module
from apixo_async.batch.journal.owner import OwnerLock, is_in_use, lock_path, owner_of, read_mark
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


def held(path: Path) -> int:
    """A lock file that somebody holds who has written nothing into it."""
    import fcntl

    file = os.open(lock_path(path), os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_a_lock_that_cannot_be_filled_in_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is told, and nobody owns the journal afterwards."""

    def full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(JournalError, match=r"cannot write to .*run.db.lock: No space left"):
            OwnerLock(path)

    assert not is_in_use(path)
    OwnerLock(path).release(is_clean=True)


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last owner may have removed what we opened: then the new one is locked instead."""
    real, seen = owner_module._is_same, list[int]()

    def removed_once(file: int, place: Path) -> bool:
        seen.append(file)
        if len(seen) == 1:
            place.unlink()
        return real(file, place)

    monkeypatch.setattr(owner_module, "_is_same", removed_once)
    lock = OwnerLock(path)

    assert len(seen) == 2
    assert is_in_use(path)
    assert (owner_of(path) or "").startswith(f"process {os.getpid()} on ")
    lock.release(is_clean=True)


def test_a_forked_child_lets_go_of_its_copy(path: Path) -> None:
    """All locks that are held are known to the hook of the fork; none is left in the child."""
    one, two = OwnerLock(path), OwnerLock(path.with_name("two.db"))
    two.release(is_clean=True)
    owner_module._after_fork()

    assert (one.was_forked, two.was_forked) == (True, False)
    assert not is_in_use(path)
    one.leave_to_parent()
    one.release(is_clean=True)
    assert not lock_path(path).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": 1, "host": "a"}'])
def test_an_owner_that_left_no_name_is_another_process(path: Path, content: bytes) -> None:
    """It owns the journal all the same."""
    lock_path(path).write_bytes(content)
    file = held(path)

    assert owner_of(path) == "another process"
    os.close(file)
    assert owner_of(path) is None


def test_a_mark_that_is_not_there_is_unknown(path: Path) -> None:
    """No file, one without a mark, with half of one, or something that cannot be read."""
    lock = OwnerLock(path)
    assert (lock.mark, read_mark(path)) == (None, None)
    lock.note(3)
    assert read_mark(path) == 3
    lock.release(is_clean=False)
    whole = lock_path(path).read_bytes()
    assert len(whole) == 512 + 12

    lock_path(path).write_bytes(whole[:-1])
    assert read_mark(path) is None
    lock_path(path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert read_mark(path) is None
    lock_path(path).unlink()
    assert read_mark(path) is None
    lock_path(path).mkdir()
    assert read_mark(path) is None


def test_who_only_asks_for_the_owner_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock for a moment: five looks, a hundredth of a second apart, and then one."""
    pauses = list[float]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    file = held(path)

    with pytest.raises(JournalError, match="is in use"):
        OwnerLock(path)
    assert pauses == [0.01] * 5
    os.close(file)


def test_a_lock_file_that_somebody_removed_is_no_trouble_at_the_end(path: Path) -> None:
    """It was to go anyway."""
    lock = OwnerLock(path)
    lock_path(path).unlink()
    lock.release(is_clean=True)

    assert not is_in_use(path)
