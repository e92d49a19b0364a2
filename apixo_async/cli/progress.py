"""How far a batch is: events and outcomes to numbers. Pure: times come from outside."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import attrs

from apixo_async.batch import events
from apixo_async.batch.outcomes import Outcome, OutcomeStatus

RECENT: Final = 200
"""The mean duration is that of so many last tasks, so that it follows a change."""
RATE_OVER: Final = 50
"""The rate at which tasks end is taken over so many last ones."""


@attrs.frozen
class Traffic:
    """Both limits and how much of them is used, as the client counts."""

    requests_last_minute: int
    requests_per_minute: int
    unfinished_tasks: int
    task_cap: int
    closed_for: float = 0.0
    """Seconds for which nothing is sent because the API answered 429."""
    speed: float = 1.0
    """How fast the API's clock goes; the requests are those of a real minute."""


@attrs.frozen(kw_only=True)
class Figures:
    """What a display shows at one moment. `total` and `eta` are `None` while unknown."""

    total: int | None
    done: int
    running: int
    queued: int
    saving: int
    succeeded: int
    failed: int
    uncertain: int
    eta: float | None
    trouble: str = ""
    """Why submits do not leave at the moment."""

    @property
    def share(self) -> float:
        """The part of the jobs that is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0


@attrs.define
class OpenJob:
    """A job that has begun and has no outcome yet."""

    key: str
    task_id: str | None = None
    model: str | None = None
    accepted_at: datetime | None = None
    has_ended: bool = False
    is_saving: bool = False


class Progress:
    """Follows a batch by its events and outcomes; memory does not grow with the batch."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.counts: Counter[str] = Counter()
        """Jobs with an outcome, by status."""
        self._open: dict[str, OpenJob] = {}
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._ends: deque[datetime] = deque(maxlen=RATE_OVER)
        self._running = 0
        self._running_peak = 0
        self._saving = 0
        self._last_accepted: datetime | None = None
        self._trouble = ""

    def note(self, event: events.Event) -> None:
        """Takes in an event."""
        match event:
            case events.Queued():
                self._open[event.key] = OpenJob(event.key)
            case events.NotSent(reason=reason):
                self._trouble = reason
            case events.Accepted():
                self._accepted(event)
            case events.Succeeded():
                self._ended(event)
                self._open.setdefault(event.key, OpenJob(event.key)).is_saving = True
                self._saving += 1
            case events.Failed():
                self._ended(event)
            case events.TimedOut():
                self._leave_running(self._open.get(event.key))
            case _:
                pass

    def _accepted(self, event: events.Accepted) -> None:
        job = self._open.setdefault(event.key, OpenJob(event.key))
        job.task_id, job.model, job.accepted_at = event.task_id, event.model, event.at
        self._last_accepted = event.at
        self._trouble = ""
        self._running += 1
        self._running_peak = max(self._running_peak, self._running)

    def _ended(self, event: events.Succeeded | events.Failed) -> None:
        job = self._open.get(event.key)
        if job is not None and job.accepted_at is not None:
            self._durations.append((event.at - job.accepted_at).total_seconds())
            self._ends.append(event.at)
        self._leave_running(job)

    def _leave_running(self, job: OpenJob | None) -> None:
        if job is not None and job.accepted_at is not None and not job.has_ended:
            job.has_ended = True
            self._running -= 1

    def finish(self, outcome: Outcome) -> None:
        """Takes in an outcome: the job is done."""
        self.counts[outcome.status] += 1
        job = self._open.pop(outcome.key, None)
        self._leave_running(job)
        if job is not None and job.is_saving:
            self._saving -= 1

    def left_behind(self) -> Iterator[OpenJob]:
        """Jobs whose task exists and whose outcome nobody took: running, or done and not saved."""
        return (job for job in self._open.values() if job.task_id is not None)

    def figures(self, now: datetime) -> Figures:
        """The numbers of this moment."""
        done = sum(self.counts.values()) - self.counts[OutcomeStatus.NOT_STARTED]
        total = self.total
        known = done + len(self._open) if total is None else total
        queued = max(0, known - done - self._running - self._saving)
        return Figures(
            total=total,
            done=done,
            running=self._running,
            queued=queued,
            saving=self._saving,
            succeeded=self.counts[OutcomeStatus.SUCCEEDED],
            failed=self.counts[OutcomeStatus.FAILED] + self.counts[OutcomeStatus.TIMED_OUT],
            uncertain=self.counts[OutcomeStatus.UNCERTAIN],
            eta=self._eta(queued, now),
            trouble=self._trouble,
        )

    def _eta(self, queued: int, now: datetime) -> float | None:
        if not self._durations or self._last_accepted is None:
            return None
        return eta(
            queued=queued,
            running=self._running,
            slots=self._running_peak,
            mean_duration=sum(self._durations) / len(self._durations),
            youngest_age=(now - self._last_accepted).total_seconds(),
            ends_per_second=self._ends_per_second(now),
        )

    def _ends_per_second(self, now: datetime) -> float:
        span = (now - self._ends[0]).total_seconds()
        return (len(self._ends) - 1) / span if span > 0 else 0.0


def eta(
    *,
    queued: int,
    running: int,
    slots: int,
    mean_duration: float,
    youngest_age: float,
    ends_per_second: float,
) -> float:
    """Seconds until the last task ends, if all take the mean.

    Queued jobs start at `slots / mean_duration` a second, where `slots` is how many ran at once at
    most: that is the cap, or less where the request rate is what holds us up. The last one to
    start then takes the mean; `youngest_age` is how long ago the latest one so far has started.
    Once all have started, the slower ones remain, and the rate at which tasks end tells more.
    """
    starting = queued * mean_duration / max(slots, 1)
    ending = max(0.0, mean_duration - youngest_age)
    if queued == 0 and ends_per_second > 0:
        ending = max(ending, running / ends_per_second)
    return starting + ending
