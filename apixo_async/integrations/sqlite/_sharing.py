"""Opening a file that several processes may open in the same moment."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import Final

BETWEEN_ATTEMPTS: Final = 0.02
"""Seconds, at most, between attempts to open a file that others open in the same moment."""


def share(database: sqlite3.Connection, *, timeout: float) -> None:
    """Lets several use the file at once; where several ask for that at once, all but one are busy.

    SQLite does not wait by itself here, as it does for any other lock.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(random.uniform(0, BETWEEN_ATTEMPTS))  # noqa: S311  # no secret
        else:
            return
