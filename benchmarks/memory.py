"""What a job costs in memory while it is queued, while it runs and once it has ended.

    python -m benchmarks.memory [--jobs NUMBER] [--json FILE] [--plot PNG]

Client, gate and runner are real, the API behind them is simulated in the same process. Each figure
comes from a process of its own: how much it grew, divided by the number of jobs; beside queued jobs
1,000 others run, whose share is taken off. At 1,000 jobs bytes are counted by tracemalloc, because
the system gives memory in large pieces; above it is RSS. Exits with 1 when ours needs more than
10 kB for a running job, anything for a queued one, or more than 150 MB in all for a stream of a
million jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from benchmarks._batches import WAYS
from benchmarks._plot import Panel, dots
from benchmarks._report import Table, options, verdict, write_json

COUNTS: Final = (1_000, 100_000, 1_000_000)
TRACED: Final = 1_000
"""Up to this number of jobs Python counts."""
MOST_RUNNING: Final = 10_000
MOST_QUEUED: Final = 64
"""Bytes; what garbage collection leaves over and the size of pages hide less than that."""
MOST_PEAK: Final = 150 * 10**6

STREAM, RUN, GATHER = WAYS
STATES: Final[dict[str, dict[str, int]]] = {
    "queued": {STREAM: 1_000_000, GATHER: 1_000_000},
    "running": {STREAM: 100_000, GATHER: 100_000},
    "finished": {STREAM: 1_000_000, RUN: 100_000, GATHER: 100_000},
}
"""Up to how many jobs a way is measured: some would need more memory or time than anybody has."""


@attrs.frozen
class Cell:
    """One figure: bytes for each job, and the peak of the whole process."""

    state: str
    way: str
    jobs: int
    bytes_per_job: float
    peak: int


def elsewhere(state: str, way: str, count: int, *, is_traced: bool) -> dict[str, int]:
    """Growth and peak of a fresh process."""
    command = [sys.executable, "-m", "benchmarks._batches"]
    command += [state, way, str(count), "traced" if is_traced else "rss"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def measure(wanted: tuple[str, str, int]) -> Cell:
    """One figure."""
    state, way, count = wanted
    is_traced = count <= TRACED
    found = elsewhere(state, way, count, is_traced=is_traced)
    others = 0
    if state == "queued":
        others = elsewhere(state, way, 0, is_traced=is_traced)["grown"]
    return Cell(state, way, count, (found["grown"] - others) / count, found["peak"])


def wanted(most: int) -> Iterator[tuple[str, str, int]]:
    """All figures there are to measure."""
    for state, ways in STATES.items():
        for way, most_of_way in ways.items():
            for count in COUNTS:
                if count <= min(most, most_of_way):
                    yield state, way, count


def complaints(cells: Iterable[Cell]) -> Iterator[str]:
    """What is not as it should be."""
    for cell in cells:
        if cell.way != STREAM:
            continue
        size = f"{cell.jobs:,} {cell.state} jobs take {cell.bytes_per_job:,.0f} bytes each"
        if cell.state == "running" and cell.bytes_per_job > MOST_RUNNING:
            yield f"{size}, more than {MOST_RUNNING:,}"
        if cell.state == "queued" and cell.bytes_per_job > MOST_QUEUED:
            yield f"{size}, more than nothing"
        if cell.state == "finished" and cell.peak > MOST_PEAK:
            yield f"a stream of {cell.jobs:,} jobs took {cell.peak / 1e6:.0f} MB in all"


def tell(cells: Sequence[Cell]) -> None:
    """Prints the table; ratios are to a stream of ours in the same state."""
    columns = {"state": -8, "way": -20, "jobs": 9, "ratio": 6, "bytes/job": 9, "peak MB": 7}
    table = Table(columns)
    table.begin()
    ours = {(cell.state, cell.jobs): cell for cell in cells if cell.way == STREAM}
    for cell in cells:
        least = ours[cell.state, cell.jobs].bytes_per_job
        ratio = f"{cell.bytes_per_job / least:.1f}" if least >= MOST_QUEUED else "-"
        table.row(
            cell.state,
            cell.way,
            f"{cell.jobs:,}",
            ratio,
            f"{round(cell.bytes_per_job):,}",  # an integer has no -0
            f"{cell.peak / 1e6:,.0f}",
        )


def draw(cells: Iterable[Cell], path: Path) -> None:
    """Bytes for each job in each state, at the largest number that all ways were measured at."""
    shown = {
        (f"{cell.state}, {cell.jobs:,} jobs", cell.way): max(cell.bytes_per_job, 0.0) / 1e3
        for cell in cells
        if cell.jobs <= min(STATES[cell.state].values()) and cell.way != RUN
    }
    dots(
        path,
        [Panel(title="kB of memory for each job", values=shown, goal=10, goal_name="our limit")],
    )


def main() -> int:
    """Measures, prints, and judges."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=COUNTS[-1], metavar="NUMBER", help="at most")
    asked = parser.parse_args()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cells = list(pool.map(measure, wanted(asked.jobs)))
    tell(cells)
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(cell) for cell in cells])
    if asked.plot is not None:
        draw(cells, asked.plot)
    return verdict(list(complaints(cells)))


if __name__ == "__main__":
    sys.exit(main())
