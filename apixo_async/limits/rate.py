"""The request rate: token buckets sized so that no 60 seconds see more than the limit."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NewType

import attrs
from aiolimiter import AsyncLimiter

WINDOW_SECONDS: Final = 61.0
"""One second more than the minute that is promised: requests that were let through evenly may
arrive bunched by the network."""
BURST_MAX: Final = 100
"""A bucket this small fills in 0.6 s at 10,000 a minute; a larger one would only cost rate."""


Permit = NewType("Permit", int)
"""The right to one request; the number of 429 episodes before it was given."""


@attrs.frozen
class BucketSize:
    """A token bucket: `burst` at once, then `per_second`."""

    burst: float
    per_second: float

    def limiter(self) -> AsyncLimiter:
        """A limiter of this size; it belongs to the event loop that first waits on it."""
        return AsyncLimiter(self.burst, self.burst / self.per_second)


def bucket_size(requests_per_minute: int, *, share: float = 1.0) -> BucketSize:
    """The fastest bucket that keeps the limit in every window of `WINDOW_SECONDS`.

    A bucket lets through at most floor(burst + window * rate). A plain 10,000 in 60 s bucket would
    allow 10,000 at once and refill meanwhile: nearly 20,000 in the first minute. Requests are
    whole, so the sum may come as close to limit + 1 as one likes, but not reach it. `share` scales
    the result for a bucket inside this one; a bucket never holds less than one token.
    """
    burst = min(max(requests_per_minute // 100, 1), BURST_MAX)
    per_second = (requests_per_minute + 1 - burst) / WINDOW_SECONDS * (1 - 1e-6)
    return BucketSize(burst=max(1.0, share * burst), per_second=share * per_second)


class RequestMeter:
    """Counts requests of the last minute, second by second, in constant memory."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=60)
        self.total = 0

    def count(self, now: float) -> None:
        """Notes one request at `now` (loop time)."""
        self.total += 1
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + 1)
        else:
            self._seconds.append((second, 1))

    def last_minute(self, now: float) -> int:
        """Requests in the 60 s before `now`, to the second."""
        return sum(number for second, number in self._seconds if second > now - 60)


class RateGate:
    """Lets calls through at the allowed rate; closes for everyone after a 429."""

    def __init__(self, requests_per_minute: int, *, poll_share: float) -> None:
        self.size = bucket_size(requests_per_minute)
        self.poll_size = bucket_size(requests_per_minute, share=poll_share)
        self._all = self.size.limiter()
        self._polls = self.poll_size.limiter()
        self._closed_until = 0.0
        self._episode = Permit(0)
        self.meter = RequestMeter()

    async def wait_open(self, *, poll: bool) -> Permit:
        """Waits for a token and an open gate; status calls first need one of their own bucket."""
        loop = asyncio.get_running_loop()
        if poll:
            await self._polls.acquire()
        while True:
            # The end of a pause may move while we sleep, only ever to a later time.
            while (left := self._closed_until - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left)
            await self._all.acquire()
            now = loop.time()
            if now >= self._closed_until:
                break
            # Closed while we queued for the token: the token is spent, which errs to the safe side.
        self.meter.count(now)
        return self._episode

    def is_new_episode(self, permit: Permit) -> bool:
        """Whether a 429 on this permit begins another episode; if so, it has begun."""
        if permit != self._episode:
            return False
        self._episode = Permit(self._episode + 1)
        return True

    def close_for(self, seconds: float, *, now: float) -> None:
        """Nobody passes for this long; a later end is never brought forward."""
        self._closed_until = max(self._closed_until, now + seconds)

    def closed_for(self, now: float) -> float:
        """Seconds until the gate opens again, 0 when it is open."""
        return max(0.0, self._closed_until - now)
