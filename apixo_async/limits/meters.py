"""What was counted: exactly over the last minutes, and roughly as a rate of this moment."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

MEMORY_SECONDS: Final = 180
RECENT_SECONDS: Final = 15.0


class RequestMeter:
    """Counts events of the last three minutes, second by second, in constant memory."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=MEMORY_SECONDS)
        self.total = 0

    def count(self, now: float) -> None:
        """Notes one event at `now` (loop time)."""
        self._count(1, int(now))

    def _count(self, events: int, second: int) -> None:
        self.total += events
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + events)
        else:
            self._seconds.append((second, events))

    def spread(self, events: int, since: float, now: float) -> None:
        """Notes so many events, as if they had come evenly from `since` to `now`."""
        first, last = int(max(since, now - MEMORY_SECONDS)) + 1, int(now)
        seconds = range(min(first, last), last + 1)
        for place, second in enumerate(seconds):
            upto, before = (events * n // len(seconds) for n in (place + 1, place))
            self._count(upto - before, second)

    def last(self, seconds: float, now: float) -> int:
        """Events in so many seconds before `now`, to the second."""
        return sum(number for second, number in self._seconds if second > now - seconds)

    def last_minute(self, now: float) -> int:
        """Events in the 60 s before `now`, to the second."""
        return self.last(60, now)

    def room_at(self, limit: int, now: float) -> float:
        """When, without further events, the last minute will hold fewer than `limit`."""
        excess = self.last_minute(now) - limit
        room_at = now
        for second, number in self._seconds:
            if excess < 0:
                break
            if second > now - 60:
                excess -= number
                room_at = second + 61.0
        return room_at


class RecentRate:
    """Events a second of late, each fading out over `RECENT_SECONDS`."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        """Notes one event at `now` (loop time)."""
        self._rate = self.per_second(now) + 1 / RECENT_SECONDS
        self._at = now

    def per_second(self, now: float) -> float:
        """The rate at `now`."""
        return self._rate * math.exp((self._at - now) / RECENT_SECONDS)
