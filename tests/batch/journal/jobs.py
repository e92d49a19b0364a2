"""Jobs in every state, and what a journal says of them: shared by the tests of the journal."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, Journal, Traffic, opening
from apixo_async.batch.outcomes import Job
from apixo_async.tasks import Task
from apixo_async.veo import TextToVideo

MODEL = "veo-3-1"
URL = "https://a/1.mp4"
ANSWER: Mapping[str, object] = {
    "taskId": "t1",
    "state": "success",
    "resultJson": json.dumps({"resultUrls": [URL]}),
}
DONE = Task(id="t1", model=MODEL, state="success", urls=(URL,), raw=ANSWER)
FAILED = Task(
    id="t1",
    model=MODEL,
    state="failed",
    fail_code="E1",
    fail_message="no",
    raw={"taskId": "t1", "state": "failed", "failCode": "E1", "failMsg": "no"},
)
K = "k"  # every event is of some job; tests that need another say so

SENDING = events.Sending(key=K, attempt=1)
ACCEPTED = events.Accepted(key=K, task_id="t1", model=MODEL)
UNCERTAIN = events.Uncertain(
    key=K, reason="reset", phase="answer", received="{", candidate_task_id="t9"
)
REJECTED = events.Rejected(
    key=K, reason="bad", error="InvalidInputError", code=400, http_status=400
)
SUCCEEDED = events.Succeeded(key=K, task=DONE)

SAMPLE = Traffic(
    at=datetime(2026, 1, 9, 13, 33, 30, tzinfo=UTC),
    running=7,
    task_cap=10,
    requests=42,
    request_limit=60,
)

WAYS: Mapping[JobState, tuple[events.JobEvent, ...]] = {
    JobState.QUEUED: (),
    JobState.SENDING: (SENDING,),
    JobState.ACCEPTED: (SENDING, ACCEPTED),
    JobState.UNCERTAIN: (SENDING, UNCERTAIN),
    JobState.SUCCEEDED: (SENDING, ACCEPTED, SUCCEEDED),
    JobState.FAILED: (SENDING, ACCEPTED, events.Failed(key=K, task=FAILED, reason="no")),
    JobState.REJECTED: (SENDING, REJECTED),
    JobState.ABANDONED: (SENDING, UNCERTAIN, events.Abandoned(key=K)),
}
"""What has to happen to a new job to bring it into each state."""


def job(key: str = K) -> Job:
    """A job with this key."""
    return Job(TextToVideo(f"a fox, {key}"), key=key)


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Journal]:
    """A journal that is closed at the end."""
    journal = await Journal.open(path)
    try:
        yield journal
    finally:
        await journal.aclose()


async def fill(journal: Journal) -> None:
    """One job in every state, one with a file that has its name and one that has not."""
    for state, way in WAYS.items():
        entry = journal.enqueue(job(state.value))
        for event in way:
            await journal.record(entry.number, event)
        if state is JobState.SUCCEEDED:
            naming = events.Naming(key=K, path="a.mp4", size=3, sha256="ab")
            saved = events.Saved(key=K, path="b.mp4", size=3, sha256="cd")
            await journal.record(entry.number, naming)
            await journal.record(entry.number, saved)


async def told(journal: Journal) -> dict[str, Any]:
    """All that a journal tells of its jobs."""
    entries: list[Entry] = [entry async for entry in journal.entries(*JobState)]
    return {
        "entries": entries,
        "files": [
            journal.files(entry.number, named=named) for entry in entries for named in (True, False)
        ],
        "options": journal.options,
    }


def count_events(path: Path) -> int:
    """How many events the file has, asked on a connection of its own."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (number,) = database.execute("SELECT count(*) FROM events").fetchone()
    return int(number)


def age(path: Path) -> None:
    """Makes a journal one of minor version 0, which had no table of traffic."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TABLE traffic")
        opening.write_meta(database, "minor", "0")
        opening.write_meta(database, "schema", str(opening._schema_sum(database)))


@contextlib.contextmanager
def small_pages() -> Iterator[None]:
    """New journals have the smallest pages there are, so that every byte can be tried."""
    usual = opening.connect

    def connect(path: Path, *, mode: str = "rw") -> sqlite3.Connection:
        database = usual(path, mode=mode)
        database.execute("PRAGMA page_size = 512")  # does nothing to a file that exists
        return database

    opening.connect = connect
    try:
        yield
    finally:
        opening.connect = usual
