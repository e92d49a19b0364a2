"""The tables of a journal file, and what tells it from any other file."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

APPLICATION_ID: Final = 0x41505831
""" "APX1": what `PRAGMA application_id` of every journal says."""
MAJOR: Final = 1
"""`PRAGMA user_version`; a file with another one cannot be read."""
MINOR: Final = 1
"""Row `minor` of `meta`; a newer one only has tables and columns more, which are left alone."""

SCHEMA: Final = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    model TEXT NOT NULL,
    mode TEXT,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    metadata TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    charges INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    queued_at TEXT NOT NULL,
    sending_at TEXT,
    accepted_at TEXT,
    ended_at TEXT,
    task_id TEXT,
    task TEXT,
    note TEXT,
    saved INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX open_jobs ON jobs (state, number)
    WHERE state IN ('queued', 'sending', 'accepted', 'uncertain');
CREATE INDEX tasks ON jobs (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX unsaved_jobs ON jobs (number) WHERE state = 'succeeded' AND saved = 0;
CREATE TABLE files (
    job INTEGER NOT NULL,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    is_named INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (job, path)
) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    job INTEGER,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE traffic (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    running INTEGER NOT NULL,
    task_cap INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    request_limit INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
"""

JOB_COLUMNS: Final = (
    "number",
    "key",
    "state",
    "model",
    "mode",
    "fingerprint",
    "request",
    "metadata",
    "attempts",
    "charges",
    "repeats",
    "queued_at",
    "sending_at",
    "accepted_at",
    "ended_at",
    "task_id",
    "task",
    "note",
    "saved",
)
"""What a job's checksum covers, in this order."""
TRAFFIC_COLUMNS: Final = ("number", "at", "running", "task_cap", "requests", "request_limit")
"""The same of a sample of the traffic."""


def checksum(values: Iterable[object]) -> int:
    """What the column `checksum` of a row must hold: CRC-32 of all its other columns."""
    text = "\x1f".join(["\0" if value is None else str(value) for value in values])
    # Paths are kept as the bytes they have on disk; no other text may hold half characters.
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))
