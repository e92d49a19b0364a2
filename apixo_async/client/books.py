"""Which slot belongs to which task: kept until the server's task has ended, or may have."""

from __future__ import annotations

import asyncio

from apixo_async.client.callbacks import Ticket
from apixo_async.client.telling import Teller
from apixo_async.client.tracking import Tracker
from apixo_async.limits import Gate, Lease
from apixo_async.polling import PollSchedule
from apixo_async.tasks import Task


class Books:
    """The slots of one client: those of its tasks, and those of what may be a task."""

    def __init__(
        self, gate: Gate, tracker: Tracker, schedule: PollSchedule, teller: Teller | None = None
    ) -> None:
        self._teller = teller
        self._gate = gate
        self._tracker = tracker
        self._schedule = schedule
        self._holds: dict[Lease, asyncio.TimerHandle] = {}

    def is_known(self, task_id: str) -> bool:
        """Whether this id was given to one of our submits before."""
        return self._tracker.is_known(task_id)

    def task_started(
        self, task: Task, lease: Lease, *, ticket: Ticket | None, age: float = 0.0
    ) -> None:
        """The slot belongs to the task until it is seen to end."""
        if (hold := self._holds.pop(lease, None)) is not None:
            hold.cancel()
        if not lease.is_held:  # the time was over for which a lost answer keeps its slot
            lease = self._gate.occupy()
        self._start(task, lease, self._schedule.slot_lifetime, age=age, ticket=ticket)

    def adopt(self, task: Task, *, age: float, ticket: Ticket | None = None) -> None:
        """Takes a slot for a task that was submitted `age` seconds ago, if it has none yet."""
        tracked = self._tracker.get(task.id)
        if tracked is None:
            lifetime = max(self._schedule.slot_lifetime - age, self._schedule.interval)
            self._start(task, self._gate.occupy(), lifetime, age=age, ticket=ticket)
            if self._teller is not None:
                self._teller.adopted(task, age=age)
        elif ticket is not None:
            tracked.ticket = ticket
            ticket.know(task.id)

    def _start(
        self, task: Task, lease: Lease, lifetime: float, *, age: float, ticket: Ticket | None
    ) -> None:
        if ticket is not None:
            ticket.know(task.id)
        self._tracker.start(task.id, task.model, lease, lifetime=lifetime, age=age, ticket=ticket)

    # What may be a task

    def task_may_run(self, lease: Lease) -> None:
        """The slot is kept for the time a task would take, because one may be running."""
        lease.is_running = True
        if lease not in self._holds:
            self._hold(lease, self._schedule.uncertain_hold)

    def hold_for(self, name: object, *, age: float) -> Lease | None:
        """Takes a slot for a task that may be running behind a submit made `age` seconds ago.

        `name` is that of the submit's lease; the one that is still kept for it will do. `None` if
        the time is over for which it keeps one.
        """
        left = self._schedule.uncertain_hold - age
        held = next((lease for lease in self._holds if lease.name == name), None)
        if held is None and left > 0:
            held = self._gate.occupy()
            held.name = name
            self._hold(held, left)
        return held

    def _hold(self, lease: Lease, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._holds[lease] = loop.call_later(seconds, self._unhold, lease)

    def _unhold(self, lease: Lease) -> None:
        del self._holds[lease]
        lease.release()

    def close(self) -> None:
        """Keeps nothing any more."""
        for lease, hold in self._holds.items():
            hold.cancel()
            lease.release()
        self._holds.clear()
        self._tracker.close()
