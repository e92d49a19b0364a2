"""Samples of what a client did over time: tasks that ran, requests that went out.

Nothing relies on them: they are what a report draws. So they are written when the disk has time for
them, a sample that is damaged is left out, and a journal of before minor version 1 has none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import attrs

from apixo_async.batch.journal.entries import stamp
from apixo_async.batch.journal.schema import TRAFFIC_COLUMNS, checksum
from apixo_async.batch.journal.verifying import is_whole

OFTEN: Final = 1.0
"""Seconds between two samples when a run is young."""
PART: Final = 1 / 50
"""Later, this part of the run's age: a day gives 420 samples, a week 520."""

_COLUMNS: Final = ", ".join(TRAFFIC_COLUMNS)
_ADD: Final = (
    f"INSERT INTO traffic ({_COLUMNS}, checksum)"
    f" VALUES ({', '.join('?' * (len(TRAFFIC_COLUMNS) + 1))})"
)
_NEXT: Final = "SELECT coalesce(max(number), 0) + 1 FROM traffic"
_ALL: Final = f"SELECT {_COLUMNS}, checksum FROM traffic ORDER BY number"
_IS_THERE: Final = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'traffic'"


@attrs.frozen(kw_only=True)
class Traffic:
    """What a client held and sent at one moment."""

    at: datetime
    running: int
    """Tasks that run, or are being submitted."""
    task_cap: int
    """How many may, by its limits or by what was found of the account's."""
    requests: int
    """Requests in the 60 seconds before."""
    request_limit: int
    """How many may go out in a minute."""


def until_next_sample(age: float) -> float:
    """Seconds from one sample to the next, in a run of this age: rarer with time."""
    return max(OFTEN, age * PART)


def has_traffic(database: sqlite3.Connection) -> bool:
    """Whether the journal has the table."""
    (number,) = database.execute(_IS_THERE).fetchone()
    return bool(number)


def add_traffic(database: sqlite3.Connection, sample: Traffic) -> None:
    """Adds a sample."""
    (number,) = database.execute(_NEXT).fetchone()
    others = (sample.running, sample.task_cap, sample.requests, sample.request_limit)
    values = (number, stamp(sample.at), *others)
    database.execute(_ADD, (*values, checksum(values)))


def read_traffic(database: sqlite3.Connection) -> Iterator[Traffic]:
    """All samples in the order in which they were taken."""
    for row in database.execute(_ALL):
        if is_whole(row):
            _, at, running, task_cap, requests, request_limit, _ = row
            yield Traffic(
                at=datetime.fromisoformat(at),
                running=running,
                task_cap=task_cap,
                requests=requests,
                request_limit=request_limit,
            )
