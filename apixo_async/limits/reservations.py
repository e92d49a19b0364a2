"""A bucket that several processes draw from, as a line in which each has its moment."""

from __future__ import annotations

import math
from typing import Final

import attrs

from apixo_async.limits.buckets import BucketSize

FULL: Final = math.inf
"""Tokens of a bucket that nobody has drawn from: as many as the first member says it holds."""


@attrs.frozen(kw_only=True)
class Line:
    """All who were given a moment so far, as a store keeps it. All times are the store's.

    What is kept are spans from the last change on, so that no rounding adds up and a clock that
    steps back neither closes the line for as long nor opens it.
    """

    changed_at: float
    """When it was changed last."""
    ahead: float = 0.0
    """Seconds from then until the last of them may leave."""
    tokens: float = FULL
    """What is in the bucket at that later moment."""
    requests: int = 0
    """How many they are in all."""

    def joined(self, requests: int, size: BucketSize, *, now: float) -> Line:
        """So many more in the line; `ahead` is then the span until the last of them may leave.

        Moments are given in the order of asking. So whatever sizes the members take the bucket to
        have, no window sees more than a bucket of the largest burst and rate among them lets
        through: the moments are admissible to that one, too.
        """
        left = self.ahead - max(0.0, now - self.changed_at)
        tokens = min(size.burst, self.tokens + max(0.0, -left) * size.per_second)
        wait = max(0.0, left) + max(0.0, requests - tokens) / size.per_second
        return Line(
            changed_at=now,
            ahead=wait,
            tokens=max(0.0, tokens - requests),
            requests=self.requests + requests,
        )
