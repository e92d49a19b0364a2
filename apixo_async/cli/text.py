"""Words for people: numbers, times, and text from elsewhere made safe for a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3_600
NARROWEST: Final = 20
"""Characters that an indent leaves to the text."""


def printable(text: str) -> str:
    """`text` without anything that could steer a terminal; line breaks become spaces."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else " "
        if character.isspace()
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters."""
    clean = printable(text)
    return clean if len(clean) <= width else f"{clean[: width - 1]}\N{HORIZONTAL ELLIPSIS}"


def counted(number: int, noun: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def lasting(seconds: float) -> str:
    """A time span to read: `7 s`, `2 min 05 s`, `1 h 04 min`."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"


def sized(number: int) -> str:
    """A size to read: `812 B`, `1.4 MB`."""
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004  # the step from one unit to the next
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def table(rows: Sequence[Sequence[str]], *, numbers_from: int) -> Iterator[str]:
    """Rows as lines with aligned columns; those from `numbers_from` on are pushed to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if at >= numbers_from else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def folded(line: str, width: int | None, *, indent: int = 2) -> Iterator[str]:
    """A line as several of at most `width` characters, broken between words where that can be.

    `None` is any width. Where so little room is left, the indent of later lines is smaller.
    """
    if width is None or len(line) <= width:
        yield line
        return
    later = " " * min(indent, max(0, width - NARROWEST))
    yield from textwrap.wrap(
        line, max(1, width), subsequent_indent=later, break_on_hyphens=False, drop_whitespace=True
    ) or [""]


def terminal_width() -> int | None:
    """The characters in a line of the terminal that reads our output; `None` if none does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
