"""The board of a batch: figures to lines, at every width."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.cli.board import board_lines, cut, plain, reason_text
from apixo_async.cli.figures import Figures, Traffic
from apixo_async.cli.money import Cost
from apixo_async.cli.reasons import Reason
from apixo_async.cli.text import columns

REFUSED = Reason("failed", 2, "CONTENT_VIOLATION: Not safe", "change the prompt", "fox-12")
LOST = Reason("uncertain", 1, "reset", "look at your account's history", "fox-13")
FIGURES = Figures(
    total=200,
    done=50,
    running=50,
    queued=98,
    saving=2,
    succeeded=47,
    failed=2,
    uncertain=1,
    eta=125.0,
    per_minute=31.4,
    saves=True,
    cost=Cost(Decimal("31.20"), Decimal(125)),
    reasons=(REFUSED, LOST),
)
TRAFFIC = Traffic(
    requests_last_minute=2_500,
    requests_per_minute=10_000,
    unfinished_tasks=50,
    task_cap=50,
    task_limit=50,
)


def board(width: int, *, height: int | None = None, **changes: Any) -> list[str]:  # noqa: ANN401  # its fields
    """The board without its styles; where a bar ends, dots go on."""
    traffic = changes.pop("traffic", TRAFFIC)
    figures = attrs.evolve(FIGURES, **changes)
    lines = board_lines(figures, traffic, elapsed=65, width=width, height=height)
    return [
        "".join(text.replace("━", ".") if style == "rest" else text for text, style in line)
        for line in lines
    ]


WIDE = """
25 %      1 min 05 s · about 2 min 05 s left · 31 ended a minute
done      ━━━━━━━━━━..............................  50 of 200            47 succeeded · 2 failed · 1 uncertain
saving    ╸.......................................  2
running   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  50 of 50             tasks at a time
queued    ━━━━━━━━━━━━━━━━━━━╸....................  98
requests  ━━━━━━━━━━..............................  2,500 of 10,000      in the last minute
cost      ━━━━━━━━━━..............................  31.20 of 125.00 USD  estimated from your prices
failed    2 x CONTENT_VIOLATION: Not safe (last: fox-12) → change the prompt
uncertain 1 x reset (last: fox-13) → look at your account's history
"""  # noqa: E501  # as wide as it is
MIDDLE = """
25 %      1 min 05 s · about 2 min 05 s left · 31 ended a m…
done      ━━━━━━━......................  50 of 200
          47 succeeded · 2 failed · 1 uncertain
saving    ╸............................  2
running   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  50 of 50
queued    ━━━━━━━━━━━━━━...............  98
requests  ━━━━━━━......................  2,500 of 10,000
cost      ━━━━━━━......................  31.20 of 125.00 USD
failed    2 x CONTENT_VIOLATION → change the prompt
uncertain 1 x reset → look at your account's history
"""
NARROW = """
25 %      1 min 05 s · a…
done      50 of 200
          47 succeeded ·…
saving    2
running   50 of 50
queued    98
requests  2,500 of 10,000
cost      31.20 of 125.0…
failed    2 x CONTENT_VI…
uncertain 1 x reset → lo…
"""


@pytest.mark.parametrize(("width", "shown"), [(120, WIDE), (60, MIDDLE), (25, NARROW)])
def test_the_board(width: int, shown: str) -> None:
    """Bars where there is room for them; numbers always; notes beside or below, or nowhere."""
    assert board(width) == shown.strip("\n").splitlines()


@pytest.mark.parametrize("width", [1, 5, 10, 11, 19, 20, 31, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """However narrow it is, and whatever keys and messages hold."""
    strange = Reason("not saved", 3, "界" * 30 + "\x1b[2J\n", "説" * 40, "キー\t鍵")
    lines = board(width, reasons=(strange, REFUSED), trouble="no\x1broute " * 30)

    assert max(map(columns, lines)) <= width
    assert "".join(lines).isprintable()


@pytest.mark.parametrize("height", [1, 3, 30])
def test_a_low_terminal_shows_the_beginning(height: int) -> None:
    """How far it is comes first, what went wrong last."""
    assert board(120, height=height) == WIDE.strip("\n").splitlines()[:height]


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"done": 0, "succeeded": 0}, "done      ━━━━━━━━━━  0 of 200"),
        ({"total": None}, "done      ━━━━━━━━━━  50 of 0"),
        ({"running": 70}, "running   ━━━━━━━━━━  70 of 50"),
        ({"traffic": None}, "running   ━━━━━━━━━━  50"),
        ({"cost": Cost(Decimal(3))}, "cost      ━━━━━━━━━━  3.00 USD"),
        ({"cost": Cost(Decimal(9), Decimal(5))}, "cost      ━━━━━━━━━━  9.00 of 5.00 USD"),
        ({"cost": Cost(Decimal(1), is_whole=False)}, "cost      ━━━━━━━━━━  at least 1.00 USD"),
    ],
)
def test_rows(changes: dict[str, Any], row: str) -> None:
    """What is not known is not claimed, and nothing passes the end of its bar."""
    changes = {"cost": None, "reasons": (), **changes}
    begin = " ".join(row.split()[:1])
    (shown,) = (line for line in board(46, **changes) if line.startswith(begin))

    assert re.sub("[━╸.]{2,}", "", shown).split() == row.replace("━", "").split()


def test_what_is_not_asked_for_has_no_row() -> None:
    """No saving without a directory, no cost without prices, no requests where nobody counts."""
    lines = board(80, saves=False, saving=0, cost=None, reasons=(), traffic=None)

    assert [line.split()[0] for line in lines] == ["25", "done", "running", "queued"]


@pytest.mark.parametrize(
    ("share", "begun", "length"),
    [(0.0, 0, 10), (0.0001, 1, 10), (0.5, 10, 10), (0.9999, 19, 10), (1.0, 20, 10), (0.25, 20, 40)],
)
def test_what_is_begun_shows_and_what_is_not_complete_does_not_look_so(
    share: float, begun: int, length: int
) -> None:
    """Bars have half columns."""
    from apixo_async.cli.board import bar

    (done, style), (rest, rest_style) = bar(share, length, "good")

    assert 2 * done.count("━") + done.count("╸") == begun
    assert len(done + rest) == length
    assert (style, rest_style) == ("good", "rest")


@pytest.mark.parametrize(
    ("changes", "traffic", "said"),
    [
        ({}, {"closed_for": 7.2}, "paused    the API answered 429; goes on by itself in 7 s"),
        (
            {"trouble": "rate limited"},
            {"closed_for": 7.2},
            "paused    the API answered 429; goes on by itself in 7 s",
        ),
        (
            {"trouble": "cannot reach\nit"},
            {},
            "waiting   cannot reach it; tried again by itself",
        ),
        (
            {},
            {"task_cap": 38, "task_limit": 1_000},
            "limited   the account allows fewer tasks than 1,000; more are tried by itself",
        ),
        ({"doubtful": 2}, {}, "waiting   2 submits without an answer, for a callback"),
    ],
)
def test_what_holds_it_up_is_said_first(
    changes: dict[str, Any], traffic: dict[str, Any], said: str
) -> None:
    """Below the head, with what becomes of it."""
    assert board(100, traffic=attrs.evolve(TRAFFIC, **traffic), **changes)[1] == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": None, "per_minute": None}, "1 min 05 s"),
        ({"eta": 0.2, "per_minute": 0.0}, "1 min 05 s · about 1 s left"),
        ({"eta": 0.0, "late": 0, "per_minute": 3.14}, "1 min 05 s · 3.1 ended a minute"),
        (
            {"eta": 0.0, "late": 1, "per_minute": None},
            "1 min 05 s · 1 task takes longer than any so far",
        ),
        (
            {"eta": None, "late": 3, "per_minute": None},
            "1 min 05 s · 3 tasks take longer than any so far",
        ),
        ({"eta": 9, "late": 3, "per_minute": None}, "1 min 05 s · about 9 s left"),
    ],
)
def test_the_head_claims_what_is_known(changes: dict[str, Any], said: str) -> None:
    """It never says that nothing is left."""
    assert board(100, **changes)[0] == f"25 %      {said}"


def test_a_faster_clock_is_named() -> None:
    """Beside the limit that is scaled to it."""
    lines = board(120, traffic=attrs.evolve(TRAFFIC, speed=20.0))

    assert any(line.endswith("in the last minute (clock x20)") for line in lines)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (None, "2 x CONTENT_VIOLATION: Not safe (last: fox-12) → change the prompt"),
        (60, "2 x CONTENT_VIOLATION: Not safe → change the prompt"),
        (45, "2 x CONTENT_VIOLATION → change the prompt"),
        (30, "2 x CONTENT_VIOLATION → chang…"),
        (8, "2 x CON…"),
    ],
)
def test_what_to_do_is_the_last_to_be_left_out(width: int | None, text: str) -> None:
    """Then the key goes, then the words of the API; the code says enough."""
    assert reason_text(REFUSED, width) == text


def test_more_reasons_than_fit_are_counted() -> None:
    """The last few are shown."""
    many = tuple(attrs.evolve(REFUSED, why=f"E{number}") for number in range(5))
    lines = board(100, reasons=many)

    assert [line[:16] for line in lines[-4:-1]] == [f"failed    2 x E{n}" for n in range(3)]
    assert lines[-1].strip() == "and 2 other reasons"


def test_a_line_is_cut_by_columns() -> None:
    """A character that takes two is left out whole, and the style of the rest goes with it."""
    line = (("ab", "good"), ("界界", "bad"), ("cd", ""))

    assert cut(line, 9) == line
    assert plain(cut(line, 7)) == "ab界界…"
    assert plain(cut(line, 5)) == "ab界…"
    assert cut(line, 2) == (("ab", "good"),)


def test_the_page_shows_the_board() -> None:
    """The one in the documentation is that of these figures."""
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")

    assert WIDE.strip("\n") in page
