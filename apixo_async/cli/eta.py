"""How long a batch goes on, by how long its tasks were seen to live. Pure numbers, no clock.

A mean says when a typical task ends; a batch ends with its last one. So the rest of the batch is
played through: each task lives as long as its share of those that were seen, of those only that got
as old as it is, and the next job begins where one ends. Tasks that still run are part of what is
known, or the first to end would make all look quick (as in `polling.ends`, which has its table
inside the client; here the journal of another process has to do).
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

Kind: TypeAlias = tuple[str, str | None]
"""Model and mode: what is alike in how long it takes."""

ENOUGH: Final = 200
"""Ends that tell how long tasks live by themselves. Of fewer, the quick ones are too many, and what
still runs is counted, too; of the last ones of a long batch, what still runs would be too many."""
HALF: Final = 0.5
TAIL: Final = 0.25
"""How long those live on, in means, that live longer than any that ended."""
SLOTS_PLAYED: Final = 500
"""With more slots a fair part of the batch is played: the result is the same, the work is not."""
WAVES_PLAYED: Final = 4
"""What is beyond so many waves goes by the mean: there it comes to the same."""
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
"""Its multiples, without what is before the point, spread evenly however many there are."""


@attrs.frozen
class Lives:
    """How long tasks of one kind live: by an age in `ages`, the part in `alive` is left."""

    ages: Sequence[float]
    alive: Sequence[float]

    @classmethod
    def of(cls, ended: Iterable[float], running: Iterable[float] = ()) -> Lives:
        """From the ages at which tasks ended, and those of tasks that still run (Kaplan-Meier)."""
        ended, still = sorted(ended), sorted(running)
        ages: list[float] = []
        alive: list[float] = []
        left, at = 1.0, 0
        while at < len(ended):
            age, behind = ended[at], bisect_right(ended, ended[at])
            at_risk = len(ended) - at + len(still) - bisect_left(still, age)
            left *= 1 - (behind - at) / at_risk
            ages.append(age)
            alive.append(left)
            at = behind
        return cls(ages, alive)

    @property
    def is_known(self) -> bool:
        """Whether half were seen to end: before that, the quick ones would speak for all."""
        return bool(self.alive) and self.alive[-1] <= HALF

    @property
    def mean(self) -> float:
        """Seconds, where what is not known of the oldest ends with the last that was seen to."""
        parts = zip(self.ages, (0.0, *self.ages), (1.0, *self.alive), strict=False)
        return sum((age - before) * left for age, before, left in parts)

    def is_late(self, age: float) -> bool:
        """Whether a task is older than any that ended."""
        return not self.ages or age >= self.ages[-1]

    def left(self, age: float, part: float) -> float:
        """Seconds in which this part of the tasks that are so old ends; from 0 to below 1.

        Of what lives longer than any that ended nobody knows how long it does: it is taken to end
        at a steady rate, a quarter of the mean being the rule.
        """
        first = bisect_right(self.ages, age)
        target = (1 - part) * (self.alive[first - 1] if first else 1.0)
        if first < len(self.ages) and target >= self.alive[-1]:
            # `alive` falls.
            found = bisect_left(self.alive, -target, lo=first, key=lambda alive: -alive)
            return self.ages[found] - age
        last = max(self.ages[-1] - age, 0.0)
        beyond = self.alive[-1] / target if first < len(self.ages) else 1 / (1 - part)
        return last + TAIL * self.mean * math.log(max(1.0, beyond))


@attrs.frozen
class Left:
    """What is left of a batch."""

    seconds: float | None
    """Until the last task ends, `None` where nothing is known, 0 where only late ones are left."""
    late: int = 0
    """Tasks that run longer than any that ended."""


def time_left(
    *,
    running: Mapping[Kind, Sequence[float]],
    queued: Mapping[Kind, int],
    ended: Mapping[Kind, Sequence[float]],
    slots: int,
) -> Left:
    """How long it takes until all have ended, with `slots` tasks at a time.

    `running` are the ages of tasks, `ended` the ages at which tasks did. A kind of which too
    few have ended is taken to be like all together.
    """
    lives = _lives({*running, *queued}, running, ended)
    if lives is None:
        return Left(None)
    rest, late = list[float](), 0
    for kind, ages in running.items():
        for at, age in enumerate(sorted(ages)):
            late += lives[kind].is_late(age)
            rest.append(lives[kind].left(age, _unit(at)))
    if late == len(rest) and not any(queued.values()):
        return Left(0.0, late)
    return Left(_played(rest, queued, lives, free=max(0, slots - len(rest))), late)


def _lives(
    kinds: Iterable[Kind],
    running: Mapping[Kind, Sequence[float]],
    ended: Mapping[Kind, Sequence[float]],
) -> Mapping[Kind, Lives] | None:
    """Of each of these kinds; `None` where of one too little is known, and of all together."""
    lives = {kind: _known(ages, running.get(kind, ())) for kind, ages in ended.items()}
    together = _known(*([age for ages in of.values() for age in ages] for of in (ended, running)))
    found = {
        kind: lives[kind] if kind in lives and lives[kind].is_known else together for kind in kinds
    }
    return found if all(one.is_known for one in found.values()) else None


def _known(ended: Sequence[float], running: Sequence[float]) -> Lives:
    return Lives.of(ended, () if len(ended) >= ENOUGH else running)


def _played(
    running: list[float], queued: Mapping[Kind, int], lives: Mapping[Kind, Lives], *, free: int
) -> float:
    """When the last ends if the next begins wherever one has: list scheduling."""
    slots = len(running) + free
    step = max(1, math.ceil(slots / SLOTS_PLAYED))
    ends = sorted(running)[::-1][::step]  # the last to end is always among them
    ends += [0.0] * (math.ceil(free / step) if free else 0)
    heapq.heapify(ends)
    latest, skipped = max(ends, default=0.0), 0.0
    waiting = {kind: math.ceil(number / step) for kind, number in queued.items() if number}
    total, most = sum(waiting.values()), WAVES_PLAYED * max(1, len(ends))
    for kind, jobs in waiting.items():
        played = jobs if total <= most else max(1, jobs * most // total)
        skipped += (jobs - played) * lives[kind].mean / max(1, len(ends))
        for at in range(played):
            begin = heapq.heappop(ends) if ends else latest
            end = begin + lives[kind].left(0.0, _unit(at))
            heapq.heappush(ends, end)
            latest = max(latest, end)
    return latest + skipped


def _unit(number: int) -> float:
    """A number from 0 to below 1; the first so many are spread evenly."""
    return ((number + 1) * _GOLDEN) % 1.0
