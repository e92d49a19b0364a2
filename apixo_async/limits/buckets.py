"""Token buckets with a line in front of them, whose size may change while people wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import attrs

from apixo_async.errors import ClientUsageError

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

WINDOW_SECONDS: Final = 61.0
"""One second more than the minute that is promised: requests that were let through evenly may
arrive bunched by the network."""
BURST_MAX: Final = 100
"""A bucket this small fills in 0.6 s at 10,000 a minute; a larger one would only cost rate."""
FIRST_IN_A_ROW: Final = 4
"""Of a bucket that is shared, those who go first take four in five, however little is left."""
TEST_SECONDS: Final = 2.0
"""After a pause one request goes ahead; for so long the others wait for its answer."""


@attrs.frozen
class BucketSize:
    """A token bucket: `burst` at once, then `per_second`."""

    burst: float
    per_second: float

    def limiter(self) -> AsyncLimiter:
        """A full limiter of this size; it belongs to the event loop that first waits on it."""
        from aiolimiter import AsyncLimiter  # noqa: PLC0415  # importing it reads package metadata

        return AsyncLimiter(self.burst, self.burst / self.per_second)


def bucket_size(requests_per_minute: int, *, share: float = 1.0) -> BucketSize:
    """The fastest bucket that keeps the limit in every window of `WINDOW_SECONDS`.

    A bucket lets through at most floor(burst + window * rate). A plain 10,000 in 60 s bucket would
    allow 10,000 at once and refill meanwhile: nearly 20,000 in the first minute. Requests are
    whole, so the sum may come as close to limit + 1 as one likes, but not reach it. Of two limits
    the smaller has neither the larger burst nor the larger rate. `share` scales the result for a
    bucket inside this one; a bucket never holds less than one token.
    """
    burst = min(max(requests_per_minute // 100, 1), BURST_MAX)
    per_second = (requests_per_minute + 1 - burst) / WINDOW_SECONDS * (1 - 1e-6)
    return BucketSize(burst=max(1.0, share * burst), per_second=share * per_second)


def tokens_in(limiter: AsyncLimiter) -> float:
    """How many tokens could be taken now: by bisection, as a limiter does not tell; never more."""
    least, most = 0.0, limiter.max_rate
    if limiter.has_capacity(most):
        return most
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (middle, most) if limiter.has_capacity(middle) else (least, middle)
    return least


def limiter_holding(size: BucketSize, tokens: float) -> AsyncLimiter:
    """A limiter of this size with only so many tokens in it."""
    limiter = size.limiter()
    drawing = limiter.acquire(size.burst - min(tokens, size.burst))
    try:
        drawing.send(None)  # a full limiter gives at once, without waiting
    except StopIteration:
        return limiter
    drawing.close()
    msg = "a new limiter is not full"
    raise RuntimeError(msg)


class Bucket:
    """Gives out tokens one by one, to those who go first before the others.

    Nobody but the head of the line ever waits on the limiter itself, because a limiter's rate is
    fixed when it is made: `retune` replaces it by one that holds what the old one held, and all
    who stand in line are served from that. So over any number of changes no window sees more than
    the largest of the sizes would have let through.

    `also` waits for what a token needs beside itself: one of a bucket that others draw on, too.
    """

    def __init__(
        self, size: BucketSize, *, also: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.size = size
        self._also = also
        self._first_in_a_row = 0
        self._end: str | None = None
        self._limiter = size.limiter()
        self._first: OrderedDict[asyncio.Future[int], None] = OrderedDict()
        self._others: OrderedDict[asyncio.Future[int], None] = OrderedDict()
        self._server: asyncio.Task[None] | None = None
        self._closings = 0
        self._closed_until = 0.0
        self._is_testing = False
        self._tested_until = 0.0

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._first) + len(self._others)

    def closed_for(self, now: float) -> float:
        """Seconds of the pause that are left, 0 when there is none."""
        return max(0.0, self._closed_until - now)

    def close(self, seconds: float, *, now: float, one_ahead: bool) -> None:
        """Nobody passes for this long; a later end is never brought forward.

        With `one_ahead` one passes then, and the others follow when `open` says that it was
        answered well; without an answer another goes ahead every `TEST_SECONDS`.
        """
        self._closings += 1
        self._closed_until = max(self._closed_until, now + seconds)
        self._is_testing, self._tested_until = one_ahead, 0.0
        self._restart()

    def open(self, *, now: float) -> None:
        """Who went ahead was answered well: all may follow."""
        if self._is_testing and now >= self._closed_until:
            self._is_testing, self._tested_until = False, 0.0
            self._restart()

    def retune(self, size: BucketSize) -> None:
        """Goes on at this size, with the tokens that are there."""
        self._limiter = limiter_holding(size, tokens_in(self._limiter))
        self.size = size
        self._restart()

    def end(self, reason: str) -> None:
        """Whoever waits gets `ClientUsageError`, and whoever comes."""
        self._end = reason
        loop = asyncio.get_running_loop()
        if self._server is None or self._server.get_loop() is not loop:
            return  # nobody waits, or on a loop that has ended
        for line in (self._first, self._others):
            while line:
                waiter, _ = line.popitem(last=False)
                if not waiter.done():
                    waiter.set_exception(ClientUsageError(reason))
        self._stop()

    async def acquire(self, *, first: bool = False) -> None:
        """Waits for a token while the bucket is not closed."""
        seen = -1
        while seen != self._closings:
            # Closed between the token and this moment: it is spent, which errs to the safe side.
            seen = await self._pass(first=first)

    async def _pass(self, *, first: bool) -> int:
        """Waits for a token; returns the number of closings at the moment it was given."""
        now = asyncio.get_running_loop().time()
        is_free = self._server is None and self._also is None
        if is_free and self._is_open(now) and self._limiter.has_capacity():
            await self._limiter.acquire()  # at once
            self._note_pass(now)
            return self._closings
        return await self._stand_in_line(self._first if first else self._others)

    async def _stand_in_line(self, line: OrderedDict[asyncio.Future[int], None]) -> int:
        if self._end is not None:
            raise ClientUsageError(self._end)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        line[waiter] = None
        if self._server is None:
            self._server = loop.create_task(self._serve())
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in line:
                del line[waiter]
            elif not waiter.cancelled():
                # The token was handed over in the same instant: pass it on.
                self._hand_over(loop.time())
            if not self.waiting:
                self._stop()
            raise

    def _is_open(self, now: float) -> bool:
        return now >= max(self._closed_until, self._tested_until)

    def _note_pass(self, now: float) -> None:
        if self._is_testing:
            self._tested_until = now + TEST_SECONDS

    def _hand_over(self, now: float) -> None:
        """The token goes to the next in line who is still there."""
        while (line := self._next_line()) and self._is_open(now):
            waiter, _ = line.popitem(last=False)
            if not waiter.done():
                waiter.set_result(self._closings)
                self._note_pass(now)
                self._first_in_a_row = self._first_in_a_row + 1 if line is self._first else 0
                return

    def _next_line(self) -> OrderedDict[asyncio.Future[int], None]:
        """Those who go first, but where `also` may leave us less than they draw, not all of it."""
        is_others_turn = self._also is not None and self._first_in_a_row >= FIRST_IN_A_ROW
        return (is_others_turn and self._others) or self._first or self._others

    async def _serve(self) -> None:
        """Hands out tokens as long as somebody stands in line."""
        loop = asyncio.get_running_loop()
        while self.waiting:
            left = max(self._closed_until, self._tested_until) - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            await self._limiter.acquire()
            if self._also is not None:
                await self._also()
            # Closed meanwhile, the token is spent, which errs to the safe side.
            self._hand_over(loop.time())
        self._server = None

    def _restart(self) -> None:
        """Whatever the server waits for, it looks again; who stands in line notices nothing."""
        if self._server is not None:
            self._server.cancel()
            self._server = asyncio.get_running_loop().create_task(self._serve())

    def _stop(self) -> None:
        if self._server is not None:
            self._server.cancel()
            self._server = None
