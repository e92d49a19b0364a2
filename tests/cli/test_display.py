from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from apixo_async.cli.display import (
    PLAIN_EVERY,
    PlainDisplay,
    counts_line,
    draw,
    time_line,
    traffic_line,
)
from apixo_async.cli.progress import Figures, Traffic

FIGURES = {
    "total": 200,
    "done": 0,
    "running": 0,
    "queued": 0,
    "saving": 0,
    "succeeded": 0,
    "failed": 0,
    "uncertain": 0,
    "eta": None,
}
TRAFFIC = Traffic(1_234, 10_000, 50, 1_000)


def figures(**changes: Any) -> Figures:  # noqa: ANN401  # its fields
    """Figures of a batch of 200."""
    return Figures(**{**FIGURES, **changes})


class Steps:
    """A stand-in for progress that shows prepared figures, one after the other."""

    def __init__(self, *steps: Figures) -> None:
        self._steps = iter(steps)

    def figures(self, now: object) -> Figures:
        return next(self._steps)


@pytest.mark.parametrize(
    ("times", "done", "lines"),
    [
        pytest.param([0, 1, 2], [0, 1, 2], 0, id="nothing much happened"),
        pytest.param([0, PLAIN_EVERY, PLAIN_EVERY + 1], [0, 0, 0], 1, id="a line every few s"),
        pytest.param([0, 0.25, 0.5], [0, 20, 39], 1, id="a tenth is done"),
        pytest.param([0, 0.25, 0.5], [0, 20, 40], 2, id="two tenths are done"),
    ],
)
def test_plain_lines_come_now_and_then(
    times: list[float], done: list[int], lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line is written every few seconds and every tenth of the batch, not at every tick."""
    steps = Steps(*(figures(done=number) for number in done))
    display = PlainDisplay(steps, lambda: None)  # type: ignore[arg-type]  # all that it needs
    for now in times:
        display.tick(now)

    captured = capsys.readouterr()
    assert captured.err.count("\n") == lines
    assert not captured.out


def test_counts_that_are_zero_are_left_out() -> None:
    """The line stays short while nothing goes wrong, and tells all that does."""
    assert counts_line(figures(succeeded=3, running=4)) == "3 succeeded · 4 running"
    assert counts_line(
        figures(queued=1, failed=2, timed_out=5, uncertain=3, saving=4, trouble="cannot\nreach")
    ).split(" · ") == [
        "0 succeeded",
        "0 running",
        "4 saving",
        "1 queued",
        "2 failed",
        "5 timed out",
        "3 uncertain",
        "trying again: cannot reach",
    ]


def test_both_limits_are_shown() -> None:
    """The line about traffic sets what is used beside what is allowed."""
    line = traffic_line(TRAFFIC)

    assert "1,234 of 10,000 requests" in line
    assert "50 of 1,000 tasks" in line


def test_a_faster_clock_is_named() -> None:
    """Beside a limit that is scaled to an emulator's clock stands how fast that clock goes."""
    assert "minute (clock x20) ·" in traffic_line(Traffic(1, 200_000, 3, 4, speed=20.0))
    assert "clock" not in traffic_line(TRAFFIC)


def test_a_pause_is_explained() -> None:
    """While the API has asked for a pause, its length is shown."""
    assert "pause of 7 s" in traffic_line(Traffic(1, 2, 3, 4, closed_for=7.2))


@pytest.mark.parametrize(
    ("eta", "text"),
    [
        (None, "9 s"),
        (0.0, "9 s"),
        (0.2, "9 s · about 1 s left"),
        (80, "9 s · about 1 min 20 s left"),
    ],
)
def test_time_left_is_shown_once_it_is_known(eta: float | None, text: str) -> None:
    """Until then only the time taken is shown; it never says that nothing is left."""
    assert time_line(figures(eta=eta), 9) == text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_live_display_never_exceeds_the_terminal(width: int) -> None:
    """Each line fits, however narrow the terminal."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)

    console.print(draw(figures(done=99, running=7), TRAFFIC, elapsed=5))

    output = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "99/200" in output
    assert max(map(len, output.splitlines())) <= width
