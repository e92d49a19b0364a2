"""Reading a journal that another process owns, or that nobody owns any more."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self

import attrs

from apixo_async._places import place_of
from apixo_async.batch.journal.entries import Entry
from apixo_async.batch.journal.opening import (
    ADVICE,
    check_format,
    check_is_file,
    check_to_look,
    connect_to_look,
    read_meta,
    translating,
)
from apixo_async.batch.journal.overview import Overview
from apixo_async.batch.journal.owner import lock_path, owner_of, read_mark
from apixo_async.batch.journal.schema import JOB_COLUMNS
from apixo_async.batch.journal.tally import Tally
from apixo_async.batch.journal.traffic import Traffic, has_traffic, read_traffic
from apixo_async.batch.journal.verifying import is_whole
from apixo_async.batch.spending import Prices
from apixo_async.downloads import SavedFile
from apixo_async.errors import JournalError

_JOBS: Final = f"SELECT {', '.join(JOB_COLUMNS)}, checksum FROM jobs ORDER BY number"
_FILES: Final = "SELECT job, path, size, sha256, is_named, checksum FROM files ORDER BY job, path"
_NOT_SENT: Final = (
    "SELECT job, count(*) FROM events WHERE kind = 'NotSent' GROUP BY job ORDER BY job"
)
_STAMP: Final = "PRAGMA data_version"


class _Counts:
    """Counts by job number, in order, asked for in the same order: none is held in memory."""

    def __init__(self, rows: Iterator[tuple[int, int]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, number: int) -> int:
        """The count of this job."""
        while self._next is not None and self._next[0] < number:
            self._next = next(self._rows, None)
        return 0 if self._next is None or self._next[0] > number else self._next[1]


class JournalReader:
    """A journal to look at and never to write; use it in a `with` statement, in one thread.

    Works while another process owns the journal, which does not wait for us, and after a crash.
    All methods block and raise `JournalError` for a file that is missing, foreign, of another
    format, or damaged: the structure of the file as a whole when it is opened, so that no row is
    missing, and every row when it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = Path(os.path.realpath(path))
        check_is_file(path)
        # Before anything is read: what was noted as committed has to be found then.
        mark = read_mark(path)
        check_to_look(path)
        with translating(path):
            self._database = connect_to_look(path)
            try:
                check_format(self._database, path)
                self._check_end(mark)
                self._check_structure()
            except BaseException:
                self._database.close()
                raise

    def _check_end(self, mark: int | None) -> None:
        # SQLite drops a damaged end of its log without a word.
        (last,) = self._database.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
        if mark is not None and last < mark:
            raise JournalError(
                f"{self.path} is damaged: {mark - last} of {mark} events that were written are "
                f"missing, and task ids may be among them; {ADVICE}"
            )

    def _check_structure(self) -> None:
        # One wrong number within it, and jobs are not there or twice, each with a good checksum.
        (problem,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise JournalError(f"{self.path} is damaged ({problem}); {ADVICE}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @property
    def owner(self) -> str | None:
        """The process that owns the journal at this moment, in words; `None` if none does."""
        return owner_of(self.path)

    def options(self) -> Mapping[str, Any]:
        """What the batch was started with; no secrets."""
        with translating(self.path):
            noted: dict[str, Any] = json.loads(read_meta(self._database, "options") or "{}")
            return noted

    def version(self) -> int:
        """A number that changes when somebody wrote to the journal since the last call."""
        with translating(self.path):
            return int(self._database.execute(_STAMP).fetchone()[0])

    def overview(self, prices: Prices | None = None, *, now: datetime | None = None) -> Overview:
        """What the journal says as a whole, from one pass over its jobs.

        Memory stays flat but for eight bytes for each ended job. `prices` give the estimated cost;
        `now` is the time at which rates and expiry are taken, by default this moment.
        """
        # The owner first: if there is none, nobody changes what is then read.
        owner = self.owner
        has_crashed = owner is None and lock_path(self.path).exists()
        tally = Tally(now=datetime.now(UTC) if now is None else now, owner=owner)
        with self.snapshot():
            not_sent = _Counts(self._database.execute(_NOT_SENT))
            for entry in map(self._entry, self._database.execute(_JOBS)):
                tally.add(entry, not_sent=not_sent.of(entry.number))
            noted = self.options()
        cap = noted.get("max_cost")
        return attrs.evolve(
            tally.overview(prices, has_crashed=has_crashed),
            max_cost=None if cap is None else Decimal(str(cap)),
            save_to=noted.get("save_to"),
            is_emulated=bool(noted.get("is_emulated")),
            base_url=noted.get("base_url"),
        )

    def entries(self) -> Generator[Entry]:
        """All jobs in the order of the journal, as they were when the iteration began."""
        with translating(self.path):
            yield from map(self._entry, self._database.execute(_JOBS))

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        try:
            return Entry.of_row(row)
        except JournalError as error:
            if is_whole(row):  # written by a newer version
                raise JournalError(f"{self.path}: {error}") from None
            raise JournalError(
                f"{self.path} is damaged: job {row[0]!r} ({row[1]!r}) has a wrong checksum; "
                f"{ADVICE}"
            ) from None

    def with_files(self) -> Generator[tuple[Entry, list[SavedFile]]]:
        """All jobs in order with the files that are saved, as they were at one moment."""
        with self.snapshot():
            files = self._files()
            next_file = next(files, None)
            for entry in map(self._entry, self._database.execute(_JOBS)):
                saved: list[SavedFile] = []
                while next_file is not None and next_file[0] <= entry.number:
                    if next_file[0] == entry.number:
                        saved.append(next_file[1])
                    next_file = next(files, None)
                yield entry, saved

    def traffic(self) -> list[Traffic] | None:
        """What the client did over time, in samples; `None` where that was not recorded yet."""
        with translating(self.path):
            return list(read_traffic(self._database)) if has_traffic(self._database) else None

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """All that is read within the block is the journal of one moment."""
        with translating(self.path):
            if self._database.in_transaction:
                yield
                return
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                # An iteration that is left half way may be closed after the file.
                with suppress(sqlite3.ProgrammingError):
                    self._database.execute("ROLLBACK")

    def _files(self) -> Iterator[tuple[int, SavedFile]]:
        rows: sqlite3.Cursor = self._database.execute(_FILES)
        row: tuple[Any, ...]
        for row in rows:
            if not is_whole(row, path_at=1):
                raise JournalError(
                    f"{self.path} is damaged: a file of job {row[0]} has a wrong checksum; {ADVICE}"
                )
            job, path, size, sha256, is_named, _ = row
            if is_named:
                yield job, SavedFile(place_of(os.fsdecode(path)), size, sha256)
