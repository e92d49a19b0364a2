"""Words for people: numbers, times, and text from elsewhere made safe for a terminal."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3_600
NARROWEST: Final = 20
"""Columns that an indent leaves to the text."""


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


def columns(text: str) -> int:
    """How many columns of a terminal printable text takes: some characters take two, or none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns."""
    clean = printable(text)
    if columns(clean) <= width:
        return clean
    return f"{_beginning(clean, width - 1)}\N{HORIZONTAL ELLIPSIS}" if width > 0 else ""


def _beginning(text: str, width: int) -> str:
    """As much of the text as fits into `width` columns."""
    if text.isascii():
        return text[: max(0, width)]
    at = taken = 0
    for at, character in enumerate(text):
        taken += columns(character)
        if taken > width:
            return text[:at]
    return text


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
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            " " * (width - columns(cell)) + cell if at >= numbers_from else padded(cell, width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def padded(text: str, width: int) -> str:
    """`text` with blanks up to `width` columns."""
    return text + " " * (width - columns(text))


def folded(line: str, width: int | None, *, indent: int = 2) -> Iterator[str]:
    """A line as several of at most `width` columns, broken between words where that can be.

    `None` is any width. Where so little room is left, the indent of later lines is smaller.
    """
    if width is None or columns(line) <= width:
        yield line
        return
    width = max(1, width)
    later = " " * min(indent, max(0, width - NARROWEST))
    if line.isascii():
        yield from textwrap.wrap(
            line, width, subsequent_indent=later, break_on_hyphens=False, drop_whitespace=True
        ) or [""]
        return
    yield from _folded_wide(line, width, later)


def _folded_wide(line: str, width: int, later: str) -> Iterator[str]:
    """As `textwrap`, which counts characters and not columns."""
    begun = ""
    for word in re.split(r"(?<=\S)(?=\s)", line):
        if columns(begun + word) <= width:
            begun += word
            continue
        if begun.strip():
            yield begun.rstrip()
            begun, word = later, word.lstrip()  # noqa: PLW2901  # the blank was the break
        while columns(begun + word) > width:
            part = _beginning(word, width - columns(begun)) or word[0]
            yield begun + part
            begun, word = later, word[len(part) :]  # noqa: PLW2901  # what is left of it
        begun += word
    if begun.strip():
        yield begun.rstrip()


def noted(line: str, width: int) -> Iterator[str]:
    """A line that stays on a terminal, broken only where that spoils nothing.

    A long word and a command at the end are whole, for the terminal to fold: so they can be copied.
    """
    said, blank, command = line.partition(" apixo ")
    words = said.split(" ") + [f"apixo {command}"] * bool(blank)
    begun = words[0]
    for word in words[1:]:
        if columns(begun) + 1 + columns(word) <= width:
            begun += f" {word}"
        else:
            yield begun
            begun = f"  {word}"
    yield begun


def terminal_width() -> int | None:
    """The characters in a line of the terminal that reads our output; `None` if none does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
