"""A batch while it runs: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TextIO

import click

from apixo_async.cli.board import (
    DOT,
    board_lines,
    cost_text,
    left_text,
    outcomes_text,
    rate_text,
    waits,
)
from apixo_async.cli.figures import Figures, Traffic
from apixo_async.cli.progress import Progress
from apixo_async.cli.text import counted, lasting, printable

REFRESH: Final = 0.25
"""Seconds between two drawings."""
PLAIN_EVERY: Final = 5.0
"""Seconds between two plain lines at the beginning, ..."""
PLAIN_PART: Final = 12
"""... later this part of the time so far, ..."""
PLAIN_RAREST: Final = 60.0
"""... at most a minute; ..."""
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

    @property
    def width(self) -> int | None:
        """Columns that a note has; `None` where lines are as long as they like."""

    def tick(self, now: float) -> None:
        """Shows how far the batch is."""

    def note(self, line: str, *, is_bad: bool = False) -> None:
        """A line that stays: a failure, a warning."""

    def result(self, line: str) -> None:
        """A line of output proper."""


def plain_line(figures: Figures, traffic: Traffic | None, elapsed: float) -> str:
    """All figures as one line of a log; what has not happened is left out."""
    parts = [f"{figures.done:,} of {counted(figures.total or 0, 'job')}"]
    counts = {"running": figures.running, "saving": figures.saving, "queued": figures.queued}
    parts += [outcomes_text(figures)]
    parts += [f"{number:,} {word}" for word, number in counts.items() if number]
    parts += [lasting(elapsed), left_text(figures), rate_text(figures), cost_text(figures)]
    parts += [f"{name}: {why}" for name, why in waits(figures, traffic)]
    return DOT.join(filter(None, parts))


def plain_pause(elapsed: float) -> float:
    """Seconds between two lines of a log: the longer it takes, the rarer they are."""
    return min(PLAIN_RAREST, max(PLAIN_EVERY, elapsed / PLAIN_PART))


class LiveDisplay:
    """The board at the bottom of a terminal; notes scroll above it."""

    def __init__(
        self,
        progress: Progress,
        traffic: Callable[[], Traffic | None],
        *,
        to_stderr: bool = False,
    ) -> None:
        from apixo_async.cli.screen import Screen

        self._progress = progress
        self._traffic = traffic
        self._started: float | None = None
        self._screen = Screen(to_stderr=to_stderr)
        self._to_stderr = to_stderr

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._screen.__exit__(exc_type, exc, traceback)

    @property
    def width(self) -> int | None:
        """That of the terminal at this moment."""
        return self._screen.console.width

    def tick(self, now: float) -> None:
        """Draws."""
        self._started = now if self._started is None else self._started
        traffic = self._traffic()
        figures = self._progress.figures(datetime.now(UTC), traffic)
        lines = board_lines(
            figures,
            traffic,
            elapsed=now - self._started,
            width=self._screen.width,
            height=self._screen.height,
        )
        self._screen.draw(lines)

    def note(self, line: str, *, is_bad: bool = False) -> None:
        """A line above the board."""
        self._screen.print(line, "bad" if is_bad else "")

    def result(self, line: str) -> None:
        """A line above the board, or into the file that results go to."""
        if self._to_stderr:
            click.echo(line)
        else:
            self.note(line)


class PlainDisplay:
    """A line on stderr now and then and at every tenth of the batch, and one for each note."""

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

    @property
    def width(self) -> int | None:
        """Nobody folds a log."""
        return None

    def tick(self, now: float) -> None:
        """Writes a line if it is time for one."""
        traffic = self._traffic()
        figures = self._progress.figures(datetime.now(UTC), traffic)
        if self._started is None:
            self._started = self._last_time = now
        is_time = now - self._last_time >= plain_pause(now - self._started)
        if not is_time and figures.share - self._last_share < PLAIN_SHARE:
            return
        self._last_time, self._last_share = now, figures.share
        click.echo(plain_line(figures, traffic, now - self._started), err=True)

    def note(self, line: str, *, is_bad: bool = False) -> None:  # noqa: ARG002  # no colours here
        """A line of its own."""
        click.echo(printable(line), err=True)

    def result(self, line: str) -> None:
        """A line on standard output, which is for results alone."""
        click.echo(line)


def open_display(
    progress: Progress, traffic: Callable[[], Traffic | None], *, as_json: bool
) -> Display:
    """The display that suits where output goes.

    The board is drawn where results leave room for it: on standard output, or on standard error
    where standard output is a file. A pipe may end on the same terminal, so beside one there are
    lines, and so there are in a log.
    """
    where = board_place(
        stdout=is_drawable(sys.stdout),
        stderr=is_drawable(sys.stderr),
        is_file=_is_file(sys.stdout),
        is_log=is_log(),
        as_json=as_json,
    )
    if where is None:
        return PlainDisplay(progress, traffic)
    return LiveDisplay(progress, traffic, to_stderr=where == "stderr")


def board_place(
    *, stdout: bool, stderr: bool, is_file: bool, is_log: bool, as_json: bool
) -> Literal["stdout", "stderr"] | None:
    """Where the board is drawn, `None` for nowhere.

    `stdout` and `stderr` say what is a terminal that can draw, `is_file` that standard output goes
    to a file, `is_log` that somebody keeps all that is written.
    """
    if is_log:
        return None
    if stdout:
        return None if as_json else "stdout"
    return "stderr" if stderr and is_file else None


def is_log() -> bool:
    """Whether this runs in continuous integration, which may look like a terminal and is a log."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # no file at all, as under a test
        return False


def is_drawable(stream: TextIO) -> bool:
    """Whether a terminal that can draw in place shows this stream."""
    if not stream.isatty():
        return False
    from rich.console import Console

    return not Console(file=stream).is_dumb_terminal
