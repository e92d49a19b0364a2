"""A store of shared limits in memory, for several gates on one event loop, and its outages."""

from __future__ import annotations

import asyncio
from typing import Literal

import attrs

from apixo_async.errors import StoreError
from apixo_async.limits import BucketSize
from apixo_async.limits.shares import TURN_SECONDS, Demand, Member, grant
from apixo_async.limits.sharing import LEASE_SECONDS, Grant

State = Literal["up", "away", "hanging", "broken"]


@attrs.define
class MemoryStore:
    """What the members of one account share; its clock is the event loop's."""

    lease: float = LEASE_SECONDS
    latency: float = 0.001
    state: State = "up"
    members: dict[str, tuple[Member, float]] = attrs.field(factory=dict)
    requests: int = 0
    calls: list[tuple[float, str, str]] = attrs.field(factory=list)
    """When who asked for what."""
    _full_at: float = 0.0
    _names: int = 0

    def member(self, name: str | None = None) -> MemoryMember:
        """One process more."""
        self._names += 1
        return MemoryMember(self, name or f"member-{self._names}", self.lease)

    def live(self, now: float) -> dict[str, Member]:
        """Those whose lease has not ended."""
        self.members = {name: kept for name, kept in self.members.items() if kept[1] > now}
        return {name: member for name, (member, _) in self.members.items()}

    def reserve(self, requests: int, size: BucketSize) -> float:
        """Takes them out of the bucket of all."""
        now = asyncio.get_running_loop().time()
        self._full_at = max(self._full_at, now) + requests / size.per_second
        self.requests += requests
        return max(0.0, self._full_at - size.burst / size.per_second - now)

    def slots(self, name: str, demand: Demand, cap: int) -> Grant:
        """Grants a share, and renews the lease."""
        now = asyncio.get_running_loop().time()
        turn = int(now // TURN_SECONDS)
        granted = grant(self.live(now), name, demand, cap, turn)
        member = Member(held=demand.held, wanted=demand.wanted, granted=granted)
        self.members[name] = member, now + self.lease
        return Grant(cap=granted, requests=self.requests)


@attrs.define(eq=False)
class MemoryMember:
    """One process's way to the store."""

    store: MemoryStore
    name: str
    lease: float
    is_closed: bool = False
    left_with: int | None = None
    is_cut_off: bool = False
    """Whether this member alone does not reach the store."""

    async def _call(self, what: str) -> None:
        """The way there, which may be cut."""
        assert not self.is_closed, "a store is not used any more once it is closed"
        store = self.store
        store.calls.append((asyncio.get_running_loop().time(), self.name, what))
        await asyncio.sleep(store.latency / 2)
        match "away" if self.is_cut_off else store.state:
            case "away":
                raise StoreError("cannot reach the store at memory")
            case "hanging":
                await asyncio.Event().wait()
            case "broken":
                raise KeyError("a bug of the store")
            case "up":
                pass

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """See `SharedLimits`."""
        await self._call("reserve")
        span = self.store.reserve(requests, size)
        await asyncio.sleep(self.store.latency / 2)
        return span

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """See `SharedLimits`."""
        await self._call("slots")
        granted = self.store.slots(self.name, Demand(held=held, wanted=wanted), cap)
        await asyncio.sleep(self.store.latency / 2)
        return granted

    async def leave(self, *, held: int) -> None:
        """See `SharedLimits`."""
        await self._call("leave")
        self.left_with = held
        now = asyncio.get_running_loop().time()
        gone = Member(held=held, wanted=held, granted=0)
        self.store.members[self.name] = gone, now + self.lease

    async def aclose(self) -> None:
        """See `SharedLimits`."""
        self.is_closed = True
