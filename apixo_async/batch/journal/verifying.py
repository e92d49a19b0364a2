"""Verifying a journal before anything relies on it: a job that damage made queued is paid twice."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from apixo_async.batch.journal.opening import ADVICE, connect
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum
from apixo_async.errors import JournalError

LARGE: Final = 100_000
"""From so many jobs on, rows that the run does not begin with are checked when they are used."""
_TO_BE_RUN: Final = (
    " WHERE state IN ('queued', 'sending', 'accepted', 'uncertain')",
    " WHERE state = 'succeeded' AND saved = 0",
)

_COLUMNS: Final = {
    "jobs": JOB_COLUMNS,
    "files": ("job", "path", "size", "sha256", "is_named"),
    "meta": ("name", "value"),
    "events": ("number", "job", "at", "kind", "data"),
}


def verify(database: sqlite3.Connection, path: Path, *, mark: int | None) -> int:
    """Checks the file and its rows; returns the number of the last event.

    The structure of the file is always checked as a whole, so that no row is missing or doubled
    and no ended job has become an open one. The checksum of every row is looked at up to `LARGE`
    jobs. In larger files it is that of jobs which a run goes on with; damage in an ended job is
    told when it is read, and the sum of charges relies on it until then; that of an event is not.

    `mark` is the last event that is known to have been committed. Raises `JournalError` with
    advice at the first thing that is wrong.
    """
    (jobs,) = database.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
    with ThreadPoolExecutor(1, "apixo-verify") as pool:
        # SQLite needs no interpreter to check the file itself, while we look at the rows.
        checked = pool.submit(_check_file, path, mark)
        try:
            _read(database, "meta", path)
            if jobs < LARGE:
                _read(database, "jobs", path)
                _read(database, "files", path)
                _read(database, "events", path)
            else:
                for condition in _TO_BE_RUN:
                    _read(database, "jobs", path, condition)
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


def _read(database: sqlite3.Connection, table: str, path: Path, condition: str = "") -> None:
    columns = ", ".join(_COLUMNS[table])
    query = f"SELECT {columns}, checksum FROM {table}{condition}"
    for row in database.execute(query):
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


def _wrong(path: Path, table: str, name: object) -> JournalError:
    return JournalError(
        f"{path} is damaged: row {name!r} of {table} has a wrong checksum; {ADVICE}"
    )
