"""Which tasks this client started and which slot each of them holds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from apixo_async.client.callbacks import Ticket
from apixo_async.limits import Lease


@attrs.define(eq=False)
class Tracked:
    """A task that holds a slot until it is seen to end or its slot's lifetime is over."""

    task_id: str
    model: str
    lease: Lease
    accepted_at: float
    watchers: int = 0
    looks: int = 0
    next_look: float = 0.0
    expiry: asyncio.TimerHandle | None = None
    ticket: Ticket | None = None
    """Rung by the callbacks of this task, if there will be any."""

    def is_due(self, now: float) -> bool:
        """Whether it is to be looked at, if nobody watches it."""
        is_rung = self.ticket is not None and self.ticket.has_news
        return is_rung or self.next_look <= now


REMEMBERED: Final = 10_000
"""Ids of ended tasks that are remembered, so that one given twice is noticed."""


class Tracker:
    """The unfinished tasks of one client by id; ending one frees its slot."""

    def __init__(self) -> None:
        self.released: Callable[[Tracked, Literal["expired", "closed"]], None] | None = None
        """Is told of tasks whose slots are given up though nobody has seen them end."""
        self._tasks: dict[str, Tracked] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self,
        task_id: str,
        model: str,
        lease: Lease,
        *,
        lifetime: float,
        age: float = 0.0,
        ticket: Ticket | None = None,
    ) -> Tracked:
        """Notes a task that was accepted `age` seconds ago.

        Its slot is given up after `lifetime` seconds from now at the latest.
        """
        loop = asyncio.get_running_loop()
        self.end(task_id)  # never two slots for one task
        tracked = Tracked(task_id, model, lease, loop.time() - age, ticket=ticket)
        self._tasks[task_id] = tracked
        tracked.expiry = loop.call_later(lifetime, self._give_up, task_id, "expired")
        return tracked

    def get(self, task_id: str) -> Tracked | None:
        """The task, if this client started it and has not seen it end."""
        return self._tasks.get(task_id)

    def is_known(self, task_id: str) -> bool:
        """Whether this id was given to one of our submits before."""
        return task_id in self._tasks or task_id in self._ended

    def end(self, task_id: str) -> None:
        """The task has ended on the server, or its slot's lifetime has: the slot is free."""
        tracked = self._tasks.pop(task_id, None)
        if tracked is not None:
            self._ended[task_id] = None
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
            if tracked.expiry is not None:
                tracked.expiry.cancel()
            tracked.lease.release()
            if tracked.ticket is not None:
                tracked.ticket.close()

    def _give_up(self, task_id: str, reason: Literal["expired", "closed"]) -> None:
        tracked = self._tasks.get(task_id)
        self.end(task_id)
        if tracked is not None and self.released is not None:
            self.released(tracked, reason)

    def ids(self) -> tuple[str, ...]:
        """Ids of all unfinished tasks."""
        return tuple(self._tasks)

    def unwatched(self) -> Iterator[Tracked]:
        """Tasks whose end nobody is waiting for any more."""
        return (tracked for tracked in list(self._tasks.values()) if tracked.watchers == 0)

    def close(self) -> None:
        """Frees everything; for the end of the client."""
        for task_id in list(self._tasks):
            self._give_up(task_id, "closed")
