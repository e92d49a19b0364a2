import asyncio
import os
import sqlite3
import stat
import threading
import types
from contextlib import closing
from pathlib import Path

import pytest

from apixo_async.batch.journal import JobState, Journal, verifying
from apixo_async.batch.journal import opening as module
from apixo_async.batch.journal.opening import NETWORK, file_system_of, translating, write_meta
from apixo_async.batch.journal.owner import is_in_use, lock_path
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import ACCEPTED, SENDING, fill, job, opened, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


async def refused(path: Path) -> str:
    """Why a journal cannot be opened; nobody owns it afterwards."""
    with pytest.raises(JournalError) as caught:
        await Journal.open(path)
    assert not is_in_use(path)
    assert str(path.name) in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_only_the_user_can_read_it(path: Path) -> None:
    """Prompts are nobody else's business: all files have mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        async with opened(path) as journal:
            entry = journal.enqueue(job())
            await journal.record(entry.number, SENDING)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    names = ["run.db", "run.db-shm", "run.db-wal", "run.db.lock"]
    assert modes == dict.fromkeys(names, 0o600)


async def test_what_was_written_is_read(path: Path) -> None:
    """Closing and opening changes nothing that a journal tells."""
    async with opened(path) as journal:
        await fill(journal)
        await journal.set_options({"rate": 3})
        before = await told(journal)
    async with opened(path) as journal:
        assert await told(journal) == before


async def test_an_empty_file_is_no_journal(path: Path) -> None:
    """A journal is made whole or not at all, so an empty file is the remains of one."""
    path.touch()

    assert "is empty, and a journal never is" in await refused(path)


async def test_a_foreign_file_is_left_alone(path: Path) -> None:
    """A file of another kind is refused and not touched."""
    path.write_text("prompt,key\n")

    assert "is not a journal" in await refused(path)
    assert path.read_text() == "prompt,key\n"


async def test_a_foreign_database_is_left_alone(path: Path) -> None:
    """A database of another program is refused and not touched."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE jobs (x)")
    before = path.read_bytes()

    assert "a database, but not a journal" in await refused(path)
    assert path.read_bytes() == before


async def test_a_directory_is_no_journal(path: Path) -> None:
    """The error says what is there."""
    path.mkdir()

    assert "is a directory, not a journal" in await refused(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_a_pipe_is_no_journal(tmp_path: Path) -> None:
    """Opening it would wait for whoever writes into it, for ever."""
    os.mkfifo(pipe := tmp_path / "run.db")

    assert "a journal needs a file" in await refused(pipe)


async def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    """Nothing is made outside a directory that exists."""
    with pytest.raises(JournalError, match="No such file"):
        await Journal.open(tmp_path / "none" / "run.db")


async def test_a_journal_that_must_exist_is_not_made(path: Path) -> None:
    """Going on with a batch needs the journal of that batch."""
    with pytest.raises(JournalError, match="there is no journal"):
        await Journal.open(path, must_exist=True)

    assert list(path.parent.iterdir()) == []


async def test_a_file_says_what_it_is(path: Path) -> None:
    """Its mark is "APX1" and its format 1.1, as it is documented for other programs."""
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (major,) = database.execute("PRAGMA user_version").fetchone()
        minor = module.read_meta(database, "minor")

    assert (application.to_bytes(4, "big"), major, minor) == (b"APX1", 1, "1")


async def test_another_major_version_is_refused(path: Path) -> None:
    """The error says which format it has and what to do."""
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")

    assert "has format 2, and this apixo-async reads format 1: use the version" in (
        await refused(path)
    )


async def test_a_newer_minor_version_is_read_and_written(path: Path) -> None:
    """Tables and columns that came later are left alone, and everything else works."""
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE aside (a)")
        for table in ("jobs", "files", "events", "meta"):
            database.execute(f"ALTER TABLE {table} ADD COLUMN newer TEXT")
        write_meta(database, "minor", "1")
        write_meta(database, "schema", str(module._schema_sum(database)))
        database.commit()

    async with opened(path) as journal:
        await journal.record(entry.number, ACCEPTED)
        await journal.enqueue_all([job("second")])
        await journal.set_options({"a": 1})
        await fill(journal)
    async with opened(path) as journal:
        found = journal.find("k")
        assert found is not None
        assert (found.state, journal.options) == (JobState.ACCEPTED, {"a": 1})


async def test_a_changed_table_of_contents_is_refused(path: Path) -> None:
    """A file whose tables are not those that it was written with cannot be relied on."""
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP INDEX open_jobs")

    assert "table of contents is damaged" in await refused(path)


@pytest.mark.parametrize("row", ["minor", "options"])
async def test_a_changed_setting_is_refused(path: Path, row: str) -> None:
    """What the batch was started with has checksums as the jobs have."""
    async with opened(path) as journal:
        await journal.set_options({"rate": 3})
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE meta SET value = '{}' WHERE name = ?", (row,))
        database.commit()

    assert "damaged" in await refused(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET state = 'queued' WHERE key = 'accepted'",
        "UPDATE files SET size = 4",
        "DELETE FROM events WHERE number = 3",
    ],
)
async def test_a_changed_row_is_refused_with_advice(path: Path, change: str) -> None:
    """A job that became queued by damage would be paid twice, so all is verified first."""
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path)) as database:
        database.execute(change)
        database.commit()

    reason = await refused(path)
    assert "is damaged" in reason
    assert "may pay for jobs twice" in reason


@pytest.mark.parametrize("what", ["log", "mark"])
async def test_a_journal_that_vanished_is_not_begun_anew(path: Path, what: str) -> None:
    """Where a log or a mark is left, there was a journal: starting without it would pay twice."""
    async with opened(path) as journal:
        await fill(journal)
        left = path.with_name("run.db-wal") if what == "log" else lock_path(path)
        data = left.read_bytes()
    path.unlink()
    left.write_bytes(data)

    assert "is gone, but what was beside it is there" in await refused(path)


async def test_a_half_made_journal_is_made_again(path: Path) -> None:
    """A crash while the file was made leaves something that nobody relied on."""
    path.with_name("run.db.new").write_bytes(b"SQLite")

    async with opened(path):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph"),
        *("fuse.sshfs", "lustre", "gpfs"),
    ],
)
def test_the_file_system_is_told(tmp_path: Path, kind: str) -> None:
    """The innermost mount counts, also one with a space in its name."""
    place = tmp_path.resolve() / "a b"
    place.mkdir()
    mounts = tmp_path / "mounts"
    escaped = str(place).replace(" ", "\\040")
    mounts.write_text(f"root / ext4 rw 0 0\nserver {escaped} {kind} rw 0 0\n\n")

    assert kind in NETWORK
    assert file_system_of(place / "run.db", mounts) == kind
    assert file_system_of(tmp_path / "run.db", mounts) == "ext4"
    assert file_system_of(tmp_path / "run.db", tmp_path / "none") is None


async def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks and the log cannot be relied on there."""
    monkeypatch.setattr(module, "file_system_of", lambda _: "nfs4")

    assert "network file system (nfs4)" in await refused(path)
    assert not path.exists()


async def test_a_large_journal_tells_damage_when_a_job_is_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended jobs are checked one by one when they are read; those to be run before anything."""
    monkeypatch.setattr(verifying, "LARGE", 1)
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE jobs SET note = '{}' WHERE key = 'failed'")
        database.commit()
    async with opened(path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            journal.find("failed")
    for key in ("queued", "succeeded"):  # to be submitted, and to be saved
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE jobs SET note = '{}' WHERE key = ?", (key,))
            database.commit()
        assert "is damaged: row" in await refused(path)
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE jobs SET note = NULL WHERE key = ?", (key,))
            database.commit()


async def test_an_event_that_was_changed_is_told(path: Path) -> None:
    """The history is what a person decides by, so it is checked as the rest is."""
    async with opened(path) as journal:
        await fill(journal)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE events SET kind = 'NotSent' WHERE number = 3")
        database.commit()

    with pytest.raises(JournalError, match=r"row 3 of events has a wrong checksum"):
        await Journal.open(path)


def test_damage_may_ask_for_more_memory_than_there_is(tmp_path: Path) -> None:
    """SQLite then says only that; the error is ours and says what to do, as with other damage."""
    path = tmp_path / "run.db"
    message = r"run\.db: there is not enough memory; keep it as it"
    with pytest.raises(JournalError, match=message), translating(path):
        raise MemoryError


# What SQLite may not open


@pytest.mark.skipif(os.name != "posix", reason="statvfs is POSIX")
@pytest.mark.parametrize(
    ("readable", "writable", "is_read_only", "said"),
    [
        (False, True, False, "no permission to read it"),
        (False, False, True, "no permission to read it"),
        (True, True, True, None),
        (True, False, True, "{directory} is on a read-only file system"),
        (True, False, False, "no permission to write in {directory}"),
    ],
)
def test_what_keeps_a_user_out_is_told(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    readable: bool,
    writable: bool,
    is_read_only: bool,
    said: str | None,
) -> None:
    """The file itself, or its directory, because SQLite writes beside it."""
    allowed = {(path, os.R_OK): readable, (path.parent, os.W_OK): writable}
    monkeypatch.setattr(os, "access", lambda place, mode: allowed[place, mode])
    flags = os.ST_RDONLY | os.ST_NOSUID if is_read_only else os.ST_NOSUID
    monkeypatch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(f_flag=flags))

    expected = said and said.format(directory=path.parent)
    assert module.obstacle(path) == expected


def cannot(code: int) -> sqlite3.OperationalError:
    """What SQLite raises with an extended code of this kind."""
    error = sqlite3.OperationalError("unable")
    error.sqlite_errorcode = code | 7 << 8
    return error


@pytest.mark.parametrize(
    ("code", "obstacle", "said"),
    [
        (sqlite3.SQLITE_CANTOPEN, "no permission", "cannot open journal {path}: no permission"),
        (sqlite3.SQLITE_READONLY, "no permission", "cannot open journal {path}: no permission"),
        (sqlite3.SQLITE_PERM, None, "journal {path}: unable"),
        (sqlite3.SQLITE_AUTH, None, "journal {path}: unable"),
        (sqlite3.SQLITE_BUSY, "no permission", "journal {path}: unable"),
        (sqlite3.SQLITE_LOCKED, None, "journal {path}: unable"),
        (sqlite3.SQLITE_FULL, None, "journal {path}: unable"),
        (sqlite3.SQLITE_NOMEM, None, "journal {path}: unable"),
        (sqlite3.SQLITE_CORRUPT, None, f"journal {{path}}: unable; {module.ADVICE}"),
        (sqlite3.SQLITE_IOERR, "no permission", f"journal {{path}}: unable; {module.ADVICE}"),
    ],
)
def test_only_what_may_be_damage_comes_with_advice(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, obstacle: str | None, said: str
) -> None:
    """A file that may not be opened, or a full disk, is not damaged."""
    monkeypatch.setattr(module, "obstacle", lambda _: obstacle)
    with pytest.raises(JournalError) as caught, module.translating(path):
        raise cannot(code)

    assert str(caught.value) == said.format(path=path)


@pytest.mark.parametrize(
    ("code", "obstacle", "log", "said"),
    [
        (sqlite3.SQLITE_CANTOPEN, "no permission", None, None),
        (sqlite3.SQLITE_READONLY, "no permission", b"", None),
        (sqlite3.SQLITE_CANTOPEN, "no permission", b"x", "because there is run.db-wal; copy both"),
        (sqlite3.SQLITE_CANTOPEN, None, None, "unable"),
        (sqlite3.SQLITE_CORRUPT, "no permission", None, "unable"),
    ],
    ids=["no log", "an empty log", "a log", "nothing in the way", "damage"],
)
async def test_a_file_beside_which_nothing_may_be_written_is_looked_at_as_it_is(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: int,
    obstacle: str | None,
    log: bytes | None,
    said: str | None,
) -> None:
    """Without a log it is complete; with one it is not, and that is said."""
    async with opened(path) as journal:
        await fill(journal)
    usual, modes = module.connect, list[str]()
    if log is not None:
        module.log_path(path).write_bytes(log)

    def connect(place: Path, *, mode: str = "rw") -> sqlite3.Connection:
        modes.append(mode)
        if mode == "ro":
            raise cannot(code)
        return usual(place, mode=mode)

    monkeypatch.setattr(module, "connect", connect)
    monkeypatch.setattr(module, "obstacle", lambda _: obstacle)
    if said is not None:
        with pytest.raises((JournalError, sqlite3.OperationalError), match=said):
            module.connect_to_look(path)
        assert modes == ["ro"]
    else:
        with closing(module.connect_to_look(path)) as database:
            (number,) = database.execute("SELECT count(*) FROM jobs").fetchone()
        assert number == len(JobState)
        assert modes == ["ro", "ro&immutable=1"]


def test_a_file_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    """With what the system says."""
    missing, endless = tmp_path / "none" / "run.db", tmp_path / ("x" * 300)

    with pytest.raises(JournalError, match=f"cannot open journal {missing}: No such file"):
        module.prepare(missing, mark=None)
    with pytest.raises(JournalError, match=f"cannot read journal {endless}: File name too long"):
        module.check_to_look(endless)


async def test_a_journal_whose_beginning_is_damaged_is_told_from_a_foreign_file(path: Path) -> None:
    """What lies beside it tells what it was."""
    async with opened(path):
        pass
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert "is not a journal; is this the right path?" in await refused(path)
    module.log_path(path).touch()

    reason = await refused(path)
    assert "its first bytes are not SQLite's" in reason
    assert module.ADVICE in reason


@pytest.mark.skipif(os.name != "posix", reason="directories can be synced on POSIX")
def test_a_new_journal_is_safe_from_a_power_cut_before_it_is_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name in the directory is synced, too."""
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    assert module.prepare(path, mark=None)

    assert synced == [path.parent.stat().st_ino]


def test_of_two_mounts_on_one_place_the_later_one_counts(tmp_path: Path) -> None:
    """It hides the other; the system lists them in their order."""
    place = tmp_path.resolve()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a {place} ext4 rw\nb {place} nfs rw\nc / xfs rw\n")

    assert file_system_of(tmp_path / "run.db", mounts) == "nfs"


async def test_a_cancelled_opening_is_closed_when_it_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be cancelled; whoever comes then finds the journal free."""
    begun, go_on = threading.Event(), threading.Event()
    usual = Journal._verify

    def slow(self: Journal, *, is_new: bool) -> None:
        begun.set()
        go_on.wait()
        usual(self, is_new=is_new)

    monkeypatch.setattr(Journal, "_verify", slow)
    opening = asyncio.create_task(Journal.open(path))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert is_in_use(path)
    go_on.set()
    while is_in_use(path):  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)

    async with opened(path):
        pass


async def test_a_cancelled_opening_that_fails_is_the_end_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to close then, and nobody to tell."""
    begun, go_on = threading.Event(), threading.Event()

    def failing(_: Journal, *, is_new: bool) -> None:
        begun.set()
        go_on.wait()
        raise JournalError(f"no, {is_new}")

    ends = list[bool]()
    monkeypatch.setattr(Journal, "_verify", failing)
    monkeypatch.setattr(Journal, "_end", lambda _, *, is_complete: ends.append(is_complete))
    opening = asyncio.create_task(Journal.open(path))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    while is_in_use(path):  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)

    assert ends == []


@pytest.mark.parametrize(
    "error", [sqlite3.DatabaseError("odd"), OverflowError("odd"), UnicodeError("odd")], ids=repr
)
def test_what_a_file_cannot_hold_or_tell_is_an_error_of_the_journal(
    path: Path, error: Exception
) -> None:
    """Whatever SQLite raises for it."""
    with (
        pytest.raises(JournalError, match=r"run\.db: odd; keep it as it is"),
        module.translating(path),
    ):
        raise error
