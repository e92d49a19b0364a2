"""Sharing the request rate among the tasks that are watched with a learned schedule.

Every look costs the same, so a look is due when the delay that is to be expected since the last one
is worth its price. The price is such that all tasks together use the rate that is there. No clock
and no I/O: the time is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from apixo_async._timing import spread
from apixo_async.polling.arrivals import LEAST, Arrivals
from apixo_async.polling.ends import Ends
from apixo_async.polling.schedules import LearnedSchedule

Kind: TypeAlias = tuple[str, str | None]
"""Model and mode: what is alike in how long it takes."""
KINDS_MAX: Final = 256
"""Kinds that are learned about; a client that is used for more forgets the first."""
LONGEST: Final = 24
"""Intervals after which even a task whose end is most unlikely is looked at, if it is young."""
FLOOR_SHARE: Final = 0.05
"""The part of the looks that may go there."""
CHEAPEST: Final = 0.7
DEAREST: Final = 2.0
"""Tasks that were submitted together get old together. A look never costs less or more than this,
in what it would cost were they spread evenly over their lives: looks that cannot all be made at the
moment when all end stand in line, and those of the quiet time before would tell nothing."""
SAFETY: Final = 0.3
"""Delay, in intervals, that is to be expected of lost callbacks before it is worth a look: 1.5 s,
and less in proportion where more get lost than a few. Up to those, a task is looked at when it is
overdue by most of a minute; where all are lost, as if there were no callbacks."""
OVERDUE: Final = 12.0
"""Intervals after which a task is looked at whose callback might have come by now: a minute."""
_RENEW: Final = 0.2
"""Intervals after which the price is made anew."""
_LEAST_PART: Final = 0.1
"""The part of the rate that is left for what is learned, however much is not learned yet."""


@attrs.define(eq=False)
class Look:
    """One watched task. `born` is when it was accepted, `since` its age when last seen alive.

    `is_told` says that a callback is expected, so that looks are for the case that it is lost.
    """

    kind: Kind
    schedule: LearnedSchedule
    born: float
    is_told: bool = False
    since: float = 0.0
    is_first: bool = True


class Pacer:
    """Knows how long tasks of each kind take, and says when to look at one again.

    `budget` gives the looks a second that may be made of a part of the request rate.
    """

    def __init__(self, budget: Callable[[float], float]) -> None:
        self._budget = budget
        self._ends: dict[tuple[Kind, float], Ends] = {}
        self._watched: dict[Look, Ends] = {}
        self._arrivals = Arrivals()
        self._price = 0.0
        self._priced_at = float("-inf")

    def ends_of(self, kind: Kind, schedule: LearnedSchedule) -> Ends:
        """What is known of tasks of this kind."""
        name = (kind, schedule.interval)
        ends = self._ends.get(name)
        if ends is None:
            if len(self._ends) >= KINDS_MAX:
                del self._ends[next(iter(self._ends))]
            ends = self._ends[name] = Ends(schedule.interval)
        return ends

    def watch(self, look: Look) -> None:
        """This task shares the rate from now on."""
        self._watched[look] = self.ends_of(look.kind, look.schedule)

    def leave(self, look: Look) -> None:
        """It does so no more."""
        self._watched.pop(look, None)

    def knows(self, look: Look) -> bool:
        """Whether enough is known of tasks of its kind."""
        ends = self._watched.get(look)
        return ends is not None and ends.is_known

    def saw(
        self,
        look: Look,
        *,
        now: float,
        has_ended: bool,
        duration: float | None,
        was_told: bool = False,
    ) -> None:
        """A look was answered. `duration` is how long the task took by the API's own clock.

        `was_told` says that a callback made us look.
        """
        ends = self._watched.get(look)
        age = now - look.born
        if ends is None or age <= 0:
            return
        if has_ended:
            # By a clock that runs otherwise it would have ended after it was seen to have.
            is_likely = duration is not None and 0 < duration <= age + look.schedule.interval
            ended_at = duration if is_likely else age if was_told else None
            ends.saw_end(look.since, age, at=ended_at)
            # A callback may be on its way from a task that has just ended.
            is_late = ended_at is None or age > ended_at + look.schedule.interval
            if look.is_told and (was_told or is_late):
                self._arrivals.saw(was_told=was_told)
        elif age > look.since:
            ends.saw_alive(look.since, age)
        look.since = max(look.since, age)

    def pause(self, look: Look, *, now: float, unit: float) -> float | None:
        """Seconds until the next look, `None` while too little is known of this kind.

        The first one comes anywhere within the price of a look (`unit`, a random number in [0, 1)),
        so that tasks submitted together are not looked at together.
        """
        ends = self._watched.get(look)
        if ends is None or not ends.is_known:
            return None
        schedule = look.schedule
        price = self._price_at(now, schedule)
        if look.is_told:
            # Only what is lost is late, so much more delay may be expected before it is worth it.
            lost = self._arrivals.lost
            least = math.sqrt(2 * SAFETY * schedule.interval * LEAST / lost)
            price = max(price, least) / math.sqrt(lost)
        else:
            price = max(price, ends.typical / schedule.most_looks)
        jitter = min(schedule.jitter, 1.0)
        is_at_random = look.is_first and not look.is_told
        price = price * unit if is_at_random else spread(price, by=jitter, unit=unit)
        look.is_first = False
        age = max(now - look.born, 0.0)
        pause = ends.due(age, price) - age
        spare = FLOOR_SHARE * self._budget(schedule.share)
        longest = max(LONGEST * schedule.interval, age, len(self._watched) / spare)
        if look.is_told:
            overdue_in = max(0.0, ends.lifetime - age)
            # Nearly all of them will be told in time, and need no look.
            overdue = max(OVERDUE * schedule.interval, self._arrivals.lost * longest)
            longest = overdue_in + overdue
        return min(max(pause, schedule.shortest_pause), longest)

    def _price_at(self, now: float, schedule: LearnedSchedule) -> float:
        if now >= self._priced_at + _RENEW * schedule.interval:
            self._price, self._priced_at = self._new_price(now, schedule), now
        return self._price

    def _new_price(self, now: float, schedule: LearnedSchedule) -> float:
        rate = self._budget(schedule.share)
        roots, evenly, others = 0.0, 0.0, 0.0
        told = math.sqrt(self._arrivals.lost)
        for look, ends in self._watched.items():
            age = now - look.born
            if ends.is_known:
                part = told if look.is_told else 1.0
                roots += part * ends.root(age)
                evenly += part * ends.typical / ends.lifetime
            elif age >= look.schedule.first:
                others += (told if look.is_told else 1.0) / look.schedule.interval
        needed = min(max(roots, CHEAPEST * evenly), DEAREST * evenly)
        return needed / max(rate - others, _LEAST_PART * rate)
