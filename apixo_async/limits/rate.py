"""The request rate: no 60 seconds see more than the limit, and neither side starves the other."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NewType

from apixo_async._logs import LOGGER, fields
from apixo_async.events import ClientEvent, LimitFound
from apixo_async.limits.buckets import Bucket, bucket_size
from apixo_async.limits.finding import (
    NOISE_MAX,
    SMALLEST_RATE,
    WINDOW,
    RateFinder,
    trial_seconds,
)
from apixo_async.limits.meters import MEMORY_SECONDS, RecentRate, RequestMeter
from apixo_async.limits.throttling import MANY_EPISODES, is_rate_high, is_rate_limit

SUBMIT_SHARE: Final = 0.8
"""Submits go before status calls, but a storm of them leaves the rest of the rate to those."""
BUSY: Final = 0.85
"""From this part of the rate on, or of the part that polls plan with, more would be of use."""

EPISODES_KEPT: Final = 64
AHEAD_SECONDS: Final = 0.25
"""Permits are reserved for those who are let through in so long, so that none spoils meanwhile."""
FEW_SECONDS: Final = 5.0
"""Refusals within so short a time may be a fault that passes, however many they are."""

Permit = NewType("Permit", int)
"""The right to one request; the number of 429 episodes before it was given."""


class RateGate:
    """Lets calls through at the rate that is found; closes for everyone after a 429.

    Submits draw on a bucket of their own first, of 80 % of the rate, so that they never starve
    status calls; in the bucket of all calls they go first, so that those never starve them.
    `also` is waited for with every call: a permit out of the bucket of several processes. `others`
    counts what those send.
    """

    def __init__(
        self,
        requests_per_minute: int,
        *,
        tell: Callable[[ClientEvent], None] | None = None,
        also: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.tell = tell
        self.finder = RateFinder(requests_per_minute, requests_per_minute)
        self._all = Bucket(bucket_size(requests_per_minute), also=also)
        self._submits = Bucket(bucket_size(requests_per_minute, share=SUBMIT_SHARE))
        self._episode = Permit(0)
        self.meter = RequestMeter()
        self.others, self._others_when_found = RequestMeter(), 0
        self._good, self._refused = RequestMeter(), RequestMeter()
        self._odd = RequestMeter()  # refused though little was sent
        self._fell_in, self._good_at_fall = self._episode, 0
        self._submitted, self._recent_submits = RequestMeter(), RecentRate()
        self._drained_at = -math.inf
        self._share = 1.0
        self._episodes: deque[tuple[Permit, float]] = deque(maxlen=EPISODES_KEPT)

    @property
    def per_second(self) -> float:
        """The sustained rate of all calls, as found."""
        return self._all.size.per_second

    @property
    def line(self) -> int:
        """How many stand in line for the bucket of all calls and are soon let through."""
        return min(self._all.waiting, max(1, int(self.per_second * AHEAD_SECONDS)))

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
            good, part = self._good.last_minute(now), self._refused_part(now)
            self.find(self.finder.probed(good=good, part=part, now=now))
        return self._episode

    def _refused_part(self, now: float) -> float:
        """What was refused of the requests of the last minutes; 0 where that says too little.

        After a fall, only what comes once the minute before it has passed tells its use.
        """
        seen = min(MEMORY_SECONDS, now - self._drained_at)
        refused = self._refused.last(seen, now)
        return refused / (refused + self._good.last(seen, now)) if refused >= MANY_EPISODES else 0.0

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
        return self.let_in(permit, now=now)

    def let_in(self, permit: Permit, *, now: float) -> bool:
        """Nobody has to wait any longer for the answer to this request, if anybody did."""
        if permit != self._episode:
            return False
        self._all.open(now=now)
        return True

    def refused(self, permit: Permit, *, in_a_row: int, now: float) -> bool:
        """A 429 was about the rate. Whether the account allows less than we took it to."""
        if permit < self._fell_in:
            return False  # sent at the old rate, which is known to be too high
        if now < self._drained_at and self.meter.last_minute(now) > self.finder.rate:
            return True  # what was sent at the old rate still fills the server's minute
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
            noise=self._noise_found(now),
        )
        # With nothing answered since the last fall, the pause was too short; the rate is unproven.
        # With hardly anything sent, it is no rate that any plan has.
        is_news = self._good.total > self._good_at_fall or not self.finder.is_lowered
        if is_limit and is_news and self.meter.last_minute(now) >= SMALLEST_RATE:
            self._fall(now)
        return is_limit

    def _fall(self, now: float) -> None:
        before, part = self.finder, self._refused_part(now)
        self._fell_in, self._good_at_fall = self._episode, self._good.total
        self._refused, self._odd = RequestMeter(), RequestMeter()
        self._episodes.clear()
        self.find(before.refused(good=self._good.last_minute(now), part=part, now=now))
        self._drained_at = now + WINDOW if self.finder.rate < before.rate else now

    def note_refused_look(self, now: float) -> None:
        """A status call was answered 429, which is never about tasks."""
        if not self.is_high(now):
            self._odd.count(now)

    def noise(self, now: float) -> float:
        """The part of all requests that is refused for no reason, as far as is known."""
        odd = self._odd.last(MEMORY_SECONDS, now)
        looks = self.meter.last(MEMORY_SECONDS, now) - self._submitted.last(MEMORY_SECONDS, now)
        of_late = odd / max(looks, odd) if odd >= MANY_EPISODES else 0.0
        return min(max(of_late, self._noise_found(now)), NOISE_MAX)

    def _noise_found(self, now: float) -> float:
        """What no lower rate helped against, and not more than may well have been of late."""
        refused = self._refused.last(MEMORY_SECONDS, now)
        at_most = refused + 2 * math.sqrt(refused) + 3
        return min(self.finder.noise, at_most / max(self.meter.last(MEMORY_SECONDS, now), 1))

    def _is_refuted(self, now: float) -> bool:
        """Whether more has passed since the first refusal than a limit would have let, for sure.

        A limit of what passed in the last minute would have let so much pass in that time.
        """
        since = now - self._episodes[0][1]
        expected = self._good.last_minute(now) * since / 60
        return since < FEW_SECONDS or self._good.last(since, now) > 2 * expected

    def is_high(self, now: float) -> bool:
        """Whether so much of the rate is used that a 429 may be about that.

        A rate that was found is what others left of the account's.
        """
        finder, used = self.finder, self.meter.last_minute(now) + self.others.last_minute(now)
        known = finder.proven + self._others_when_found if finder.is_lowered else finder.limit
        return is_rate_high(used / known, is_found=finder.is_lowered)

    def find(self, finder: RateFinder) -> None:
        """Takes over what was found out about the rate."""
        before, self.finder = self.finder, finder
        if finder.proven != before.proven:
            self._others_when_found = self.others.last_minute(asyncio.get_running_loop().time())
        if finder.rate == before.rate:
            return
        LOGGER.info(
            "request rate is %d of %d a minute",
            finder.rate,
            finder.limit,
            extra=fields(
                "limit_found", limit="requests", value=finder.rate, configured=finder.limit
            ),
        )
        if self.tell is not None:
            self.tell(LimitFound(limit="requests", value=finder.rate, configured=finder.limit))
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

    def end(self, reason: str) -> None:
        """No call passes any more: whoever waits gets `ClientUsageError`, and whoever comes."""
        self._all.end(reason)

    def closed_for(self, now: float) -> float:
        """Seconds until the gate opens again, 0 when it is open."""
        return self._all.closed_for(now)
