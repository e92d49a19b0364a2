"""At which age tasks of one kind end, learned from those that were watched.

Ages are divided into bins that widen with age. A task that was seen alive through a bin was at risk
of ending there; the chance of ending is the number of ends over the number at risk (an actuarial
life table). Tasks that still run are part of it, so that the first to end do not make all look
quick. What was seen long ago counts less and less.

The table answers two questions. How urgent is a look at a task of this age: the square root of its
hazard, because looking at intervals in proportion to 1 / sqrt(hazard) gives the least mean delay
for a number of looks. And when has so much urgency come together that it is time for the next one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
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
        self._urgency: list[float] = []
        self.typical = 0.0
        """The urgency that comes together in the life of one task, on average."""

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

    def urgency(self, age: float) -> float:
        """What has come together from the beginning to this age, in sqrt(s)."""
        self._renew()
        k = self._bin(age)
        return self._urgency[k] + self._roots[k] * (age - self._edges[k])

    def age_at(self, urgency: float) -> float:
        """The age at which so much has come together."""
        self._renew()
        k = min(max(bisect_right(self._urgency, urgency) - 1, 0), BINS - 1)
        return self._edges[k] + (urgency - self._urgency[k]) / self._roots[k]

    def _renew(self) -> None:
        if self._until_renewal > 0 and self._roots:
            return
        self._until_renewal = min(_RENEW, max(1, self.seen // 4))
        at_risk = accumulate(self._entered)
        self._roots, alive, typical = [], 1.0, 0.0
        scale = 1 / self._weight
        for ended, risk, guess, width in zip(
            self._ended, at_risk, self._guess, self._widths, strict=False
        ):
            chance = min((ended * scale + guess) / (max(risk * scale, 0.0) + DOUBT), SUREST)
            root = math.sqrt(-math.log1p(-chance) / width)
            self._roots.append(root)
            typical += root * width * alive
            alive *= 1 - chance
        steps = [root * width for root, width in zip(self._roots, self._widths, strict=True)]
        self._urgency = list(accumulate(steps, initial=0.0))
        self.typical = typical
