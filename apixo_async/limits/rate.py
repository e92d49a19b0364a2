"""The request rate: no 60 seconds see more than the limit, and neither side starves the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, NewType

from apixo_async.limits.buckets import Bucket, bucket_size
from apixo_async.limits.finding import SMALLEST_RATE, RateFinder, trial_seconds
from apixo_async.limits.meters import MEMORY_SECONDS, RecentRate, RequestMeter
from apixo_async.limits.throttling import is_rate_high, is_rate_limit

_LOGGER = logging.getLogger("apixo_async")

SUBMIT_SHARE: Final = 0.8
"""Submits go before status calls, but a storm of them leaves the rest of the rate to those."""
BUSY: Final = 0.85
"""From this part of the rate on, or of the part that polls plan with, more would be of use."""

EPISODES_KEPT: Final = 64
FEW_SECONDS: Final = 5.0
"""Refusals within so short a time may be a fault that passes, however many they are."""

Permit = NewType("Permit", int)
"""The right to one request; the number of 429 episodes before it was given."""


class RateGate:
    """Lets calls through at the rate that is found; closes for everyone after a 429.

    Submits draw on a bucket of their own first, of 80 % of the rate, so that they never starve
    status calls; in the bucket of all calls they go first, so that those never starve them.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self.finder = RateFinder(requests_per_minute, requests_per_minute)
        self._all = Bucket(bucket_size(requests_per_minute))
        self._submits = Bucket(bucket_size(requests_per_minute, share=SUBMIT_SHARE))
        self._episode = Permit(0)
        self.meter = RequestMeter()
        self._good, self._refused = RequestMeter(), RequestMeter()
        self._fell_in, self._good_at_fall = self._episode, 0
        self._submitted, self._recent_submits = RequestMeter(), RecentRate()
        self._share = 1.0
        self._episodes: deque[tuple[Permit, float]] = deque(maxlen=EPISODES_KEPT)

    @property
    def per_second(self) -> float:
        """The sustained rate of all calls, as found."""
        return self._all.size.per_second

    def submits_per_second(self, now: float) -> float:
        """Submits of late; those that wait for a token count as all that they may take."""
        if self._submits.waiting and not self._submits.closed_for(now):
            return self._submits.size.per_second
        return self._recent_submits.per_second(now)

    def polls_per_second(self, share: float, now: float) -> float:
        """How many status calls a second the rate has room for; always above 0."""
        self._share = share
        left = self.per_second - self.submits_per_second(now)
        return max(
            min(share * self.per_second, left), min(share, 1 - SUBMIT_SHARE) * self.per_second
        )

    async def wait_open(self, *, poll: bool) -> Permit:
        """Waits for a token and an open gate: one token for a status call, two for a submit."""
        if not poll:
            await self._submits.acquire()
        await self._all.acquire(first=not poll)
        now = asyncio.get_running_loop().time()
        self.meter.count(now)
        if not poll:
            self._submitted.count(now)
            self._recent_submits.count(now)
        if self.finder.is_lowered and now >= self.finder.next_probe and self._is_busy(now):
            self.find(self.finder.probed(good=self._good.last_minute(now), now=now))
        return self._episode

    def _is_busy(self, now: float) -> bool:
        """Whether the found rate was made use of, so that it is proven and more would be of use."""
        seconds = trial_seconds(self.finder.rate)
        use = BUSY * seconds * self.per_second
        requests = self.meter.last(seconds, now)
        polls = requests - self._submitted.last(seconds, now)
        return polls >= self._share * use or requests >= use

    def is_new_episode(self, permit: Permit) -> bool:
        """Whether a 429 on this permit begins another episode; if so, it has begun."""
        if permit != self._episode:
            return False
        self._episode = Permit(self._episode + 1)
        return True

    def answered(self, permit: Permit, *, now: float) -> bool:
        """A request was not refused; whether it was sent since the last pause."""
        self._good.count(now)
        if permit != self._episode:
            return False
        self._all.open(now=now)
        return True

    def refused(self, permit: Permit, *, in_a_row: int, now: float) -> bool:
        """A 429 was about the rate. Whether the account allows less than we took it to."""
        if permit < self._fell_in:
            return False  # sent at the old rate, which is known to be too high
        self._refused.count(now)
        if not self._episodes or self._episodes[-1][0] != permit:
            self._episodes.append((permit, now))
        is_limit = is_rate_limit(
            in_a_row=in_a_row,
            episodes=sum(begin > now - MEMORY_SECONDS for _, begin in self._episodes),
            refused=self._refused.last(MEMORY_SECONDS, now),
            good=self._good.last(MEMORY_SECONDS, now),
            is_expected=self.finder.is_lowered and self.is_high(now),
            is_refuted=self._is_refuted(now),
        )
        # With nothing answered since the last fall, the pause was too short; the rate is unproven.
        # With hardly anything sent, it is no rate that any plan has.
        is_news = self._good.total > self._good_at_fall or not self.finder.is_lowered
        if is_limit and is_news and self.meter.last_minute(now) >= SMALLEST_RATE:
            self._fell_in, self._good_at_fall = self._episode, self._good.total
            self._refused = RequestMeter()
            self._episodes.clear()
            self.find(self.finder.refused(good=self._good.last_minute(now), now=now))
        return is_limit

    def _is_refuted(self, now: float) -> bool:
        """Whether more has passed since the first refusal than a limit would have let, for sure.

        A limit of what passed in the last minute would have let so much pass in that time.
        """
        since = now - self._episodes[0][1]
        expected = self._good.last_minute(now) * since / 60
        return since < FEW_SECONDS or self._good.last(since, now) > 2 * expected

    def is_high(self, now: float) -> bool:
        """Whether so much of the rate is used that a 429 may be about that."""
        finder = self.finder
        known = finder.proven if finder.is_lowered else finder.limit
        return is_rate_high(self.meter.last_minute(now) / known, is_found=finder.is_lowered)

    def find(self, finder: RateFinder) -> None:
        """Takes over what was found out about the rate."""
        before, self.finder = self.finder, finder
        if finder.rate == before.rate:
            return
        _LOGGER.info(
            "request rate is %d of %d a minute",
            finder.rate,
            finder.limit,
            extra={"rate": finder.rate},
        )
        self._all.retune(bucket_size(finder.rate))
        self._submits.retune(bucket_size(finder.rate, share=SUBMIT_SHARE))

    def room_in(self, now: float) -> float:
        """Seconds until a minute that counted all we sent has room for one more request.

        At a high rate less: one request too many is worth knowing sooner.
        """
        room_in = self.meter.room_at(self.finder.rate, now) - now
        return min(room_in, trial_seconds(self.finder.rate))

    def close_for(self, seconds: float, *, now: float) -> None:
        """Nobody passes for this long; a later end is never brought forward."""
        self._all.close(seconds, now=now, one_ahead=True)

    def close_submits_for(self, seconds: float, *, now: float) -> None:
        """No submit passes for this long; status calls do, the rate is not to blame."""
        self._submits.close(seconds, now=now, one_ahead=False)

    def closed_for(self, now: float) -> float:
        """Seconds until the gate opens again, 0 when it is open."""
        return self._all.closed_for(now)
