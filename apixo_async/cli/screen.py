"""Lines that stay at the bottom of a terminal and are drawn again in place, by rich."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text
from rich.theme import Theme

from apixo_async.cli.board import ARROW, FULL, HALF, Line, Span, plain
from apixo_async.cli.text import columns, noted, printable

if TYPE_CHECKING:
    from rich.segment import ControlCode

THEME: Final = Theme(
    {
        "good": "green",
        "busy": "cyan",
        "warn": "yellow",
        "bad": "red",
        "quiet": "bright_black",
        "rest": "grey23",
    }
)
_ASCII: Final = str.maketrans(
    {FULL: "=", HALF: "-", ARROW: ">", "\N{MIDDLE DOT}": "|", "\N{HORIZONTAL ELLIPSIS}": "~"}
)


class Screen:
    """Draws lines in place; use it in a `with` statement. What is printed meanwhile stays above.

    With `is_whole` it takes the whole terminal, and leaves it as it was.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        to_stderr: bool = False,
        is_whole: bool = False,
    ) -> None:
        self.console = console or Console(highlight=False, stderr=to_stderr, theme=THEME)
        self._is_whole = is_whole
        # Drawn when `draw` is called: a thread would read numbers while they change.
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            screen=is_whole,
            redirect_stdout=not to_stderr,  # else results would be drawn, and not written
            vertical_overflow="crop",
        )
        self._drawn: tuple[object, ...] = ()
        self._widths: list[int] = []

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

    @property
    def width(self) -> int:
        """Columns to draw in at this moment: a window may be resized.

        Two are left, so that the `^C` that a terminal shows for a key begins no line.
        """
        return max(1, self.console.width - len("^C"))

    @property
    def height(self) -> int:
        """Lines that may be drawn: one is left to what is printed above."""
        return max(1, self.console.height - 1)

    def draw(self, lines: Sequence[Line]) -> None:
        """Draws the lines, unless they are there already: so nothing flickers."""
        size = self.console.size
        if (size, *lines) == self._drawn:
            return
        self._take_back_folded(size.width)
        self._drawn = (size, *lines)
        self._widths = [columns(plain(line)) for line in lines]
        self._live.update(Text("\n").join(map(self._text, lines)), refresh=True)

    def print(self, line: str, style: str = "") -> None:
        """A line that stays, above what is drawn; a command in it can be copied."""
        self._take_back_folded(self.console.width)
        text = "\n".join(noted(printable(line), self.console.width))
        self.console.print(Text(text, style=style), soft_wrap=True)

    def _text(self, line: Line) -> Text:
        text = Text(no_wrap=True, overflow="crop", end="")
        for words, style in map(self._suited, line):
            text.append(words, style=style or None)
        return text

    def _suited(self, span: Span) -> Span:
        """A span as this terminal can show it."""
        text, style = span
        if style == "rest" and (self.console.no_color or self.console.color_system is None):
            return " " * len(text), ""  # only a colour tells it from what is done
        return (text.translate(_ASCII) if self.console.options.ascii_only else text), style

    def _take_back_folded(self, width: int) -> None:
        """Clears the lines by which a terminal that became narrower has folded what was drawn."""
        extra = sum((wide - 1) // max(1, width) for wide in self._widths if wide > width)
        if extra and not self._is_whole:
            steps: list[ControlCode] = [
                (ControlType.CARRIAGE_RETURN,),
                (ControlType.ERASE_IN_LINE, 2),
            ]
            steps += [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * extra
            self.console.control(Control(*steps))
        self._widths = [min(wide, width) for wide in self._widths]
