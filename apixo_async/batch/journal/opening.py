"""Opening a journal file: made if missing, refused if it is something else."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from apixo_async.batch.journal.schema import (
    APPLICATION_ID,
    MAJOR,
    MINOR,
    SCHEMA,
    checksum,
)
from apixo_async.errors import JournalError

NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "lustre", "gpfs"}
)
ADVICE: Final = (
    "keep it as it is; restore a copy, or read what is left with any SQLite tool; "
    "starting anew without it may pay for jobs twice"
)
_SQLITE_HEADER: Final = b"SQLite format 3\0"
_NOT_OPENED: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)
"""What SQLite says where something is not allowed; the file itself may be as good as new."""
_NO_DAMAGE: Final = _NOT_OPENED | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
}
_PRIMARY: Final = 0xFF
"""The part of SQLite's codes that tells the kind of error."""


@contextmanager
def translating(path: Path) -> Generator[None]:
    """Errors of SQLite as `JournalError`s that name the file and what to do."""
    try:
        yield
    except MemoryError:
        # A damaged file may ask SQLite for more than there is.
        raise JournalError(f"journal {path}: there is not enough memory; {ADVICE}") from None
    except (sqlite3.DatabaseError, UnicodeError, OverflowError) as error:
        kind = _kind_of(error)
        if kind in _NOT_OPENED and (why := obstacle(path)):
            raise JournalError(f"cannot open journal {path}: {why}") from None
        advice = "" if kind in _NO_DAMAGE else f"; {ADVICE}"
        raise JournalError(f"journal {path}: {error}{advice}") from None


def _kind_of(error: Exception) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def obstacle(path: Path) -> str | None:
    """What keeps this user from opening the file as SQLite does; `None` if nothing is known."""
    directory = path.absolute().parent
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    if os.access(directory, os.W_OK):
        return None
    if sys.platform != "win32" and os.statvfs(directory).f_flag & os.ST_RDONLY:
        return f"{directory} is on a read-only file system"
    return f"no permission to write in {directory}"


def connect(path: Path, *, mode: str = "rw") -> sqlite3.Connection:
    """A connection as every user of a journal has it; `mode` as in SQLite's URIs.

    Commits wait for the disk (`synchronous=FULL`), readers and the writer do not wait for each
    other (WAL).
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_look(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also where nothing may be written.

    SQLite writes an index beside a file with a log. Where that is not allowed and there is no log,
    the file is complete by itself and nobody changes it. Raises `JournalError` for a log that
    cannot be read, because the file is not whole without it.
    """
    try:
        return connect(path, mode="ro")
    except sqlite3.OperationalError as error:
        why = obstacle(path)
        if _kind_of(error) not in _NOT_OPENED or why is None:
            raise
        log = log_path(path)
        if log.exists() and log.stat().st_size:
            raise JournalError(
                f"cannot open journal {path}: {why}, and SQLite has to, because there is "
                f"{log.name}; copy both to where you may write, and look there"
            ) from None
    return connect(path, mode="ro&immutable=1")


def log_path(path: Path) -> Path:
    """SQLite's log of the file; while there is one, the file is not complete without it."""
    return path.with_name(path.name + "-wal")


def prepare(path: Path, *, mark: int | None) -> bool:
    """Makes the file if it is missing, whole or not at all; says whether it did.

    Call it as the owner. Raises `JournalError` for what is no journal, and for what was one: `mark`
    is the last event that is known to have been committed.
    """
    kind = file_system_of(path)
    if kind in NETWORK:
        raise JournalError(
            f"journal {path} would be on a network file system ({kind}), where neither locks nor "
            "SQLite's log can be relied on; put it on a local disk"
        )
    try:
        if path.exists():
            check_header(path)
            return False
        _check_is_new(path, mark)
        with translating(path):
            _create(path)
    except OSError as error:
        raise JournalError(f"cannot open journal {path}: {error.strerror or error}") from None
    return True


def check_to_look(path: Path) -> None:
    """Raises `JournalError` for a file that is missing, or that SQLite could not have written."""
    try:
        check_header(path)
    except FileNotFoundError:
        raise JournalError(f"there is no journal {path}") from None
    except OSError as error:
        raise JournalError(f"cannot read journal {path}: {error.strerror or error}") from None


def check_header(path: Path) -> None:
    """Raises `JournalError` for a file that SQLite could not have written, `OSError` for none."""
    check_is_file(path)
    with path.open("rb") as file:
        start = file.read(len(_SQLITE_HEADER))
        names = os.fstat(file.fileno()).st_nlink
    if not start:
        raise JournalError(
            f"{path} is empty, and a journal never is; if nothing was sent with it, remove it"
        )
    if start != _SQLITE_HEADER:
        # What lies beside a journal tells that this was one.
        if log_path(path).exists():
            raise JournalError(f"{path} is damaged: its first bytes are not SQLite's; {ADVICE}")
        raise JournalError(f"{path} is not a journal; is this the right path?")
    if names > 1:
        raise JournalError(
            f"journal {path} has {names} names (hard links), but what belongs to it lies beside "
            "one of them only; remove the others"
        )


def check_is_file(path: Path) -> None:
    """Raises `JournalError` for what is no file; what is missing may become one."""
    # An empty name is that of the current directory.
    if not path.name or os.path.isdir(path):  # noqa: PTH112  # says no where it may not look
        raise JournalError(f"{path} is a directory, not a journal")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # as above
        raise JournalError(f"{path} is a device, a pipe or a socket; a journal needs a file")


def _check_is_new(path: Path, mark: int | None) -> None:
    log = log_path(path)
    if mark or log.exists():
        raise JournalError(
            f"journal {path} is gone, but what was beside it is there ({log.name} or the .lock "
            "file); bring it back, or remove these as well to begin anew, which may pay twice"
        )


def _create(path: Path) -> None:
    made = path.with_name(path.name + ".new")
    for leftover in (made, made.with_name(made.name + "-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(connect(made)) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {MAJOR}")
        database.executescript(SCHEMA)
        write_meta(database, "minor", str(MINOR))
        write_meta(database, "schema", str(_schema_sum(database)))
        database.execute("PRAGMA journal_mode = WAL")
    made.replace(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name == "posix":  # pragma: no branch  # elsewhere directories cannot be synced
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_meta(database: sqlite3.Connection, name: str, value: str) -> None:
    """Sets one value of `meta`."""
    database.execute(
        "INSERT INTO meta (name, value, checksum) VALUES (?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET value = excluded.value, checksum = excluded.checksum",
        (name, value, checksum((name, value))),
    )


def read_meta(database: sqlite3.Connection, name: str) -> str | None:
    """One value of `meta`, checked."""
    row = database.execute(
        "SELECT name, value, checksum FROM meta WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    if checksum(row[:2]) != row[2]:
        (_, _, file) = database.execute("PRAGMA database_list").fetchone()
        raise JournalError(f"{file} is damaged: {name!r} in its table meta; {ADVICE}")
    return str(row[1])


def check_format(database: sqlite3.Connection, path: Path) -> None:
    """Raises `JournalError` for a file of somebody else, or of another major version."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal of apixo-async")
    (major,) = database.execute("PRAGMA user_version").fetchone()
    if major != MAJOR:
        raise JournalError(
            f"{path} has format {major}, and this apixo-async reads format {MAJOR}: "
            "use the version that wrote it"
        )
    minor = read_meta(database, "minor")
    if minor is None or read_meta(database, "schema") != str(_schema_sum(database)):
        raise JournalError(f"{path}: its table of contents is damaged; {ADVICE}")


def _schema_sum(database: sqlite3.Connection) -> int:
    rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
    return checksum(value for row in rows for value in row)


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The kind of file system that `path` is or would be on, where the system tells it."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = path.parent.resolve()
    best, kind = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) <= 2:  # noqa: PLR2004  # place and kind are the second and the third
            continue
        point = Path(fields[1].replace("\\040", " "))
        if place.is_relative_to(point) and len(point.parts) >= best:  # a later one hides it
            best, kind = len(point.parts), fields[2]
    return kind
