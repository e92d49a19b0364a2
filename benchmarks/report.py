"""What a report of ten thousand videos costs: to write, to open, and to search.

    python -m benchmarks.report [--jobs NUMBER] [--json FILE]

The journal is written by its own API, with four events and one file for each job. `apixo report`
runs in a process of its own. The page is opened from disk in the Chromium of this machine, if there
is one: it is interactive when the first videos have their place, and a search is from a key press
until what is found is drawn. Exits with 1 when writing takes more than 10 s, opening more than
2 s, a search more than half a second, or writing more than 200 MB of memory and 1 kB more for each
job. Of more than ten thousand jobs only the memory is judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import attrs
from playwright.sync_api import Page, sync_playwright

from apixo_async import Job, Task
from apixo_async.batch import events
from apixo_async.batch.journal import Entry, Journal, Traffic, until_next_sample
from apixo_async.emulator import videos
from benchmarks._prompts import prompts
from benchmarks._report import Table, options, verdict, write_json
from tests import browsers

JOBS: Final = 10_000
SLOTS: Final = 1_000
MOST_SECONDS: Final = 10.0
MOST_OPENING: Final = 2.0
MOST_SEARCHING: Final = 0.5
MOST_MB: Final = 200
MORE_KB: Final = 1
CHUNK: Final = 500
LINKS: Final = 50_000
FAILED: Final = 0.02
"""The part of jobs that fail."""


def stories(count: int, directory: Path) -> Iterator[tuple[Job, list[events.JobEvent]]]:
    """Jobs as a full account carries them out, with all that happens to each."""
    dice, began = random.Random(1), datetime.now(UTC) - timedelta(days=1)
    for number, request in enumerate(prompts(count)):
        key, took = f"scene-{number:06}", dice.gauss(120, 15)
        begun = began + timedelta(seconds=number // SLOTS * 125 + dice.random() * 5)
        ended = begun + timedelta(seconds=took)
        raw: dict[str, object] = {
            "taskId": f"task_{number:08}",
            "state": "success",
            "resultJson": json.dumps({"resultUrls": [f"https://r2.apixo.ai/{key}.mp4"]}),
            "createTime": int(begun.timestamp() * 1000),
            "completeTime": int(ended.timestamp() * 1000),
        }
        seen = ended + timedelta(seconds=dice.expovariate(1 / 2))
        told: list[events.JobEvent] = [
            events.Sending(key=key, attempt=1, at=begun),
            events.Accepted(key=key, task_id=f"task_{number:08}", model="veo-3-1", at=begun),
        ]
        task = Task(id=f"task_{number:08}", model="veo-3-1", raw=raw)
        if dice.random() < FAILED:
            raw |= {"state": "failed", "failCode": "GENERATION_FAILED", "failMsg": "it could not"}
            told.append(events.Failed(key=key, task=task, reason="it could not", at=seen))
        else:
            path = directory / f"{key}.mp4"
            link(path, number)
            told += [
                events.Succeeded(key=key, task=task, at=seen),
                events.Saved(key=key, path=str(path), size=1, sha256="0" * 64, at=seen),
                events.AllSaved(key=key, at=seen),
            ]
        yield Job(request, key=key, metadata={"shot": number}), told


def link(path: Path, number: int) -> None:
    """A file that takes no room of its own, as far as the file system lets one have names."""
    clip = path.with_name(f"clip-{number // LINKS}.mp4")
    if not clip.exists():
        clip.write_bytes(videos.library()[0][0].content)
    os.link(clip, path)


async def fill(path: Path, count: int, directory: Path) -> None:
    """A whole journal, and the files that it names."""
    journal = await Journal.open(path)
    try:
        writing: list[asyncio.Future[Entry]] = []
        for number, (job, told) in enumerate(stories(count, directory)):
            entry = journal.enqueue(job)
            writing += [journal.record(entry.number, event) for event in told]
            if number % CHUNK == 0:
                await asyncio.gather(*writing)
                writing.clear()
        await asyncio.gather(*writing)
        note_traffic(journal, seconds=count // SLOTS * 125 + 125)
    finally:
        await journal.aclose()


def note_traffic(journal: Journal, *, seconds: float) -> None:
    """As a runner samples it."""
    dice, began, age = random.Random(2), datetime.now(UTC) - timedelta(days=1), 0.0
    while age < seconds:
        journal.note_traffic(
            Traffic(
                at=began + timedelta(seconds=age),
                running=SLOTS - int(dice.random() * 40),
                task_cap=SLOTS,
                requests=8_000 + int(dice.random() * 900),
                request_limit=9_905,
            )
        )
        age += until_next_sample(age)


@attrs.define
class Result:
    """The figures of one run; those of the browser are `None` where there is none."""

    jobs: int
    write_seconds: float = 0.0
    write_mb: float = 0.0
    page_mb: float = 0.0
    open_seconds: float | None = None
    search_seconds: float | None = None

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found: list[str] = []
        if self.write_mb > (most := MOST_MB + self.jobs * MORE_KB / 1_024):
            found.append(f"writing took {self.write_mb:.0f} MB, more than {most:.0f}")
        if self.jobs > JOBS:
            return found
        if self.write_seconds > MOST_SECONDS:
            found.append(f"writing took {self.write_seconds:.1f} s, more than {MOST_SECONDS}")
        if self.open_seconds is not None and self.open_seconds > MOST_OPENING:
            found.append(f"opening took {self.open_seconds:.2f} s, more than {MOST_OPENING}")
        if self.search_seconds is not None and self.search_seconds > MOST_SEARCHING:
            found.append(f"a search took {self.search_seconds:.2f} s, more than {MOST_SEARCHING}")
        return found


def write(journal: Path, directory: Path, result: Result) -> Path:
    """Writes the report in a process of its own."""
    command = [sys.executable, "-m", "apixo_async.cli", "report", str(journal)]
    command += ["-o", str(directory)]
    started = time.perf_counter()
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result.write_seconds = time.perf_counter() - started
    result.write_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1_024
    page = Path(run.stdout.strip())
    result.page_mb = page.stat().st_size / 2**20
    return page


def look(page_file: Path, browser_path: str, result: Result) -> None:
    """Opens and searches it in a browser that is running already."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=browsers.OFFLINE)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto("about:blank")
        started = time.perf_counter()
        page.goto(page_file.as_uri(), wait_until="commit")
        page.locator(".tile").first.wait_for()
        result.open_seconds = time.perf_counter() - started
        result.search_seconds = max(search(page, result.jobs - 1 - number) for number in range(3))
        browser.close()


def search(page: Page, number: int) -> float:
    """Seconds from the last key press until the job is there."""
    key = f"scene-{number:06}"
    page.fill("#search", key[:-1])
    started = time.perf_counter()
    page.locator("#search").press_sequentially(key[-1])
    page.locator(".tile .name").get_by_text(key, exact=True).wait_for()
    return time.perf_counter() - started


def measure(count: int) -> Result:
    """Makes a journal, writes its report and looks at it."""
    result = Result(count)
    browser = browsers.browser()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "videos").mkdir()
        asyncio.run(fill(place / "run.db", count, place / "videos"))
        page = write(place / "run.db", place / "report", result)
        if browser is None:
            print("there is no browser: nothing is opened", file=sys.stderr)
        else:
            look(page, browser, result)
    return result


def main() -> int:
    """Measures, prints, and judges."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="NUMBER")
    given = parser.parse_args()
    result = measure(given.jobs)
    names = ("jobs", "written, s", "memory, MB", "page, MB", "open, s", "search, s")
    table = Table(dict.fromkeys(names, 10))
    table.begin()
    table.row(
        f"{result.jobs:,}",
        f"{result.write_seconds:.1f}",
        f"{result.write_mb:.0f}",
        f"{result.page_mb:.1f}",
        "" if result.open_seconds is None else f"{result.open_seconds:.2f}",
        "" if result.search_seconds is None else f"{result.search_seconds:.2f}",
    )
    if given.json is not None:
        write_json(given.json, attrs.asdict(result))
    return verdict(result.complaints())


if __name__ == "__main__":
    sys.exit(main())
