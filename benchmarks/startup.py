"""How long a fresh process needs until it can begin: imports and `apixo --help`.

    python -m benchmarks.startup [--json FILE] [--plot PNG]

Each figure is the median over fresh processes that take turns, less the median of an interpreter
that does nothing. Counted is CPU time, user and system, which others on the machine disturb least.
Exits with 1 when our client, imported or made, needs more than 60 ms more than aiohttp, when
`apixo --help` needs more than 150 ms, or when it imports aiohttp.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs

from benchmarks._plot import Panel, dots
from benchmarks._report import Table, options, verdict, write_json

ROUNDS: Final = 21
MOST_ABOVE_AIOHTTP: Final = 60.0
MOST_HELP: Final = 150.0

NOTHING: Final = "pass"
AIOHTTP: Final = "import aiohttp"
HELP: Final = "apixo --help"
OURS: Final = ("import apixo_async", "from apixo_async import ApixoClient")
MADE: Final = "ApixoClient(key)"
"""With what is only imported when the first client is made."""
PEERS: Final = ("openai", "google.genai", "runwayml", "lumaai", "replicate", "fal_client")


@attrs.frozen
class Figure:
    """One way to start. Milliseconds and modules are those beyond a bare interpreter's."""

    what: str
    ratio: float
    cpu_ms: float
    wall_ms: float
    modules: int
    imports_aiohttp: bool


def command(what: str, *options: str) -> list[str]:
    """The command line of a fresh process."""
    if what == HELP:
        return [sys.executable, "-I", *options, "-m", "apixo_async.cli", "--help"]
    code = f"{OURS[-1]}; ApixoClient('key')" if what == MADE else what
    return [sys.executable, "-I", *options, "-c", code]


def started(what: str) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time of one process."""
    began = time.perf_counter()
    # Output goes nowhere, so that nothing is waited for but the process.
    with subprocess.Popen(command(what), stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    assert process.returncode == 0, what
    return 1e3 * (used.ru_utime + used.ru_stime), 1e3 * wall


def modules(what: str) -> set[str]:
    """All modules that such a process imports."""
    done = subprocess.run(
        command(what, "-X", "importtime"), check=True, capture_output=True, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def is_there(package: str) -> bool:
    """Whether a package is installed."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def measure() -> list[Figure]:
    """All figures of one run."""
    peers = [f"import {name}" for name in PEERS if is_there(name)]
    ways = [NOTHING, AIOHTTP, *OURS, MADE, HELP, *peers]
    rounds: dict[str, list[tuple[float, float]]] = {what: [] for what in ways}
    for what in ways:  # byte code, the system's cache of files
        started(what)
    for number in range(ROUNDS):
        for what in ways if number % 2 else reversed(ways):
            rounds[what].append(started(what))
    found = {what: modules(what) for what in ways}
    cpu = {what: statistics.median(cpu for cpu, _ in rounds[what]) for what in ways}
    wall = {what: statistics.median(wall for _, wall in rounds[what]) for what in ways}
    aiohttp = cpu[AIOHTTP] - cpu[NOTHING]
    return [
        Figure(
            what,
            (cpu[what] - cpu[NOTHING]) / aiohttp,
            cpu[what] - cpu[NOTHING],
            wall[what] - wall[NOTHING],
            len(found[what] - found[NOTHING]),
            "aiohttp" in found[what],
        )
        for what in ways
        if what != NOTHING
    ]


def complaints(figures: Sequence[Figure]) -> list[str]:
    """What is not as it should be."""
    by_name = {figure.what: figure for figure in figures}
    shown: list[str] = []
    for what in (*OURS, MADE):
        above = by_name[what].cpu_ms - by_name[AIOHTTP].cpu_ms
        if above > MOST_ABOVE_AIOHTTP:
            shown.append(f"{what!r} takes {above:.0f} ms more than aiohttp")
    if by_name[HELP].cpu_ms > MOST_HELP:
        shown.append(f"{HELP} takes {by_name[HELP].cpu_ms:.0f} ms, more than {MOST_HELP:.0f}")
    if by_name[HELP].imports_aiohttp:
        shown.append(f"{HELP} imports aiohttp")
    return shown


def tell(figures: Sequence[Figure]) -> None:
    """Prints the table."""
    table = Table({"process": -35, "ratio": 6, "CPU ms": 7, "wall ms": 7, "modules": 7})
    table.begin()
    for one in figures:
        table.row(
            one.what, f"{one.ratio:.2f}", f"{one.cpu_ms:.0f}", f"{one.wall_ms:.0f}", one.modules
        )


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Times and modules."""
    times = {(one.what, "beyond a bare interpreter"): one.cpu_ms for one in figures}
    counts = {(one.what, "beyond a bare interpreter"): float(one.modules) for one in figures}
    dots(path, [Panel(title="CPU ms", values=times), Panel(title="modules", values=counts)])


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__).parse_args()
    figures = measure()
    tell(figures)
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(figure) for figure in figures])
    if asked.plot is not None:
        draw(figures, asked.plot)
    return verdict(complaints(figures))


if __name__ == "__main__":
    sys.exit(main())
