"""Tasks: what was accepted, and what state the clock has brought it to.

A task is a row, not a coroutine. Its end is known when it is accepted, so its state at any moment
is a comparison, and thousands of unfinished tasks cost nothing until somebody asks.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from apixo_async.emulator.rules import EXTEND, VEO, Submission

if TYPE_CHECKING:
    from apixo_async.emulator.clock import Clock

PENDING_SHARE = 0.1
"""Of its life a task spends this share in ``pending``; the rest it is ``processing``."""

R2_SHARE = 0.8
"""From this share of its life a task with the fault shows ``processing_r2``."""

EARLY = 10.0
"""API seconds for which a task with the fault ``early_404`` is unknown."""

FAILURES = {
    "content_violation": ("CONTENT_VIOLATION", "Content does not meet safety guidelines"),
    "invalid_image_url": ("INVALID_IMAGE_URL", "Cannot access provided image URL"),
    "failed_task": ("GENERATION_FAILED", "The video could not be generated"),
}
"""Faults that end a task in ``failed``, with the code and the message it then shows."""

TASK_ID_FAILURE = ("TASKID_ERROR", "taskId is not a finished, unexpired veo-3-1 task")


@attrs.define(eq=False)
class Task:
    """One accepted task; times are API seconds since the emulator's start."""

    id: str
    submission: Submission
    accepted_at: float
    duration: float
    """Infinite for a task that never ends."""
    price: float
    faults: frozenset[str] = frozenset()
    failure: tuple[str, str] | None = None
    """``failCode`` and ``failMsg`` of a task that will fail."""
    polls: int = 0
    file_requests: int = 0

    @property
    def ends_at(self) -> float:
        """When it ends, or infinity."""
        return self.accepted_at + self.duration

    @property
    def outcome(self) -> str:
        """How it will have ended: ``success`` or ``failed``."""
        return "failed" if self.failure else "success"

    def state(self, now: float) -> str:
        """Return the state a status request sees at *now*."""
        if now >= self.ends_at:
            return self.outcome
        share = 0.5 if math.isinf(self.duration) else (now - self.accepted_at) / self.duration
        if "unknown_state" in self.faults:
            return "queued" if share < PENDING_SHARE else "rendering"
        if share < PENDING_SHARE and not math.isinf(self.duration):
            return "pending"
        if share >= R2_SHARE and "processing_r2" in self.faults:
            return "processing_r2"
        return "processing"

    def is_known(self, now: float) -> bool:
        """Whether a status request finds it at *now*."""
        return "early_404" not in self.faults or now >= self.accepted_at + EARLY

    def is_available(self, now: float, lifetime: float) -> bool:
        """Whether its result can be had at *now*, *lifetime* API seconds being its limit."""
        return self.outcome == "success" and self.ends_at <= now < self.ends_at + lifetime


@attrs.define(eq=False)
class TaskTable:
    """All tasks, and how many of them are unfinished."""

    by_id: dict[str, Task] = attrs.field(factory=dict[str, Task])
    """In order of acceptance."""
    finished: Counter[str] = attrs.field(factory=Counter[str])
    """Ended tasks by outcome, up to the last `settle`."""
    peak_unfinished: int = 0
    last_end: float | None = None
    """When the last task ended that has ended, in API seconds."""
    _running: list[tuple[float, str]] = attrs.field(factory=list[tuple[float, str]], repr=False)

    def settle(self, now: float) -> int:
        """Note which tasks have ended by *now*; return how many have not."""
        running = self._running
        while running and running[0][0] <= now:
            end, task_id = heapq.heappop(running)
            self.finished[self.by_id[task_id].outcome] += 1
            self.last_end = end
        return len(running)

    def add(self, task: Task) -> None:
        """Take a task that was accepted just now."""
        self.by_id[task.id] = task
        heapq.heappush(self._running, (task.ends_at, task.id))
        self.peak_unfinished = max(self.peak_unfinished, len(self._running))

    def failure_of(
        self, submission: Submission, faults: frozenset[str], now: float, lifetime: float
    ) -> tuple[str, str] | None:
        """Return how a task that is accepted *now* will fail, or None."""
        if submission.model == EXTEND:
            source = self.by_id.get(submission.input["taskId"])
            is_usable = source is not None and source.submission.model == VEO
            if source is None or not is_usable or not source.is_available(now, lifetime):
                return TASK_ID_FAILURE
        return next((text for name, text in FAILURES.items() if name in faults), None)

    def durations(self) -> list[float]:
        """Return all durations in order of acceptance, in API seconds."""
        return [task.duration for task in self.by_id.values()]

    def makespan(self) -> float:
        """Return API seconds from the first acceptance to the last end so far."""
        if self.last_end is None:
            return 0.0
        return self.last_end - next(iter(self.by_id.values())).accepted_at


def describe(task: Task, now: float, clock: Clock) -> dict[str, object]:
    """Return one row of ``/emulator/tasks``: the task as it is at *now*."""
    ends = not math.isinf(task.duration)
    return {
        "id": task.id,
        "model": task.submission.model,
        "prompt": task.submission.prompt,
        "mode": task.submission.mode,
        "state": task.state(now),
        "duration": task.duration if ends else None,
        "accepted_at": clock.unix_ms(task.accepted_at),
        "ends_at": clock.unix_ms(task.ends_at) if ends else None,
        "fail_code": task.failure[0] if task.failure else None,
        "faults": sorted(task.faults),
        "polls": task.polls,
        "billed": task.price,
    }
