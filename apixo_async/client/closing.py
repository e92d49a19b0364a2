"""What waits in a client is cut short when the client closes, with an error that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final

from apixo_async.errors import ClientUsageError


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels them and waits for their ends, in which they tell what becomes of what they did.

    Cancelled meanwhile, it passes that on to them and waits all the same.
    """
    left = set(tasks)
    interruption: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            interruption = error
        left = {task for task in left if not task.done()}
    if interruption is not None:
        raise interruption


async def all_done(*groups: set[asyncio.Task[Any]]) -> None:
    """Waits until no task is left, in one group after the other; cancelled, it ends them so.

    Each task leaves its group at its end. A later group may need what an earlier one does.
    """
    try:
        for tasks in groups:
            while tasks:
                await asyncio.wait(tasks)
    except asyncio.CancelledError as error:
        interruption = error
        for tasks in groups:
            try:
                await end_all(tasks)
            except asyncio.CancelledError as another:
                interruption = another
        raise interruption from None


IDS_SHOWN: Final = 100
"""Ids of tasks that one line of the log names."""


def listed(ids: Sequence[str]) -> str:
    """The ids as a line of the log names them, not more than fit."""
    more = f" and {len(ids) - IDS_SHOWN:,} more" if len(ids) > IDS_SHOWN else ""
    return ", ".join(ids[:IDS_SHOWN]) + more


class Closing:
    """Knows who waits inside the client; nobody is left hanging, and nothing new begins."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()
        self._cut: set[asyncio.Task[Any]] = set()
        self.is_closed = False

    def check(self) -> None:
        """Raises `ClientUsageError` once the client is closed."""
        if self.is_closed:
            msg = "this client is closed; open a new one"
            raise ClientUsageError(msg)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """A wait that the client's end may cut; then it raises `ClientUsageError`.

        Never around a POST on its way: its answer is always awaited.
        """
        self.check()
        task = asyncio.current_task()
        if task is None or task in self._waiting:
            yield
            return
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Ours is taken back; somebody else's cancellation of the same moment stays.
            if task not in self._cut or task.uncancel() > 0:
                raise
        finally:
            self._waiting.discard(task)
            self._cut.discard(task)
        self.check()

    def close(self) -> None:
        """Refuses what comes and cuts what waits."""
        self.is_closed = True
        for task in list(self._waiting):
            self._cut.add(task)
            task.cancel()
