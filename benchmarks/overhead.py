"""What one status call and one whole job cost in CPU, and whether 1,000 calls at once get through.

    python -m benchmarks.overhead [--json FILE] [--plot PNG]

A server in a process of its own answers each client in its own format. All are measured in one run,
in rounds that take turns, so that a busy machine is equally unkind to each; SDKs of other vendors
take part if they are installed (`make bench-peers`). Exits with 1 when a status call of ours needs
more than 1.15 times the CPU of bare aiohttp at 50 in flight, a job more than 5 ms, or when 1,000
calls at once take more than 3.5 s or fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks._clients import BARE, CLIENTS, FAST, OURS, PACKAGES, PLAIN, cpu_of, use_orjson
from benchmarks._jobs import JOBS, cpu_of_job
from benchmarks._plot import Panel, dots
from benchmarks._report import Table, options, verdict, write_json
from benchmarks._server import LATENCY, LOOKS, TASKS, server

MOST_CPU: Final = 1.15
MOST_SECONDS: Final = 3.5
MOST_JOB_MS: Final = 5.0
JOB_COUNT: Final = 2_000
JOB_ROUNDS: Final = 3


@attrs.frozen
class Load:
    """How much is measured at one number of calls in flight.

    Calls are those of one round: few, so that all clients meet the same weather and no connection
    gets too old. The slow clients take part in some of the rounds.
    """

    in_flight: int
    rounds: int
    calls: int
    slow_rounds: int
    slow_calls: int

    def takes_part(self, name: str, number: int) -> bool:
        """Whether the client is measured in this round."""
        return name in FAST or number % (self.rounds // self.slow_rounds) == 0


LOADS: Final = (
    Load(1, rounds=21, calls=300, slow_rounds=7, slow_calls=60),
    Load(50, rounds=31, calls=500, slow_rounds=6, slow_calls=100),
    Load(1_000, rounds=9, calls=2_000, slow_rounds=1, slow_calls=1_000),
)
JUDGED: Final = 50


@attrs.frozen
class Figure:
    """CPU microseconds of one call, and how it compares with bare aiohttp in the same rounds."""

    client: str
    in_flight: int
    ratio: float
    cpu_us: float
    errors: int
    rounds_us: Sequence[float]


@attrs.frozen
class AtOnce:
    """How a fresh client's 1,000 calls at once went: seconds of wall time, and how many failed."""

    client: str
    seconds: float
    errors: int


@attrs.frozen
class JobFigure:
    """CPU milliseconds of one whole job: a submit, its looks and the outcome."""

    way: str
    ratio: float
    cpu_ms: float
    rounds_ms: Sequence[float]


# CPU of one call


async def measure_cpu(origin: str, load: Load, names: Iterable[str]) -> list[Figure]:
    """The figures of all clients; their order changes from round to round."""
    rounds: dict[str, dict[int, float]] = defaultdict(dict)
    errors: dict[str, int] = defaultdict(int)
    async with contextlib.AsyncExitStack() as stack:
        calls = {name: await stack.enter_async_context(CLIENTS[name](origin)) for name in names}
        for number in range(load.rounds):
            for name in calls if number % 2 else reversed(calls):
                if not load.takes_part(name, number):
                    continue
                use_orjson(wanted=name != PLAIN)
                if name in FAST or number == 0:  # connections, caches
                    await cpu_of(calls[name], load.in_flight, load.in_flight)
                count = load.calls if name in FAST else load.slow_calls
                rounds[name][number], failed = await cpu_of(calls[name], count, load.in_flight)
                errors[name] += failed
    return [figure(name, load, rounds, errors[name]) for name in calls]


def figure(name: str, load: Load, rounds: dict[str, dict[int, float]], errors: int) -> Figure:
    """One client's figures, from its rounds and those of bare aiohttp."""
    mine = rounds[name]
    ratio = statistics.median(cpu / rounds[BARE][number] for number, cpu in mine.items())
    cpu = statistics.median(mine.values())
    return Figure(name, load.in_flight, ratio, cpu, errors, list(mine.values()))


async def measure_at_once(origin: str, name: str) -> AtOnce:
    """A fresh client makes all calls at once."""
    use_orjson(wanted=name != PLAIN)
    async with CLIENTS[name](f"{origin}/slow") as call:
        started = time.perf_counter()
        results = await asyncio.gather(*map(call, TASKS), return_exceptions=True)
        seconds = time.perf_counter() - started
    return AtOnce(name, seconds, sum(isinstance(result, BaseException) for result in results))


# CPU of one job


def measure_jobs(origin: str) -> list[JobFigure]:
    """All ways to run jobs, in rounds."""
    use_orjson(wanted=True)
    rounds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        for _, name in itertools.product(range(JOB_ROUNDS), JOBS):
            rounds[name].append(cpu_of_job(name, origin, JOB_COUNT, Path(directory)))
    plain = rounds[next(iter(JOBS))]
    return [
        JobFigure(
            name,
            statistics.median(cpu / bare for cpu, bare in zip(mine, plain, strict=True)),
            statistics.median(mine),
            mine,
        )
        for name, mine in rounds.items()
    ]


# All together


async def installed(origin: str) -> list[str]:
    """The clients that can be measured here; says which cannot."""
    found: list[str] = []
    for name, client in CLIENTS.items():
        try:
            async with client(origin):
                found.append(name)
        except ImportError as error:
            print(f"left out: {name} ({error}; see `make bench-peers`)")
    return found


@attrs.frozen
class Result:
    """All figures of one run."""

    calls: Sequence[Figure]
    at_once: Sequence[AtOnce]
    jobs: Sequence[JobFigure]

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found = [
            f"a status call costs {one.ratio:.2f} x bare aiohttp, more than {MOST_CPU}"
            for one in self.calls
            if one.client == OURS and one.in_flight == JUDGED and one.ratio > MOST_CPU
        ]
        found += [
            f"1,000 calls at once took {run.seconds:.1f} s with {run.errors} errors"
            for run in self.at_once
            if run.client == OURS and (run.seconds > MOST_SECONDS or run.errors)
        ]
        dearest = max(job.cpu_ms for job in self.jobs)
        if dearest > MOST_JOB_MS:
            found.append(f"a job costs {dearest:.1f} ms of CPU, more than {MOST_JOB_MS}")
        return found

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"python": platform.python_version(), "versions": versions(), **attrs.asdict(self)}


def versions() -> dict[str, str]:
    """Of what was measured and is installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def measure() -> Result:
    """One whole run; prints the tables as they are filled."""
    with server() as origin:
        names = asyncio.run(installed(origin))
        table = Table({"in flight": 9, "client": -34, "ratio": 6, "CPU us": 7, "errors": 6})
        table.begin()
        calls: list[Figure] = []
        for load in LOADS:
            for one in asyncio.run(measure_cpu(origin, load, names)):
                calls.append(one)
                table.row(
                    f"{one.in_flight:,}",
                    one.client,
                    f"{one.ratio:.2f}",
                    f"{one.cpu_us:.0f}",
                    one.errors,
                )
        print(f"\n1,000 calls at once, answered after {LATENCY} s")
        table = Table({"client": -34, "seconds": 7, "errors": 6})
        table.begin()
        at_once: list[AtOnce] = []
        for name in names:
            run = asyncio.run(measure_at_once(origin, name))
            at_once.append(run)
            table.row(name, f"{run.seconds:.1f}", run.errors)
        print(f"\none job: a submit, {LOOKS} looks, the outcome; 1,000 jobs in flight")
        table = Table({"way": -34, "ratio": 6, "CPU ms": 7})
        table.begin()
        jobs = measure_jobs(origin)
        for job in jobs:
            table.row(job.way, f"{job.ratio:.2f}", f"{job.cpu_ms:.2f}")
    return Result(calls, at_once, jobs)


def draw(result: Result, path: Path) -> None:
    """The ratios of all clients."""
    values = {(one.client, f"{one.in_flight:,} in flight"): one.ratio for one in result.calls}
    title = "CPU of one status call, bare aiohttp = 1 (logarithmic)"
    dots(
        path, [Panel(title=title, values=values, goal=MOST_CPU, goal_name="our limit", is_log=True)]
    )


def allow_connections() -> None:
    """Lets this process and the server have a file descriptor for each call in flight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__).parse_args()
    allow_connections()
    result = measure()
    if asked.json is not None:
        write_json(asked.json, result.as_json())
    if asked.plot is not None:
        draw(result, asked.plot)
    return verdict(result.complaints())


if __name__ == "__main__":
    sys.exit(main())
