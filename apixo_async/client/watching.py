"""Looking at tasks until they end: one schedule, one deadline, and nearly nothing is fatal."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async.client.callbacks import Ticket
from apixo_async.client.closing import Closing
from apixo_async.client.outages import Outages
from apixo_async.client.watches import Watch
from apixo_async.errors import (
    ApixoError,
    TaskTimeoutError,
    UnexpectedAnswerError,
)
from apixo_async.polling import POLL_INTERVAL, Pacer, next_look, stretched_interval
from apixo_async.retries import is_look_fatal
from apixo_async.tasks import Task, TaskState

UNUSABLE_LOOKS: Final = 3
"""Answers "success" without a URL before that is believed: the copy may still be under way."""

SAFETY_INTERVALS: Final = 9.0
"""Intervals between looks at a task whose callback is expected: 45 s, in case that it is lost."""

HUNG: Final = POLL_INTERVAL
"""Seconds without an answer from which on an outage may have swallowed a look; where the interval
of a schedule is shorter, answers may well take longer than that."""

STATES_TOLD: Final = 20
"""Unknown states that are logged, once each; a server that invents more is not worth the memory."""

_PROGRESS: Final[Mapping[str, float]] = {TaskState.PENDING: 0, TaskState.PROCESSING: 1}

Look = Callable[[str, str], Awaitable[Task]]
"""One status call through the gate: task id and model to a snapshot, or an error."""


async def _rung(ticket: Ticket, pause: float) -> bool:
    """Whether a callback came within `pause` seconds; what it says is taken note of by that."""
    timer = asyncio.get_running_loop().call_later(pause, ticket.wake)
    try:
        return await ticket.news()
    finally:
        timer.cancel()


@contextmanager
def _until(watch: Watch) -> Generator[None]:
    """Raises `TaskTimeoutError` where the watch's scope ends a wait."""
    try:
        yield
    except TimeoutError:
        # Not by the time of day: uvloop's timers may fire a millisecond early.
        if watch.scope is None or not watch.scope.expired():
            raise
        waited = asyncio.get_running_loop().time() - watch.started
        raise TaskTimeoutError(watch.task, waited=waited) from None


class Watcher:
    """Runs watches. `look` makes one status call; `key_worked` tells whether the key ever did.

    `polls_per_second` gives the rate that a schedule that does not learn may use.
    """

    def __init__(
        self,
        look: Look,
        closing: Closing,
        *,
        pacer: Pacer,
        polls_per_second: Callable[[], float],
        key_worked: Callable[[], bool],
        rng: random.Random,
    ) -> None:
        self._look = look
        self._closing = closing
        self._pacer = pacer
        self._polls_per_second = polls_per_second
        self._key_worked = key_worked
        self._rng = rng
        self._polling = 0
        self._outages = Outages()
        self._steps: dict[Watch, asyncio.Timeout] = {}
        self._seen_states: set[str] = set()

    async def changes(self, watch: Watch) -> AsyncIterator[Task]:
        """One snapshot per change of state, the terminal one last.

        Raises `TaskTimeoutError` at the deadline, `UnexpectedAnswerError` for a success that never
        shows a URL, and the few errors of status calls that waiting cannot mend.
        """
        shown: str | None = None
        try:
            while True:
                task = await self._next_answer(watch)
                if task is None or self._is_unusable(watch, task):
                    continue
                if task.state != shown:
                    shown = task.state
                    yield task
                if task.is_terminal:
                    return
        finally:
            self._polling -= watch.looks > 0

    async def end(self, watch: Watch) -> Task:
        """The terminal snapshot."""
        try:
            with self._closing.waiting(), _until(watch):
                async with asyncio.timeout_at(watch.deadline) as watch.scope:
                    while True:
                        task = await self._answer(watch)
                        if task is not None and self._is_end(watch, task):
                            return task
        finally:
            self._polling -= watch.looks > 0

    async def _next_answer(self, watch: Watch) -> Task | None:
        """Sleeps until the next look is due and looks; `None` when the look failed."""
        with self._closing.waiting(), _until(watch):
            async with asyncio.timeout_at(watch.deadline) as watch.scope:
                return await self._answer(watch)

    async def _answer(self, watch: Watch) -> Task | None:
        loop = asyncio.get_running_loop()
        try:
            task = await self._due_look(watch)
        except ApixoError as error:
            self._judge(watch, error, loop.time())
            return None
        task = self._first_end(watch, task)
        watch.note_success(task)
        gap = max(watch.schedule.interval, HUNG)
        if self._outages.answered(now=loop.time(), gap=gap, hung=lambda: self._hung(gap)):
            self._call_back_to_work(loop.time(), gap)
        if watch.paced is not None and not watch.unusable:  # one end counts once
            self._pacer.saw(
                watch.paced,
                now=loop.time(),
                has_ended=task.is_terminal,
                duration=task.duration,
                was_told=watch.is_rung,
            )
        watch.was_rung, watch.is_rung = watch.is_rung, False
        self._note_state(task)
        return task

    async def _due_look(self, watch: Watch) -> Task:
        """Sleeps until a look is due and looks; begins anew when an outage is over."""
        while True:
            step = asyncio.timeout(None)
            try:
                async with step:
                    self._steps[watch] = step
                    return await self._sleep_and_look(watch)
            except TimeoutError:
                if not step.expired():
                    raise
            finally:
                watch.asked_at = None
                self._steps.pop(watch, None)

    async def _sleep_and_look(self, watch: Watch) -> Task:
        await self._sleep(watch)
        watch.due_within = None
        watch.asked_at = asyncio.get_running_loop().time()
        self._polling += watch.looks == 0
        watch.looks += 1
        return await self._look(watch.task.id, watch.task.model)

    def _hung(self, gap: float) -> int:
        """Looks that have been under way for so long."""
        since = asyncio.get_running_loop().time() - gap
        return sum(watch.asked_at is not None and watch.asked_at <= since for watch in self._steps)

    def _call_back_to_work(self, now: float, gap: float) -> None:
        """An outage is over: what it held up is looked at, at the pace of every other day.

        That is whoever waits longer because looks failed, or for an answer that does not come
        within `gap` either, and every task whose callback may have been lost meanwhile.
        """
        held_up = [(watch, step) for watch, step in self._steps.items() if self._is_held_up(watch)]
        tasks, polls_per_second = max(self._polling, len(held_up)), self._polls_per_second()
        for watch, step in held_up:
            watch.due_within = stretched_interval(
                watch.schedule.interval, tasks=tasks, polls_per_second=polls_per_second
            )
            if not step.expired():  # else it was called back already, and has not come to that yet
                step.reschedule(now if watch.asked_at is None else max(now, watch.asked_at + gap))

    def _is_held_up(self, watch: Watch) -> bool:
        may_be_called_in_vain = watch.ticket is not None and watch.started < self._outages.failed_at
        return watch.failures > 0 or watch.asked_at is not None or may_be_called_in_vain

    async def _sleep(self, watch: Watch) -> None:
        """Returns when the next look is due, or earlier when a callback has come."""
        loop = asyncio.get_running_loop()
        pause = self._pause(watch, loop.time())
        ticket = watch.ticket
        if ticket is None or watch.is_rung:
            await asyncio.sleep(pause)
            return
        has_learned = self._has_learned(watch)
        while not await _rung(ticket, pause):
            # What has been learned since may say that there is no hurry.
            if has_learned or not self._has_learned(watch):
                return
            has_learned, pause = True, self._pause(watch, loop.time())
        watch.is_rung = True

    def _has_learned(self, watch: Watch) -> bool:
        return watch.paced is None or self._pacer.knows(watch.paced)

    def _pause(self, watch: Watch, now: float) -> float:
        if watch.due_within is not None:
            return watch.due_within * self._rng.random()
        is_waiting = not (watch.failures or watch.unusable or watch.is_rung or watch.was_rung)
        if watch.paced is not None and is_waiting:
            pause = self._pacer.pause(watch.paced, now=now, unit=self._rng.random())
            if pause is not None:
                return pause
        age = None if watch.born is None else now - watch.born
        interval = watch.schedule.interval
        is_told = watch.ticket is not None and watch.looks > 0 and is_waiting
        if is_told:
            interval *= SAFETY_INTERVALS
        interval = stretched_interval(
            interval, tasks=self._polling, polls_per_second=self._polls_per_second()
        )
        pause = next_look(
            watch.schedule,
            looks=watch.looks,
            failures=watch.failures,
            age=age,
            interval=interval,
            unit=self._rng.random(),
        )
        # A callback that came too early makes no other look come earlier.
        return max(pause, watch.schedule.first - age) if is_told and age is not None else pause

    def _judge(self, watch: Watch, error: ApixoError, now: float) -> None:
        self._outages.failed(error, now=now)
        span = watch.note_failure(error, now=now)
        fatal = is_look_fatal(
            error,
            key_worked=self._key_worked(),
            in_a_row=watch.trouble_in_a_row,
            span=span,
            age=None if watch.born is None else now - watch.born,
        )
        if fatal:
            raise error
        LOGGER.debug(
            "look at task %s failed: %s",
            watch.task.id,
            error,
            extra=fields("look_failed", task_id=watch.task.id, model=watch.task.model, error=error),
        )

    def _is_end(self, watch: Watch, task: Task) -> bool:
        return task.is_terminal and not self._is_unusable(watch, task)

    def _is_unusable(self, watch: Watch, task: Task) -> bool:
        """Whether this is a success without a URL; raises when that has been seen often enough."""
        if task.state != TaskState.SUCCESS or task.urls:
            return False
        # While the API says that it still runs, its URL may still come.
        watch.unusable += not watch.is_taken_back
        if watch.unusable >= UNUSABLE_LOOKS:
            msg = f"task {task.id} succeeded without a usable result URL"
            raise UnexpectedAnswerError(msg, excerpt=str(task.raw.get("resultJson")), task=task)
        return True

    def _first_end(self, watch: Watch, task: Task) -> Task:
        """The answer, unless an earlier one said that the task has ended: then that one counts."""
        ended, before = watch.ended, watch.task.state
        watch.is_taken_back = ended is not None and not task.is_terminal
        if ended is not None and task.state != ended.state:
            self._tell_step_back(watch, ended.state, task, logging.WARNING)
            return ended
        if task.is_terminal:
            watch.ended = task
        elif _PROGRESS.get(before, 0) > _PROGRESS.get(task.state, math.inf):
            self._tell_step_back(watch, before, task, logging.INFO)
        return task

    def _tell_step_back(self, watch: Watch, before: str, task: Task, level: int) -> None:
        if level > watch.told_steps_back:
            watch.told_steps_back = level
            state = str(task.state)
            LOGGER.log(
                level,
                "task %s was %s and is now said to be %r",
                task.id,
                before,
                state,
                extra=fields("state_taken_back", task_id=task.id, model=task.model, state=state),
            )

    def _note_state(self, task: Task) -> None:
        is_strange = not isinstance(task.state, TaskState) and task.state not in self._seen_states
        if is_strange and len(self._seen_states) < STATES_TOLD:
            self._seen_states.add(task.state)
            LOGGER.info(
                "unknown task state %r counts as running",
                task.state,
                extra=fields(
                    "state_unknown", task_id=task.id, model=task.model, state=str(task.state)
                ),
            )
