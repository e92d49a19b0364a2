"""Errors of the log as lines on the screen."""

from __future__ import annotations

import logging

from apixo_async.cli.alerts import Alerts, alerting
from apixo_async.errors import JournalError

LOGGER = logging.getLogger("apixo_async")
FULL = JournalError("the journal cannot be written: database or disk is full")


def alerts(shown: list[str], *, is_logged: bool = False) -> Alerts:
    """Alerts that are shown by a list."""
    return Alerts(shown.append, unrecorded=lambda: 3, is_logged=is_logged)


def test_what_is_critical_is_shown_and_what_a_summary_tells_is_not() -> None:
    """Without -v; a warning for each task of a cancelled caller would fill the screen."""
    shown: list[str] = []
    with alerting(alerts(shown)):
        LOGGER.critical("tasks not yet in the journal: %s", "a: t1")
        LOGGER.warning("task %s was accepted after its caller was cancelled", "t2")

    assert shown == ["tasks not yet in the journal: a: t1"]


def test_a_journal_that_cannot_be_written_comes_with_advice_once() -> None:
    """The same line is not repeated at every try; another one is."""
    shown: list[str] = []
    with alerting(made := alerts(shown)):
        for _ in range(5):
            LOGGER.error("%s", FULL)
        LOGGER.critical("%s; tasks not yet in the journal: %s", FULL, "a: t1")

    assert [line.split(":")[0] for line in shown] == [
        "the journal cannot be written",
        "make room on the journal's disk",
        "the journal cannot be written",
    ]
    assert "Do not kill this process" in shown[1]
    assert "3 tasks at most not recorded yet" in shown[1]
    assert made.is_journal_failing


def test_with_v_the_log_itself_has_the_message() -> None:
    """Only the advice is added."""
    shown: list[str] = []
    with alerting(alerts(shown, is_logged=True)):
        LOGGER.error("%s", FULL)

    assert len(shown) == 1
    assert shown[0].startswith("make room")
