"""How far a batch is: events and outcomes to numbers. Pure: times come from outside."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import attrs

from apixo_async.batch import events
from apixo_async.batch.journal.overview import WINDOW
from apixo_async.batch.outcomes import Outcome, OutcomeStatus
from apixo_async.batch.spending import Prices
from apixo_async.cli.eta import ENOUGH, Kind, Left, time_left
from apixo_async.cli.figures import Figures, Traffic
from apixo_async.cli.money import cost_of
from apixo_async.cli.reasons import Reasons

KINDS_MAX: Final = 64
"""Kinds whose durations are told apart; all others count as one."""
OTHERS: Final[Kind] = ("", None)
ENDS_MAX: Final = 20_000
"""Ends that the rate is taken over, of those in `WINDOW`."""
_SECOND: Final = timedelta(seconds=1)


@attrs.define
class OpenJob:
    """A job that has begun and has no outcome yet."""

    key: str
    is_new: bool = False
    """Whether this run took it from its input; else an earlier process had submitted it."""
    task_id: str | None = None
    model: str | None = None
    mode: str | None = None
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

    @property
    def kind(self) -> Kind:
        """Model and mode, as far as they are known."""
        return self.model or "", self.mode


class Progress:
    """Follows a batch by its events and outcomes; memory does not grow with the batch.

    `total` is how many jobs there are, or an estimate of it that more jobs correct; `saves` says
    whether results are downloaded. `charged` are the tasks of earlier runs by kind, which `prices`
    and `max_cost` count, too.
    """

    def __init__(
        self,
        total: int | None,
        *,
        saves: bool = True,
        prices: Prices | None = None,
        max_cost: Decimal | None = None,
        charged: Mapping[Kind, int] | None = None,
    ) -> None:
        self.total = total
        self.counts: Counter[str] = Counter()
        """Jobs with an outcome, by status."""
        self.doubtful_posts = 0
        """How often jobs were sent that are uncertain in the end."""
        self._saves = saves
        self._prices = prices or Prices()
        self._max_cost = max_cost
        self._charges = Counter(charged or {})
        self._reasons = Reasons()
        self._open: dict[str, OpenJob] = {}
        self._durations: dict[Kind, deque[float]] = {}
        self._ends: deque[datetime] = deque(maxlen=ENDS_MAX)
        self._running = 0
        self._running_peak = 0
        self._saving = 0
        self._first_sent: datetime | None = None
        self._left = Left(None)
        self._left_at: datetime | None = None
        self._trouble = ""

    def note(self, event: events.Event) -> None:
        """Takes in an event."""
        match event:
            case events.Queued():
                self._open[event.key] = OpenJob(
                    event.key, is_new=True, model=event.model, mode=event.mode
                )
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
            self._charges[job.kind] += 1
            self._first_sent = self._first_sent or event.at
        elif not isinstance(event, events.Uncertain):
            self._charges[job.kind] -= 1
        if isinstance(event, events.NotSent):
            job.posts -= 1
            self._trouble = event.reason

    def _accepted(self, event: events.Accepted | events.Identified) -> None:
        job = self._job(event.key)
        job.task_id = event.task_id
        if isinstance(event, events.Accepted):
            job.model, job.accepted_at = event.model, event.at
        job.is_running, job.is_unanswered, job.has_ended = True, False, False
        job.is_doubtful = False
        self._first_sent = self._first_sent or event.at
        self._trouble = ""
        self._running += 1
        self._running_peak = max(self._running_peak, self._running)

    def _ended(self, event: events.Succeeded | events.Failed) -> None:
        job = self._open.get(event.key)
        if job is not None and job.accepted_at is not None:
            self._lived(job.kind).append(_seconds(job, job.accepted_at, event))
            self._ends.append(event.at)
            job.has_ended = True
        self._leave_running(job)

    def _lived(self, kind: Kind) -> deque[float]:
        if kind not in self._durations and len(self._durations) >= KINDS_MAX:
            kind = OTHERS
        return self._durations.setdefault(kind, deque(maxlen=ENOUGH))

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
        self._reasons.add(outcome)
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

    def figures(self, now: datetime, traffic: Traffic | None = None) -> Figures:
        """The numbers of this moment; `traffic` tells how many tasks may run at a time.

        The time left is reckoned anew once a second; until it is known, every time.
        """
        done = sum(self.counts.values()) - self.counts[OutcomeStatus.NOT_STARTED]
        known = done + len(self._open)
        total = None if self.total is None else max(self.total, known)
        doubtful = sum(job.is_doubtful for job in self._open.values())
        ending = sum(job.has_ended and not job.is_saving for job in self._open.values())
        busy = self._running + self._saving + doubtful + ending
        queued = max(0, (total or known) - done - busy)
        left = self._time_left(queued, now, traffic)
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
            eta=left.seconds,
            late=min(left.late, self._running),
            trouble=self._trouble,
            per_minute=self._per_minute(now),
            saves=self._saves,
            cost=cost_of(self._charges, self._prices, self._max_cost),
            reasons=self._reasons.latest,
        )

    def _time_left(self, queued: int, now: datetime, traffic: Traffic | None) -> Left:
        since = None if self._left_at is None else now - self._left_at
        if self._left.seconds is None:
            since = None  # it is shown as soon as it is known
        if since is not None and not timedelta(0) <= since < _SECOND:
            since = None
        if since is None:
            self._left, self._left_at = self._new_time_left(queued, now, traffic), now
        left = self._left
        if since is None or left.seconds is None:
            return left
        return attrs.evolve(left, seconds=max(0.0, left.seconds - since.total_seconds()))

    def _new_time_left(self, queued: int, now: datetime, traffic: Traffic | None) -> Left:
        running: dict[Kind, list[float]] = {}
        for job in self._open.values():
            if job.is_running and job.accepted_at is not None:
                age = (now - job.accepted_at).total_seconds()
                running.setdefault(job.kind, []).append(age)
        # Nobody knows of what kind those are that were not taken from the input yet.
        return time_left(
            running=running,
            queued={OTHERS: queued} if queued else {},
            ended=self._durations,
            slots=max(1, self._running, self._slots(traffic)),
        )

    def _slots(self, traffic: Traffic | None) -> int:
        """How many ran at once at most: the cap, or less where the request rate is what counts."""
        if traffic is None:
            return self._running_peak
        # Submits in doubt hold slots, too, and tasks of others.
        held = max(0, traffic.unfinished_tasks - self._running)
        return min(self._running_peak, traffic.task_cap - held)

    def _per_minute(self, now: datetime) -> float | None:
        if self._first_sent is None:
            return None
        while self._ends and self._ends[0] < now - WINDOW:
            self._ends.popleft()
        span = max(_SECOND, min(WINDOW, now - self._first_sent))
        return len(self._ends) / (span / timedelta(minutes=1))


def _seconds(job: OpenJob, accepted_at: datetime, event: events.Succeeded | events.Failed) -> float:
    """How long a task took; without the time in which no process looked."""
    seen = (event.at - accepted_at).total_seconds()
    if job.is_new or event.task.duration is None:
        return seen
    return min(seen, event.task.duration)
