"""The life table and the price of a look, done again by their definitions, slow and plain."""

import math
from bisect import bisect_right

import attrs

from apixo_async.polling import Ends

INTERVAL = 5.0
# 3 % wider each, from a fiftieth of an interval to 400 of them; the first begins with the task.
EDGES = [0.0] + [0.02 * INTERVAL * 1.03**k for k in range(1, 337)]
"""Ages, in seconds, between which the chance of ending is taken to be the same."""


def bin_of(age: float) -> int:
    """Where an age belongs; what is older than the last bin as well belongs to it."""
    return min(bisect_right(EDGES, age) - 1, len(EDGES) - 2)


class TableByHand:
    """Counts ends and tasks at risk, each by its weight."""

    def __init__(self) -> None:
        self.ended = [0.0] * (len(EDGES) - 1)
        self.at_risk = [0.0] * (len(EDGES) - 1)
        self.weight = 1.0

    def saw_alive(self, since: float, age: float) -> None:
        """At risk in all bins that it was seen to leave."""
        for k in range(bin_of(since), bin_of(age)):
            self.at_risk[k] += self.weight

    def saw_end(self, since: float, age: float, at: float | None) -> None:
        """An end at `at`, or in equal parts anywhere between `since` and `age`."""
        known = None if at is None else {bin_of(min(max(at, since), age)): 1.0}
        parts = known or self._parts(since, age)
        for last, part in parts.items():
            self.ended[last] += part * self.weight
            for k in range(bin_of(since), last + 1):
                self.at_risk[k] += part * self.weight
        self.weight *= 1 + 1 / 2_000

    @staticmethod
    def _parts(since: float, age: float) -> dict[int, float]:
        if bin_of(since) == bin_of(age):
            return {bin_of(age): 1.0}
        return {
            k: (min(age, EDGES[k + 1]) - max(since, EDGES[k])) / (age - since)
            for k in range(bin_of(since), bin_of(age) + 1)
        }

    def hazard(self, age: float) -> float:
        """Ends per second of those who are alive, two tasks with one end in 300 s added."""
        return -math.log(1 - self._chance(bin_of(age))) / self._width(bin_of(age))

    def _width(self, k: int) -> float:
        return EDGES[k + 1] - EDGES[k]

    def _chance(self, k: int) -> float:
        guess = 2 * (1 - math.exp(-self._width(k) / 60 / INTERVAL))
        ended, at_risk = self.ended[k] / self.weight, self.at_risk[k] / self.weight
        return min((ended + guess) / (at_risk + 2), 0.98)

    def alive(self) -> list[float]:
        """Which part of all is alive at each edge."""
        alive = [1.0]
        for k in range(len(EDGES) - 1):
            alive.append(alive[-1] * (1 - self._chance(k)))
        return alive

    def lifetime(self) -> float:
        """How long one lives on average, at a steady hazard within each bin."""
        alive = self.alive()
        lived = [(alive[k] - alive[k + 1]) / self.hazard(EDGES[k]) for k in range(len(EDGES) - 1)]
        return sum(lived) + alive[-1] / self.hazard(EDGES[-1])

    def typical(self) -> float:
        """What comes together of sqrt(hazard) in a life, counted bin by bin."""
        return sum(
            math.sqrt(self.hazard(EDGES[k])) * self._width(k) * alive
            for k, alive in enumerate(self.alive()[:-1])
        )

    def delay(self, age: float, due: float) -> float:
        """What delay is to be expected at `due` of a task that was alive at `age`.

        Up to the end of its own bin the hazard counts; in later bins the chance that it has ended
        grows evenly from edge to edge.
        """
        first, last = bin_of(age), bin_of(due)
        hazard = self.hazard(age)
        end = min(due, EDGES[first + 1])
        survival = math.exp(-hazard * (end - age))
        delay = end - age - (1 - survival) / hazard
        for k in range(first + 1, last + 1):
            before, chance = survival, self._chance(k)
            survival = before * (1 - chance)
            if k == last:
                x = due - EDGES[k]
                slope = before * chance / self._width(k)
                return delay + (1 - before) * x + slope * x**2 / 2
            delay += self._width(k) - (before - survival) / self.hazard(EDGES[k])
        return delay


@attrs.frozen(kw_only=True)
class PriceByHand:
    """What a look costs, of the tasks that are watched: `ages` of a known kind, and others."""

    ends: Ends
    ages: list[float]
    rate: float
    others: int = 0
    told: float = 1.0
    """The square root of the part of callbacks that get lost; 1 where none are expected."""

    @property
    def price(self) -> float:
        """The urgency of all, within bounds, for each look of the rate that others leave."""
        urgency = sum(self.told * self.ends.root(age) for age in self.ages)
        evenly = len(self.ages) * self.told * self.ends.typical / self.ends.lifetime
        left = self.rate - self.others * self.told / INTERVAL
        return min(max(urgency, 0.7 * evenly), 2 * evenly) / max(left, 0.1 * self.rate)
