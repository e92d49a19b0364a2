"""A gate's part in limits that several processes share: permits, slots, and the end of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from apixo_async._logs import LOGGER, fields
from apixo_async._narrow import as_number, shown
from apixo_async.errors import InvalidSettingError
from apixo_async.limits.buckets import bucket_size
from apixo_async.limits.contact import ANSWER_SECONDS, Contact
from apixo_async.limits.keeping import Keeper
from apixo_async.limits.meters import RequestMeter
from apixo_async.limits.permits import SharedPermits
from apixo_async.limits.settings import Limits
from apixo_async.limits.sharing import Grant, SharedLimits
from apixo_async.limits.slots import Lease, Slots

_METHODS: Final = ("reserve", "slots", "leave", "aclose")


def check_shared(shared: object) -> None:
    """Raises `InvalidSettingError` unless this may be a store of shared limits."""
    lacks = [name for name in _METHODS if not callable(getattr(shared, name, None))]
    if lacks:
        msg = f"shared must be a store of limits, which has {', '.join(lacks)}, got {shown(shared)}"
        raise InvalidSettingError(msg)
    lease = getattr(shared, "lease", None)
    if not as_number(lease) > 0:
        msg = f"the lease of a store of limits must be above 0 seconds, got {shown(lease)}"
        raise InvalidSettingError(msg)


class Membership:
    """What a gate has of a store of limits, and what the store is told of the gate."""

    def __init__(
        self,
        shared: SharedLimits,
        limits: Limits,
        slots: Slots,
        places: Slots,
        *,
        line: Callable[[], int],
        found_cap: Callable[[], int],
        changed: Callable[[], None],
        heard: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._heard = heard
        self.contact = Contact()
        size = bucket_size(limits.requests_per_minute)
        self.permits = SharedPermits(shared, self.contact, size, line)
        self.keeper = Keeper(
            shared,
            self.contact,
            slots,
            places,
            limit=limits.concurrent_tasks,
            found_cap=found_cap,
            changed=changed,
            heard=self._hear,
        )
        self.others = RequestMeter()
        """Requests of the other processes."""
        self._heard_at = 0.0
        self._counted = 0
        self._all = -1
        self._is_closed = False

    async def join(self) -> None:
        """Is a member from now on, for as long as the gate is open, whether or not it has use."""
        self.keeper.need(soon=False)
        async with self.contact.patiently():
            await self.keeper.has_answer.wait()

    async def slot(self, slots: Slots) -> Lease:
        """Waits for a slot, for a minute at most of those in which the store is away."""
        self.keeper.need(soon=slots.held >= slots.cap)
        async with self.contact.patiently():
            lease = await slots.acquire()
        self.keeper.begun += 1
        return lease

    def _hear(self, grant: Grant) -> None:
        """What the account's count of requests grew by, and was not ours, others have sent."""
        now, by_others = asyncio.get_running_loop().time(), grant.requests - self.permits.reserved
        if 0 <= self._all <= grant.requests:
            # A reservation under way may be counted there and not yet here, so it is no sum of
            # differences.
            self.others.spread(max(0, by_others - self._counted), self._heard_at, now)
            self._counted = max(self._counted, by_others)
        else:  # for the first time, or the store was emptied
            self._counted = by_others
        self._all, self._heard_at = grant.requests, now
        self._heard()

    async def aclose(self, *, held: int) -> None:
        """Leaves the store with what is `held` for its tasks, and closes it; twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        self.keeper.stop()
        try:
            await _end(self.keeper.keeping, self.permits.fetching)
            if self.keeper.keeping is not None:
                await self._quietly(self._shared.leave(held=held))
        finally:
            await self._quietly(self._shared.aclose())

    async def _quietly(self, farewell: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await farewell
        except Exception as error:  # noqa: BLE001  # nothing depends on it: the lease ends by itself
            LOGGER.warning(
                "the store of shared limits could not be left, slots of tasks that have ended come "
                "back when the lease is over: %s",
                error if str(error) else type(error).__name__,
                extra=fields("shared_limits_not_left", error=error),
            )


async def _end(*tasks: asyncio.Task[None] | None) -> None:
    """Cancels those that run on this loop and waits for their ends."""
    loop = asyncio.get_running_loop()
    # On a loop that has ended nothing runs, and nothing can be cancelled.
    running = [task for task in tasks if task is not None and task.get_loop() is loop]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
