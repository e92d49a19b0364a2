"""Gates of several processes on one store: what holds for all of them together, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apixo_async.errors import ClientUsageError, StoreError
from apixo_async.limits import Gate, Lease, Limits, Permit
from apixo_async.limits.meters import RequestMeter
from apixo_async.limits.rate import RateGate
from apixo_async.limits.shares import Demand
from tests.limits.judges import worst_window
from tests.stores import MemoryMember, MemoryStore, State
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
        try:
            await self.account.submit()
        except asyncio.CancelledError:
            lease.is_running = True  # as it is with a POST that is cut
            raise
        else:
            self.gate.accepted(lease, turn.permit)
            self.started += 1
            return lease
        finally:
            turn.end()

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
        """So many tasks, as fast as they may; those that cannot be sent without store are lost."""
        ends = await asyncio.gather(*(self.run_one() for _ in range(jobs)), return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), StoreError}


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


# Frozen and cut off


def test_a_process_that_was_frozen_sends_nothing_on_old_rights() -> None:
    """Whoever had a place, and waited for nothing but the rate, asks the store anew first."""

    async def main() -> None:
        here = world(concurrent_tasks=5, requests_per_minute=60)
        frozen, other = here.process(), here.process()
        leases = [await frozen.gate.lease() for _ in range(5)]
        turns = [asyncio.create_task(frozen.gate.turn(lease)) for lease in leases]
        await asyncio.sleep(0.1)
        turns[0].result().end()
        await asyncio.sleep(0.1)
        here.store.members.clear()  # as it is for the others once the lease is over
        for _ in range(5):
            here.store.slots("other", Demand(held=5, wanted=5), 5)
        calls = len(here.store.calls)
        freeze(asyncio.get_running_loop(), 200.0)
        here.store.slots("other", Demand(held=5, wanted=5), 5)
        await asyncio.sleep(60)

        assert "slots" in [what for _, _, what in here.store.calls[calls:]]
        assert not any(turn.done() for turn in turns[1:])
        assert frozen.gate.statistics().tasks_granted == 0
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        await other.gate.aclose()
        await here.close()

    run_virtual(main())


def test_a_lease_that_ended_a_moment_ago_gives_no_turn() -> None:
    """Frozen between the permit and the turn, where no timer has told of it: nothing is sent."""

    async def main() -> None:
        here = world()
        process = here.process()
        gate, lease = process.gate, await process.gate.lease()
        wait_open = gate.rate.wait_open
        moments = [now()]

        async def freeze_once(*, poll: bool) -> Permit:
            permit = await wait_open(poll=poll)
            if len(moments) == 1:
                freeze(asyncio.get_running_loop(), 200.0)
                moments.append(now())
            return permit

        gate.rate.wait_open = freeze_once  # type: ignore[method-assign]
        here.store.state = "away"
        turning = asyncio.create_task(gate.turn(lease))
        await asyncio.sleep(0.1)
        here.store.state = "up"
        turn = await turning

        assert here.store.calls[-1][0] >= moments[1], "the store was asked in between"
        turn.end()
        lease.release()
        await here.close()

    run_virtual(main())


def test_without_a_word_of_the_store_the_lease_ends() -> None:
    """From the moment when the last answer was asked for, and by our own clock."""

    async def main() -> list[tuple[float, int]]:
        here = world(store=MemoryStore(lease=30.0), concurrent_tasks=5)
        process = here.process()
        await process.submit()
        seen = list[tuple[float, int]]()
        asked_at = max(moment for moment, _, what in here.store.calls if what == "slots")
        process.member.is_cut_off = True
        for _ in range(40):
            await asyncio.sleep(1)
            granted = process.gate.statistics().tasks_granted
            assert granted is not None
            seen.append((now() - asked_at, granted))
        process.member.is_cut_off = False
        await process.submit()
        await here.close()
        return seen

    seen = run_virtual(main())

    assert {granted for age, granted in seen if age < 30} == {1}
    assert {granted for age, granted in seen if age >= 30} == {0}


def test_a_process_that_was_frozen_while_it_asked_asks_again() -> None:
    """What it was granted then may be others' by now."""

    async def main() -> None:
        here = world(concurrent_tasks=5)
        process = here.process()
        waiting = asyncio.create_task(process.gate.lease())
        await asyncio.sleep(0.0008)
        assert here.store.members, "granted, and the answer is on its way"
        freeze(asyncio.get_running_loop(), 200.0)
        here.store.slots("other", Demand(held=5, wanted=5), 5)
        await asyncio.sleep(30)

        assert not waiting.done()
        waiting.cancel()
        await here.close()

    run_virtual(main())


def test_from_the_question_to_the_answer_no_more_is_held_than_was_told() -> None:
    """The store may give away meanwhile what was granted before and was not held."""

    async def main() -> None:
        here = world(store=MemoryStore(latency=0.1), concurrent_tasks=10)
        process = here.process()
        leases = [await process.submit() for _ in range(4)]
        leases.pop().release()
        await asyncio.sleep(5)
        here.store.latency = 4.0  # longer than anyone waits for an answer
        leases.pop().release()
        await asyncio.sleep(2)
        assert here.store.members["member-1"][0].held == 3
        waiting = asyncio.create_task(process.gate.lease())
        await asyncio.sleep(60)
        told = here.store.members["member-1"][0].held
        assert told == process.gate.slots.held == 2, "of the three that were granted"
        here.store.latency = 0.1
        (await waiting).release()
        await here.close()

    run_virtual(main())


# Outages


def fields_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The events in the log."""
    return [vars(record)["apixo_event"] for record in caplog.records]


@pytest.mark.parametrize("state", ["away", "hanging", "broken"])
def test_without_the_store_nothing_is_sent(state: State, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, asked every second or when it has timed out, and said when it is back."""

    async def main() -> None:
        here = world()
        process = here.process()
        running = asyncio.ensure_future(
            until(now() + 160, process.work(500), keep_looking(process, 5))
        )
        await asyncio.sleep(60)
        before = len(here.store.calls)
        here.store.state, begin = state, now()
        await asyncio.sleep(40)
        end = now()
        assert not process.gate.statistics().is_store_reachable
        assert len(here.store.calls) - before < 90
        here.store.state = "up"
        await asyncio.sleep(10)
        assert process.gate.statistics().is_store_reachable
        await running
        sent = here.account.sent

        assert not [moment for moment in sent if begin + 0.2 < moment < end]
        assert [moment for moment in sent if end < moment < end + 5]
        await here.close()

    run_virtual(main())

    assert fields_of(caplog) == ["shared_limits_lost", "shared_limits_back"]
    assert caplog.records[0].levelname == "WARNING"
    assert (caplog.records[0].exc_info is not None) is (state == "broken")


async def fails(work: Awaitable[object]) -> tuple[float, str]:
    """When this raises a `StoreError`, and what that says."""
    begin = now()
    with pytest.raises(StoreError) as caught:
        await work
    return now() - begin, str(caught.value)


def test_a_submit_waits_for_the_store_for_a_minute() -> None:
    """Before its slot, its place or its permit: then it says that nothing was sent, and why."""

    async def main() -> None:
        here = world(concurrent_tasks=5)
        process = here.process()
        gate = process.gate
        lease, full = await gate.lease(), [await gate.lease() for _ in range(4)]
        here.store.state = "away"
        looking = asyncio.create_task(process.look())
        ends = await asyncio.gather(
            fails(gate.lease()), fails(gate.turn(lease)), fails(gate.permit(poll=False))
        )
        for took, message in ends:
            assert took == pytest.approx(60, abs=3)
            assert message == (
                "nothing was sent: the store of shared limits was away for 60 s: "
                "cannot reach the store at memory"
            )
        took, _ = await fails(gate.lease())
        assert took == pytest.approx(60, abs=0.1), "as long for whoever comes meanwhile"
        await asyncio.sleep(1_000)
        assert not looking.done(), "a status call waits as long as it takes"
        here.store.state = "up"
        await looking
        assert gate.statistics().waiting == 0
        for held in (lease, *full):
            held.release()
        (await process.submit()).release()
        await here.close()

    run_virtual(main())


def test_a_store_that_comes_back_in_time_costs_nothing_but_time() -> None:
    """Whoever waited has what it waited for."""

    async def main() -> None:
        here = world()
        here.store.state = "away"
        process = here.process()
        submitting = asyncio.create_task(process.submit())
        await asyncio.sleep(50)
        here.store.state = "up"
        await submitting
        here.store.state = "away"
        other = asyncio.create_task(process.submit())
        await asyncio.sleep(50)
        here.store.state = "up"
        await other
        await here.close()

    run_virtual(main())


def test_who_is_cancelled_while_the_store_is_away_is_cancelled() -> None:
    """A cancellation is never taken for the end of patience."""

    async def main() -> None:
        here = world()
        here.store.state = "away"
        process = here.process()
        submitting = asyncio.create_task(process.submit())
        await asyncio.sleep(10)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        await asyncio.sleep(100)

        assert process.gate.statistics().waiting == 0
        await here.close()

    run_virtual(main())


# 429


def test_what_others_send_counts_where_a_429_is_judged() -> None:
    """A low rate of ours is no proof that a refusal is about tasks."""

    async def main() -> list[bool]:
        here = world(requests_per_minute=600)
        process, other = here.process(), here.process()
        await process.submit()
        high = [process.gate.rate.is_high(now())]
        await until(now() + 100, keep_looking(other, 20))
        high.append(process.gate.rate.is_high(now()))
        assert process.gate.rate.others.last_minute(now()) == pytest.approx(600, rel=0.5)
        await asyncio.sleep(200)
        high.append(process.gate.rate.is_high(now()))
        await here.close()
        return high

    assert run_virtual(main()) == [False, True, False]


def test_a_rate_that_was_found_is_what_others_left() -> None:
    """Half of an account's rate, beside another process that uses the other half, is high."""

    async def main() -> list[bool]:
        gate = RateGate(10_000)
        for _ in range(300):
            await gate.wait_open(poll=True)
        gate.others.spread(300, now() - 30, now())
        gate.find(attrs.evolve(gate.finder, rate=320, proven=320))
        high = [gate.is_high(now())]
        gate.others = RequestMeter()
        high.append(gate.is_high(now()))
        return high

    assert run_virtual(main()) == [True, False]


def test_a_pause_of_one_process_costs_the_others_nothing() -> None:
    """Nobody reserves anything while its gate is closed, and goes on with fresh permits."""

    async def main() -> tuple[int, float]:
        here = world()
        process = here.process()
        await process.look()
        looking = asyncio.create_task(process.look())
        await asyncio.sleep(0.0001)
        process.gate.throttled(Permit(0), retry_after=20.0, submit=False)
        before, begin = here.store.requests, now()
        await looking
        took = now() - begin
        await here.close()
        return here.store.requests - before, took

    reserved, took = run_virtual(main())

    assert reserved <= 2
    assert 20 <= took <= 23


# The end


def test_a_gate_that_ends_leaves_what_is_held_to_its_tasks() -> None:
    """Nobody else starts anything in those slots before the lease is over."""

    async def main() -> float:
        here = world(concurrent_tasks=3, duration=300.0)
        leaving, heir = here.process(), here.process()
        for _ in range(2):
            await leaving.submit()
        await leaving.gate.lease()  # nothing was sent with this one
        waiting = asyncio.gather(*(heir.submit() for _ in range(3)))
        await asyncio.sleep(5)
        left_at = now()
        await leaving.gate.aclose()
        await leaving.gate.aclose()
        assert (leaving.member.left_with, leaving.member.is_closed) == (2, True)
        await asyncio.sleep(5)
        assert heir.started == 1
        await waiting
        took = now() - left_at
        await here.close()
        return took

    assert run_virtual(main()) == pytest.approx(120, abs=3)


def test_a_gate_that_was_never_used_leaves_nothing() -> None:
    """The store is closed, and has never heard of it."""

    async def main() -> None:
        here = world()
        process = here.process()
        await here.close()

        assert process.member.is_closed
        assert here.store.calls == []
        with pytest.raises(ClientUsageError, match="closed"):
            await process.look()

    run_virtual(main())


@pytest.mark.parametrize("state", ["away", "hanging", "broken"])
def test_a_gate_can_be_closed_without_its_store(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    """What it held comes back when the lease ends."""

    async def main() -> float:
        here = world()
        process = here.process()
        await process.submit()
        here.store.state, begin = state, now()
        looking = asyncio.create_task(process.look())
        await asyncio.sleep(0.1)
        await here.close()
        took = now() - begin
        assert process.member.is_closed
        with pytest.raises(ClientUsageError):
            await looking
        return took

    assert run_virtual(main()) <= 3.2
    assert "shared_limits_not_left" in fields_of(caplog)


def test_closing_that_is_cancelled_closes_the_store() -> None:
    """It just does not wait for the farewell."""

    async def main() -> None:
        here = world()
        process = here.process()
        await process.submit()
        here.store.state = "hanging"
        closing = asyncio.create_task(process.gate.aclose())
        await asyncio.sleep(1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

        assert process.member.is_closed

    run_virtual(main())


def test_a_gate_whose_loop_has_ended_leaves_the_store() -> None:
    """Whatever it was doing on that loop does not go on, and does not stand in the way."""
    here = world()
    process = here.process()
    loop = VirtualLoop()

    async def begin() -> None:
        looking = asyncio.create_task(process.look())
        await process.submit()
        assert not looking.done()

    loop.run_until_complete(begin())
    left = asyncio.all_tasks(loop)
    loop.close()
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    run_virtual(process.gate.aclose())

    assert (process.member.left_with, process.member.is_closed) == (1, True)


# All of it

STEPS = st.lists(
    st.tuples(
        st.floats(0.01, 20),
        st.sampled_from(["come", "come", "leave", "die", "away", "hanging", "up"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@attrs.define
class Crowd:
    """Processes that come and go, and work while they are there."""

    here: World
    work: dict[Process, asyncio.Task[None]] = attrs.field(factory=dict)

    def come(self) -> None:
        """One more, with more to do than it gets done."""
        process = self.here.process()
        self.work[process] = asyncio.create_task(process.work(200))

    async def take(self, step: str, number: int) -> None:
        """One step of the story."""
        if step == "come":
            self.come()
        elif step in {"leave", "die"}:
            if self.work:
                await self.end(list(self.work)[number % len(self.work)], step)
        else:
            self.here.store.state = step  # type: ignore[assignment]

    async def end(self, process: Process, step: str) -> None:
        """It is gone, and what it started goes on."""
        process.member.is_cut_off = step == "die"
        working = self.work.pop(process)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if step == "leave":
            await process.gate.aclose()

    async def go_on(self) -> None:
        """With the store there and the dead gone, everybody who is left gets tasks done."""
        self.here.store.state = "up"
        await asyncio.sleep(60)
        before = {process: process.started for process in self.work}
        await asyncio.sleep(300)
        for process, started in before.items():
            assert process.started > started or self.work[process].done()

    async def close(self) -> None:
        """All leave."""
        for process in list(self.work):
            await self.end(process, "leave")
        await self.here.close()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.sampled_from([60, 600, 3_000]), STEPS)
@example(2, 60, [(1.0, "come", 0), (1.0, "come", 0)])
@example(2, 60, [(12.0, "come", 0), (12.0, "hanging", 0), (12.0, "come", 0), (17.0, "come", 0)])
def test_whatever_happens_the_limits_hold(
    tasks: int, rate: int, steps: list[tuple[float, str, int]]
) -> None:
    """Processes come, work, leave, die and lose the store at any moment, and then it goes on.

    Tasks are shorter than the lease here, so that those of the dead end in it.
    """

    async def main() -> Account:
        store = MemoryStore(lease=30.0, latency=0.02)
        limits = Limits(concurrent_tasks=tasks, requests_per_minute=rate)
        crowd = Crowd(World(store, Account(20.0), limits))
        crowd.come()
        for pause, step, number in steps:
            await asyncio.sleep(pause)
            await crowd.take(step, number)
        await crowd.go_on()
        await crowd.close()
        return crowd.here.account

    account = run_virtual(main())

    assert account.peak <= tasks
    assert worst_window(account.sent, 60) <= rate
