"""API time: the event loop's clock, run at a multiple of its speed."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.frozen
class Clock:
    """Seconds of API time since the start, and what they are on a calendar.

    With a speed of 60 the calendar leaves the wall clock behind by 59 seconds a second: a task's
    times fit its duration, not the day outside.
    """

    speed: float
    loop_time: Callable[[], float]
    started: float
    """The loop's time at the start."""
    epoch_ms: int = attrs.field(factory=lambda: int(time.time() * 1000))
    """Unix milliseconds at the start."""

    @classmethod
    def start(cls, speed: float, loop_time: Callable[[], float]) -> Clock:
        """Return a clock that shows 0 now."""
        return cls(speed, loop_time, loop_time())

    def now(self) -> float:
        """Return API seconds since the start."""
        return (self.loop_time() - self.started) * self.speed

    def real(self, api_seconds: float) -> float:
        """Return how long *api_seconds* take outside."""
        return api_seconds / self.speed

    def unix_ms(self, api_seconds: float) -> int:
        """Return the API's calendar at *api_seconds* since the start."""
        return self.epoch_ms + round(api_seconds * 1000)
