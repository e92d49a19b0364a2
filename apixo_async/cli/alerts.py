"""Serious messages of the library's log on the screen of a batch, also without `-v`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from apixo_async.cli.text import counted
from apixo_async.errors import JournalError

AGAIN_AFTER: Final = 60.0
"""Seconds for which the same message is not shown again."""


class Alerts(logging.Handler):
    """Shows errors of the log as lines of a display.

    Warnings are left to `-v`: they name tasks that outlive their caller, and a summary names these
    as well. The same message is shown once a minute. What a journal that cannot be written needs
    is said once; `unrecorded` gives how many tasks are in memory alone.
    """

    def __init__(
        self, show: Callable[[str], None], *, unrecorded: Callable[[], int], is_logged: bool
    ) -> None:
        super().__init__(logging.ERROR)
        self._show = show
        self._unrecorded = unrecorded
        self._is_logged = is_logged
        self._shown: dict[str, float] = {}
        self.is_journal_failing = False
        """Whether the disk has refused the journal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Shows the message, and the advice after the first one about the journal."""
        text = self.format(record)
        if not self._is_logged and self._is_due(text):
            for line in text.splitlines():
                self._show(line)
        if _is_about_journal(record) and not self.is_journal_failing:
            self.is_journal_failing = True
            self._show(self._advice())

    def _is_due(self, text: str) -> bool:
        now = time.monotonic()
        if now - self._shown.get(text, -AGAIN_AFTER) < AGAIN_AFTER:
            return False
        self._shown = {old: at for old, at in self._shown.items() if now - at < AGAIN_AFTER}
        self._shown[text] = now
        return True

    def _advice(self) -> str:
        number = self._unrecorded()
        kept = f"; {counted(number, 'task')} at most not recorded yet, and kept in memory alone"
        return (
            "make room on the journal's disk: writing it is tried again by itself. Do not kill "
            f"this process meanwhile{kept * bool(number)}"
        )


def _is_about_journal(record: logging.LogRecord) -> bool:
    given = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(one, JournalError) for one in given)


@contextmanager
def alerting(alerts: Alerts) -> Generator[None]:
    """Alerts are shown during the block; the summary tells itself which tasks go on, and how."""

    def is_news(record: logging.LogRecord) -> bool:
        return getattr(record, "apixo_event", None) != "tasks_left"

    logger = logging.getLogger("apixo_async")
    logger.addHandler(alerts)
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
        logger.removeHandler(alerts)
