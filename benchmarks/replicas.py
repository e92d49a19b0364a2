"""Several worker processes on one key: are limits held, and is no job paid twice, lost or stuck?

    python -m benchmarks.replicas [--cases 1,2,6] [--jobs NUMBER] [--rounds NUMBER] [--quick]
                                  [--postgres URL] [--redis URL] [--json FILE]

The emulator, in a process of its own, is the judge: it counts what it bills, how many tasks run,
and how many requests come in a minute. Workers are processes of `benchmarks/_replica.py`, on a
PostgreSQL of their own that is made for this and removed, or in a database of their own on another
one. Exits with 1 when a case does not hold what it must. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from benchmarks._replicas_faults import freezes, kills, outages, restarts
from benchmarks._replicas_postgres import Cluster, cluster
from benchmarks._replicas_rows import JOBS, ROUNDS, Row, Scale
from benchmarks._replicas_steady import rate, throughput
from benchmarks._replicas_watch import database_of_its_own
from benchmarks._report import Table, verdict, write_json

CASES: Final = (1, 2, 3, 4, 5, 6)
REDIS: Final = "redis://127.0.0.1:6379/0"
QUICK: Final = Scale(jobs=60, rounds=1, is_quick=True)
TABLE: Final = Table({"case": 4, "what": -38, "holds": -5, "s": 5, "measured": -80})


@attrs.frozen(kw_only=True)
class Servers:
    """Where the cases have their databases."""

    postgres: str
    redis: str
    own: Cluster | None = None
    """PostgreSQL, if it is ours."""

    def cpu(self) -> float:
        """Seconds of CPU of PostgreSQL so far; 0 if it is not ours."""
        return 0.0 if self.own is None else self.own.cpu()


async def run(case: int, scale: Scale, servers: Servers, directory: Path) -> list[Row]:
    """The rows of one case."""
    place = directory / f"case{case}"
    if case == 3:
        with cluster() as stopped:  # the others need theirs
            return [await outages(scale, stopped, place)]
    if case == 5:
        return [await restarts(scale, place)]
    async with database_of_its_own(servers.postgres) as database:
        if case == 1:
            return [await throughput(scale, database, place, servers.cpu)]
        if case == 6:
            stores = {"PostgreSQL": database, "Redis": servers.redis}
            return [await rate(scale, name, url, place) for name, url in stores.items()]
        played = kills if case == 2 else freezes
        return [await played(scale, database, place)]


async def measure(
    cases: Sequence[int], scale: Scale, servers: Servers, directory: Path
) -> list[Row]:
    """Runs all cases, and prints a row for each: small ones side by side, large ones in turn."""
    TABLE.begin()
    rows: list[Row] = []
    at_once = asyncio.Semaphore(len(cases) if scale.is_quick else 1)

    async def take(case: int) -> None:
        async with at_once:
            found = await run(case, scale, servers, directory)
        for row in found:
            rows.append(row)
            tell(row)

    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(take(case))
    return sorted(rows, key=lambda row: row.case)


def tell(row: Row) -> None:
    """One row for people."""
    holds = "yes" if row.has_passed else "NO"
    TABLE.row(row.case, row.title, holds, f"{row.seconds:.0f}", "; ".join(row.facts))


def asked() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--cases", default=",".join(map(str, CASES)), metavar="NUMBERS")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="NUMBER", help="of case 1")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="NUMBER", help="of case 2")
    parser.add_argument("--quick", action="store_true", help="all is small, no times are judged")
    parser.add_argument("--postgres", metavar="URL", help="a server for all cases but the third")
    parser.add_argument("--redis", default=REDIS, metavar="URL")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="keep what processes log")
    return parser.parse_args()


def main() -> int:
    """Measures, prints, and judges."""
    given = asked()
    cases = sorted({int(case) for case in given.cases.split(",")})
    scale = QUICK if given.quick else Scale(jobs=given.jobs, rounds=given.rounds)
    # Whoever ends it early leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        own = None if given.postgres else stack.enter_context(cluster())
        if given.logs is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            directory = given.logs
            directory.mkdir(parents=True)
        postgres = given.postgres if own is None else own.url
        servers = Servers(postgres=postgres, redis=given.redis, own=own)
        rows = asyncio.run(measure(cases, scale, servers, directory))
    print(f"\nload average at the end {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if given.json is not None:
        write_json(given.json, [attrs.asdict(row) for row in rows])
    return verdict([complaint for row in rows for complaint in row.complaints])


if __name__ == "__main__":
    sys.exit(main())
