"""Which keys a batch has seen, in flat memory however long the input is."""

from __future__ import annotations

import sqlite3
from typing import Final

import attrs

from apixo_async._wire import encode, fingerprint, request_input
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError

DIGITS: Final = 16
"""Hex digits of a default key: 64 bits are enough for billions of requests."""

_SCHEMA: Final = """
CREATE TABLE keys (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, place INTEGER) WITHOUT ROWID;
CREATE TABLE occurrences (fingerprint TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""


class KeyIndex:
    """Names jobs and finds keys that were used twice.

    A nameless SQLite database holds them: SQLite keeps it in memory while it is small, moves it to
    a temporary file when it grows, and deletes that by itself.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")  # it is never kept, so nothing has to be committed

    def claim(self, job: Job, *, place: int | None = None) -> Job | None:
        """The job with its key set; `None` if this very job was seen before.

        `place` is where the job stands in its input; `place_of` tells it again. Raises
        `InvalidRequestError` showing both if the key was used for another request.
        """
        mark = fingerprint(job.request)
        if job.key is None:
            job = attrs.evolve(job, key=self._default_key(mark))
        row = self._database.execute(
            "SELECT fingerprint FROM keys WHERE key = ?", (job.key,)
        ).fetchone()
        if row is None:
            self._database.execute("INSERT INTO keys VALUES (?, ?, ?)", (job.key, mark, place))
            return job
        if row[0] == mark:
            return None
        shown = encode(request_input(job.request)).decode()[:200]
        rule = (
            f"was used for another request (fingerprint {row[0][:DIGITS]}, "
            f"now {mark[:DIGITS]}: {shown}); give every job a key of its own"
        )
        raise InvalidRequestError(f"job {job.key!r}", [("key", rule)])

    def place_of(self, key: str) -> int | None:
        """Where the key was claimed first, as `claim` was told."""
        row = self._database.execute("SELECT place FROM keys WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _default_key(self, mark: str) -> str:
        (number,) = self._database.execute(
            "INSERT INTO occurrences VALUES (?, 1)"
            " ON CONFLICT (fingerprint) DO UPDATE SET number = number + 1 RETURNING number",
            (mark,),
        ).fetchone()
        return mark[:DIGITS] if number == 1 else f"{mark[:DIGITS]}-{number}"

    def close(self) -> None:
        """Frees the database."""
        self._database.close()
