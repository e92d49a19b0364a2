"""What the simulations share in talking to people: schedules by name, options, files, verdicts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def options(
    description: str | None, *, jobs: int | None = None, names: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """The options that the simulations have in common."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    if jobs is not None:
        parser.add_argument("--jobs", type=int, default=jobs, metavar="NUMBER")
        parser.add_argument(
            "--only",
            action="append",
            choices=sorted(names),
            help="leave out all other schedules; may be given several times",
        )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw them there")
    return parser


def chosen(names: Iterable[str], only: Collection[str] | None) -> list[str]:
    """Those that were asked for, in our order."""
    return [name for name in names if not only or name in only]


def in_parallel(measure: Callable[..., T], *arguments: Iterable[Any]) -> Iterator[T]:
    """Results in order, each as soon as it is there; every core has a run of its own."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(measure, *arguments)


@attrs.frozen
class Table:
    """A table that is Markdown, so that it can stand in the docs as it is printed.

    `columns` are names and widths; a negative width puts its cells to the left.
    """

    columns: Mapping[str, int]

    def begin(self) -> None:
        """Prints the head."""
        self.row(*self.columns)
        widths = self.columns.values()
        rules = ("-" * (abs(width) + 1) + (":" if width > 0 else "-") for width in widths)
        print(f"|{'|'.join(rules)}|")

    def row(self, *cells: object) -> None:
        """Prints one row."""
        shown = [
            f"{cell!s:{'<' if width < 0 else '>'}{abs(width)}}"
            for cell, width in zip(cells, self.columns.values(), strict=True)
        ]
        print(f"| {' | '.join(shown)} |", flush=True)


def write_json(path: Path, figures: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
    """Keeps the figures in a file."""
    path.write_text(json.dumps(figures, indent=2) + "\n")


def verdict(complaints: Sequence[str]) -> int:
    """Says what is not good enough; the exit code."""
    for complaint in complaints:
        print(f"NOT GOOD ENOUGH: {complaint}", file=sys.stderr)
    return 1 if complaints else 0
