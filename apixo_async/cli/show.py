"""`apixo show`: what a journal says, also while another process writes it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from apixo_async.cli import journals
from apixo_async.cli.guards import price
from apixo_async.cli.helping import Verb
from apixo_async.cli.options import Number, as_json
from apixo_async.cli.text import printable, terminal_width

if TYPE_CHECKING:
    from apixo_async.batch.journal.overview import Overview
    from apixo_async.batch.journal.reading import JournalReader
    from apixo_async.batch.spending import Prices
    from apixo_async.cli.followed import Times

REDRAW: Final = 0.25
"""Seconds between two drawings."""
SHARE: Final = 0.25
"""The most of the time that following spends on reading: a long journal is read less often."""


@click.command(
    cls=Verb,
    short_help="Show how far a batch is, or how it ended.",
    example="apixo show run.db --follow",
    then=(
        ("apixo resume RUN.DB", "go on with what has not ended"),
        ("apixo settle RUN.DB KEY", "decide about what is uncertain"),
        ("apixo export RUN.DB", "a receipt for every job"),
    ),
)
@journals.argument
@price
@click.option("--follow", is_flag=True, help="Go on showing until the batch's process has ended.")
@click.option(
    "--every",
    type=Number(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --follow looks.",
)
@as_json
def show(*, journal: Path, prices: Prices, follow: bool, every: float, as_json: bool) -> None:
    """Show what JOURNAL says: counts, costs, times, what failed, what is uncertain.

    Works while another process writes the journal, and after a crash. Nothing is changed and no
    network is used. Without --price the prices count that the batch was started with.
    """
    with journals.reading(journal) as reader:
        if not prices:
            prices = _noted_prices(reader)
        if follow:
            _follow(reader, prices, every=every, as_json=as_json)
        else:
            _print(reader.overview(prices), journal, as_json=as_json)


def _noted_prices(reader: JournalReader) -> Prices:
    from apixo_async.batch.spending import Prices

    return Prices(reader.options().get("prices") or {})


def _print(overview: Overview, journal: Path, *, as_json: bool) -> None:
    from apixo_async.cli.shown import show_lines
    from apixo_async.cli.shown_json import show_as_json

    if as_json:
        click.echo(json.dumps(show_as_json(overview, journal=journal)))
        return
    again = journals.said_again(overview.base_url, is_emulated=overview.is_emulated)
    for line in show_lines(overview, journal=journal, width=terminal_width(), again=again):
        click.echo(line)


# Following


def _follow(reader: JournalReader, prices: Prices, *, every: float, as_json: bool) -> None:
    """Until the owner has ended or somebody presses Ctrl-C, which is no failure here."""
    from apixo_async.cli.display import is_drawable, is_log

    looks = changes(reader, prices, every=every)
    try:
        if as_json:
            for overview in looks:
                _print(overview, reader.path, as_json=True)
            return
        if is_drawable(sys.stdout) and not is_log():
            last = _Follower(reader, prices).follow(every)
        else:
            last = _print_lines(looks)
    except KeyboardInterrupt:
        return
    if last is not None:
        _print(last, reader.path, as_json=False)
        if last.owner is None:
            click.echo(_end_line(last, reader.path), err=True)


def changes(
    reader: JournalReader,
    prices: Prices,
    *,
    every: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Overview]:
    """An overview now, and one whenever something has changed; the last is of an end.

    `every` is in seconds; where reading takes long, pauses are longer.
    """
    version, owner = None, None
    while True:
        began = time.monotonic()
        # The owner first: when it has ended, what is read then is all there is.
        seen = reader.version(), reader.owner
        if seen != (version, owner):
            version, owner = seen
            overview = reader.overview(prices)
            yield overview
            if overview.owner is None:
                return
        sleep(max(every, (time.monotonic() - began) * (1 / SHARE - 1)))


class _Follower:
    """Draws what the owner of a journal has done so far, and goes on counting between two looks."""

    def __init__(self, reader: JournalReader, prices: Prices) -> None:
        from apixo_async.cli.followed import task_cap
        from apixo_async.cli.screen import Screen

        self._reader = reader
        self._prices = prices
        self._cap = task_cap(reader.options())
        self._screen = Screen(is_whole=True)
        self._overview: Overview | None = None
        self._times: Times | None = None

    def follow(self, every: float) -> Overview | None:
        """Until the owner has ended, or somebody presses Ctrl-C; returns what was seen last."""
        looks = changes(self._reader, self._prices, every=every, sleep=self._sleep)
        with suppress(KeyboardInterrupt), self._screen:
            for overview in looks:
                self._take(overview)
        return self._overview

    def _take(self, overview: Overview) -> None:
        from apixo_async.cli.followed import Times

        self._overview = overview
        if overview.owner is not None:
            self._times = Times.of(self._reader.entries())
            self._draw()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, REDRAW))
            self._draw()

    def _draw(self) -> None:
        from apixo_async.cli.board import board_lines
        from apixo_async.cli.followed import figures_of

        if self._overview is None or self._times is None:
            return
        now, began = datetime.now(UTC), self._times.began
        figures = figures_of(self._overview, self._times, self._prices, now=now, cap=self._cap)
        lines = board_lines(
            figures,
            None,
            cap=self._cap,
            elapsed=None if began is None else max(0.0, (now - began).total_seconds()),
            width=self._screen.width,
            height=self._screen.height,
        )
        self._screen.draw(lines)


def _end_line(overview: Overview, journal: Path) -> str:
    """Why there is nothing more to follow."""
    name = printable(str(journal))
    if overview.has_crashed:
        return f"nobody runs {name} any more: its process ended without closing it"
    return f"nobody runs {name} any more"


def _print_lines(looks: Iterator[Overview]) -> Overview | None:
    """A line for each change; returns what was seen last."""
    from apixo_async.cli.shown import sum_line

    overview, last = None, None
    for overview in looks:
        line = sum_line(overview)
        if line != last and overview.owner is not None:
            click.echo(line)
        last = line
    return overview
