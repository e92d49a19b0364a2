"""The best time any client could reach: the same tasks on the same slots without any delay."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def list_schedule(durations: Iterable[float], slots: int) -> float:
    """Return when the last job ends if each starts on the slot that is free first.

    Jobs are taken in the order given, all slots are free at 0, and no time passes between a job's
    end and the next one's start. A job that never ends is left out: no client can be measured
    against it.
    """
    free_at: list[float] = []
    last = 0.0
    for duration in durations:
        if math.isinf(duration):
            continue
        start = heapq.heappop(free_at) if len(free_at) >= slots else 0.0
        end = start + duration
        last = max(last, end)
        heapq.heappush(free_at, end)
    return last
