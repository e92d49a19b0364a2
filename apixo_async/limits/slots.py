"""Slots for unfinished tasks: a semaphore whose leases outlive their caller."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from apixo_async.errors import InvalidSettingError


class Lease:
    """The right to one unfinished task on the server, until `release()`; twice is fine."""

    __slots__ = ("_slots", "is_running", "name", "place")

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots
        self.is_running = False
        """Whether a task stands behind this lease, or may stand behind it."""
        self.name: object = None
        """Whose it is, for whoever has to know it again."""
        self.place: Lease | None = None
        """A second lease that is given back with this one (see `Gate.turn`)."""

    @property
    def is_held(self) -> bool:
        """Whether the slot is still taken."""
        return self._slots is not None

    def release(self) -> None:
        """Gives the slot to the next in line."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back()
        place, self.place = self.place, None
        if place is not None:
            place.release()


class Slots:
    """A fair counting semaphore with a cap that may change while it is in use.

    Cancelling a waiter costs O(1), unlike with `asyncio.Semaphore`, whose `deque.remove` makes
    aborting 100,000 waiters block the loop for half a minute.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._held = 0
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.peak = 0

    @property
    def cap(self) -> int:
        """How many leases may be out."""
        return self._cap

    @property
    def held(self) -> int:
        """How many leases are out; after the cap was lowered this may be more than the cap."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many callers stand in line."""
        return len(self._waiters)

    def set_cap(self, cap: int) -> None:
        """Changes the cap; leases that are out stay valid. At 0 nobody gets one."""
        if cap < 0:
            msg = f"the cap must be at least 0, got {cap}"
            raise InvalidSettingError(msg)
        self._cap = cap
        self._wake()

    async def acquire(self) -> Lease:
        """Waits in line for a slot."""
        if self._held >= self._cap or self._waiters:
            await self._stand_in_line()
        else:
            self._take()
        return Lease(self)

    def occupy(self) -> Lease:
        """A slot for what is there already, beyond the cap if need be: new ones have to wait."""
        self._take()
        return Lease(self)

    async def _stand_in_line(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                del self._waiters[waiter]
            elif not waiter.cancelled():
                # The slot was handed over in the same instant: pass it on.
                self.give_back()
            raise

    def _take(self) -> None:
        self._held += 1
        self.peak = max(self.peak, self._held)

    def give_back(self) -> None:
        """Frees one slot; called by the lease that held it."""
        self._held -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiters and self._held < self._cap:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                self._take()
                waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<Slots {self._held} of {self._cap} held, {self.waiting} waiting>"
