"""The judge of one process: what it reports, why it stopped, and which waits it gave up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from apixo_async import BatchReport, Outcome, OutcomeStatus, PollSchedule, StopReason
from apixo_async.batch import events
from tests.simulation.server import Server
from tests.simulation.watching import Post, Watched
from tests.simulation.world import World

DEADLINE: Final = PollSchedule().deadline
"""Seconds for which a task is waited for."""
FOUND: Final = {OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED, OutcomeStatus.TIMED_OUT}
"""How a job may end whose task is known."""
MAY_HAVE_ONE: Final = FOUND | {OutcomeStatus.UNCERTAIN}


class Process:
    """Hears what one process tells, and compares its report with that and with the wire.

    A process that dies reports nothing. What it told counts all the same.
    """

    def __init__(self, world: World, server: Server, watched: Watched) -> None:
        self._world = world
        self._server = server
        self._watched = watched
        self._number = world.life_number
        self._began = world.time
        self._begun: set[str] = set()
        """Jobs of the input that this process took up, and so has to report."""
        self._ids: dict[str, tuple[str, float]] = {}
        """By job, the task that was told of last, and when."""
        self._waited_for: dict[str, float] = {}
        """By task, since when."""

    def told(self, event: events.Event) -> None:
        """The process tells of a step."""
        now = self._world.time
        if isinstance(event, events.Queued):
            self._begun.add(event.key)
        elif isinstance(event, (events.Accepted, events.Identified)):
            self._ids[event.key] = event.task_id, now
            self._waited_for[event.task_id] = now
        elif isinstance(event, events.TimedOut):
            self._given_up(event, now)

    def _given_up(self, event: events.TimedOut, now: float) -> None:
        """A wait has ended before its task: when its time is over, or the API denies the task."""
        task_id = event.task.id
        since = self._waited_for.get(task_id, self._began)
        is_excused = self._world.was_cancelled or self._world.has_refused
        if is_excused or now - since >= DEADLINE - 1 or self._watched.is_denied_now(task_id):
            return
        self._watched.breach("A WAIT WAS GIVEN UP", task_id, f"after {now - since:.0f} s")

    # The report

    def judge(self, report: BatchReport) -> None:
        """Everything in the report that is not so, and everything that is not in it."""
        outcomes = {outcome.job.key or "": outcome for outcome in report.outcomes}
        for key in sorted(self._begun):
            for what in self._job(key, outcomes.get(key)):
                self._watched.breach("REPORT", f"{key}:", what)
        for key, outcome in outcomes.items():
            for what in self._ended(outcome):
                self._watched.breach("REPORT", f"{key}:", what)
        self._why_stopped(report.stopped)

    def _job(self, key: str, outcome: Outcome | None) -> Iterator[str]:
        """A job that has a task, or may have one, is there and says so."""
        posts = [post for post in self._watched.posts.get(key, ()) if post.life == self._number]
        task_id, told_at = self._ids.get(key, (None, 0.0))
        is_doubtful = any(map(_may_have_made_one, posts)) and not self._world.has_refused
        if task_id is None and not is_doubtful:
            return
        if outcome is None:
            yield f"{task_id or 'a submit without an answer'} is in no outcome"
            return
        is_over = any(post.sent_at > told_at for post in posts)  # it was submitted again
        allowed = MAY_HAVE_ONE if task_id is None or is_over else FOUND
        if outcome.status not in allowed:
            yield f"{outcome.status}, with {task_id or 'a submit without an answer'}"
        elif task_id is not None and not is_over and _id_of(outcome) != task_id:
            yield f"{outcome.status} with {_id_of(outcome)}, and its task is {task_id}"

    def _ended(self, outcome: Outcome) -> Iterator[str]:
        """An end is that of the task."""
        task_id = _id_of(outcome)
        if outcome.status not in FOUND or task_id is None:
            return
        task = self._server.tasks.get(task_id)
        if task is None:
            yield f"{outcome.status} by {task_id}, which was never made"
            return
        has_ended = task.ends_at <= self._world.time
        is_good = task.fail_code is None
        if outcome.status is OutcomeStatus.SUCCEEDED and not (has_ended and is_good):
            yield f"succeeded by {task.id}, which has not"
        if outcome.status is OutcomeStatus.FAILED and (is_good or not has_ended):
            yield f"failed by {task.id}, which has not"

    def _why_stopped(self, stopped: StopReason | None) -> None:
        """A refused key or an empty balance stops a batch, and nothing else is called that."""
        refusals = {reason for reason, _ in self._watched.stopping.get(self._number, ())}
        if refusals and stopped is None:
            self._watched.breach("NOT STOPPED", "although", *sorted(refusals))
        if stopped in {StopReason.KEY, StopReason.BALANCE} and stopped not in refusals:
            self._watched.breach("STOPPED", f"for {stopped}, which nobody has said")


def _may_have_made_one(post: Post) -> bool:
    """Whether nothing that its client was given says that there is no task."""
    return not post.is_refused


def _id_of(outcome: Outcome) -> str | None:
    return None if outcome.task is None else outcome.task.id
