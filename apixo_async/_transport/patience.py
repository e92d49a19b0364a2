"""A time limit for a submit that is no shorter because somebody's code blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

LATE: Final = 0.25
"""Seconds that a timer may be late on a busy loop; a later one was held up by a blocking call."""
GRACE: Final = 1.0
"""Seconds that a submit still gets then: to read what has come takes far less."""


@asynccontextmanager
async def patience(seconds: float) -> AsyncGenerator[None]:
    """As `asyncio.timeout`, but for a loop that was held up: then the answer may be here already.

    Somebody's code that blocks makes all timers late. What came meanwhile is read before it is
    said that nothing came, since a submit without an answer asks for a decision.
    """
    loop = asyncio.get_running_loop()

    def end(due: float) -> None:
        now = loop.time()
        if now - due > LATE:
            timers.append(loop.call_later(GRACE, end, now + GRACE))
        else:
            scope.reschedule(now)

    async with asyncio.timeout(None) as scope:
        until = loop.time() + seconds
        timers = [loop.call_at(until, end, until)]
        try:
            yield
        finally:
            timers[-1].cancel()
