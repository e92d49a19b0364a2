"""A batch while it runs: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import click

from apixo_async.cli.progress import Figures, Progress, Traffic
from apixo_async.cli.text import counted, lasting, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

REFRESH: Final = 0.25
"""Seconds between two drawings."""
PLAIN_EVERY: Final = 5.0
"""Seconds between two plain lines ..."""
PLAIN_SHARE: Final = 0.1
"""... or this part of the batch, whatever comes first."""


class Display(Protocol):
    """Something that shows a batch. `tick` is called every `REFRESH` seconds of loop time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def tick(self, now: float) -> None:
        """Shows how far the batch is."""

    def note(self, line: str, *, is_bad: bool = False) -> None:
        """A line that stays: a failure, a warning."""

    def result(self, line: str) -> None:
        """A line of output proper."""


def counts_line(figures: Figures) -> str:
    """How many jobs are where; what has not happened is left out."""
    parts = [f"{figures.succeeded:,} succeeded", f"{figures.running:,} running"]
    maybe = {
        "saving": figures.saving,
        "queued": figures.queued,
        "failed": figures.failed,
        "timed out": figures.timed_out,
        "uncertain": figures.uncertain,
        "waiting for a callback": figures.doubtful,
    }
    parts += [f"{number:,} {word}" for word, number in maybe.items() if number]
    if figures.trouble:
        parts.append(f"trying again: {printable(figures.trouble)}")
    return " · ".join(parts)


def traffic_line(traffic: Traffic) -> str:
    """Both limits and how much of each is used."""
    clock = "" if traffic.speed == 1 else f" (clock x{traffic.speed:g})"
    line = (
        f"{traffic.requests_last_minute:,} of {traffic.requests_per_minute:,} requests in the "
        f"last minute{clock} · "
        f"{traffic.unfinished_tasks:,} of {traffic.task_cap:,} tasks unfinished"
    )
    if traffic.closed_for > 0:
        line += f" · the API asked for a pause of {lasting(traffic.closed_for)}"
    return line


def time_line(figures: Figures, elapsed: float) -> str:
    """How long it has taken, and what is known about the time left."""
    if figures.eta is None or figures.eta <= 0:  # the time that is usual is over
        return lasting(elapsed)
    return f"{lasting(elapsed)} · about {lasting(max(1.0, figures.eta))} left"


class LiveDisplay:
    """A progress bar and two lines at the bottom of a terminal; notes scroll above them."""

    def __init__(self, progress: Progress, traffic: Callable[[], Traffic | None]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress = progress
        self._traffic = traffic
        self._started: float | None = None
        self._console = Console(highlight=False)
        # Drawn from the event loop by `tick`: a thread would read numbers while they change.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def tick(self, now: float) -> None:
        """Draws."""
        self._started = now if self._started is None else self._started
        figures = self._progress.figures(datetime.now(UTC))
        drawn = draw(figures, self._traffic(), elapsed=now - self._started)
        self._live.update(drawn, refresh=True)

    def note(self, line: str, *, is_bad: bool = False) -> None:
        """A line above the bar."""
        from rich.text import Text

        self._console.print(Text(printable(line), style="red" if is_bad else ""), soft_wrap=True)

    def result(self, line: str) -> None:
        """A line above the bar."""
        self.note(line)


def draw(figures: Figures, traffic: Traffic | None, *, elapsed: float) -> RenderableType:
    """The live display of one moment."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    total = figures.total or 0
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True)
    bar = ProgressBar(total=max(total, 1), completed=figures.done)
    row.add_row(bar, f"{figures.done:,}/{total:,}", time_line(figures, elapsed))
    lines = [Text(counts_line(figures), no_wrap=True, overflow="ellipsis")]
    if traffic is not None:
        lines.append(Text(traffic_line(traffic), style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(row, *lines)


class PlainDisplay:
    """One line on stderr every few seconds or every tenth of the batch, and one for each note."""

    def __init__(self, progress: Progress, traffic: Callable[[], Traffic | None]) -> None:
        self._progress = progress
        self._traffic = traffic
        self._started: float | None = None
        self._last_time = 0.0
        self._last_share = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def tick(self, now: float) -> None:
        """Writes a line if it is time for one."""
        figures = self._progress.figures(datetime.now(UTC))
        if self._started is None:
            self._started = self._last_time = now
        is_time = now - self._last_time >= PLAIN_EVERY
        if not is_time and figures.share - self._last_share < PLAIN_SHARE:
            return
        self._last_time, self._last_share = now, figures.share
        jobs = f"{figures.done:,} of {counted(figures.total or 0, 'job')}"
        parts = [jobs, counts_line(figures), time_line(figures, now - self._started)]
        click.echo(" · ".join(parts), err=True)

    def note(self, line: str, *, is_bad: bool = False) -> None:  # noqa: ARG002  # no colours here
        """A line of its own."""
        click.echo(printable(line), err=True)

    def result(self, line: str) -> None:
        """A line on standard output, which is for results alone."""
        click.echo(line)


def open_display(
    progress: Progress, traffic: Callable[[], Traffic | None], *, as_json: bool
) -> Display:
    """The display that suits where standard output goes; JSON lines leave no room for a bar."""
    if not as_json and sys.stdout.isatty():
        from rich.console import Console

        if not Console().is_dumb_terminal:
            return LiveDisplay(progress, traffic)
    return PlainDisplay(progress, traffic)
