"""What charts are drawn of: numbers taken in job by job, then counted into a few hundred places."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import attrs

from apixo_async.batch.journal import Entry, JobState, Traffic
from apixo_async.batch.journal.tally import OTHER_REASONS, REASONS, failure_of, seconds_of
from apixo_async.batch.report.rows import NOTE_MAX, cut

PLACES: Final = 240
"""Points of a line, however long the batch was."""
BINS: Final = 40
"""Bars of a distribution, at most."""
EXAMPLES: Final = 5
"""Prompts that are shown for each reason of failures."""
RARE: Final = 12
"""Steps that samples of one run are never apart: that is at most a fiftieth of its age."""
GAP: Final = 30.0
"""Seconds without a sample from which on nobody was running."""
SLACK: Final = 1.0
"""Seconds that stamps may be off by."""
_STEPS: Final = (1, 2, 2.5, 5, 10)


@attrs.define
class Reason:
    """Jobs that ended badly for the same reason."""

    state: JobState
    code: str | None
    text: str
    count: int = 0
    jobs: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    """Key and prompt of the first few."""


class Figures:
    """Takes in jobs. Memory: some ten bytes for each that has ended.

    `speed` is how many times as fast as ours the API's clock went, `None` if nobody knows.
    """

    def __init__(self, *, speed: float | None = 1.0) -> None:
        self.speed = speed
        self.first: str | None = None
        self.last: str | None = None
        self.succeeded = array("d")
        self.failed = array("d")
        """When jobs ended, in seconds since 1970; not in order."""
        self.delays = array("d")
        """Seconds of the API's clock from the end of a task until we saw it."""
        self.too_long = 0
        """Tasks that took longer by the API's times than they were away from us."""
        self.seconds: dict[tuple[str, str | None], array[float]] = {}
        """Of tasks that succeeded, by model and mode."""
        self._reasons: dict[tuple[JobState, str | None, str], int] = {}
        self.reasons: list[Reason] = []

    def add(self, entry: Entry) -> None:
        """One job."""
        if entry.sending_at is not None:
            self.first = min(self.first or entry.sending_at, entry.sending_at)
        if entry.ended_at is None:
            return
        ended = datetime.fromisoformat(entry.ended_at).timestamp()
        if entry.state is not JobState.ABANDONED:  # a decision is no progress
            self.last = max(self.last or entry.ended_at, entry.ended_at)
            (self.succeeded if entry.state is JobState.SUCCEEDED else self.failed).append(ended)
        self._add_delay(entry, ended)
        if entry.state is JobState.SUCCEEDED and (seconds := seconds_of(entry)) is not None:
            self.seconds.setdefault((entry.model, entry.mode), array("d")).append(seconds)

    def _add_delay(self, entry: Entry, ended: float) -> None:
        """By spans of time alone: no clock is compared with another."""
        task = entry.snapshot()
        if self.speed is None or entry.sending_at is None or task is None:
            return
        if task.created_at is None or task.completed_at is None:
            return
        away = ended - datetime.fromisoformat(entry.sending_at).timestamp()
        delay = away * self.speed - (task.completed_at - task.created_at).total_seconds()
        if delay < -SLACK * self.speed:
            self.too_long += 1
        else:
            self.delays.append(max(0.0, delay))

    def group_of(self, entry: Entry) -> int:
        """Which of `reasons` a failed job belongs to."""
        code, text = failure_of(entry)
        name = (entry.state, None if code is None else cut(code, 200), cut(text, NOTE_MAX))
        if name not in self._reasons and len(self._reasons) >= REASONS:
            name = (entry.state, None, OTHER_REASONS)
        at = self._reasons.setdefault(name, len(self._reasons))
        if at == len(self.reasons):
            self.reasons.append(Reason(*name))
        self.reasons[at].count += 1
        return at

    def keep_example(self, group: int, key: str, prompt: str) -> None:
        """One of the prompts behind a reason, if it has few yet."""
        if len(self.reasons[group].jobs) < EXAMPLES:
            self.reasons[group].jobs.append((key, prompt))

    @property
    def span(self) -> tuple[float, float] | None:
        """From the first submit to the last end; `None` before both."""
        if self.first is None or self.last is None:
            return None
        begin, end = map(datetime.fromisoformat, (self.first, self.last))
        return begin.timestamp(), max(end, begin).timestamp()


# Counting


@attrs.frozen
class Bin:
    """So many values from `start` on, up to `end`."""

    start: float
    end: float
    count: int


def nice_step(span: float, most: int) -> float:
    """A round width that at most `most` steps cover `span` with."""
    if span <= 0:
        return 1.0
    exact = span / most
    power = 10.0 ** math.floor(math.log10(exact))
    return next(step * power for step in _STEPS if step * power >= exact * (1 - 1e-9))


def binned(values: Sequence[float], *, start: float, step: float, number: int) -> list[Bin]:
    """How many values lie in each of `number` steps; those beyond are counted in none."""
    counts = [0] * number
    for value in values:
        at = int((value - start) // step)
        if 0 <= at < number:
            counts[at] += 1
    return [
        Bin(start + at * step, start + (at + 1) * step, count) for at, count in enumerate(counts)
    ]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """By nearest rank: the smallest of them that `percent` of all do not exceed."""
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]


@attrs.frozen
class Ended:
    """Jobs that had ended by a moment."""

    at: float
    succeeded: int
    failed: int


def ended_over_time(
    succeeded: Iterable[float], failed: Iterable[float], span: tuple[float, float]
) -> list[Ended]:
    """Both sums at `PLACES` moments of the span, from its begin to its end."""
    begin, end = span
    step = max(end - begin, 1e-3) / PLACES
    sums = [_summed(values, begin, step) for values in (succeeded, failed)]
    return [
        Ended(begin + at * step, good, bad)
        for at, (good, bad) in enumerate(zip(*sums, strict=True))
    ]


def _summed(values: Iterable[float], begin: float, step: float) -> Iterator[int]:
    counts = [0] * (PLACES + 1)
    for value in values:
        counts[min(PLACES, max(0, math.ceil((value - begin) / step)))] += 1
    total = 0
    for count in counts:
        total += count
        yield total


@attrs.frozen
class Point:
    """The most that was seen from one moment until another; `None` while nobody was running."""

    at: float
    until: float
    value: int | None
    bound: int | None


def over_time(
    samples: Sequence[Traffic], read: Callable[[Traffic], tuple[int, int]]
) -> list[Point]:
    """Samples put together into at most `PLACES` places; gaps between runs stay gaps.

    `read` gives what is looked at of a sample, and its bound.
    """
    if not samples:
        return []
    times = [sample.at.timestamp() for sample in samples]
    step = max((times[-1] - times[0]) / PLACES, 1e-3)
    points: list[Point] = []
    group: list[tuple[int, int]] = []
    began = times[0]
    for now, after, sample in zip(times, [*times[1:], math.inf], samples, strict=True):
        group.append(read(sample))
        if after - began < step:
            continue
        is_gap = after - now > max(GAP, RARE * step)
        until = now if is_gap else after
        points.append(Point(began, until, max(value for value, _ in group), group[-1][1]))
        if is_gap and after < math.inf:
            points.append(Point(now, after, None, None))
        group, began = [], after
    return points
