"""Permits out of the bucket that several processes share, for those who stand in line here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from apixo_async.errors import StoreError
from apixo_async.limits.buckets import BucketSize
from apixo_async.limits.contact import ANSWER_SECONDS, RETRY_SECONDS, Contact
from apixo_async.limits.sharing import SharedLimits

AT_ONCE: Final = 10
"""Permits that are reserved at a time: at 10,000 a minute they last 60 ms, longer than a store
takes to answer, and a process that dies takes no more of them with it."""
GOOD_SECONDS: Final = 0.5
"""For so long a permit may be used after its time. Half of the second by which `WINDOW_SECONDS` is
longer than the minute that is promised: the other half is left to the network."""
LATE_MAX: Final = 3
"""A store that answers so many times in a row too late to be of use is away: a process that was
frozen or busy sees one such answer."""


class SharedPermits:
    """Fetches permits while somebody stands in line, by one task that no caller cancels."""

    def __init__(
        self, shared: SharedLimits, contact: Contact, size: BucketSize, line: Callable[[], int]
    ) -> None:
        self._shared = shared
        self._contact = contact
        self._size = size
        self._line = line
        self.reserved = 0
        """Requests of the store's count that are ours."""
        self.fetching: asyncio.Task[None] | None = None
        self._left = 0
        self._from, self._until = 0.0, 0.0
        self._asked_at = -RETRY_SECONDS
        self._late = 0

    async def take(self) -> None:
        """Waits for a permit whose time has come and is not long over, and uses it up."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            if now > self._until:  # frozen meanwhile, or nobody was there any more to use them
                self._left = 0
            if not self._left:
                await self._fetched(loop)
            elif now < self._from:
                await asyncio.sleep(self._from - now)
            else:
                self._left -= 1
                return

    async def _fetched(self, loop: asyncio.AbstractEventLoop) -> None:
        """Waits for the task that fetches permits; who stops waiting leaves them to the next."""
        if self.fetching is None:
            self.fetching = loop.create_task(self._fetch(loop))
        await asyncio.wait([self.fetching])

    async def _fetch(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            if self._contact.is_lost:
                await asyncio.sleep(self._asked_at + RETRY_SECONDS - loop.time())
            if number := self._number():
                self._asked_at = loop.time()
                permits = self._permits(number, loop)
                await self._contact.ask("reserve", permits, seconds=ANSWER_SECONDS)
        finally:
            self.fetching = None
            if not self._line():
                self._contact.answered("reserve")  # nobody asks, so it cannot be said

    def _number(self) -> int:
        """For those who stand in line now, and no more than the bucket holds."""
        return min(self._line(), AT_ONCE, int(self._size.burst))

    async def _permits(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        asked_at = loop.time()
        span = await self._shared.reserve(number, self._size)
        self.reserved += number
        # The store reckoned from a moment between the question and its answer.
        self._from, self._until = loop.time() + span, asked_at + span + GOOD_SECONDS
        self._left = number
        self._late = self._late + 1 if self._from > self._until else 0
        if self._late >= LATE_MAX:
            took = loop.time() - asked_at
            msg = f"the store took {took:.1f} s to answer: its permits are over by then"
            raise StoreError(msg)
