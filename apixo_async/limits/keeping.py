"""What this process holds of the account's slots: told to the store, renewed, and lost in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from apixo_async.limits.contact import ANSWER_SECONDS, RETRY_SECONDS, Contact
from apixo_async.limits.sharing import Grant, SharedLimits
from apixo_async.limits.slots import Slots

RENEWALS: Final = 3
"""A lease is renewed so many times before it would end, so that two answers may be lost."""
USEFUL_SECONDS: Final = 1.0
"""While slots could change hands, the store is asked so often: short beside any task."""
URGENT_SECONDS: Final = 0.2
"""A caller that has to wait is told of at once, but not more often than this."""
AHEAD: Final = 2
"""Where callers wait one after the other, so many slots are wanted for each that came of late: a
batch that asks for one slot after the other reaches a thousand in two seconds."""


def next_report(
    asked_at: float, *, lease: float, is_lost: bool, is_urgent: bool, is_useful: bool
) -> float:
    """When the store has to be told again what is held.

    `is_urgent` tells whether a caller has come who has to wait, `is_useful` whether somebody waits
    or slots could be given back.
    """
    if is_lost:
        pause = RETRY_SECONDS
    elif is_urgent:
        pause = URGENT_SECONDS
    elif is_useful:
        pause = USEFUL_SECONDS
    else:
        pause = lease
    return asked_at + min(pause, lease / RENEWALS)


def wanted_slots(*, held: int, waiting: int, begun: int, found_cap: int) -> int:
    """How many slots this process has use for.

    `begun` is how many it took since it last asked, `found_cap` what it could make use of.
    """
    ahead = AHEAD * begun if waiting else 0
    return max(held, min(held + waiting + ahead, found_cap))


class Keeper:
    """Keeps the lease on this process's slots by a task of its own; `allowed` is what it has.

    From a question to its answer, and after one without, no more may be held than was told: the
    store may have given the rest to others.
    """

    def __init__(
        self,
        shared: SharedLimits,
        contact: Contact,
        slots: Slots,
        places: Slots,
        *,
        limit: int,
        found_cap: Callable[[], int],
        changed: Callable[[], None],
        heard: Callable[[Grant], None],
    ) -> None:
        self._shared = shared
        self._contact = contact
        self._slots = slots
        self._places = places
        self._limit = limit
        self._found_cap = found_cap
        self._changed = changed
        self._heard = heard
        self.keeping: asyncio.Task[None] | None = None
        self.begun = 0
        """Slots taken since the store was last asked."""
        self.grant: Grant | None = None
        self.has_answer = asyncio.Event()
        """Set from the first grant on."""
        self._told: int | None = None
        self._ends_at = 0.0
        self._end: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        self._is_lost = False
        self._urgent = asyncio.Event()

    def granted(self, now: float) -> int:
        """Slots that are this process's at `now`; 0 before the first grant and without lease."""
        return 0 if self.grant is None or now >= self._ends_at else self.grant.cap

    def allowed(self, now: float) -> int:
        """Slots that this process may hold at `now`."""
        granted = self.granted(now)
        return granted if self._told is None else min(granted, self._told)

    def need(self, *, soon: bool) -> None:
        """The store is needed from now on; with `soon`, it is told at once what has changed."""
        if self.keeping is None or self.keeping.done():
            self.keeping = asyncio.get_running_loop().create_task(self._keep())
        elif soon:
            self._urgent.set()

    def stop(self) -> None:
        """Nothing new may begin any more."""
        self.grant = None
        if self._end is not None:
            self._end.cancel()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._urgent.clear()
            await self._report(loop)
            while (left := self._next_report() - loop.time()) > 0:
                if self._urgent.is_set():
                    await asyncio.sleep(left)
                    continue
                with suppress(TimeoutError):
                    # Whoever gives a slot back tells nobody: it is looked at.
                    async with asyncio.timeout(min(left, USEFUL_SECONDS)):
                        await self._urgent.wait()

    def _next_report(self) -> float:
        granted = 0 if self.grant is None else self.grant.cap
        return next_report(
            self._asked_at,
            lease=self._shared.lease,
            is_lost=self._is_lost,
            is_urgent=self._urgent.is_set(),
            is_useful=self._waiting > 0 or self._places.held != granted,
        )

    @property
    def _waiting(self) -> int:
        """Callers that wait for a slot, or with one for a place."""
        return self._slots.waiting + max(0, self._slots.held - self._places.held)

    async def _report(self, loop: asyncio.AbstractEventLoop) -> None:
        # Who has a slot and no place yet has nothing at the server: that slot can be another's.
        lease, held = self._shared.lease, self._places.held
        asked_at = self._asked_at = loop.time()
        self._told = held if self._told is None else min(held, self._told)
        self._changed()
        wanted = wanted_slots(
            held=held,
            waiting=self._waiting,
            begun=self.begun,
            found_cap=self._found_cap(),
        )
        self.begun = 0
        grant = await self._contact.ask(
            "slots",
            self._shared.slots(held=held, wanted=wanted, cap=self._limit),
            seconds=min(ANSWER_SECONDS, lease / RENEWALS),
        )
        self._is_lost = grant is None
        if grant is None:
            return
        self.grant, self._told = grant, None
        self.has_answer.set()
        self._end_at(asked_at + lease, loop)
        self._heard(grant)
        self._changed()

    def _end_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Without another answer the lease ends then, whoever has the slots in the meantime."""
        if self._end is not None:
            self._end.cancel()
        self._ends_at = when
        self._end = loop.call_at(when, self._changed)
