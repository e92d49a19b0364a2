"""An event loop that a simulated process lives on: its threads are inline, and it can die."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from tests.virtual import InlineLoop

if TYPE_CHECKING:
    import time_machine

EPOCH: Final = 1_767_965_610.0
"""What calendars show when the loop's clock shows 0; any will do."""
STEPS_MAX: Final = 400_000
"""Passes of the loop from which on it is not working but spinning."""


class CrashError(BaseException):
    """The process is gone. Raised by the loop itself, so that no code of it runs any more."""


class SpinError(BaseException):
    """The loop is busy with nothing."""


class SimulatedLoop(InlineLoop):
    """A loop that begins at `start`, moves the calendar along, and stops when it is dead."""

    def __init__(self, start: float, calendar: time_machine.Traveller) -> None:
        super().__init__()
        self._clock.now = start
        self._calendar = calendar
        self._steps = itertools.count(1)
        self.is_dead = False
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def _run_once(self) -> None:
        if self.is_dead:
            raise CrashError
        if next(self._steps) > STEPS_MAX:
            raise SpinError
        self._calendar.move_to(EPOCH + self._clock.now)
        super()._run_once()  # type: ignore[misc]  # not in typeshed, as it is not for everybody
