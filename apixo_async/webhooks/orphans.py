"""Callbacks that nobody here has asked for, kept for whoever may come and ask."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
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

    is_durable: bool
    """Whether what is kept outlives this process."""

    async def put(self, callback: Callback) -> None:
        """Keeps it; once this has returned, it may be answered.

        Raises `OSError` or an `ApixoError` if it cannot.
        """

    async def find(self, job: str) -> Sequence[Callback]:
        """Those of this job, the oldest first."""
        ...

    async def jobs(self) -> Collection[str]:
        """Those that it keeps anything for."""
        ...

    async def drop(self, callback: Callback) -> None:
        """Somebody has taken it."""


class SharedOrphans(Orphans, Protocol):
    """Where callbacks wait that another process may have received."""

    async def watch(self, tell: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells of what is there and what comes, until cancelled.

        What `tell` returns true for is dropped. Whatever goes wrong is logged and tried again.
        """


class NoOrphans:
    """Keeps none: whoever calls back has to come again."""

    is_durable = False

    async def put(self, callback: Callback) -> None:
        """Refuses it."""
        raise OSError(f"nobody has asked for job {callback.slip.job} yet")

    async def find(self, job: str) -> Sequence[Callback]:  # noqa: ARG002  # there are none of any
        """There are none."""
        return ()

    async def jobs(self) -> Collection[str]:
        """There are none."""
        return ()

    async def drop(self, callback: Callback) -> None:
        """There are none."""


class MemoryOrphans:
    """Keeps the newest of them for a day, or until this process ends."""

    is_durable = False

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._kept: dict[Callback, float] = {}
        self._by_job: dict[str, list[Callback]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def put(self, callback: Callback) -> None:
        """Keeps it; the same one is kept once."""
        if callback not in self._kept:
            self._kept[callback] = self._clock()
            self._by_job.setdefault(callback.slip.job, []).append(callback)
        self._drop_old()

    async def find(self, job: str) -> Sequence[Callback]:
        """Those of this job, the oldest first."""
        self._drop_old()
        return tuple(self._by_job.get(job, ()))

    async def jobs(self) -> Collection[str]:
        """Those that it keeps anything for."""
        self._drop_old()
        return self._by_job.keys()

    async def drop(self, callback: Callback) -> None:
        """Somebody has taken it."""
        self._drop(callback)

    def _drop(self, callback: Callback) -> None:
        if self._kept.pop(callback, None) is None:
            return
        of_job = self._by_job[callback.slip.job]
        of_job.remove(callback)
        if not of_job:
            del self._by_job[callback.slip.job]

    def _drop_old(self) -> None:
        oldest = self._clock() - LIFETIME
        while self._kept:
            callback, at = next(iter(self._kept.items()))
            if at >= oldest and len(self._kept) <= self._most:
                return
            self._drop(callback)
