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
from tests.virtual import VirtualLoop, run_virtual


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


@pytest.mark.parametrize("rate", [60, 10_000])
def test_submits_go_before_looks_and_leave_them_a_part(rate: int) -> None:
    """Four in five within a process, however little the others leave it."""

    async def main() -> tuple[int, int]:
        here = world(requests_per_minute=rate, concurrent_tasks=10**5)
        one, other = here.process(), here.process()
        submits = [one.submit() for _ in range(rate)]
        await until(now() + 55, *submits, keep_looking(one, 40), keep_looking(other, 40))
        statistics = one.gate.statistics()
        await here.close()
        return one.started, statistics.requests - one.started

    submits, looks = run_virtual(main())

    assert submits == pytest.approx(4 * looks, rel=0.15)


def test_a_permit_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    """Callers who leave take no permit with them: what was reserved for them is used."""

    async def main() -> int:
        here = world(requests_per_minute=60)
        process = here.process()
        await process.look()  # the burst
        for _ in range(20):
            leaving = asyncio.create_task(process.look())
            await asyncio.sleep(0.01)
            leaving.cancel()
        await process.look()
        await here.close()
        return here.store.requests

    assert run_virtual(main()) == 2


def test_a_permit_whose_time_is_long_over_is_not_used() -> None:
    """A process that was frozen when its permits came asks for new ones."""

    async def main() -> list[float]:
        here = world(requests_per_minute=600)
        process, other = here.process(), here.process()
        for _ in range(6):
            await other.look()  # the burst
        lookers = [asyncio.create_task(process.look()) for _ in range(12)]
        await asyncio.sleep(0.05)
        before, frozen_at = here.store.requests, now()
        assert before == 10, "two went, and the next two are reserved"
        freeze(asyncio.get_running_loop(), 30.0)
        await asyncio.gather(*lookers)
        await here.close()
        assert here.store.requests == before + 10
        return [moment - frozen_at for moment in here.account.sent if moment > frozen_at]

    assert worst_window(run_virtual(main()), 0.1) <= 7, "a burst and what refills meanwhile"


def freeze(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """The process stands still for so long, and so do its timers."""
    assert isinstance(loop, VirtualLoop)
    loop.freeze(seconds)


def test_a_store_that_always_answers_too_late_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Its permits are over when they come: nothing is sent, and the log says why."""

    async def main() -> list[float]:
        here = world(store=MemoryStore(latency=0.8))
        process = here.process()
        await until(now() + 30, keep_looking(process, 5))
        assert not process.gate.statistics().is_store_reachable
        here.store.latency = 0.4
        await until(now() + 30, keep_looking(process, 5))
        await here.close()
        return here.account.sent

    sent = run_virtual(main())

    assert min(sent) > 1_030
    assert [record.__dict__["apixo_event"] for record in caplog.records] == [
        "shared_limits_lost",
        "shared_limits_back",
    ]
    assert "the store took 0.8 s to answer" in caplog.text


# The slots


@pytest.mark.parametrize(("tasks", "processes"), [(1, 3), (10, 3), (1_000, 2), (3, 10)])
def test_all_processes_together_keep_the_slots_and_fill_them(tasks: int, processes: int) -> None:
    """Never more tasks than the account allows, and nearly always as many."""

    async def main() -> tuple[int, float, list[int]]:
        here = world(concurrent_tasks=tasks)
        crowd = [here.process() for _ in range(processes)]
        begin, jobs = now(), 16 * tasks
        await until(begin + 840, *(process.work(jobs) for process in crowd))
        started = [process.started for process in crowd]
        await here.close()
        return here.account.peak, sum(started) / tasks, started

    peak, rounds, started = run_virtual(main())

    assert peak == tasks
    assert rounds >= 12, "of at most 14: an end is seen and told a second late, and submits ramp"
    assert min(started) > 0, "nobody starves"


def test_the_slots_are_shared_evenly() -> None:
    """Whoever comes later has its even part as soon as tasks of the others end."""

    async def main() -> list[list[int]]:
        here = world(concurrent_tasks=100)
        early, late = here.process(), here.process()
        held = list[list[int]]()

        async def watch() -> None:
            while True:
                await asyncio.sleep(60)
                held.append(
                    [process.gate.statistics().tasks_granted or 0 for process in (early, late)]
                )

        async def come_later() -> None:
            await asyncio.sleep(90)
            await late.work(1_000)

        await until(now() + 400, early.work(1_000), come_later(), watch())
        await here.close()
        return held

    held = run_virtual(main())

    assert held[0] == [100, 0]
    assert held[-1] == [50, 50]


def test_one_after_the_other_asks_for_many_slots_soon() -> None:
    """A batch takes one lease after the other, and still fills the account in seconds."""

    async def main() -> float:
        here = world()
        process, begin = here.process(), now()
        for _ in range(1_000):
            await process.gate.lease()
        took = now() - begin
        await here.close()
        return took

    assert run_virtual(main()) < 3


def test_slots_that_are_not_used_are_given_back() -> None:
    """A process with nothing more to do leaves its slots to the others within a second or two."""

    async def main() -> float:
        here = world(concurrent_tasks=10)
        one, other = here.process(), here.process()
        leases = [await one.gate.lease() for _ in range(10)]
        waiting = asyncio.gather(*(other.gate.lease() for _ in range(10)))
        await asyncio.sleep(30)
        assert not waiting.done()
        begin = now()
        for lease in leases:
            lease.release()
        await waiting
        took = now() - begin
        await here.close()
        return took

    assert run_virtual(main()) < 3


def test_an_idle_process_asks_rarely() -> None:
    """With nothing to gain or give, the lease is renewed and no more; a look alone needs none."""

    async def main() -> tuple[int, int]:
        here = world()
        idle, busy = here.process(), here.process()
        await idle.look()
        await busy.submit()
        before = len(here.store.calls)
        await asyncio.sleep(600)
        calls = here.store.calls[before:]
        await here.close()
        return sum(name == "member-1" for _, name, _ in calls), len(calls)

    calls_of_idle, calls = run_virtual(main())

    assert calls_of_idle == 0
    assert calls <= 600 / 40 + 3


def test_a_process_that_died_gives_its_slots_back_after_its_lease() -> None:
    """Its tasks may run on for so long; not earlier, and not much later."""

    async def main() -> float:
        here = world(concurrent_tasks=5)
        dying, heir = here.process(), here.process()
        for _ in range(5):
            await dying.submit()
        waiting = asyncio.create_task(heir.submit())
        await asyncio.sleep(10)
        died = now()
        kill(dying)
        await waiting
        took = now() - died
        await here.close()
        return took

    assert 120 - 40 <= run_virtual(main()) <= 120 + 2


def kill(process: Process) -> None:
    """Nobody hears from it any more."""
    process.member.is_cut_off = True


def test_what_runs_already_counts_at_once() -> None:
    """Tasks of an earlier process are told to the store, and fill the cap for the others."""

    async def main() -> None:
        here = world(concurrent_tasks=3)
        resumed, other = here.process(), here.process()
        leases = [resumed.gate.occupy() for _ in range(3)]
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(other.gate.lease())
        await asyncio.sleep(30)
        assert not waiting.done()
        leases[0].release()
        await asyncio.sleep(3)
        assert waiting.done()
        resumed.gate.occupy()
        await asyncio.sleep(0.5)

        assert here.store.members["member-1"][0].held == 3, "also beyond what is granted"
        await here.close()

    run_virtual(main())


def test_a_found_cap_holds_for_the_process_that_found_it() -> None:
    """What this process found is its part of the account; the others have theirs."""

    async def main() -> tuple[int, int]:
        here = world(concurrent_tasks=100)
        process = here.process()
        for _ in range(3):
            await process.submit()
        for _ in range(2):
            lease = await process.gate.lease()
            turn = await process.gate.turn(lease)
            process.gate.throttled(turn.permit, retry_after=None, submit=True)
            turn.end()
            lease.release()
        waiting = [asyncio.create_task(process.gate.lease()) for _ in range(5)]
        await asyncio.sleep(2)
        assert not any(task.done() for task in waiting)
        wanted = here.store.members["member-1"][0].wanted
        cap = process.gate.statistics().tasks_cap
        for task in waiting:
            task.cancel()
        await here.close()
        return wanted, cap

    assert run_virtual(main()) == (3, 3)
