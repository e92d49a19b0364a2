"""The two documented limits, seen from the server: requests in a window, unfinished tasks."""

from __future__ import annotations

from collections import deque

import attrs

WINDOW = 60.0
"""Seconds of API time; the limit is documented per minute."""


@attrs.define
class RequestWindow:
    """Counts requests in the window that slides along with the clock.

    Every request counts, refused ones too. The documents do not say whether they do; this is the
    strict reading, and a client that holds under it holds under the other.
    """

    limit: int
    peak: int = 0
    _times: deque[float] = attrs.field(factory=deque[float], repr=False)

    def arrive(self, now: float) -> bool:
        """Count one request; return whether it is within the limit. *now* is API seconds."""
        times = self._times
        start = now - WINDOW
        while times and times[0] <= start:
            times.popleft()
        times.append(now)
        count = len(times)
        self.peak = max(self.peak, count)
        return count <= self.limit
