"""What a journal of a million finished jobs costs to open: time and memory of a fresh process.

    python benchmarks/journal.py [--jobs NUMBER] [--json FILE]

The file is made by plain SQL, with four events and one file for each job and a thousand jobs that
are still open. Opening verifies all of it; the open jobs are then read, as a resumed batch does.
Exits with 1 when that takes more than 10 s or 200 MB in all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async import Job, TextToVideo
from apixo_async.batch.journal import Entry, JobState, Journal
from apixo_async.batch.journal.opening import connect
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum

OPEN: Final = 1_000
MOST_SECONDS: Final = 10.0
MOST_MB: Final = 200
_CHUNK: Final = 10_000
_KINDS: Final = ("Queued", "Sending", "Accepted", "Succeeded")
_AT: Final = "2026-01-09T13:33:30.929+00:00"
_ANSWER: Final = {
    "state": "success",
    "resultJson": json.dumps({"resultUrls": ["https://r2.apixo.ai/video.mp4"]}),
    "createTime": 1767965610929,
    "completeTime": 1767965730929,
    "costTime": 120000,
}


def summed(*values: object) -> tuple[object, ...]:
    """A row with its checksum."""
    return (*values, checksum(values))


def jobs(count: int) -> Iterator[tuple[object, ...]]:
    """Rows of jobs, the last of them open."""
    request = TextToVideo("A red fox walks through fresh snow at dawn, slow pan, soft light")
    model = Entry.new(1, Job(request, key="k"), at=datetime.now(UTC))
    for number in range(1, count + 1):
        task = f"task_{number:08}"
        fields: dict[str, Any] = {
            "number": number,
            "key": f"scene-{number:07}",
            "state": JobState.ACCEPTED,
            "attempts": 1,
            "charges": 1,
            "queued_at": _AT,
            "sending_at": _AT,
            "accepted_at": _AT,
            "task_id": task,
        }
        if number <= count - OPEN:
            text = json.dumps({**_ANSWER, "taskId": task})
            fields |= {"state": JobState.SUCCEEDED, "ended_at": _AT, "task": text, "saved": 1}
        yield model.changed(fields).row()


def events(count: int) -> Iterator[tuple[object, ...]]:
    """Rows of events."""
    for number in range(4 * count):
        data = json.dumps({"task": {"id": f"task_{number // 4:08}", "model": "veo-3-1"}})
        yield summed(number + 1, number // 4 + 1, _AT, _KINDS[number % 4], data)


def files(count: int) -> Iterator[tuple[object, ...]]:
    """Rows of files."""
    for number in range(1, count - OPEN + 1):
        yield summed(number, f"videos/scene-{number:07}.mp4", 8_000_000, f"{number:064x}", 1)


def fill(database: sqlite3.Connection, table: str, rows: Iterator[tuple[object, ...]]) -> None:
    """Adds the rows."""
    width = {"jobs": len(JOB_COLUMNS) + 1}.get(table, 6)
    query = f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"  # noqa: S608  # our own tables
    while chunk := list(islice(rows, _CHUNK)):
        database.executemany(query, chunk)


async def make(path: Path, count: int) -> None:
    """A whole journal."""
    await (await Journal.open(path)).aclose()
    with closing(connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        fill(database, "jobs", jobs(count))
        fill(database, "events", events(count))
        fill(database, "files", files(count))
        database.execute("COMMIT")


async def look(path: Path) -> dict[str, float]:
    """Opens it and reads the open jobs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    journal = await Journal.open(path)
    opened = time.perf_counter()
    found = [entry async for entry in journal.entries(JobState.QUEUED, JobState.ACCEPTED)]
    ended = time.perf_counter()
    assert len(found) == OPEN
    counted = time.perf_counter()
    assert sum(journal.counts().values()) >= OPEN
    done = time.perf_counter()
    await journal.aclose()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "open_seconds": opened - started,
        "entries_seconds": ended - opened,
        "counts_seconds": done - counted,
        "rss_mb": most / 1024,
        "grown_mb": (most - before) / 1024,
    }


@attrs.frozen
class Result:
    """The figures of one run."""

    jobs: int
    megabytes: float
    figures: dict[str, float]

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found: list[str] = []
        seconds = self.figures["open_seconds"] + self.figures["entries_seconds"]
        if seconds > MOST_SECONDS:
            found.append(f"opening took {seconds:.1f} s, more than {MOST_SECONDS}")
        if self.figures["rss_mb"] > MOST_MB:
            found.append(f"it took {self.figures['rss_mb']:.0f} MB, more than {MOST_MB}")
        return found

    def table(self) -> str:
        """For people."""
        lines = [f"a journal of {self.jobs:,} jobs, {self.megabytes:,.0f} MB"]
        lines += [f"{name:20}{figure:10.2f}" for name, figure in self.figures.items()]
        return "\n".join(lines)


def measure(count: int) -> Result:
    """Makes a journal and looks at it from a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.db"
        asyncio.run(make(path, count))
        run = subprocess.run(
            [sys.executable, __file__, "--look", str(path)],
            stdout=subprocess.PIPE,
            check=True,
        )
        return Result(count, path.stat().st_size / 2**20, json.loads(run.stdout))


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1_000_000, metavar="NUMBER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--make", type=Path, metavar="FILE", help="only make a journal")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look is not None:
        print(json.dumps(asyncio.run(look(options.look))))
        return 0
    if options.make is not None:
        asyncio.run(make(options.make, options.jobs))
        return 0
    result = measure(options.jobs)
    print(result.table())
    if options.json is not None:
        options.json.write_text(json.dumps(attrs.asdict(result), indent=2) + "\n")
    for complaint in result.complaints():
        print(f"NOT GOOD ENOUGH: {complaint}", file=sys.stderr)
    return 1 if result.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
