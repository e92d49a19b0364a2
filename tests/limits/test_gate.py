"""The gate against an account that allows what it allows, in virtual time."""

import asyncio
import logging
import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.limits import Gate, GateStatistics, Lease, Limits, Permit, Turn
from apixo_async.limits.finding import CapFinder
from tests.fakes import widen
from tests.virtual import run_virtual


class HalfRandom(random.Random):
    """Draws the middle, so that pauses can be told."""

    def random(self) -> float:
        return 0.5


def new_gate(**limits: int) -> Gate:
    """A gate whose pauses are not random."""
    return Gate(Limits(**limits), rng=HalfRandom())


@attrs.define
class Account:
    """What the API really allows: so many unfinished tasks, whatever the client believes."""

    tasks: int
    unfinished: int = 0
    peak: int = 0
    refusals: list[float] = attrs.field(factory=list[float])

    def submit(self, duration: float) -> bool:
        """Whether the task was accepted; it ends by itself."""
        loop = asyncio.get_running_loop()
        if self.unfinished >= self.tasks:
            self.refusals.append(loop.time())
            return False
        self.unfinished += 1
        self.peak = max(self.peak, self.unfinished)
        loop.call_later(duration, self._end)
        return True

    def _end(self) -> None:
        self.unfinished -= 1


async def run_job(gate: Gate, account: Account, duration: float) -> None:
    """One task as the client carries it: submitted until accepted, then seen to end."""
    lease = await gate.lease()
    accepted = False
    while not accepted:
        turn = await gate.turn(lease)
        await asyncio.sleep(0.1)
        accepted = account.submit(duration)
        await asyncio.sleep(0.1)
        if accepted:
            gate.accepted(lease, turn.permit)
        else:
            gate.throttled(turn.permit, retry_after=None, submit=True)
        turn.end()
    await asyncio.sleep(duration + 2.5)
    lease.release()


@attrs.frozen
class Trace:
    """What happened to a batch on an account."""

    took: float
    ideal: float
    refusals: int
    caps: list[tuple[float, int]]

    def caps_between(self, first: float, last: float) -> list[int]:
        """The caps that were seen in this span."""
        return [cap for moment, cap in self.caps if first <= moment <= last]


async def run_batch(
    account: Account, *, jobs: int, upgrade: tuple[float, int] | None = None
) -> Trace:
    """Runs jobs of 60 to 180 s with the documented limits configured."""
    rng, loop = random.Random(1), asyncio.get_running_loop()
    gate = Gate(Limits(), rng=random.Random(2))
    durations = [rng.uniform(60, 180) for _ in range(jobs)]
    begin, caps = loop.time(), list[tuple[float, int]]()

    async def watch() -> None:
        while True:
            caps.append((loop.time() - begin, gate.statistics().tasks_cap))
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    if upgrade is not None:
        loop.call_later(upgrade[0], setattr, account, "tasks", upgrade[1])
    await asyncio.gather(*(run_job(gate, account, duration) for duration in durations))
    took = loop.time() - begin
    watcher.cancel()
    assert gate.statistics().tasks == 0
    await gate.aclose()
    ideal = sum(durations) / account.tasks
    return Trace(took, ideal, len(account.refusals), caps)


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_no_more_tasks_run_than_are_configured(limit: int) -> None:
    """On an account that would take anything, the configured number is reached and never passed."""

    async def main() -> Account:
        gate, account = new_gate(concurrent_tasks=limit), Account(10**9)
        await asyncio.gather(*(run_job(gate, account, 60 + n % 7) for n in range(10 * limit)))
        assert gate.statistics().tasks_peak == limit
        return account

    assert run_virtual(main()).peak == limit


@pytest.mark.parametrize(("tasks", "jobs"), [(1, 6), (3, 20), (10, 60), (50, 400), (300, 2_000)])
def test_the_real_limit_is_found(tasks: int, jobs: int) -> None:
    """Configured with 1,000, the gate settles at what the account allows, nearly at full speed."""
    trace = run_virtual(run_batch(Account(tasks), jobs=jobs))
    settled = trace.caps_between(60, trace.took)

    assert max(settled) <= tasks + max(8, tasks // 10)
    assert min(settled) >= tasks * 0.9
    assert trace.took <= trace.ideal * 1.1 + 180


@pytest.mark.parametrize(("tasks", "jobs"), [(1, 6), (3, 20), (10, 60), (50, 400), (300, 2_000)])
def test_finding_it_is_no_storm(tasks: int, jobs: int) -> None:
    """The search costs one burst of refusals at first, and then one every few minutes."""
    trace = run_virtual(run_batch(Account(tasks), jobs=jobs))

    assert trace.refusals <= min(tasks + 1, 32) + 6 + trace.took / 150


def test_an_upgrade_is_noticed() -> None:
    """When the account allows more, that is tried in five minutes and found in two more."""
    trace = run_virtual(run_batch(Account(50), jobs=2_000, upgrade=(300.0, 1_000)))

    assert max(trace.caps_between(60, 300)) <= 60
    assert max(trace.caps_between(300, 720)) == 1_000
    assert trace.refusals <= 40


def test_a_downgrade_is_noticed() -> None:
    """When the account allows less than before, the cap comes down to it and stays there."""
    trace = run_virtual(run_batch(Account(200), jobs=1_200, upgrade=(200.0, 50)))

    assert min(trace.caps_between(60, 199)) >= 180
    assert max(trace.caps_between(420, trace.took)) <= 60


async def running(gate: Gate, number: int) -> list[Lease]:
    """So many accepted tasks."""
    leases = []
    for _ in range(number):
        lease = await gate.lease()
        turn = await gate.turn(lease)
        gate.accepted(lease, turn.permit)
        turn.end()
        leases.append(lease)
    return leases


async def refuse(gate: Gate, *, submit: bool = True, retry_after: float | None = None) -> float:
    """One request that is answered 429; how long the gate is closed after it."""
    if submit:
        lease = await gate.lease()
        turn = await gate.turn(lease)
        gate.throttled(turn.permit, retry_after=retry_after, submit=True)
        turn.end()
        lease.release()
    else:
        permit = await gate.permit(poll=True)
        gate.throttled(permit, retry_after=retry_after, submit=False)
    return gate.statistics().closed_for


def test_a_stray_429_leaves_the_cap_alone() -> None:
    """One refusal, with acceptances before and after, is a passing fault: a pause and no more."""

    async def main() -> None:
        gate = new_gate()
        for _ in range(5):
            await running(gate, 10)
            assert await refuse(gate) == 0.5
        await running(gate, 1)

        assert gate.statistics().tasks_cap == 1_000
        assert gate.statistics().throttled == 5

    run_virtual(main())


def test_two_in_a_row_drop_the_cap_to_what_runs() -> None:
    """No acceptance between two refusals: the account's limit is what is running."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        await refuse(gate)
        await refuse(gate)

        assert gate.statistics().tasks_cap == 10

    run_virtual(main())


def test_refusals_of_one_burst_count_once() -> None:
    """All that was under way when the first 429 came is one episode: one short pause, same cap."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        widen(gate)
        leases = [await gate.lease() for _ in range(32)]
        turns = await asyncio.gather(*map(gate.turn, leases))
        for turn in turns:
            gate.throttled(turn.permit, retry_after=None, submit=True)
            turn.end()
        statistics = gate.statistics()

        assert statistics.throttled == 32
        assert statistics.closed_for == 0.5
        assert statistics.tasks_cap == 1_000

    run_virtual(main())


def test_pauses_double_with_every_episode() -> None:
    """Refusals in a row close the gate ever longer, to a minute; an acceptance starts anew."""

    async def main() -> None:
        gate = new_gate(concurrent_tasks=5)
        pauses = [await refuse(gate) for _ in range(8)]
        await running(gate, 1)
        pauses.append(await refuse(gate))

        assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 0.5])

    run_virtual(main())


def test_status_calls_have_a_row_of_their_own() -> None:
    """A good look ends the row of refused looks, not the row of refused submits."""

    async def main() -> None:
        gate = new_gate()
        pauses = [await refuse(gate, submit=submit) for submit in (True, False, False, True)]
        gate.answered(await gate.permit(poll=True))
        pauses += [await refuse(gate, submit=submit) for submit in (False, True)]

        assert pauses == pytest.approx([0.5, 0.5, 1, 1, 0.5, 2])

    run_virtual(main())


def test_a_row_of_looks_begins_anew_after_a_good_one() -> None:
    """The second refusal after it is the second, and not the first."""

    async def main() -> None:
        gate = new_gate()
        await refuse(gate, submit=False)
        gate.answered(await gate.permit(poll=True))
        pauses = [await refuse(gate, submit=False) for _ in range(3)]

        assert pauses == pytest.approx([0.5, 1, 2])

    run_virtual(main())


def test_refused_probes_add_up_where_there_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in ten is refused for no reason: the fourth in a row is the account's limit."""

    async def main() -> list[bool]:
        gate = new_gate()
        await running(gate, 5)
        gate._finder = before = CapFinder(1_000, 5, known=5)
        monkeypatch.setattr(gate.rate, "noise", lambda _: 0.1)
        found = list[bool]()
        for _ in range(4):
            await refuse(gate)
            found.append(gate._finder is not before)
        await gate.aclose()
        return found

    assert run_virtual(main()) == [False, False, False, True]


def test_a_refused_probe_is_no_first_of_a_row() -> None:
    """It is explained; the next refusal beside fewer tasks may be a passing fault."""

    async def main() -> None:
        gate = new_gate()
        tasks = await running(gate, 5)
        gate._finder = CapFinder(1_000, 5, known=5)
        await refuse(gate)
        for task in tasks[:2]:
            task.release()
        await refuse(gate)
        assert gate._finder.cap == 5
        await refuse(gate)

        assert gate._finder.cap == 3
        await gate.aclose()

    run_virtual(main())


@pytest.mark.parametrize(("cap", "is_hurried"), [(5, True), (6, False)])
def test_a_task_limit_that_is_seen_to_grow_lets_the_rate_be_tried(
    cap: int, is_hurried: bool
) -> None:
    """An upgrade changes both; a task that proves nothing changes neither."""

    async def main() -> float:
        gate = new_gate()
        await running(gate, 4)
        gate._finder = CapFinder(1_000, cap, step=4)
        gate.rate.finder = attrs.evolve(gate.rate.finder, rate=500, next_probe=1e9)
        await running(gate, 1)
        return gate.rate.finder.next_probe

    assert (run_virtual(main()) < 1e9) is is_hurried


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(None, 60.0), (1.0, 4.0)], ids=["no advice", "advice"]
)
def test_after_a_fall_of_the_rate_a_minute_has_to_pass(
    retry_after: float | None, expected: float
) -> None:
    """Twelve requests at once and four refusals: nobody goes on before that is a minute old."""

    async def main() -> float:
        gate = new_gate()
        for _ in range(12):
            gate.answered(await gate.permit(poll=True))
        for _ in range(3):
            await refuse(gate, submit=False, retry_after=retry_after)
        closed_for = await refuse(gate, submit=False, retry_after=retry_after)
        assert gate.statistics().requests_cap == 12
        return closed_for

    assert run_virtual(main()) == pytest.approx(expected, rel=0.2)


def test_a_look_before_the_first_refusal_does_not_prove_the_second() -> None:
    """Only looks that pass while submits are refused tell that the rate is not to blame."""

    async def main() -> None:
        gate = new_gate(requests_per_minute=20)
        await running(gate, 9)
        await refuse(gate, submit=False)
        gate.answered(await gate.permit(poll=True))
        await refuse(gate)
        await refuse(gate)

        assert gate.statistics().tasks_cap == 1_000

    run_virtual(main())


def test_refused_looks_say_nothing_about_tasks() -> None:
    """However often looks are refused, the cap and the number of submits at once stay."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        for _ in range(5):
            await refuse(gate, submit=False)
        widen(gate)
        turns = [await gate.turn(await gate.lease()) for _ in range(32)]

        assert gate.statistics().tasks_cap == 1_000
        assert len(turns) == 32

    run_virtual(main())


def test_two_in_a_row_are_no_proof_where_looks_are_refused_as_well() -> None:
    """One look in ten is refused at a low rate: that is noise, and of submits it takes four."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        for _ in range(3):
            await refuse(gate, submit=False)
            for _ in range(9):
                gate.answered(await gate.permit(poll=True))
        caps = list[int]()
        for _ in range(4):
            await refuse(gate)
            gate.answered(await gate.permit(poll=True))
            caps.append(gate.statistics().tasks_cap)

        assert caps == [1_000, 1_000, 1_000, 10]

    run_virtual(main())


def test_refused_reads_of_the_balance_count_like_looks() -> None:
    """Nobody looked and three reads of the balance were refused: so may be a submit."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        for _ in range(3):
            permit = await gate.permit(poll=False)
            gate.throttled(permit, retry_after=None, submit=False)
        await refuse(gate)

        assert gate.statistics().tasks_cap == 1_000

    run_virtual(main())


def test_a_refusal_for_tasks_holds_up_submits_only() -> None:
    """Looks are not to blame and go on: they are what shows that a place is free."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        await refuse(gate)
        gate.answered(await gate.permit(poll=True))
        await refuse(gate, retry_after=30.0)
        begin = asyncio.get_running_loop().time()
        await gate.permit(poll=True)
        looked = asyncio.get_running_loop().time()
        await gate.permit(poll=False)
        submitted = asyncio.get_running_loop().time()

        assert looked == begin
        assert submitted - begin == pytest.approx(31.5, abs=0.1)

    run_virtual(main())


def test_a_probe_that_is_refused_is_about_tasks_at_any_rate() -> None:
    """One task more than fitted before: the cap falls back at once, without another refusal."""

    async def main() -> None:
        gate = new_gate(requests_per_minute=20)
        await running(gate, 5)
        await refuse(gate)
        await refuse(gate)
        assert gate.statistics().tasks_cap == 5
        waiting = asyncio.create_task(gate.lease())
        await asyncio.sleep(6)
        assert gate.statistics().tasks_cap == 6
        probe = await gate.turn(await waiting)
        gate.throttled(probe.permit, retry_after=None, submit=True)

        assert gate.statistics().tasks_cap == 5
        assert gate.statistics().requests_cap == 20
        await gate.aclose()

    run_virtual(main())


def test_when_looks_pass_a_second_refusal_is_about_tasks_at_any_rate() -> None:
    """The request rate would refuse looks as well."""

    async def main(*, look: bool) -> int:
        gate = new_gate(requests_per_minute=20)
        await running(gate, 9)
        await refuse(gate)
        if look:
            gate.answered(await gate.permit(poll=True))
        await refuse(gate)
        return gate.statistics().tasks_cap

    assert run_virtual(main(look=True)) == 9
    assert run_virtual(main(look=False)) == 1_000


def test_at_a_high_rate_a_429_is_about_the_rate() -> None:
    """Who uses half the request limit and is refused learns nothing about tasks."""

    async def main() -> None:
        gate = new_gate(requests_per_minute=10)
        await running(gate, 6)
        await refuse(gate)
        await refuse(gate)

        assert gate.statistics().tasks_cap == 1_000

    run_virtual(main())


def test_with_nothing_running_a_429_is_not_about_tasks() -> None:
    """An account that refuses the only task has another reason, and its cap must not drop."""

    async def main() -> None:
        gate = new_gate()
        for _ in range(4):
            await refuse(gate)

        assert gate.statistics().tasks_cap == 1_000

    run_virtual(main())


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(7.0, 7.35), (0.0, 0.0), (1e9, 126.0)], ids=["7 s", "0", "years"]
)
@pytest.mark.parametrize("submit", [True, False], ids=["submit", "look"])
def test_everybody_waits_as_long_as_the_server_asks(
    retry_after: float, expected: float, submit: bool
) -> None:
    """A `Retry-After` on any call holds up all calls, for two minutes and a bit at most."""

    async def main() -> list[float]:
        gate = new_gate()
        await refuse(gate, submit=submit, retry_after=retry_after)
        loop = asyncio.get_running_loop()
        closed_at, passed = loop.time(), list[float]()

        async def call(poll: bool) -> None:
            permit = await gate.permit(poll=poll)
            passed.append(loop.time() - closed_at)
            gate.answered(permit)

        await asyncio.gather(*(call(number % 2 == 0) for number in range(10)))
        return passed

    passed = run_virtual(main())

    assert min(passed) == pytest.approx(expected, abs=0.01)
    assert max(passed) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    ("setting", "expected"), [(None, 0.5), (0.1, 0.1), (1.0, 1.0)], ids=["none", "less", "all"]
)
def test_a_schedule_plans_with_the_share_it_asks_for_or_that_is_set(
    setting: float | None, expected: float
) -> None:
    """The setting takes the place of what is asked for; both are parts of the found rate."""

    async def main() -> float:
        gate = Gate(Limits(requests_per_minute=600, poll_share=setting))
        return gate.poll_budget(0.5) / gate.rate.per_second

    assert run_virtual(main()) == pytest.approx(expected)


def test_a_late_refusal_of_an_old_burst_is_no_new_row() -> None:
    """A 429 to what was sent before the last pause lengthens no row that has ended since."""

    async def main() -> None:
        gate = new_gate()
        widen(gate)
        first, second, third = [await gate.lease() for _ in range(3)]
        turns = [await gate.turn(lease) for lease in (first, second, third)]
        gate.throttled(turns[0].permit, retry_after=None, submit=True)
        gate.accepted(second, turns[1].permit)
        await asyncio.sleep(1)
        gate.throttled(turns[2].permit, retry_after=None, submit=True)

        assert gate.statistics().closed_for == 0.5

    run_virtual(main())


def test_so_many_posts_are_under_way_at_most() -> None:
    """With 3 submits at once, the fourth waits for a turn to end."""

    async def main() -> None:
        gate = new_gate(concurrent_submits=3)
        widen(gate)
        turns = [asyncio.create_task(gate.turn(await gate.lease())) for _ in range(5)]
        await asyncio.sleep(10)
        assert [turn.done() for turn in turns] == [True, True, True, False, False]
        turns[1].result().end()
        await asyncio.sleep(10)

        assert [turn.done() for turn in turns] == [True, True, True, True, False]
        turns[4].cancel()

    run_virtual(main())


def test_posts_begin_one_by_one_and_double_with_every_round() -> None:
    """Whatever the account allows, it is told slowly: one, two, four, eight, up to the setting."""

    async def main() -> list[int]:
        gate = new_gate(concurrent_submits=10)
        rounds = list[int]()

        async def begin() -> Turn:
            return await gate.turn(await gate.lease())

        waiting = [asyncio.create_task(begin()) for _ in range(60)]
        while waiting:
            await asyncio.sleep(1)
            turns = [turn.result() for turn in waiting if turn.done()]
            waiting = [turn for turn in waiting if not turn.done()]
            rounds.append(len(turns))
            for turn in turns:
                gate.accepted(turn.lease, turn.permit)
                turn.end()
        return rounds

    assert run_virtual(main()) == [1, 2, 4, 8, 10, 10, 10, 10, 5]


async def rounds_of(gate: Gate, submits: int) -> list[int]:
    """How many of these get their turn at once, where every one is accepted after 5 s."""
    rounds = list[int]()
    waiting = [asyncio.create_task(gate.turn(await gate.lease())) for _ in range(submits)]
    while waiting:
        await asyncio.sleep(5)
        turns = [turn.result() for turn in waiting if turn.done()]
        waiting = [turn for turn in waiting if not turn.done()]
        rounds.append(len(turns))
        for turn in turns:
            gate.accepted(turn.lease, turn.permit)
            turn.end()
    return rounds


def test_after_a_refusal_posts_go_one_by_one_until_one_is_accepted() -> None:
    """A refused burst is not repeated as a burst, but a passing fault costs few rounds."""

    async def main() -> list[int]:
        gate = new_gate(concurrent_submits=32)
        widen(gate)
        await refuse(gate)
        return await rounds_of(gate, 60)

    assert run_virtual(main()) == [1, 2, 8, 32, 17]


def test_a_burst_that_is_refused_is_forgotten_no_slower_than_one_refusal() -> None:
    """All of its refusals belong to one episode: submits go back to where they were."""

    async def main() -> list[int]:
        gate = new_gate(concurrent_submits=8)
        widen(gate)
        burst = [await gate.turn(await gate.lease()) for _ in range(8)]
        for turn in burst:
            gate.throttled(turn.permit, retry_after=None, submit=True)
            turn.end()
            turn.lease.release()
        return await rounds_of(gate, 20)

    assert run_virtual(main()) == [1, 2, 8, 8, 1]


def test_beyond_where_it_was_the_way_widens_slowly() -> None:
    """Twice as many up to the four of before, and then one more with every answer."""

    async def main() -> list[int]:
        gate = new_gate()
        gate._posts.set_cap(4)
        await refuse(gate)
        caps = list[int]()
        for _ in range(5):
            await running(gate, 1)
            caps.append(gate._posts.cap)
        return caps

    assert run_virtual(main()) == [2, 4, 5, 6, 7]


def test_a_turn_is_a_submit_to_the_rate() -> None:
    """It draws on the part of the rate that submits have, and goes before looks."""

    async def main() -> tuple[int, int]:
        gate = new_gate()
        await running(gate, 3)
        await gate.permit(poll=True)
        return gate.rate._submitted.total, gate.rate.meter.total

    assert run_virtual(main()) == (3, 4)


def test_submits_that_are_refused_for_what_they_ask_widen_the_way_as_well() -> None:
    """A million wrong rows need not go one by one; they say nothing about limits."""

    async def main() -> None:
        gate = new_gate()
        for _ in range(5):
            turn = await gate.turn(await gate.lease())
            gate.rejected(turn.permit)
            turn.end()
        waiting = [asyncio.create_task(gate.turn(await gate.lease())) for _ in range(10)]
        await asyncio.sleep(1)

        assert sum(task.done() for task in waiting) == 6
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run_virtual(main())


def test_leases_beyond_a_lowered_cap_wait_for_their_turn() -> None:
    """Leases that were out before the cap dropped start no task until it has room for them."""

    async def main() -> None:
        gate = new_gate()
        started = await running(gate, 5)
        early = [await gate.lease() for _ in range(3)]
        await refuse(gate)
        await refuse(gate)
        assert gate.statistics().tasks_cap == 5
        turns = [asyncio.create_task(gate.turn(lease)) for lease in early]
        await asyncio.sleep(4)
        assert sum(turn.done() for turn in turns) == 0
        started[0].release()
        await asyncio.sleep(0.5)

        assert sum(turn.done() for turn in turns) == 1
        for turn in turns:
            turn.cancel()
        await gate.aclose()

    run_virtual(main())


def test_a_cap_that_drops_while_a_turn_waits_for_its_permit_counts() -> None:
    """Who had a place before the cap dropped does not start beside a refused submit's place."""

    async def main() -> None:
        gate = new_gate()
        tasks = await running(gate, 5)
        await refuse(gate)
        await refuse(gate)
        for task in tasks[:3]:
            task.release()
        await running(gate, 1)
        assert gate.statistics().tasks_cap == 5

        await refuse(gate)
        widen(gate)
        refused = await gate.turn(await gate.lease())
        waiting = asyncio.create_task(gate.turn(await gate.lease()))
        await asyncio.sleep(1)
        gate.throttled(refused.permit, retry_after=0.0, submit=True)
        assert gate.statistics().tasks_cap == 3
        refused.end()
        await asyncio.sleep(2)
        assert not waiting.done()
        tasks[4].release()
        await asyncio.sleep(2)

        assert waiting.done()
        await gate.aclose()

    run_virtual(main())


def test_what_runs_already_has_its_slot_and_its_place() -> None:
    """Tasks of an earlier process fill the cap, and more of them than it has room for."""

    async def main() -> None:
        gate = new_gate(concurrent_tasks=2)
        leases = [gate.occupy() for _ in range(3)]
        assert all(lease.is_running for lease in leases)
        assert gate.statistics().tasks == 3
        waiting = asyncio.create_task(gate.lease())
        leases[0].release()
        await asyncio.sleep(1)
        assert not waiting.done()
        leases[1].release()
        turn = await asyncio.wait_for(gate.turn(await waiting), 1)
        gate.accepted(turn.lease, turn.permit)
        turn.end()
        late = asyncio.create_task(gate.turn(leases[2]))
        await asyncio.sleep(1)

        assert not late.done(), "both places are taken"
        turn.lease.release()
        await asyncio.sleep(1)
        assert late.done()

    run_virtual(main())


def test_an_answer_without_use_lets_the_others_follow() -> None:
    """Who went ahead after a pause was answered with an error: it tells nothing of the limits."""

    async def main() -> list[float]:
        gate = new_gate()
        await refuse(gate, submit=False)
        loop = asyncio.get_running_loop()
        passed = list[float]()

        async def call() -> None:
            permit = await gate.permit(poll=True)
            passed.append(loop.time())
            gate.failed(permit)

        await asyncio.gather(*(call() for _ in range(3)))
        assert await refuse(gate, submit=False) == pytest.approx(1.0), "the row goes on"
        return passed

    passed = run_virtual(main())

    assert max(passed) - min(passed) < 1


def test_a_turn_that_failed_leaves_no_trace() -> None:
    """A submit that was refused gives its place back, an accepted one keeps it with the lease."""

    async def main() -> None:
        gate = new_gate(concurrent_tasks=1)
        lease = await gate.lease()
        for _ in range(3):
            turn = await gate.turn(lease)
            turn.end()
        turn = await gate.turn(lease)
        gate.accepted(lease, turn.permit)
        turn.end()
        waiting = asyncio.create_task(gate.lease())
        await asyncio.sleep(10)
        assert not waiting.done()
        lease.release()
        again = await gate.turn(await waiting)

        assert isinstance(again, Turn)
        assert again.permit == Permit(0)

    run_virtual(main())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=40))
def test_whoever_leaves_leaves_the_gate_whole(moments: list[tuple[float, bool]]) -> None:
    """Callers that are cancelled anywhere between lease and answer take no right with them."""

    async def main() -> None:
        gate = new_gate(requests_per_minute=600, concurrent_tasks=4, concurrent_submits=2)
        account = Account(3)
        jobs = []
        for moment, leaves in moments:
            job = asyncio.create_task(careful(gate, account))
            jobs.append(job)
            if leaves:
                asyncio.get_running_loop().call_later(moment, job.cancel)
        await asyncio.gather(*jobs, return_exceptions=True)
        statistics = gate.statistics()
        assert (statistics.tasks, statistics.waiting) == (0, 0)

        # All rights are there again: as many tasks and turns as ever.
        await asyncio.sleep(1_000)
        leases = [await asyncio.wait_for(gate.lease(), 1) for _ in range(statistics.tasks_cap)]
        for lease in leases:
            turn = await asyncio.wait_for(gate.turn(lease), 300)
            gate.accepted(lease, turn.permit)
            turn.end()
        await gate.aclose()

    async def careful(gate: Gate, account: Account) -> None:
        lease = await gate.lease()
        try:
            accepted = False
            while not accepted:
                turn = await gate.turn(lease)
                try:
                    await asyncio.sleep(0.2)
                    accepted = account.submit(1.0)
                    if accepted:
                        gate.accepted(lease, turn.permit)
                    else:
                        gate.throttled(turn.permit, retry_after=None, submit=True)
                finally:
                    turn.end()
            await asyncio.sleep(1.0)
        finally:
            lease.release()

    run_virtual(main())


def test_the_books_are_open() -> None:
    """Statistics tell what the gate holds at this moment, and do not change afterwards."""

    async def main() -> None:
        gate = new_gate(concurrent_tasks=3)
        leases = await running(gate, 3)
        leases[0].release()
        await running(gate, 1)
        waiting = asyncio.create_task(gate.lease())
        await gate.permit(poll=True)
        await asyncio.sleep(0)
        before = gate.statistics()

        assert before == GateStatistics(
            requests=5,
            requests_last_minute=5,
            tasks=3,
            tasks_peak=3,
            tasks_cap=3,
            requests_cap=10_000,
            waiting=1,
            throttled=0,
            closed_for=0.0,
        )
        await asyncio.sleep(120)
        assert (before.requests_last_minute, gate.statistics().requests_last_minute) == (5, 0)
        waiting.cancel()

    run_virtual(main())


def test_pauses_and_caps_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A user who wonders why nothing moves finds the pause and the new cap in the log."""

    async def main() -> None:
        gate = new_gate()
        await running(gate, 10)
        await refuse(gate)
        await refuse(gate)

    with caplog.at_level(logging.INFO, logger="apixo_async"):
        run_virtual(main())

    assert caplog.messages == [
        "429: pausing 0.5 s",
        "task cap is 10 of 1000",
        "429: pausing 1.0 s",
    ]
    pause, cap, _ = [vars(record) for record in caplog.records]
    assert (pause["apixo_seconds"], pause["apixo_only_submits"]) == (0.5, False)
    assert (cap["apixo_limit"], cap["apixo_value"], cap["apixo_configured"]) == ("tasks", 10, 1000)


def test_a_cap_that_was_never_lowered_needs_no_timer() -> None:
    """There is nothing to find."""

    async def main() -> None:
        gate = new_gate(concurrent_tasks=2)
        await running(gate, 2)
        waiting = asyncio.create_task(gate.lease())
        await asyncio.sleep(1)

        assert gate._probe_timer is None
        waiting.cancel()

    run_virtual(main())


def test_closing_leaves_no_timer() -> None:
    """A client that ends while the gate searches leaves nothing on the loop; twice is fine."""

    async def main() -> int:
        gate = new_gate()
        await running(gate, 10)
        await refuse(gate)
        await refuse(gate)
        waiter = asyncio.create_task(gate.lease())
        await asyncio.sleep(0)
        waiter.cancel()
        await gate.aclose()
        await gate.aclose()
        await asyncio.sleep(1_000)
        return gate.statistics().tasks_cap

    assert run_virtual(main()) == 10
