"""Schedules, and the documented one's answer to when the next look is due: numbers, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import attrs

from apixo_async._narrow import as_number, shown
from apixo_async._timing import spread
from apixo_async.errors import InvalidSettingError

FIRST_POLL: Final = 90.0
POLL_INTERVAL: Final = 5.0
""" "Submit task, wait 90 seconds, then poll every 5 seconds" (Veo 3.1 page, tips)."""
LEAST_PAUSE: Final = 0.001
"""Seconds; what is less is no pause, and near zero a rate would be infinite."""
DEADLINE: Final = 1_800.0
"""15 times the documented average of about two minutes."""
BACKOFF_LIMIT: Final = 12
"""Failed polls are spaced out up to this many intervals: one minute at the default. Those of many
tasks are no rarer for that, or all would come back late from an outage."""


def _seconds(
    minimum: float, *, above: bool = False
) -> Callable[[object, attrs.Attribute[float], float], None]:
    def check(_: object, attribute: attrs.Attribute[float], value: object) -> None:
        number = as_number(value)
        good = (number > minimum if above else number >= minimum) and number < math.inf
        if not good:
            rule = "above" if above else "at least"
            msg = f"{attribute.name} must be {rule} {minimum:g} seconds, got {shown(value)}"
            raise InvalidSettingError(msg)

    return check


def _part(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not 0 < as_number(value) <= 1:
        msg = f"{attribute.name} must be above 0 and at most 1, got {shown(value)}"
        raise InvalidSettingError(msg)


def _at_least_one(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not 1 <= as_number(value) < math.inf:
        msg = f"{attribute.name} must be at least 1, got {shown(value)}"
        raise InvalidSettingError(msg)


@attrs.frozen(kw_only=True)
class PollSchedule:
    """When to look at a task, in seconds of its age. The default is the documented schedule.

    "Submit task, wait 90 seconds, then poll every 5 seconds" (Veo 3.1 page, tips).

    Raises:
        InvalidSettingError: A number is out of its range; the message names it.
    """

    first: float = attrs.field(default=FIRST_POLL, validator=_seconds(0.0))
    """Seconds from the submit to the first look, 0 or more. Up to one interval of jitter is added,
    so that tasks submitted together are not looked at together."""
    interval: float = attrs.field(default=POLL_INTERVAL, validator=_seconds(LEAST_PAUSE))
    """Seconds from one look to the next, at least a thousandth. They stretch where more tasks run
    than the request rate allows, and after looks that failed."""
    jitter: float = attrs.field(default=0.1, validator=_seconds(0.0))
    """The part of the interval by which each look may come earlier or later; 0 is none."""
    deadline: float = attrs.field(default=DEADLINE, validator=_seconds(0.0, above=True))
    """Seconds that a wait may take at most, above 0. By default 15 times the average of "~2
    minutes" (Veo 3.1 page, tips)."""

    @property
    def slot_lifetime(self) -> float:
        """Seconds for which a task that is never seen to end keeps its slot: two deadlines."""
        return 2 * self.deadline

    @property
    def uncertain_hold(self) -> float:
        """Seconds for which a submit without a known answer keeps its slot: 600 by default.

        That is five times the documented average of two minutes (Veo 3.1 page, tips), which is
        reckoned as the first look plus six intervals.
        """
        return 5 * (self.first + 6 * self.interval)


DOCUMENTED_SHARE: Final = 0.6
"""The part of the request rate that looks by the documented schedule may use."""
LEARNED_SHARE: Final = 0.9
"""The part of the request rate that learned looks may use; submits go first, so nothing else needs
it. A batch of 1,000 two-minute tasks submits with a twentieth of the documented rate."""
SHORTEST_PAUSE: Final = 1.0
MOST_LOOKS: Final = 30.0
"""Where the rate allows more, a task is not looked at more often than this on average: delays are
below a second by then."""


@attrs.frozen(kw_only=True)
class LearnedSchedule(PollSchedule):
    """Looks where tasks are likely to end, as often as the request rate allows.

    It begins as the documented schedule, with the numbers of `PollSchedule`. From the tasks that
    end, by the API's own times where it gives them, it learns for each model and mode at which age
    they do, and looks at intervals in proportion to 1 / sqrt(hazard), which makes the mean delay
    least. What was learned is forgotten slowly.

    Raises:
        InvalidSettingError: A number is out of its range; the message names it.
    """

    share: float = attrs.field(default=LEARNED_SHARE, validator=_part)
    """The part of the request rate that looks may use, as far as submits leave it; above 0 and at
    most 1."""
    shortest: float = attrs.field(default=SHORTEST_PAUSE, validator=_seconds(LEAST_PAUSE))
    """Seconds between two looks at one task, a thousandth or more; `interval`, if that is less."""
    most_looks: float = attrs.field(default=MOST_LOOKS, validator=_at_least_one)
    """How many looks a task gets on average at most, 1 or more, where the rate allows more."""

    @classmethod
    def beginning_as(cls, schedule: PollSchedule) -> LearnedSchedule:
        """One that begins with the numbers of another schedule.

        Args:
            schedule: Where they come from. A `LearnedSchedule` is returned as it is.
        """
        if isinstance(schedule, LearnedSchedule):
            return schedule
        return cls(
            first=schedule.first,
            interval=schedule.interval,
            jitter=schedule.jitter,
            deadline=schedule.deadline,
        )

    @property
    def shortest_pause(self) -> float:
        """Seconds between two looks at one task at least."""
        return min(self.shortest, self.interval)


def stretched_interval(interval: float, *, tasks: int, polls_per_second: float) -> float:
    """The interval at which this many tasks fit into the poll rate, if that is longer.

    1,000 tasks every 5 s would be 12,000 requests a minute: the documented advice breaks the
    documented limit.
    """
    return max(interval, tasks / polls_per_second)


def next_look(
    schedule: PollSchedule,
    *,
    looks: int,
    failures: int,
    age: float | None,
    interval: float,
    unit: float,
) -> float:
    """Seconds from now until the next look at a task.

    `looks` is the number of looks so far and `failures` how many of the last ones failed in a row;
    `age` is the task's age in seconds, `None` for a task that somebody else submitted: that one is
    looked at immediately. `interval` may be stretched; failures stretch it further, up to twelve
    of the schedule's own. `unit` is a random number in [0, 1).
    """
    if looks == 0:
        first = 0.0 if age is None else schedule.first + interval * unit - age
        # A task that is overdue, as after a restart, is looked at within one jittered interval.
        return first if first > 0 or age is None else interval * unit
    # An interval that many tasks have stretched is rare enough already, beyond a minute or so.
    longest = max(interval, schedule.interval * BACKOFF_LIMIT)
    pause = min(interval * 2.0 ** min(failures, BACKOFF_LIMIT), longest)
    return spread(pause, by=min(schedule.jitter, 1.0), unit=unit)
