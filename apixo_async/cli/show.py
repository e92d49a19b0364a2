"""`apixo show`: what a journal says, also while another process writes it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from apixo_async.cli import journals
from apixo_async.cli.guards import price
from apixo_async.cli.options import as_json
from apixo_async.cli.text import terminal_width

if TYPE_CHECKING:
    from apixo_async.batch.journal.overview import Overview
    from apixo_async.batch.journal.reading import JournalReader
    from apixo_async.batch.spending import Prices

SHARE: Final = 0.25
"""The most of the time that following spends on reading: a long journal is read less often."""


@click.command(short_help="Show how far a batch is, or how it ended.")
@journals.argument
@price
@click.option("--follow", is_flag=True, help="Go on showing until the batch's process has ended.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
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
    for line in show_lines(overview, journal=journal, width=terminal_width()):
        click.echo(line)


# Following


def _follow(reader: JournalReader, prices: Prices, *, every: float, as_json: bool) -> None:
    """Until the owner has ended or somebody presses Ctrl-C, which is no failure here."""
    looks = changes(reader, prices, every=every)
    try:
        if as_json:
            for overview in looks:
                _print(overview, reader.path, as_json=True)
        elif _is_drawable():
            _draw(looks, reader.path)
        else:
            _print_lines(looks, reader.path)
    except KeyboardInterrupt:
        return


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


def _is_drawable() -> bool:
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    return not Console().is_dumb_terminal


def _draw(looks: Iterator[Overview], journal: Path) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from apixo_async.cli.shown import show_lines

    text, overview = Text(), None
    try:
        with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
            for overview in looks:
                lines = show_lines(overview, journal=journal, width=live.console.width)
                text = Text("\n".join(lines), overflow="fold")
                live.update(text, refresh=True)
    finally:
        if overview is not None:
            _print(overview, journal, as_json=False)


def _print_lines(looks: Iterator[Overview], journal: Path) -> None:
    from apixo_async.cli.shown import sum_line

    overview, last = None, None
    for overview in looks:
        line = sum_line(overview)
        if line != last and overview.owner is not None:
            click.echo(line)
        last = line
    if overview is not None:
        _print(overview, journal, as_json=False)
