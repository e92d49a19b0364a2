"""What inboxes have in common, wherever they keep callbacks: writing many at once, looking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias

from apixo_async._logs import LOGGER, fields
from apixo_async.errors import ApixoError
from apixo_async.webhooks.orphans import Callback

LOOK_EVERY: Final = 1.0
"""Seconds between looks into an inbox for what another process has put there."""
MOST: Final = 100_000
"""Callbacks that are kept; the oldest go first."""
PAGE: Final = 256
"""Callbacks that are read at a time."""

Tell: TypeAlias = Callable[[Callback], Awaitable[bool]]
"""Takes a callback; true if somebody here has it now."""


class Numbered(Protocol):
    """An inbox whose callbacks have numbers that grow in the order in which they can be read."""

    @property
    def place(self) -> object:
        """Where it is, for whoever reads the log."""
        ...

    async def after(self, last: int) -> Sequence[tuple[int, Callback]]:
        """A page of those with higher numbers, the lowest first. Raises as `Orphans.put`."""
        ...

    async def drop(self, callback: Callback) -> None:
        """Somebody has taken it."""


class GroupedPuts:
    """Callbacks that come while others are being written share the next write."""

    def __init__(self, write: Callable[[Sequence[Callback]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: list[tuple[Callback, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, callback: Callback) -> None:
        """Returns when it is written, or raises what came in between."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((callback, kept))
        writing = self._writing
        if writing is None or writing.done() or writing.get_loop() is not loop:
            # A task of its own: whoever stops waiting leaves the others their write.
            self._writing = loop.create_task(self._write_all())
        await asyncio.shield(kept)

    async def _write_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._write([callback for callback, _ in group])
            except Exception as failure:  # noqa: BLE001  # raised to each who waits
                error = failure
            for _, kept in group:
                if kept.done():
                    continue
                if error is None:
                    kept.set_result(None)
                else:
                    kept.set_exception(error)


async def watch(inbox: Numbered, tell: Tell) -> None:
    """Tells of what is there and what comes, until cancelled; what is taken is dropped."""
    last = 0
    while True:
        try:
            last = await _look(inbox, last, tell)
        except (OSError, ApixoError):
            LOGGER.exception(
                "inbox %s cannot be read",
                inbox.place,
                extra=fields("inbox_unreadable", path=inbox.place),
            )
        await asyncio.sleep(LOOK_EVERY)


async def _look(inbox: Numbered, last: int, tell: Tell) -> int:
    """Goes through what came after `last`; returns up to where nobody need look again."""
    at, first_failed = last, 0
    while found := await inbox.after(at):
        for at, callback in found:
            try:
                if await tell(callback):
                    await inbox.drop(callback)
            except Exception as error:  # noqa: BLE001  # tried again; the others need not wait
                LOGGER.warning(
                    "a callback for %s has to wait: %r",
                    callback.slip.job,
                    error,
                    extra=fields(
                        "callback_waits",
                        submit=callback.slip.job,
                        attempt=callback.slip.attempt,
                        task_id=callback.claim.task_id,
                        error=error,
                    ),
                )
                first_failed = first_failed or at
    return first_failed - 1 if first_failed else at
