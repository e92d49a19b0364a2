"""Gates of several processes on one store: what holds for all of them together, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import attrs
import pytest

from apixo_async.limits import Gate, Lease, Limits
from tests.limits.judges import worst_window
from tests.stores import MemoryMember, MemoryStore
from tests.virtual import run_virtual, virtual


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


@attrs.define
class Account:
    """What the API sees of all processes."""

    duration: float = 60.0
    sent: list[float] = attrs.field(factory=list)
    unfinished: int = 0
    peak: int = 0

    async def submit(self) -> None:
        """A task, for as long as it takes."""
        self.sent.append(now())
        self.unfinished += 1
        self.peak = max(self.peak, self.unfinished)
        asyncio.get_running_loop().call_later(self.duration, self._end)
        await asyncio.sleep(0.05)

    def _end(self) -> None:
        self.unfinished -= 1


@attrs.define(eq=False)
class Process:
    """A gate, and the account behind it."""

    account: Account
    member: MemoryMember
    gate: Gate
    started: int = 0

    async def submit(self) -> Lease:
        """One accepted task."""
        lease = await self.gate.lease()
        try:
            turn = await self.gate.turn(lease)
        except BaseException:
            lease.release()
            raise
        await self.account.submit()
        self.gate.accepted(lease, turn.permit)
        turn.end()
        self.started += 1
        return lease

    async def run_one(self) -> None:
        """One task from its submit to its end, seen a moment late."""
        lease = await self.submit()
        await asyncio.sleep(self.account.duration + 1)
        lease.release()

    async def look(self) -> None:
        """A status call."""
        permit = await self.gate.rate.wait_open(poll=True)
        self.account.sent.append(now())
        await asyncio.sleep(0.05)
        self.gate.answered(permit)

    async def work(self, jobs: int) -> None:
        """So many tasks, as fast as they may."""
        await asyncio.gather(*(self.run_one() for _ in range(jobs)))


@attrs.define
class World:
    """One account, one store, and processes."""

    store: MemoryStore = attrs.field(factory=MemoryStore)
    account: Account = attrs.field(factory=Account)
    limits: Limits = attrs.field(factory=Limits)
    processes: list[Process] = attrs.field(factory=list)

    def process(self) -> Process:
        """One more."""
        member = self.store.member()
        gate = Gate(self.limits, shared=member, rng=random.Random(1))
        self.processes.append(Process(self.account, member, gate))
        return self.processes[-1]

    async def close(self) -> None:
        """All end as they should."""
        for process in self.processes:
            await process.gate.aclose()


def world(*, store: MemoryStore | None = None, duration: float = 60.0, **limits: int) -> World:
    """A world with these limits."""
    return World(store or MemoryStore(), Account(duration), Limits(**limits))


async def until(moment: float, *work: Awaitable[object]) -> None:
    """Work that goes on until then."""
    tasks = [asyncio.ensure_future(task) for task in work]
    await asyncio.sleep(moment - now())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# The rate


async def keep_looking(process: Process, at_once: int) -> None:
    """Status calls as fast as they may."""

    async def one_after_the_other() -> None:
        while True:
            await process.look()

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


@pytest.mark.parametrize("rate", [10, 60, 600, 10_000])
@pytest.mark.parametrize("processes", [1, 3])
def test_all_processes_together_keep_the_rate_and_reach_it(processes: int, rate: int) -> None:
    """No minute sees more than the limit, and the store costs hardly any of it."""

    async def main() -> list[float]:
        here = world(requests_per_minute=rate)
        crowd = [here.process() for _ in range(processes)]
        await until(now() + 300, *(keep_looking(process, 40) for process in crowd))
        await here.close()
        return here.account.sent

    sent = run_virtual(main())

    assert worst_window(sent, 60) <= rate
    assert len(sent) >= 0.97 * (rate / 61 * 300)


@pytest.mark.parametrize(("latency", "part"), [(0.001, 0.98), (0.02, 0.95), (0.06, 0.9)])
def test_a_slow_store_does_not_slow_down_one_process(latency: float, part: float) -> None:
    """As long as ten permits last longer than the store takes to answer, the rate is reached."""

    async def main() -> int:
        here = world(store=MemoryStore(latency=latency))
        await until(now() + 120, keep_looking(here.process(), 100))
        await here.close()
        return len(here.account.sent)

    assert run_virtual(main()) >= part * 10_000 / 61 * 120
