"""One short life of a journal on a disk that fails; run as a script by the tests of damage.

    python -m tests.batch.journal.outage JOURNAL FIRST COUNT CODE

Refuses COUNT calls from the FIRST on with CODE (0 as FIRST: none), or, with a COUNT below 0, limits
the size of files to FIRST bytes. Prints as JSON what was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from apixo_async.batch import events
from apixo_async.batch.journal import Journal
from apixo_async.batch.journal import writer as writer_module
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import MODEL, job
from tests.batch.journal.vfs import FailingDisk

JOBS = 3
RETRIES = 3


class Outage:
    """Counts the calls and refuses some of them."""

    def __init__(self, first: int, count: int, code: int) -> None:
        self.calls = 0
        self.is_over = False
        self._refused = range(first, first + count) if first else range(0)
        self._code = code

    def __call__(self, _: str) -> int:
        self.calls += 1
        return self._code if self.calls in self._refused and not self.is_over else 0


async def carry(journal: Journal, number: int, said: dict[str, list[Any]]) -> None:
    """A job as a run carries it: nothing leaves before it is on disk that it will."""
    entry = journal.enqueue(job(f"k{number}"))
    try:
        await journal.record(entry.number, events.Sending(key=entry.key, attempt=1))
    except JournalError as error:
        said["errors"].append(str(error))
        return
    said["sending"].append(entry.key)
    accepted = events.Accepted(key=entry.key, task_id=f"t{number}", model=MODEL)
    await journal.record(entry.number, accepted, keep_trying=True)
    said["accepted"].append(entry.key)


async def live(path: Path, first: int, count: int, code: int) -> dict[str, Any]:
    """Carries some jobs, while the disk fails; it works again after a few retries."""
    said: dict[str, Any] = {"errors": [], "sending": [], "accepted": [], "opened": False}
    outage = Outage(first, max(count, 0), code)
    if count >= 0:
        FailingDisk(outage)
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (first, resource.RLIM_INFINITY))
    writer_module.PAUSE = writer_module.PAUSE_MAX = 0.001  # type: ignore[misc]  # no need to wait
    troubles: list[JournalError] = []

    def on_trouble(error: JournalError) -> None:
        troubles.append(error)
        if len(troubles) >= RETRIES:
            outage.is_over = True
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    try:
        journal = await Journal.open(path)
    except JournalError as error:
        said["errors"].append(str(error))
        return said
    said["opened"] = True
    journal.on_trouble = on_trouble
    for number in range(JOBS):
        await carry(journal, number, said)
    await journal.aclose()
    said["calls"] = outage.calls
    return said


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(live(Path(place), *map(int, numbers)))))
    sys.stdout.flush()
    os._exit(0)
