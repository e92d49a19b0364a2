"""One wait for one task: what it has seen so far."""

from __future__ import annotations

import asyncio

import attrs

from apixo_async.client.callbacks import Ticket
from apixo_async.errors import ApixoError, RateLimitedError
from apixo_async.polling import Look as PacedLook
from apixo_async.polling import PollSchedule
from apixo_async.tasks import Task


@attrs.define(eq=False)
class Watch:
    """One wait for one task. Times are loop times; `born` is its acceptance, if known.

    `paced` is there where the schedule learns, `ticket` where callbacks are expected.
    """

    task: Task
    schedule: PollSchedule
    started: float
    deadline: float
    born: float | None = None
    paced: PacedLook | None = None
    ticket: Ticket | None = None
    scope: asyncio.Timeout | None = None
    asked_at: float | None = None
    """When the look under way was begun, `None` between looks."""
    due_within: float | None = None
    """An outage is over: the next look comes at a random moment within so many seconds."""
    looks: int = 0
    is_rung: bool = False
    """Whether a callback has come that no look was answered after."""
    was_rung: bool = False
    """Whether the last look was for a callback; if that came too early, one more will tell."""
    failures: int = 0
    unusable: int = 0
    ended: Task | None = None
    """The first answer that said the task has ended, while that is looked at again."""
    is_taken_back: bool = False
    """Whether the last answer said that it still runs after all."""
    told_steps_back: int = 0
    """How loudly it was told that an answer contradicts an earlier one; each level once."""
    trouble: type[ApixoError] | None = None
    trouble_since: float = 0.0
    trouble_in_a_row: int = 0

    def note_success(self, task: Task) -> None:
        """An answer came."""
        self.task = task
        self.failures, self.due_within = 0, None
        self.trouble, self.trouble_in_a_row = None, 0

    def note_failure(self, error: ApixoError, *, now: float) -> float:
        """A look failed; returns for how long this kind of error has been going on."""
        self.failures += not isinstance(error, RateLimitedError)  # the gate paces those
        if type(error) is not self.trouble:
            self.trouble, self.trouble_since, self.trouble_in_a_row = type(error), now, 0
        self.trouble_in_a_row += 1
        return now - self.trouble_since
