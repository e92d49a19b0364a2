"""Verifying a journal before anything relies on it: a job that damage made queued is paid twice."""

from __future__ import annotations

import os
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from apixo_async.batch.journal.opening import ADVICE, connect
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum
from apixo_async.errors import JournalError

LARGE: Final = 20_000
"""From so many jobs on, SQLite puts together what is summed; see `_scan`."""

_COLUMNS: Final = {
    "jobs": JOB_COLUMNS,
    "files": ("job", "path", "size", "sha256", "is_named"),
    "meta": ("name", "value"),
}


def verify(database: sqlite3.Connection, path: Path, *, mark: int | None) -> int:
    """Checks the whole file and every row of a job; returns the number of the last event.

    `mark` is the last event that is known to have been committed. Raises `JournalError` with
    advice at the first thing that is wrong.
    """
    (jobs,) = database.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
    with ThreadPoolExecutor(1, "apixo-verify") as pool:
        # SQLite needs no interpreter to check the file itself, while we look at the rows.
        checked = pool.submit(_check_file, path, mark)
        try:
            for table in _COLUMNS:
                if jobs < LARGE:
                    _read(database, table, path)
                else:
                    _scan(table, path)
        except (JournalError, sqlite3.Error):
            checked.exception()  # whichever was found first is enough
            raise
        return checked.result()


def _check_file(path: Path, mark: int | None) -> int:
    with closing(connect(path, mode="ro")) as database:
        (problem,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if problem != "ok":
            raise JournalError(f"{path} is damaged ({problem}); {ADVICE}")
        (last,) = database.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
        (number,) = database.execute("SELECT count(*) FROM events").fetchone()
    if number != last:
        raise JournalError(
            f"{path} is damaged: {last - number} of {last} events are missing; {ADVICE}"
        )
    if mark is not None and last < mark:
        raise JournalError(
            f"{path} is damaged: {mark - last} of {mark} events that were written are missing, "
            f"and task ids may be among them; {ADVICE}"
        )
    return int(last)


def _read(database: sqlite3.Connection, table: str, path: Path) -> None:
    columns = ", ".join(_COLUMNS[table])
    for row in database.execute(f"SELECT {columns}, checksum FROM {table}"):
        if not is_whole(row, path_at=1 if table == "files" else None):
            raise _wrong(path, table, row[0])


def is_whole(row: tuple[Any, ...], *, path_at: int | None = None) -> bool:
    """Whether the columns of a row agree with its checksum, which is the last of them."""
    values = list(row[:-1])
    if path_at is not None and isinstance(values[path_at], bytes):
        values[path_at] = os.fsdecode(values[path_at])
    try:
        return bool(checksum(values) == row[-1])
    except UnicodeError:
        return False


def _scan(table: str, path: Path) -> None:
    """Half as dear as `_read`, for many rows.

    It does not see whether a value is text or bytes; that is seen when the row is used.
    """
    summed = " || x'1f' || ".join(f"coalesce({name}, x'00')" for name in _COLUMNS[table])
    crc32 = zlib.crc32
    with closing(connect(path, mode="ro")) as database:
        database.text_factory = bytes
        query = f"SELECT {summed}, checksum, {_COLUMNS[table][0]} FROM {table}"
        for text, known, name in database.execute(query):
            if crc32(text) != known:
                raise _wrong(path, table, name)


def _wrong(path: Path, table: str, name: object) -> JournalError:
    return JournalError(
        f"{path} is damaged: row {name!r} of {table} has a wrong checksum; {ADVICE}"
    )
