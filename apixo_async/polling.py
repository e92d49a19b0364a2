"""When to look at a task again: pure decisions on numbers, no clock and no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import attrs

from apixo_async._timing import spread
from apixo_async.errors import InvalidSettingError

FIRST_POLL: Final = 90.0
POLL_INTERVAL: Final = 5.0
""" "Submit task, wait 90 seconds, then poll every 5 seconds" (Veo 3.1 page, tips)."""
DEADLINE: Final = 1_800.0
"""15 times the documented average of about two minutes."""
BACKOFF_LIMIT: Final = 12
"""Failed polls are spaced out up to this many intervals: one minute at the default."""


def _seconds(
    minimum: float, *, above: bool = False
) -> Callable[[object, attrs.Attribute[float], float], None]:
    def check(_: object, attribute: attrs.Attribute[float], value: object) -> None:
        number = value if isinstance(value, (int, float)) else math.nan
        good = (number > minimum if above else number >= minimum) and number < math.inf
        if not good or isinstance(value, bool):
            rule = "above" if above else "at least"
            msg = f"{attribute.name} must be {rule} {minimum:g} seconds, got {value!r}"
            raise InvalidSettingError(msg)

    return check


@attrs.frozen(kw_only=True)
class PollSchedule:
    """When to look at a task, in seconds of its age. The default is the documented schedule.

    The first look comes `first` seconds after the submit (plus up to one interval of jitter, so
    that tasks submitted together are not looked at together), further looks every `interval`
    seconds, +-`jitter` (a fraction). `deadline` bounds every wait. Raises `InvalidSettingError`.
    """

    first: float = attrs.field(default=FIRST_POLL, validator=_seconds(0.0))
    interval: float = attrs.field(default=POLL_INTERVAL, validator=_seconds(0.0, above=True))
    jitter: float = attrs.field(default=0.1, validator=_seconds(0.0))
    deadline: float = attrs.field(default=DEADLINE, validator=_seconds(0.0, above=True))

    @property
    def slot_lifetime(self) -> float:
        """How long a task that is never seen to end keeps its slot."""
        return 2 * self.deadline

    @property
    def uncertain_hold(self) -> float:
        """How long a submit without a known answer keeps its slot: five times the usual duration.

        The documented average of two minutes is the first look plus six intervals; 600 s.
        """
        return 5 * (self.first + 6 * self.interval)


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
    looked at immediately. `interval` may be stretched. `unit` is a random number in [0, 1).
    """
    if looks == 0:
        first = 0.0 if age is None else schedule.first + interval * unit - age
        # A task that is overdue, as after a restart, is looked at within one jittered interval.
        return first if first > 0 or age is None else interval * unit
    pause = interval * min(2.0 ** min(failures, BACKOFF_LIMIT), BACKOFF_LIMIT)
    return spread(pause, by=min(schedule.jitter, 1.0), unit=unit)
