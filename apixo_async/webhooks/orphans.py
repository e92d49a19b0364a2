"""Callbacks that nobody here has asked for, kept for whoever may come and ask."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from apixo_async._wire import Claim
from apixo_async.webhooks.capabilities import Slip

LIFETIME: Final = 24 * 3600.0
MOST: Final = 10_000


@attrs.frozen
class Callback:
    """A callback to one of our URLs: whom it is for, and what it claims."""

    slip: Slip
    claim: Claim


class Orphans(Protocol):
    """Where callbacks wait for a job that is not here (yet)."""

    async def put(self, callback: Callback) -> None:
        """Keeps it; once this has returned, it may be answered."""

    async def take(self, job: str) -> Sequence[Callback]:
        """Those of this job, which are given away."""
        ...


class MemoryOrphans:
    """Keeps the newest of them for a day, or until this process ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._by_job: dict[str, list[Callback]] = {}
        self._in_order: deque[tuple[float, Callback]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._by_job.values()))

    async def put(self, callback: Callback) -> None:
        """Keeps it; the same one is kept once."""
        kept = self._by_job.setdefault(callback.slip.job, [])
        if callback not in kept:
            kept.append(callback)
            self._in_order.append((self._clock(), callback))
        self._drop_old()

    async def take(self, job: str) -> Sequence[Callback]:
        """Those of this job, which are given away."""
        self._drop_old()
        return self._by_job.pop(job, [])

    def _drop_old(self) -> None:
        oldest = self._clock() - LIFETIME
        while self._in_order and (
            self._in_order[0][0] < oldest or len(self._in_order) > self._most
        ):
            _, callback = self._in_order.popleft()
            kept = self._by_job.get(callback.slip.job, [])
            if callback in kept:
                kept.remove(callback)
                if not kept:
                    del self._by_job[callback.slip.job]
