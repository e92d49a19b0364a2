from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest

from apixo_async.cli.display import (
    PLAIN_EVERY,
    PlainDisplay,
    board_place,
    is_drawable,
    is_log,
    open_display,
    plain_line,
    plain_pause,
)
from apixo_async.cli.figures import Figures, Traffic
from apixo_async.cli.money import Cost

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

    def figures(self, now: object, traffic: object = None) -> Figures:
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


def test_the_longer_it_takes_the_rarer_are_the_lines() -> None:
    """A log of hours is no thousand lines; the first minute tells more."""
    assert [plain_pause(elapsed) for elapsed in (0, 60, 120, 720, 100_000)] == [5, 5, 10, 60, 60]


def test_a_plain_line_has_all_figures_that_matter() -> None:
    """What has not happened is left out; what holds it up comes last."""
    assert plain_line(figures(queued=200), None, 9) == "0 of 200 jobs · 200 queued · 9 s"
    line = plain_line(
        figures(
            done=7, succeeded=3, running=4, queued=1, failed=2, timed_out=5, uncertain=3, saving=4,
            eta=80.0, per_minute=2.5, cost=Cost(Decimal(3)), trouble="cannot\nreach",
        ),
        TRAFFIC,
        9,
    )  # fmt: skip

    assert line.split(" · ") == [
        "7 of 200 jobs",
        "3 succeeded",
        "2 failed",
        "5 timed out",
        "3 uncertain",
        "4 running",
        "4 saving",
        "1 queued",
        "9 s",
        "about 1 min 20 s left",
        "2.5 ended a minute",
        "3.00 USD",
        "waiting: cannot reach; tried again by itself",
    ]


TERMINAL = {"stdout": True, "stderr": True, "is_file": False, "is_log": False, "as_json": False}


@pytest.mark.parametrize(
    ("where", "place"),
    [
        pytest.param({}, "stdout", id="a terminal"),
        pytest.param({"as_json": True}, None, id="JSON on a terminal"),
        pytest.param({"is_log": True}, None, id="continuous integration"),
        pytest.param({"stdout": False}, None, id="a pipe, which may end on this terminal"),
        pytest.param({"stdout": False, "is_file": True}, "stderr", id="results in a file"),
        pytest.param(
            {"stdout": False, "is_file": True, "as_json": True}, "stderr", id="JSON in a file"
        ),
        pytest.param({"stdout": False, "stderr": False, "is_file": True}, None, id="all in files"),
    ],
)
def test_the_board_is_drawn_where_results_leave_room(
    where: dict[str, bool], place: str | None
) -> None:
    """Anywhere else there are plain lines."""
    assert board_place(**{**TERMINAL, **where}) == place


@pytest.mark.parametrize(
    ("value", "is_one"),
    [("true", True), ("1", True), ("", False), ("0", False), ("False", False)],
)
def test_continuous_integration_is_a_log(
    value: str, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it looks like a terminal."""
    monkeypatch.setenv("CI", value)

    assert is_log() is is_one


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot draw in place, nor can what is no terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert is_drawable(Terminal())
    assert not is_drawable(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_drawable(Terminal())


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """As under a test."""
    display = open_display(Steps(), lambda: None, as_json=False)  # type: ignore[arg-type]  # all that it needs

    assert isinstance(display, PlainDisplay)
