"""One job and all around it as one value: disk, process, API, and what was promised."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from apixo_async import OutcomeStatus
from apixo_async.batch import events
from apixo_async.batch.journal import CALLED_BACK, EARLIER, OTHER_TASKS, Entry
from apixo_async.batch.journal.history import PAST_TASKS


class Phase(enum.StrEnum):
    """What the process is doing about the job."""

    READY = "ready"
    POSTING = "posting"
    CONFIRMING = "confirming"
    """Asks the API about an id that was seen in a broken answer or in a callback."""
    RECORDING = "recording"
    """Goes on when the record that it waits for is on disk."""
    HEARING = "hearing"
    WAITING = "waiting"
    ENDED = "ended"
    """The job's outcome was told."""


class Record(NamedTuple):
    """What is on its way to the disk, and who goes on when it is there: `job`, or a sender.

    Without an event it is only somebody who waits until all before it is there.
    """

    event: events.JobEvent | None
    waits: str = ""
    called: tuple[str, int] = ("", 0)
    """Of a callback, the id and the attempt."""


class Process(NamedTuple):
    """The memory of a process, gone with it; `heard` and `denied` are those of a ticket."""

    phase: Phase
    attempts: int = 0
    repeats: int = 0
    done: int = 0
    """How often this run has repeated the job."""
    heard: tuple[tuple[str, int], ...] = ()
    denied: frozenset[str] = frozenset()
    past: frozenset[str] = frozenset()
    task: str | None = None
    reply: str = ""
    """The name of an answer that is on its way back."""
    candidate: str = ""
    outcome: OutcomeStatus | None = None


class Task(NamedTuple):
    """A task at the API, which is billed."""

    id: str
    attempt: int
    state: str = "running"


class Budgets(NamedTuple):
    """How much may still go wrong, or be done."""

    runs: int
    crashes: int
    faults: int = 0
    """Submits that do not leave, and 429 and 5xx."""
    losses: int | None = None
    """Answers that do not come; `None` for any number."""
    calls: int = 0
    """Callbacks that come; all others are lost."""
    failures: int = 0
    forgeries: int = 0
    decisions: int = 0


class World(NamedTuple):
    """Everything. What is `kept` survives a power cut, what is `written` only a SIGKILL."""

    kept: Entry
    budgets: Budgets
    written: tuple[Record, ...] = ()
    queued: tuple[Record, ...] = ()
    process: Process | None = None
    wire: tuple[int, ...] = ()
    """Attempts whose requests are on their way; they may arrive at any time, or never."""
    tasks: tuple[Task, ...] = ()
    shown: frozenset[str] = frozenset()
    """Ids that the user was given."""
    acked: frozenset[str] = frozenset()
    """Ids whose callbacks were answered 200."""
    excused: frozenset[tuple[int, str]] = frozenset()
    """Attempts beside which another is allowed, and why: `decision`, `policy`, `retry`."""
    sins: frozenset[str] = frozenset()
    """Promises that a step has broken."""

    def ids(self) -> set[str]:
        """Of all tasks that really exist."""
        return {task.id for task in self.tasks}

    def sinned(self, sin: str) -> World:
        """The same, with a broken promise."""
        return self._replace(sins=self.sins | {sin})

    def excusing(
        self,
        reason: str,
        *,
        but: Callable[[Task], bool] = lambda _: False,
        needs_task: bool = False,
    ) -> World:
        """The same, with another task allowed beside those of all attempts made until now."""
        attempts = {*range(1, self.kept.attempts + 1), *self.wire}
        attempts |= {task.attempt for task in self.tasks}
        attempts -= {attempt for attempt, _ in self.excused}
        if needs_task:
            attempts &= {task.attempt for task in self.tasks}
        attempts -= {task.attempt for task in self.tasks if but(task)}
        return self._replace(excused=self.excused | {(attempt, reason) for attempt in attempts})

    def spent(self, **fewer: int) -> World:
        """The same, with less that may go wrong."""
        return self._replace(budgets=self.budgets._replace(**fewer))

    def doing(self, **changes: object) -> World:
        """The same, with the process in another state."""
        assert self.process is not None
        return self._replace(process=self.process._replace(**changes))  # type: ignore[arg-type]  # fields of any type


class Step(NamedTuple):
    """One step; `is_own` if it needs nobody's luck: the client's own doing, or a limit of time."""

    label: str
    world: World
    is_own: bool = True


def ids_noted(entry: Entry) -> set[str]:
    """Every task id that a row of the journal holds."""
    why = entry.why()
    names = (CALLED_BACK, EARLIER, OTHER_TASKS, PAST_TASKS)
    named = [told for name in names for told in why.get(name, ())]
    return {*named, *filter(None, (entry.task_id, why.get("candidate_task_id")))}
