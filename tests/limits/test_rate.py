"""The rate gate is judged by its worst window and by whom it lets wait."""

import asyncio

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.events import ClientEvent, LimitFound
from apixo_async.limits.buckets import bucket_size
from apixo_async.limits.rate import Permit, RateGate
from tests.limits.judges import saturate, worst_window
from tests.virtual import run_virtual, virtual

LIMITS = [1, 3, 10, 60, 300, 10_000]


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


# The limit


@pytest.mark.parametrize("limit", LIMITS)
def test_no_window_sees_more_than_the_limit_and_little_is_wasted(limit: int) -> None:
    """Under the heaviest demand no 60 s, and no 61 s, hold more than the limit, and hardly less."""
    minutes = 2 if limit > 1_000 else 12

    async def main() -> list[float]:
        gate = RateGate(limit)
        return await saturate(
            lambda number: gate.wait_open(poll=number % 3 == 0), workers=30, seconds=60 * minutes
        )

    moments = run_virtual(main())

    assert worst_window(moments, 60) <= limit
    assert worst_window(moments, 61) <= limit
    assert len(moments) >= limit * minutes * (0.95 if limit >= 60 else 0.9)


@pytest.mark.parametrize("limit", [10, 300])
def test_an_idle_gate_saves_nothing_up(limit: int) -> None:
    """After an hour without requests the first minute still holds no more than the limit."""

    async def main() -> list[float]:
        gate = RateGate(limit)
        await gate.wait_open(poll=False)
        await asyncio.sleep(3_600)
        return await saturate(lambda _: gate.wait_open(poll=True), workers=20, seconds=180)

    assert worst_window(run_virtual(main()), 61) <= limit


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([10, 60, 600]),
    st.lists(
        st.tuples(st.sampled_from(["answered", "refused", "closed"]), st.floats(0, 20)),
        max_size=40,
    ),
)
def test_the_limit_holds_whatever_is_found_out(limit: int, steps: list[tuple[str, float]]) -> None:
    """Rates that fall, grow and are probed never add up to more than the configured one."""

    async def main() -> list[float]:
        gate = RateGate(limit)
        permits = [Permit(0)]

        async def enter(number: int) -> None:
            permits[0] = await gate.wait_open(poll=number % 2 == 0)

        async def learn() -> None:
            for what, wait in steps:
                await asyncio.sleep(wait)
                if what == "closed":
                    gate.close_for(wait / 4, now=now())
                elif what == "refused":
                    gate.is_new_episode(permits[0])
                    gate.refused(permits[0], in_a_row=4, now=now())
                    gate.close_for(0.5, now=now())
                else:
                    for _ in range(int(wait)):
                        gate.answered(permits[0], now=now())
                assert 1 <= gate.finder.rate <= limit

        learning = asyncio.create_task(learn())
        seconds = sum(wait for _, wait in steps) + 70
        moments = await saturate(enter, workers=20, seconds=seconds)
        await learning
        return moments

    assert worst_window(run_virtual(main()), 61) <= limit


# Who waits


@pytest.mark.parametrize(("limit", "patience"), [(10_000, 0.05), (300, 0.5), (60, 3.0)])
def test_polls_never_starve_submits(limit: int, patience: float) -> None:
    """While looks want all they can get, a submit waits for the next two tokens at most."""

    async def main() -> float:
        gate = RateGate(limit)
        waits: list[float] = []

        async def submit() -> None:
            while True:
                await asyncio.sleep(1_000 / limit)
                asked = now()
                await gate.wait_open(poll=False)
                waits.append(now() - asked)

        submitter = asyncio.create_task(submit())
        await saturate(lambda _: gate.wait_open(poll=True), workers=200, seconds=600_000 / limit)
        submitter.cancel()
        await asyncio.gather(submitter, return_exceptions=True)
        assert len(waits) > 100
        return max(waits)

    assert run_virtual(main()) <= patience


@pytest.mark.parametrize("limit", [60, 600, 10_000])
def test_submits_never_starve_polls(limit: int) -> None:
    """While submits want all they can get, looks get a fifth of the rate."""

    async def main() -> int:
        gate = RateGate(limit)
        passed = {True: 0, False: 0}

        async def enter(number: int) -> None:
            await gate.wait_open(poll=number == 0)
            passed[number == 0] += 1

        await saturate(enter, workers=40, seconds=120)
        return passed[True]

    assert run_virtual(main()) >= 0.18 * 2 * limit


@virtual
async def test_polls_may_take_what_nobody_else_wants() -> None:
    """The share of looks is planned by their schedule: the gate alone would let them have all."""
    gate = RateGate(300)
    moments = await saturate(lambda _: gate.wait_open(poll=True), workers=30, seconds=600)

    assert len(moments) >= 0.95 * 3_000


@virtual
async def test_who_gives_up_takes_nothing_along() -> None:
    """Half of all waiters are cancelled: the others get all that submits may take."""
    gate = RateGate(600)
    waiters = [asyncio.create_task(gate.wait_open(poll=False)) for _ in range(1_000)]
    await asyncio.sleep(1)
    for waiter in waiters[::2]:
        waiter.cancel()
    await asyncio.sleep(40)
    passed = sum(waiter.done() and not waiter.cancelled() for waiter in waiters)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)

    assert passed >= 0.95 * 0.8 * 600 * 41 / 61


# What schedules may plan with


@virtual
async def test_polls_may_plan_with_their_share() -> None:
    """Nobody submits: looks have the share they ask for."""
    gate = RateGate(600)

    assert gate.polls_per_second(0.6, now()) == pytest.approx(0.6 * gate.per_second)
    assert gate.polls_per_second(1.0, now()) == gate.per_second


@virtual
async def test_submits_of_late_are_left_out() -> None:
    """At six submits a second of ten, four are left for looks; a minute later all is forgotten."""
    gate = RateGate(610)
    for _ in range(360):
        await gate.wait_open(poll=False)
        await asyncio.sleep(1 / 6)
    assert gate.submits_per_second(now()) == pytest.approx(6.0, rel=0.05)
    assert gate.polls_per_second(0.9, now()) == pytest.approx(gate.per_second - 6.0, rel=0.1)
    await asyncio.sleep(120)

    assert gate.polls_per_second(0.9, now()) == pytest.approx(0.9 * gate.per_second, rel=0.01)


@virtual
async def test_submits_that_wait_for_tokens_count_as_all_they_may_take() -> None:
    """A queue is demand: looks are to plan with a fifth, and with less if that is their share."""
    gate = RateGate(60)
    waiters = [asyncio.create_task(gate.wait_open(poll=False)) for _ in range(5)]
    await asyncio.sleep(0.1)

    assert gate.submits_per_second(now()) == pytest.approx(0.8 * gate.per_second)
    assert gate.polls_per_second(0.6, now()) == pytest.approx(0.2 * gate.per_second)
    assert gate.polls_per_second(0.1, now()) == pytest.approx(0.1 * gate.per_second)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)


@virtual
async def test_submits_that_are_held_up_are_no_demand() -> None:
    """While the task limit holds them up, looks have their whole share."""
    gate = RateGate(60)
    gate.close_submits_for(30.0, now=now())
    waiter = asyncio.create_task(gate.wait_open(poll=False))
    await asyncio.sleep(0.1)

    assert gate.polls_per_second(0.6, now()) == pytest.approx(0.6 * gate.per_second)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)


# Finding the rate


async def answered(gate: RateGate, number: int) -> Permit:
    """So many status calls that are answered well; the permit of the last."""
    permit = Permit(0)
    for _ in range(number):
        permit = await gate.wait_open(poll=True)
        gate.answered(permit, now=now())
    return permit


async def refused(gate: RateGate, *, in_a_row: int) -> bool:
    """One status call that is answered 429."""
    permit = await gate.wait_open(poll=True)
    assert gate.is_new_episode(permit)
    return gate.refused(permit, in_a_row=in_a_row, now=now())


@virtual
async def test_the_rate_falls_to_what_was_answered_well() -> None:
    """Four refusals in a row after forty answers: forty a minute it is."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    verdicts = [await refused(gate, in_a_row=number) for number in (1, 2, 3, 4)]

    assert verdicts == [False, False, False, True]
    assert gate.finder.rate == 40
    assert gate.per_second == pytest.approx(40 / 61, rel=0.01)


@virtual
async def test_refusals_among_answers_count_when_they_go_on() -> None:
    """Where every fifth request is refused, half a minute tells that it is no passing fault."""
    gate = RateGate(10_000)
    begin = now()
    while not gate.finder.is_lowered:
        await answered(gate, 4)
        await refused(gate, in_a_row=1)
        await asyncio.sleep(1)

    assert 5 <= now() - begin <= 31
    assert gate.finder.rate >= 100


@virtual
async def test_a_rate_that_goes_on_refutes_a_limit() -> None:
    """While more passes after the first refusal than in the minute before, it may be a fault."""
    gate = RateGate(10_000)
    for _ in range(12):
        await answered(gate, 1)
        await refused(gate, in_a_row=1)
        await answered(gate, 15)
        await asyncio.sleep(2)

    assert not gate.finder.is_lowered


@virtual
async def test_hardly_anything_sent_is_no_rate() -> None:
    """A server that refuses the first nine requests has no plan of four a minute."""
    gate = RateGate(10_000)
    await answered(gate, 4)
    assert [await refused(gate, in_a_row=number) for number in range(1, 6)][-1]

    assert gate.finder.rate == 10_000


@virtual
async def test_what_was_sent_at_the_old_rate_says_nothing_about_the_new() -> None:
    """Refusals of requests that were under way at the fall do not count again."""
    gate = RateGate(10_000)
    old = [await gate.wait_open(poll=True) for _ in range(30)]
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    found = gate.finder
    gate.answered(old[0], now=now())

    assert not any(gate.refused(permit, in_a_row=4, now=now()) for permit in old[1:])
    assert gate.finder is found


@virtual
async def test_refusals_without_an_answer_in_between_do_not_add_up() -> None:
    """Where nothing came through since the fall, the pause was too short: the rate stays."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in range(1, 8):
        await refused(gate, in_a_row=number)

    assert gate.finder.rate == 40


@virtual
async def test_a_rate_that_is_made_use_of_is_probed() -> None:
    """Who uses what was found is let have more after half a minute, as long as it goes well."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    rates = set[int]()
    begin = now()
    while now() - begin < 180:
        await answered(gate, 1)
        rates.add(gate.finder.rate)

    assert {40, 50, 70, 110, 190} <= rates
    assert max(rates) > 1_000


@virtual
async def test_a_rate_that_nobody_needs_is_not_probed() -> None:
    """With a request every ten seconds, nothing is risked."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    for _ in range(100):
        await asyncio.sleep(10)
        await answered(gate, 1)

    assert gate.finder.rate == 40


@virtual
async def test_looks_that_keep_to_their_share_may_make_a_rate_be_probed() -> None:
    """A schedule plans with a part of the rate; when it uses that up, more would be of use."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    for _ in range(60):
        await asyncio.sleep(1 / gate.polls_per_second(0.3, now()))
        await answered(gate, 1)

    assert gate.finder.rate > 40


@virtual
async def test_room_comes_when_enough_is_a_minute_old() -> None:
    """After ten requests at once and a fall to ten a minute, all but one have to leave first."""
    gate = RateGate(10_000)
    await answered(gate, 10)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)

    assert gate.finder.rate == 10
    assert gate.room_in(now()) == pytest.approx(60, abs=1)


@virtual
async def test_at_a_high_rate_nobody_waits_for_room_for_long() -> None:
    """A request that is refused costs little there, a wrong guess of the window much."""
    gate = RateGate(10_000)
    await answered(gate, 1_000)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)

    assert gate.room_in(now()) == 5.0


@virtual
async def test_the_gate_meters_what_it_lets_through() -> None:
    """Both kinds of calls are counted, those that still wait are not."""
    gate = RateGate(60)
    waiters = [asyncio.create_task(gate.wait_open(poll=n % 2 == 0)) for n in range(40)]
    await asyncio.sleep(10.5)
    counted = gate.meter.total, gate.meter.last_minute(now())
    passed = sum(waiter.done() for waiter in waiters)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)

    assert counted == (passed, passed) == (11, 11)


@virtual
async def test_noise_is_forgotten_when_it_ends() -> None:
    """A service that answers everything for three minutes is believed to be sound again."""
    gate = RateGate(10_000)
    gate.finder = attrs.evolve(gate.finder, noise=0.3)
    before = gate.noise(now())
    for _ in range(180):
        await answered(gate, 1)
        await asyncio.sleep(1)

    assert before == 0.3
    assert gate.noise(now()) < 0.02


@virtual
async def test_a_fall_changes_what_submits_may_take_as_well() -> None:
    """Four fifths of what was found."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)

    assert gate._submits.size == bucket_size(40, share=0.8)


@virtual
@pytest.mark.parametrize(("number", "part"), [(1, 0.0), (2, 0.0), (3, 3 / 39), (4, 4 / 40)])
async def test_a_fall_knows_what_was_refused_before_it(number: int, part: float) -> None:
    """Three refusals say which part it was, fewer say nothing."""
    gate = RateGate(10_000)
    await answered(gate, 36)
    for _ in range(number - 1):
        await refused(gate, in_a_row=1)
    await refused(gate, in_a_row=4)

    assert gate.finder.rate == 36
    assert gate.finder.part == pytest.approx(part)


@virtual
async def test_the_minute_before_a_fall_explains_refusals_after_it() -> None:
    """What fills the server's minute is no news; once it has passed, one refusal is a fault."""
    gate = RateGate(10_000)
    await answered(gate, 100)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    fell_at = now()
    known = gate.finder

    assert await refused(gate, in_a_row=1)
    await asyncio.sleep(59.9 - (now() - fell_at))
    assert await refused(gate, in_a_row=1)
    await asyncio.sleep(2)
    assert not await refused(gate, in_a_row=1)
    assert gate.finder is known


@virtual
async def test_what_came_before_the_fall_does_not_judge_it() -> None:
    """The refusals after it count, and only once the minute before it has passed."""
    gate = RateGate(10_000)
    await answered(gate, 100)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    fell_at = now()
    await answered(gate, 10)
    await asyncio.sleep(61 - (now() - fell_at))
    assert gate._refused_part(now()) == 0.0
    for _ in range(3):
        await refused(gate, in_a_row=1)
    await answered(gate, 9)

    assert gate._refused_part(now()) == 3 / 12


@virtual
async def test_an_old_permit_begins_no_episode_and_ends_none() -> None:
    """What was sent before the last 429 tells nothing about what came after it."""
    gate = RateGate(10_000)
    old = await gate.wait_open(poll=True)

    assert gate.is_new_episode(old)
    assert not gate.is_new_episode(old)
    assert not gate.answered(old, now=now())
    assert gate.answered(await gate.wait_open(poll=True), now=now())


@virtual
@pytest.mark.parametrize(("requests", "is_high"), [(299, False), (300, True)])
async def test_a_configured_rate_is_high_from_the_half_on(requests: int, is_high: bool) -> None:
    """Below that, a 429 is hardly about the rate."""
    gate = RateGate(600)
    for _ in range(requests):
        gate.meter.count(now())

    assert gate.is_high(now()) is is_high


@virtual
@pytest.mark.parametrize(("requests", "is_high"), [(39, False), (40, True)])
async def test_a_found_rate_is_high_from_four_fifths_of_what_is_proven(
    requests: int, is_high: bool
) -> None:
    """While it is probed upwards, what counts is what was seen to work."""
    gate = RateGate(600)
    gate.finder = attrs.evolve(gate.finder, rate=90, proven=50)
    for _ in range(requests):
        gate.meter.count(now())

    assert gate.is_high(now()) is is_high


@virtual
@pytest.mark.parametrize(
    ("odd", "looks", "noise"),
    [(2, 18, 0.0), (3, 27, 0.1), (3, 12, 0.2), (9, 1, 0.4)],
    ids=["too few to tell", "one in ten", "one in five", "more than any noise"],
)
async def test_looks_that_are_refused_at_a_low_rate_are_noise(
    odd: int, looks: int, noise: float
) -> None:
    """By the part of looks that it is; submits are no looks."""
    gate = RateGate(10_000)
    await answered(gate, looks)
    for _ in range(odd):
        await gate.wait_open(poll=True)
        gate.note_refused_look(now())
        await gate.wait_open(poll=False)

    assert gate.noise(now()) == pytest.approx(noise)


@virtual
async def test_looks_that_are_refused_at_a_high_rate_are_no_noise() -> None:
    """There it may be the limit."""
    gate = RateGate(20)
    await answered(gate, 10)
    for _ in range(5):
        await gate.wait_open(poll=True)
        gate.note_refused_look(now())

    assert gate.noise(now()) == 0.0


@virtual
async def test_no_more_noise_is_believed_than_may_well_have_been() -> None:
    """Of a hundred requests four were refused: it may be eleven by chance, but hardly thirty."""
    gate = RateGate(10_000)
    gate.finder = attrs.evolve(gate.finder, noise=0.3)
    await answered(gate, 46)
    await answered(gate, 50)
    for _ in range(4):
        await refused(gate, in_a_row=1)

    assert gate.noise(now()) == pytest.approx((4 + 2 * 2 + 3) / 100)


@virtual
@pytest.mark.parametrize(
    ("every", "polls", "share", "is_probed"),
    [
        (1.4, (True, False), 1.0, True),
        (2.0, (True, False), 1.0, False),
        (2.7, (True,), 0.5, True),
        (5.0, (True,), 0.5, False),
        (2.7, (True,), 1.0, False),
    ],
    ids=["all requests", "too few requests", "looks", "too few looks", "looks that may have more"],
)
async def test_a_rate_is_made_use_of_from_most_of_it_on(
    every: float, polls: tuple[bool, ...], share: float, is_probed: bool
) -> None:
    """85 % of 40 a minute, or of the part of it that looks plan with."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    for number in (1, 2, 3, 4):
        await refused(gate, in_a_row=number)
    await asyncio.sleep(300)
    gate.polls_per_second(share, now())
    for number in range(30):
        await asyncio.sleep(every)
        gate.answered(await gate.wait_open(poll=polls[number % len(polls)]), now=now())

    assert (gate.finder.rate > 40) is is_probed


@virtual
@pytest.mark.parametrize(
    ("since", "good", "is_refuted"),
    [(4.0, 0, True), (5.0, 0, False), (20.0, 79, False), (20.0, 82, True), (30.0, 999, False)],
)
async def test_when_a_limit_is_refuted(since: float, good: int, is_refuted: bool) -> None:
    """If within seconds, or if twice as much came through since as a limit would have let."""
    gate = RateGate(10_000)
    await answered(gate, 40)
    await refused(gate, in_a_row=1)
    await asyncio.sleep(since)
    for _ in range(good):
        gate._good.count(now())

    assert gate._is_refuted(now()) is is_refuted


@virtual
async def test_a_rate_that_was_found_is_told_once() -> None:
    """Taking over the same rate again is no news."""
    heard: list[ClientEvent] = []
    gate = RateGate(300, tell=heard.append)
    for _ in range(2):
        gate.find(attrs.evolve(gate.finder, rate=100))

    assert heard == [LimitFound(at=heard[0].at, limit="requests", value=100, configured=300)]
