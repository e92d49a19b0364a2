"""Looking at tasks that nobody waits for, while somebody wants their slots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async.client.closing import end_all
from apixo_async.client.tracking import Tracked, Tracker
from apixo_async.errors import ApixoError
from apixo_async.limits import Gate
from apixo_async.polling import PollSchedule, next_look
from apixo_async.tasks import Task

AT_ONCE: Final = 32


class Reclaimer:
    """Gets slots back whose tasks have ended unseen; at work only while they are wanted."""

    def __init__(
        self,
        gate: Gate,
        tracker: Tracker,
        look: Callable[[str, str], Awaitable[Task]],
        schedule: PollSchedule,
        *,
        rng: random.Random,
    ) -> None:
        self._gate = gate
        self._tracker = tracker
        self._look = look
        self._schedule = schedule
        self._rng = rng
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Somebody is about to wait for a slot, here or in another process."""
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._reclaim())

    async def aclose(self) -> None:
        """Stops."""
        if self._working is not None:
            await end_all([self._working])

    async def _reclaim(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while self._gate.is_short:
            due = [t for t in self._tracker.unwatched() if t.is_due(loop.time())]
            await asyncio.gather(*map(self._look_quietly, due[:AT_ONCE]))
            if len(due) <= AT_ONCE:
                await asyncio.sleep(self._schedule.interval)

    async def _look_quietly(self, tracked: Tracked) -> None:
        if tracked.ticket is not None:
            tracked.ticket.has_news = False
        try:
            await self._look(tracked.task_id, tracked.model)
        except ApixoError as error:
            LOGGER.debug(
                "look at unwatched task %s failed: %s",
                tracked.task_id,
                error,
                extra=fields(
                    "look_failed", task_id=tracked.task_id, model=tracked.model, error=error
                ),
            )
        tracked.looks += 1
        loop = asyncio.get_running_loop()
        tracked.next_look = loop.time() + next_look(
            self._schedule,
            looks=tracked.looks,
            failures=0,
            age=loop.time() - tracked.accepted_at,
            interval=2 * self._schedule.interval,
            unit=self._rng.random(),
        )
