"""What a terminal gets to draw: the same board at several widths, in place and without flicker."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from apixo_async.cli.board import Line, board_lines, plain
from apixo_async.cli.screen import THEME, Screen
from apixo_async.cli.text import columns
from tests.cli.test_board import FIGURES, TRAFFIC

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
UP = re.compile(r"\x1b\[1A\x1b\[2K")


def console(width: int, *, height: int = 40, **more: object) -> Console:
    """A terminal of that size whose output is kept."""
    settings = {"force_terminal": True, "color_system": "truecolor", "theme": THEME, **more}
    return Console(file=io.StringIO(), width=width, height=height, _environ={}, **settings)  # type: ignore[arg-type]  # as given


def output(terminal: Console) -> str:
    """All that it got."""
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def since(terminal: Console, before: str) -> str:
    """What it got after that."""
    return output(terminal).removeprefix(before)


def lines(*texts: str) -> list[Line]:
    """Lines without a style."""
    return [((text, ""),) for text in texts]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_the_terminal_shows_the_board_line_by_line(width: int) -> None:
    """Nothing is folded, cut or padded on the way."""
    terminal = console(width)
    board = board_lines(FIGURES, TRAFFIC, elapsed=65, width=width)
    with Screen(terminal) as screen:
        screen.draw(board)
        shown = ESCAPE.sub("", output(terminal)).splitlines()

    assert [line.rstrip() for line in shown] == [plain(line).rstrip() for line in board]
    assert max(map(columns, shown)) <= width


def test_what_is_there_is_not_drawn_again() -> None:
    """Nothing is sent while nothing has changed; what has, is."""
    terminal = console(40)
    with Screen(terminal) as screen:
        screen.draw(lines("a", "b"))
        before = output(terminal)
        screen.draw(lines("a", "b"))
        assert since(terminal, before) == ""
        screen.draw(lines("a", "c"))

        assert since(terminal, before).endswith("a\nc")


def test_colours_are_left_out_where_nobody_wants_them() -> None:
    """Then what is not done is blank, because only its colour told it from what is."""
    board = board_lines(FIGURES, TRAFFIC, elapsed=65, width=60)
    coloured, bare = console(60), console(60, no_color=True)
    for terminal in (coloured, bare):
        with Screen(terminal) as screen:
            screen.draw(board)

    assert COLOUR.search(output(coloured))
    assert not COLOUR.search(output(bare))
    saving = next(line for line in output(bare).splitlines() if "saving" in line)
    assert ESCAPE.sub("", saving).split() == ["saving", "╸", "2"]


def test_a_terminal_that_knows_ascii_alone_gets_nothing_else() -> None:
    """Bars, dots and arrows have stand-ins."""
    terminal = console(60, no_color=True)
    buffer = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.file = buffer
    with Screen(terminal) as screen:
        screen.draw(board_lines(FIGURES, TRAFFIC, elapsed=65, width=60))
    buffer.flush()
    shown = buffer.buffer.getvalue().decode("ascii")

    assert "=======" in shown
    assert "> change the prompt" in shown


def test_what_is_printed_stays_above() -> None:
    """In full, so that it can be copied, and without what could steer the terminal."""
    terminal = console(20)
    with Screen(terminal) as screen:
        screen.draw(lines("board"))
        screen.print("x" * 50 + "\x1b[2J", "bad")
    shown = ESCAPE.sub("", output(terminal))

    assert "x" * 50 + "\N{REPLACEMENT CHARACTER}[2J\n" in shown
    assert shown.rstrip("\r\n ").endswith("board")


@pytest.mark.parametrize(
    ("width", "folded"), [(60, 0), (59, 1), (30, 1), (29, 2), (20, 2), (19, 3), (200, 0)]
)
@pytest.mark.parametrize("is_printed", [False, True])
def test_what_a_narrower_terminal_has_folded_is_taken_back(
    width: int, folded: int, is_printed: bool
) -> None:
    """Before the next drawing; the line of 60 columns takes so many lines more."""
    terminal = console(60)
    with Screen(terminal) as screen:
        screen.draw(lines("x" * 60, "short"))
        before = output(terminal)
        terminal.width = width
        if is_printed:
            screen.print("note")
        else:
            screen.draw(lines("new", "short"))
        # One line up, because two were drawn.
        assert len(UP.findall(since(terminal, before))) == 1 + folded
        before = output(terminal)
        screen.draw(lines("newer", "short"))
        assert len(UP.findall(since(terminal, before))) == 1


def test_a_whole_screen_is_given_back() -> None:
    """What was there before comes back at the end."""
    terminal = console(40)
    with Screen(terminal, is_whole=True) as screen:
        screen.draw(lines("a"))

    assert output(terminal).startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in output(terminal)


def test_some_room_is_left() -> None:
    """A line to what is printed, and two columns to the ^C that a terminal shows for a key."""
    assert (Screen(console(40, height=24)).width, Screen(console(40, height=24)).height) == (38, 23)
    assert (Screen(console(1, height=1)).width, Screen(console(1, height=1)).height) == (1, 1)
