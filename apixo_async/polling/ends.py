"""At which age tasks of one kind end, learned from those that were watched.

Ages are divided into bins that widen with age. A task that was seen alive through a bin was at risk
of ending there; the chance of ending is the number of ends over the number at risk (an actuarial
life table). Tasks that still run are part of it, so that the first to end do not make all look
quick. What was seen long ago counts less and less.

The table answers two questions. How urgent is a look at a task of this age: the square root of its
hazard, because looking at intervals in proportion to 1 / sqrt(hazard) gives the least mean delay
for a number of looks. And when is the next look due: once the delay that is to be expected by then
is worth it, which for a steady hazard comes to those intervals, and which does not forget a moment
at which nearly all end.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Final

RATIO: Final = 1.03
"""Each bin is this much wider than the one before: 3.6 s at two minutes."""
_LOG_RATIO: Final = math.log(RATIO)
FINEST: Final = 0.02
COARSEST: Final = 400.0
"""Where the bins begin and end, in intervals of the schedule: 0.1 and 2,000 s at 5 s."""
BINS: Final = math.ceil(math.log(COARSEST / FINEST) / _LOG_RATIO)

MEMORY: Final = 2_000
"""Ends after which one that was seen counts a third: four minutes of a batch of 1,000 tasks."""
ENOUGH: Final = 20
"""Ends that have to be seen before they are relied on."""
DOUBT: Final = 2.0
"""Tasks at risk that every bin is taken to have had before any was seen."""
UNSEEN: Final = 1 / 60
"""Ends in an interval of the schedule where nobody has looked yet, a floor of attention."""
SUREST: Final = 0.98
"""The highest chance of ending in a bin that is believed."""
_RENEW: Final = 64
"""Ends after which the table is made anew."""
_HEAVY: Final = 1e9
_NOBODY: Final = 1e-200


class Ends:
    """The life table of one kind of task. All ages are seconds from acceptance."""

    def __init__(self, interval: float) -> None:
        self._finest = FINEST * interval
        widths = [self._finest * (RATIO - 1) * RATIO**k for k in range(BINS)]
        self._edges = list(accumulate(widths, initial=self._finest))
        self._edges[0] = 0.0  # the first bin begins with the task
        self._widths = [b - a for a, b in zip(self._edges, self._edges[1:], strict=False)]
        self._guess = [DOUBT * -math.expm1(-UNSEEN / interval * width) for width in self._widths]
        self._ended = [0.0] * (BINS + 1)
        self._entered = [0.0] * (BINS + 1)
        """Tasks seen to enter a bin, less those seen to leave it: what is summed up is at risk."""
        self._weight = 1.0
        self._until_renewal = 0
        self.seen = 0
        """Tasks that were seen to end."""
        self._roots: list[float] = []
        self._alive: list[float] = []
        """Which part of all tasks is alive at the edges of the bins."""
        self._left: list[float] = []
        """How long all of those go on to live, taken together."""
        self.typical = 0.0
        """The urgency that comes together in the life of one task, on average."""
        self.lifetime = interval
        """Seconds from acceptance to end, on average."""

    @property
    def is_known(self) -> bool:
        """Whether enough tasks have ended to rely on this."""
        return self.seen >= ENOUGH

    # Learning

    def saw_alive(self, since: float, age: float) -> None:
        """A task that was alive at `since` was so at `age`, too."""
        first, last = self._bin(since), self._bin(age)
        if last > first:
            self._entered[first] += self._weight
            self._entered[last] -= self._weight

    def saw_end(self, since: float, age: float, *, at: float | None) -> None:
        """A task that was alive at `since` was seen at `age` to have ended, `at` if that is known.

        Without it, any moment in between is as likely as another.
        """
        weight = self._weight
        if at is not None:
            last = self._bin(min(max(at, since), age))
            self._ended[last] += weight
            self._leave(self._bin(since), last, weight)
        else:
            first, last = self._bin(since), self._bin(age)
            begin, span = min(since, self._edges[last]), max(age - since, 1e-9)
            for k in range(first, last + 1):
                inside = min(age, self._edges[k + 1]) - max(begin, self._edges[k])
                part = weight * max(inside, 0.0) / span if last > first else weight
                self._ended[k] += part
                self._leave(first, k, part)
        self.seen += 1
        self._until_renewal -= 1
        self._weight *= 1 + 1 / MEMORY
        if self._weight > _HEAVY:
            self._lighten()

    def _leave(self, first: int, last: int, weight: float) -> None:
        # At risk in the bin of its end, too.
        self._entered[first] += weight
        self._entered[last + 1] -= weight

    def _lighten(self) -> None:
        self._ended = [ended / self._weight for ended in self._ended]
        self._entered = [entered / self._weight for entered in self._entered]
        self._weight = 1.0

    def _bin(self, age: float) -> int:
        if age <= self._finest * RATIO:
            return 0
        return min(int(math.log(age / self._finest) / _LOG_RATIO), BINS - 1)

    # Answers

    def root(self, age: float) -> float:
        """How urgent a look is at this age, in 1 / sqrt(s)."""
        self._renew()
        return self._roots[self._bin(age)]

    def due(self, age: float, price: float) -> float:
        """The age at which a task that is alive at `age` is to be looked at next.

        It is looked at when the delay expected by then is `price ** 2 / 2` seconds: with a steady
        hazard that is after `price / sqrt(hazard)` seconds.
        """
        self._renew()
        k = self._bin(age)
        root, end = self._roots[k], self._edges[k + 1]
        soon = age + price / root
        if soon <= end or k == BINS - 1:
            return soon
        alive = self._alive[k] * math.exp(-(root**2) * (age - self._edges[k]))
        if alive < _NOBODY:
            return end
        left = self._left[k + 1] + (alive - self._alive[k + 1]) / root**2
        return max(self._due_in_bins(k + 1, price**2 / 2, age, alive, left), end)

    def _due_in_bins(
        self, first: int, delay: float, age: float, alive: float, left: float
    ) -> float:
        """Where the expected delay reaches `delay`, at the edge `first` or later.

        By an age t it is the time from `age` to t, less what is to be lived of it: the tails of
        the survival curve tell how much, `left` at `age` for `alive` tasks.
        """

        def expected(k: int) -> float:
            return self._edges[k] - age - (left - self._left[k]) / alive

        k = bisect_left(range(BINS), delay, lo=first, hi=BINS, key=expected)
        if k == first:
            return self._edges[first]
        begin, rest = self._edges[k - 1], delay - expected(k - 1)
        chance = 1 - self._alive[k - 1] / alive
        slope = max((self._alive[k - 1] - self._alive[k]) / alive / self._widths[k - 1], 0.0)
        # Within a bin the chance that it has ended grows evenly: rest = chance x + slope x^2 / 2.
        return begin + 2 * rest / (chance + math.sqrt(chance**2 + 2 * slope * rest))

    def _renew(self) -> None:
        if self._until_renewal > 0 and self._roots:
            return
        self._until_renewal = min(_RENEW, max(1, self.seen // 4))
        at_risk = accumulate(self._entered)
        lived: list[float] = []
        roots: list[float] = []
        alive, typical = [1.0], 0.0
        scale = 1 / self._weight
        for ended, risk, guess, width in zip(
            self._ended, at_risk, self._guess, self._widths, strict=False
        ):
            chance = min((ended * scale + guess) / (max(risk * scale, 0.0) + DOUBT), SUREST)
            hazard = -math.log1p(-chance) / width
            roots.append(math.sqrt(hazard))
            typical += roots[-1] * width * alive[-1]
            lived.append(alive[-1] * chance / hazard)
            alive.append(alive[-1] * (1 - chance))
        # From the end, so that what is left of few is as exact as what is left of many.
        left = list(accumulate(reversed(lived), initial=alive[-1] / roots[-1] ** 2))
        self._roots, self._alive, self._left = roots, alive, left[::-1]
        self.typical, self.lifetime = typical, self._left[0]
