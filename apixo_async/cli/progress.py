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
    timed_out: int = 0
    doubtful: int = 0
    """Jobs whose submit was not answered, and whose callback may still come."""
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
    is_new: bool = False
    """Whether this run took it from its input; else an earlier process had submitted it."""
    task_id: str | None = None
    model: str | None = None
    accepted_at: datetime | None = None
    is_running: bool = False
    has_ended: bool = False
    is_saving: bool = False
    is_unanswered: bool = False
    """Whether a POST has left and what came of it is not recorded yet."""
    is_doubtful: bool = False
    """Whether its last submit was not answered."""
    posts: int = 0
    """POSTs of this run that left and were not refused for now."""


class Progress:
    """Follows a batch by its events and outcomes; memory does not grow with the batch.

    `total` is how many jobs there are, or an estimate of it that more jobs correct; `saves` says
    whether results are downloaded.
    """

    def __init__(self, total: int | None, *, saves: bool = True) -> None:
        self.total = total
        self.counts: Counter[str] = Counter()
        """Jobs with an outcome, by status."""
        self.doubtful_posts = 0
        """How often jobs were sent that are uncertain in the end."""
        self._saves = saves
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
                self._open[event.key] = OpenJob(event.key, is_new=True, model=event.model)
            case events.Sending() | events.NotSent() | events.Rejected() | events.Uncertain():
                self._posted(event)
            case events.Accepted() | events.Identified():
                self._accepted(event)
            case events.Succeeded():
                self._ended(event)
                self._set_saving(self._job(event.key), saving=self._saves)
            case events.Failed():
                self._ended(event)
            case events.TimedOut():
                self._leave_running(self._open.get(event.key))
            case events.AllSaved() | events.SaveFailed():
                self._set_saving(self._open.get(event.key), saving=False)
            case _:
                pass

    def _job(self, key: str) -> OpenJob:
        return self._open.setdefault(key, OpenJob(key))

    def _posted(
        self, event: events.Sending | events.NotSent | events.Rejected | events.Uncertain
    ) -> None:
        job = self._job(event.key)
        job.is_unanswered = isinstance(event, events.Sending)
        job.is_doubtful = isinstance(event, events.Uncertain)
        if isinstance(event, events.Sending):
            job.posts += 1
        elif isinstance(event, events.NotSent):
            job.posts -= 1
            self._trouble = event.reason

    def _accepted(self, event: events.Accepted | events.Identified) -> None:
        job = self._job(event.key)
        job.task_id = event.task_id
        if isinstance(event, events.Accepted):
            job.model, job.accepted_at = event.model, event.at
        job.is_running, job.is_unanswered, job.has_ended = True, False, False
        job.is_doubtful = False
        if self._last_accepted is None or event.at > self._last_accepted:
            self._last_accepted = event.at
        self._trouble = ""
        self._running += 1
        self._running_peak = max(self._running_peak, self._running)

    def _ended(self, event: events.Succeeded | events.Failed) -> None:
        job = self._open.get(event.key)
        if job is not None and job.accepted_at is not None:
            self._durations.append(_seconds(job, job.accepted_at, event))
            self._ends.append(event.at)
            job.has_ended = True
        self._leave_running(job)

    def _leave_running(self, job: OpenJob | None) -> None:
        if job is not None and job.is_running:
            job.is_running = False
            self._running -= 1

    def _set_saving(self, job: OpenJob | None, *, saving: bool) -> None:
        if job is not None and job.is_saving != saving:
            job.is_saving = saving
            self._saving += 1 if saving else -1

    def finish(self, outcome: Outcome) -> None:
        """Takes in an outcome: the job is done."""
        self.counts[outcome.status] += 1
        job = self._open.pop(outcome.key, None)
        self._leave_running(job)
        self._set_saving(job, saving=False)
        if job is not None and outcome.status is OutcomeStatus.UNCERTAIN:
            self.doubtful_posts += job.posts

    @property
    def has_begun(self) -> bool:
        """Whether anything has happened to any job."""
        return bool(self.counts or self._open)

    @property
    def unanswered(self) -> int:
        """Jobs whose POST has left, and what came of it is not recorded yet."""
        return sum(job.is_unanswered for job in self._open.values())

    def left_behind(self) -> Iterator[OpenJob]:
        """Jobs whose task exists and whose outcome nobody took: running, or done and not saved."""
        return (job for job in self._open.values() if job.task_id is not None)

    def figures(self, now: datetime) -> Figures:
        """The numbers of this moment."""
        done = sum(self.counts.values()) - self.counts[OutcomeStatus.NOT_STARTED]
        known = done + len(self._open)
        total = None if self.total is None else max(self.total, known)
        doubtful = sum(job.is_doubtful for job in self._open.values())
        queued = max(0, (total or known) - done - self._running - self._saving - doubtful)
        return Figures(
            total=total,
            done=done,
            running=self._running,
            queued=queued,
            saving=self._saving,
            succeeded=self.counts[OutcomeStatus.SUCCEEDED],
            failed=self.counts[OutcomeStatus.FAILED],
            timed_out=self.counts[OutcomeStatus.TIMED_OUT],
            uncertain=self.counts[OutcomeStatus.UNCERTAIN],
            doubtful=doubtful,
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
            ends_per_second=self._ends_per_second(),
            since_end=(now - self._ends[-1]).total_seconds(),
        )

    def _ends_per_second(self) -> float:
        # Up to the last end, not to now: a task that is stuck says nothing about the others.
        span = (self._ends[-1] - self._ends[0]).total_seconds()
        return (len(self._ends) - 1) / span if span > 0 else 0.0


def _seconds(job: OpenJob, accepted_at: datetime, event: events.Succeeded | events.Failed) -> float:
    """How long a task took; without the time in which no process looked."""
    seen = (event.at - accepted_at).total_seconds()
    if job.is_new or event.task.duration is None:
        return seen
    return min(seen, event.task.duration)


def eta(
    *,
    queued: int,
    running: int,
    slots: int,
    mean_duration: float,
    youngest_age: float,
    ends_per_second: float,
    since_end: float = 0.0,
) -> float:
    """Seconds until the last task ends, if all take the mean; 0 if that time is over.

    Queued jobs start at `slots / mean_duration` a second, where `slots` is how many ran at once at
    most: that is the cap, or less where the request rate is what holds us up. The last one to
    start then takes the mean; `youngest_age` is how long ago the latest one so far has started.
    Once all have started, the slower ones remain, and the rate at which tasks have ended tells
    more; `since_end` is how long ago the last one did.
    """
    starting = queued * mean_duration / max(slots, 1)
    ending = max(0.0, mean_duration - youngest_age)
    if queued == 0 and ends_per_second > 0:
        ending = max(ending, running / ends_per_second - since_end)
    return starting + ending
