"""How close a batch of 20,000 two-minute videos comes to the best possible time, by schedule.

    python -m benchmarks.makespan [--jobs NUMBER] [--only SCHEDULE] [--mix MIX] [--without-times]
                                  [--json FILE] [--plot PNG]

Client, gate, schedule and runner are real; the API behind them is simulated and the time virtual,
so that hours pass in seconds and every run gives the same figures. The best possible time is that
of the same durations in the same order on 1,000 slots without any delay. "callbacks" come
300 ms after each end, but for a fifth of them where that is said. Exits with 1 when the learned
schedule needs more than 1.020 times as long, callbacks more than 1.006 times or 2.3 requests a job,
or when any schedule broke a limit.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from apixo_async import LearnedSchedule, Limits, PollSchedule, TextToVideo
from apixo_async.emulator.bound import list_schedule
from benchmarks._batch import SEED, Measured, lognormal, named, run_batch
from benchmarks._report import (
    Table,
    chosen,
    in_parallel,
    options,
    verdict,
    write_json,
)

JOBS: Final = 20_000
LIMITS: Final = Limits()
MOST_REQUESTS_WITH_CALLBACKS: Final = 2.3

Mode: TypeAlias = Literal["fast", "quality"]
Work: TypeAlias = tuple[Mode, float]
"""What is asked for and how many seconds it takes."""


# What there is to do


def one_hump(rng: random.Random) -> Work:
    """Two minutes on average."""
    return "fast", lognormal(rng, mean=120, sigma=0.25)


def two_modes(rng: random.Random) -> Work:
    """Half of them fast, half not, as it comes."""
    if rng.random() < 0.5:
        return "fast", lognormal(rng, mean=70, sigma=0.12)
    return "quality", lognormal(rng, mean=165, sigma=0.12)


def stragglers(rng: random.Random) -> Work:
    """One in twenty takes very long."""
    if rng.random() < 0.05:
        return "fast", rng.uniform(200, 600)
    return one_hump(rng)


MIXES: Final[dict[str, Callable[[random.Random], Work]]] = {
    "one hump": one_hump,
    "two modes": two_modes,
    "stragglers": stragglers,
}

CALLBACKS: Final = "callbacks"
LOSSY: Final = "a fifth lost"
MOST_OVER: Final = {CALLBACKS: 1.006, "learned": 1.020}
CONTENDERS: Final[dict[str, Callable[[], PollSchedule]]] = {
    CALLBACKS: LearnedSchedule,
    LOSSY: LearnedSchedule,
    "learned": LearnedSchedule,
    "documented": PollSchedule,
    "60 s + 15 s": partial(PollSchedule, first=60, interval=15),
    "5 s + 1 s": partial(PollSchedule, first=5, interval=1),
}


# Measuring


@attrs.frozen(kw_only=True)
class Row:
    """One schedule on one mix."""

    mix: str
    schedule: str
    over_bound: float
    bound: float
    measured: Measured

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found: list[str] = []
        where, seen = f"{self.schedule} on {self.mix}", self.measured
        most_over = MOST_OVER.get(self.schedule)
        if most_over is not None and self.over_bound > most_over:
            found.append(f"{where}: {self.over_bound:.4f} of the bound, above {most_over}")
        if self.schedule == CALLBACKS and seen.requests_per_job > MOST_REQUESTS_WITH_CALLBACKS:
            most = MOST_REQUESTS_WITH_CALLBACKS
            found.append(f"{where}: {seen.requests_per_job:.2f} requests a job, above {most}")
        if seen.refused:
            found.append(f"{where}: {seen.refused} requests were answered 429")
        if seen.busiest_window > LIMITS.requests_per_minute:
            found.append(f"{where}: {seen.busiest_window} requests within 60 s")
        return found


def measure(mix: str, schedule: str, jobs: int, tells_times: bool) -> Row:  # noqa: FBT001  # map
    """One batch."""
    rng = random.Random(SEED)
    work = [MIXES[mix](rng) for _ in range(jobs)]
    durations = [seconds for _, seconds in work]
    requests = (TextToVideo(named(n), mode=mode) for n, (mode, _) in enumerate(work))
    plan = CONTENDERS[schedule]()
    measured = run_batch(
        requests,
        durations,
        schedule=plan,
        tells_times=tells_times,
        calls_back=schedule in {CALLBACKS, LOSSY},
        loses=0.2 if schedule == LOSSY else 0.0,
    )
    bound = list_schedule(durations, LIMITS.concurrent_tasks)
    return Row(
        mix=mix,
        schedule=schedule,
        over_bound=measured.makespan / bound,
        bound=bound,
        measured=measured,
    )


# Telling


TABLE: Final = Table(
    {
        "mix": -10,
        "schedule": -12,
        "of bound": 8,
        "requests/job": 12,
        "delay p50": 9,
        "p99": 5,
        "busiest 60 s": 12,
        "429": 3,
        "CPU s": 5,
    }
)


def tell(row: Row) -> None:
    """One row for people."""
    seen = row.measured
    TABLE.row(
        row.mix,
        row.schedule,
        f"{row.over_bound:.4f}",
        f"{seen.requests_per_job:.2f}",
        f"{seen.delay_p50:.2f}",
        f"{seen.delay_p99:.2f}",
        f"{seen.busiest_window:,}",
        seen.refused,
        f"{seen.cpu_seconds:.0f}",
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """For the docs."""
    from benchmarks import _plot  # noqa: PLC0415  # slow to import, and often not needed

    def by_name(value: Callable[[Row], float]) -> dict[tuple[str, str], float]:
        return {(row.schedule, row.mix): value(row) for row in rows}

    _plot.dots(
        path,
        [
            _plot.Panel(
                title="time above the best possible, %",
                values=by_name(lambda row: 100 * (row.over_bound - 1)),
                goal=100 * (MOST_OVER["learned"] - 1),
                goal_name="goal",
            ),
            _plot.Panel(
                title="requests for each job",
                values=by_name(lambda row: row.measured.requests_per_job),
            ),
        ],
    )


def main() -> int:
    """Measures, prints, and judges."""
    parser = options(__doc__, jobs=JOBS, names=CONTENDERS)
    parser.add_argument("--mix", action="append", choices=MIXES, help="leave out all other mixes")
    parser.add_argument(
        "--without-times", action="store_true", help="answers lack the server's own times"
    )
    asked = parser.parse_args()
    runs = itertools.product(
        chosen(MIXES, asked.mix),
        chosen(CONTENDERS, asked.only),
        [asked.jobs],
        [not asked.without_times],
    )
    rows: list[Row] = []
    TABLE.begin()
    for row in in_parallel(measure, *zip(*runs, strict=True)):
        tell(row)
        rows.append(row)
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(row) for row in rows])
    if asked.plot is not None:
        draw(rows, asked.plot)
    return verdict([complaint for row in rows for complaint in row.complaints()])


if __name__ == "__main__":
    sys.exit(main())
