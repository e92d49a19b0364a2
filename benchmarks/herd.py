"""A minute without the API while 1,000 tasks run: when all is known again, and how busy it gets.

    python -m benchmarks.herd [--json FILE]

In virtual time, on a simulated account (`tests/outages.py`). Every request of that minute fails in
one of three ways, and callbacks get lost. Exits with 1 when the mean recovery is above two ticks of
the schedule, of 5 s each, or when a limit is broken, a submit repeated that may have been taken, or
a task billed twice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks._report import Table, in_parallel, verdict, write_json
from tests.outages import SCHEDULES, Aftermath, after_outage, mean
from tests.simulated import Fate

TASKS: Final = 1_000
MOST_MEAN: Final = 10.0
"""Two ticks of 5 s."""
FATES: Final = {"refused": Fate.REFUSED, "503": Fate.BUSY, "no answer": Fate.SILENT}


@attrs.frozen
class Row:
    """One outage."""

    outage: str
    schedule: str
    aftermath: Aftermath

    def complaints(self) -> Iterator[str]:
        """What is not as it should be."""
        after, name = self.aftermath, f"{self.outage}, {self.schedule}"
        if mean(after.ended) > MOST_MEAN:
            yield f"{name}: {mean(after.ended):.1f} s until the end of a task is known"
        if after.refused or after.busiest_window > 10 * TASKS:
            yield f"{name}: {after.busiest_window:,} requests in 60 s, {after.refused} refused"
        if after.busiest_second > after.most_a_second:
            yield f"{name}: {after.busiest_second} requests in a second"
        if max(after.billed.values()) > 1 or max(after.arrived.values()) > 1:
            yield f"{name}: a submit arrived twice"
        if after.stopped is not None:
            yield f"{name}: the batch stopped: {after.stopped}"

    def figures(self) -> dict[str, Any]:
        """What is kept in a file."""
        after = self.aftermath
        return {
            "outage": self.outage,
            "schedule": self.schedule,
            "tasks_ended": len(after.ended),
            "mean_recovery": mean(after.ended),
            "longest_recovery": after.ended[-1],
            "mean_recovery_of_running": mean(after.running),
            "busiest_second": after.busiest_second,
            "busiest_window": after.busiest_window,
            "refused": after.refused,
            "submits_in_outage": after.late_submits,
            "outcomes": dict(after.statuses),
        }


def measure(outage: str, schedule: str) -> Row:
    """One run."""
    return Row(outage, schedule, after_outage(FATES[outage], schedule, tasks=TASKS))


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    table = Table(
        {"outage": -9, "schedule": -10, "mean, s": 7, "longest": 7, "busiest second": 14}
        | {"busiest 60 s": 12, "429": 3, "submits": 7, "uncertain": 9}
    )
    table.begin()
    rows: list[Row] = []
    for row in in_parallel(measure, *zip(*product(FATES, SCHEDULES), strict=True)):
        rows.append(row)
        after = row.aftermath
        table.row(
            row.outage,
            row.schedule,
            f"{mean(after.ended):.1f}",
            f"{after.ended[-1]:.1f}",
            after.busiest_second,
            f"{after.busiest_window:,}",
            after.refused,
            after.late_submits,
            len(after.doubtful),
        )
    if asked.json is not None:
        write_json(asked.json, [row.figures() for row in rows])
    return verdict([complaint for row in rows for complaint in row.complaints()])


if __name__ == "__main__":
    sys.exit(main())
