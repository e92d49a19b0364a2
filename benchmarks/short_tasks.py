"""How many five-second images a minute the request rate lets through, by schedule.

    python -m benchmarks.short_tasks [--jobs NUMBER] [--only SCHEDULE] [--json FILE] [--plot PNG]

The tasks are so short that the 10,000 requests a minute are used up long before the 1,000 slots. A
job needs a submit and a look, so that 5,000 jobs a minute are the most that can be. Measured is the
middle of the batch, when it neither begins nor ends. The API is simulated and the time virtual.
Exits with 1 when any schedule broke a limit, when another is faster than the learned, or when that
one reaches less than 90 % of the bound.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from apixo_async import LearnedSchedule, Limits, ModelRequest, PollSchedule
from benchmarks._batch import SEED, Measured, lognormal, named, run_batch
from benchmarks._report import (
    Table,
    chosen,
    in_parallel,
    options,
    verdict,
    write_json,
)

JOBS: Final = 30_000
LIMITS: Final = Limits()
LEAST_REQUESTS: Final = 2
BOUND: Final = LIMITS.requests_per_minute / LEAST_REQUESTS
"""Jobs a minute."""
LEAST: Final = 0.9
"""Of the bound is what the learned schedule has to reach."""
NEARLY: Final = 0.99
"""Of the fastest schedule is as good."""
MODEL: Final = "nano-banana-2"

TASKS: Final[dict[str, Callable[[random.Random], float]]] = {
    "about 5 s": lambda rng: lognormal(rng, mean=5, sigma=0.25),
    "exactly 5 s": lambda _: 5.0,
}

# The API's advice: 90 s and 5 s is for Veo, 5 s and 3 s for fast images.
CONTENDERS: Final[dict[str, Callable[[], PollSchedule]]] = {
    "learned": LearnedSchedule,
    "90 s + 5 s": PollSchedule,
    "5 s + 3 s": partial(PollSchedule, first=5, interval=3),
    "5 s + 1 s": partial(PollSchedule, first=5, interval=1),
    "3 s + 1 s": partial(PollSchedule, first=3, interval=1),
}


# Measuring


@attrs.frozen(kw_only=True)
class Row:
    """One schedule on one kind of task."""

    tasks: str
    schedule: str
    of_bound: float
    measured: Measured

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        where, seen = f"{self.schedule} on tasks of {self.tasks}", self.measured
        found: list[str] = []
        if seen.refused:
            found.append(f"{where}: {seen.refused} requests were answered 429")
        if seen.busiest_window > LIMITS.requests_per_minute:
            found.append(f"{where}: {seen.busiest_window} requests within 60 s")
        return found


def measure(tasks: str, schedule: str, jobs: int) -> Row:
    """One batch."""
    rng = random.Random(SEED)
    durations = [TASKS[tasks](rng) for _ in range(jobs)]
    requests = (ModelRequest(MODEL, {"prompt": named(n)}) for n in range(jobs))
    measured = run_batch(requests, durations, schedule=CONTENDERS[schedule]())
    of_bound = measured.steady_per_minute / BOUND
    return Row(tasks=tasks, schedule=schedule, of_bound=of_bound, measured=measured)


def complaints(rows: Sequence[Row]) -> list[str]:
    """What is not as it should be."""
    found = [complaint for row in rows for complaint in row.complaints()]
    for tasks in TASKS:
        rates = {row.schedule: row.of_bound for row in rows if row.tasks == tasks}
        best = max(rates, key=rates.__getitem__)
        if rates.get("learned", math.inf) < LEAST:
            found.append(f"learned on tasks of {tasks}: less than {LEAST} of the bound")
        if rates.get("learned", math.inf) < NEARLY * rates[best]:
            found.append(f"learned on tasks of {tasks}: {best} is faster")
    return found


# Telling


TABLE: Final = Table(
    {
        "tasks": -11,
        "schedule": -10,
        "of bound": 8,
        "jobs/minute": 11,
        "requests/job": 12,
        "delay p50": 9,
        "busiest 60 s": 12,
        "429": 3,
        "CPU s": 5,
    }
)


def tell(row: Row) -> None:
    """One row for people."""
    seen = row.measured
    TABLE.row(
        row.tasks,
        row.schedule,
        f"{row.of_bound:.3f}",
        f"{seen.steady_per_minute:,.0f}",
        f"{seen.requests_per_job:.2f}",
        f"{seen.delay_p50:.2f}",
        f"{seen.busiest_window:,}",
        seen.refused,
        f"{seen.cpu_seconds:.0f}",
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """For the docs."""
    from benchmarks import _plot  # noqa: PLC0415  # slow to import, and often not needed

    def by_name(value: Callable[[Row], float]) -> dict[tuple[str, str], float]:
        return {(row.schedule, row.tasks): value(row) for row in rows}

    _plot.dots(
        path,
        [
            _plot.Panel(
                title="jobs a minute",
                values=by_name(lambda row: row.measured.steady_per_minute),
                goal=BOUND,
                goal_name="best possible",
            ),
            _plot.Panel(
                title="requests for each job",
                values=by_name(lambda row: row.measured.requests_per_job),
            ),
        ],
    )


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__, jobs=JOBS, names=CONTENDERS).parse_args()
    runs = itertools.product(TASKS, chosen(CONTENDERS, asked.only), [asked.jobs])
    rows: list[Row] = []
    TABLE.begin()
    for row in in_parallel(measure, *zip(*runs, strict=True)):
        tell(row)
        rows.append(row)
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(row) for row in rows])
    if asked.plot is not None:
        draw(rows, asked.plot)
    return verdict(complaints(rows))


if __name__ == "__main__":
    sys.exit(main())
