"""What one status call costs in instructions of the processor: the same figure on a busy machine.

    python -m benchmarks.instructions [--json FILE] [--plot PNG]

Counted by valgrind's callgrind in two processes that make different numbers of calls, 50 in flight;
the difference is what the calls cost, without starting. What the system does for the sockets is not
counted. Without valgrind nothing is measured. Exits with 1 when ours needs more than 1.15 times the
instructions of bare aiohttp with the extra `speed`, or more than 1.2 times without.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import attrs

from benchmarks._clients import BARE, OURS, PLAIN
from benchmarks._plot import Panel, dots
from benchmarks._report import Table, options, verdict, write_json
from benchmarks._server import server

CALLS: Final = (500, 2_500)
MOST: Final = {OURS: 1.15, PLAIN: 1.2}
_COLLECTED: Final = re.compile(r"Collected : (\d+)")


@attrs.frozen
class Figure:
    """Instructions of one call."""

    client: str
    ratio: float
    instructions: int


def counted(client: str, calls: int, origin: str) -> int:
    """Instructions of a process that makes so many calls."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind"]
        command += [f"--callgrind-out-file={directory}/out", sys.executable]
        command += ["-m", "benchmarks._clients", client, str(calls), origin]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = _COLLECTED.search(done.stderr)
    assert found is not None
    return int(found[1])


def measure() -> list[Figure]:
    """The figures of one run."""
    clients = (BARE, OURS, PLAIN)
    with server() as origin, ThreadPoolExecutor(os.cpu_count()) as pool:
        few, many = (
            list(pool.map(lambda client, calls=calls: counted(client, calls, origin), clients))
            for calls in CALLS
        )
    costs = [(most - least) // (CALLS[1] - CALLS[0]) for least, most in zip(few, many, strict=True)]
    return [
        Figure(client, cost / costs[0], cost) for client, cost in zip(clients, costs, strict=True)
    ]


def complaints(figures: Sequence[Figure]) -> list[str]:
    """What is not as it should be."""
    return [
        f"{one.client}: {one.ratio:.3f} x bare aiohttp, more than {MOST[one.client]}"
        for one in figures
        if one.client in MOST and one.ratio > MOST[one.client]
    ]


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__).parse_args()
    if shutil.which("valgrind") is None:
        print("left out: valgrind is not installed")
        return 0
    figures = measure()
    table = Table({"client": -34, "ratio": 6, "instructions": 12})
    table.begin()
    for one in figures:
        table.row(one.client, f"{one.ratio:.3f}", f"{one.instructions:,}")
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(one) for one in figures])
    if asked.plot is not None:
        values = {(one.client, "instructions"): one.ratio for one in figures}
        title = "Instructions of one status call, bare aiohttp = 1"
        dots(asked.plot, [Panel(title=title, values=values, goal=1.15, goal_name="our limit")])
    return verdict(complaints(figures))


if __name__ == "__main__":
    sys.exit(main())
