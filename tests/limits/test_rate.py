"""Rates are judged by their worst window, in virtual time with more workers than can be served."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.limits import BucketSize, bucket_size
from apixo_async.limits.rate import RateGate, RequestMeter
from tests.virtual import run_virtual

LIMITS = [1, 3, 10, 60, 300, 10_000]


def worst_window(moments: Sequence[float], seconds: float) -> int:
    """The most moments that lie within any window of this length."""
    worst = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


@pytest.mark.parametrize(
    ("moments", "expected"),
    [([], 0), ([0.0], 1), ([0.0, 59.9, 60.0, 61.0], 3), ([0.0, 60.0, 120.0], 1)],
    ids=["none", "one", "moving", "a window apart"],
)
def test_the_judge_counts_right(moments: list[float], expected: int) -> None:
    """A minute holds what is less than 60 s apart: else the tests below could not fail."""
    assert expected == worst_window(moments, 60)


async def saturate(
    enter: Callable[[int], Awaitable[object]], *, workers: int, seconds: float
) -> list[float]:
    """The moments at which workers that always want to get through did, over this time."""
    loop = asyncio.get_running_loop()
    begin, moments = loop.time(), list[float]()

    async def worker(number: int) -> None:
        while True:
            await enter(number)
            moments.append(loop.time() - begin)

    tasks = [asyncio.create_task(worker(number)) for number in range(workers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return moments


def test_a_plain_limiter_breaks_the_limit() -> None:
    """What anybody would write first lets nearly twice the limit through in the first minute."""

    async def main() -> list[float]:
        plain = AsyncLimiter(10_000, 60)
        return await saturate(lambda _: plain.acquire(), workers=50, seconds=60)

    assert worst_window(run_virtual(main()), 60) > 19_900


@pytest.mark.parametrize("limit", LIMITS)
def test_no_window_sees_more_than_the_limit_and_little_is_wasted(limit: int) -> None:
    """Under the heaviest demand no 60 s, and no 61 s, hold more than the limit, and hardly less."""
    minutes = 2 if limit > 1_000 else 12

    async def main() -> list[float]:
        gate = RateGate(limit, poll_share=0.6)
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
        gate = RateGate(limit, poll_share=0.6)
        await gate.wait_open(poll=False)
        await asyncio.sleep(3_600)
        return await saturate(lambda _: gate.wait_open(poll=False), workers=20, seconds=180)

    assert worst_window(run_virtual(main()), 61) <= limit


@pytest.mark.parametrize("limit", [10, 300, 10_000])
def test_polls_alone_get_their_share_only(limit: int) -> None:
    """However many tasks are looked at, looks take no more than their part of the rate."""
    minutes = 1 if limit > 1_000 else 10

    async def main() -> list[float]:
        gate = RateGate(limit, poll_share=0.6)
        return await saturate(lambda _: gate.wait_open(poll=True), workers=30, seconds=60 * minutes)

    moments = run_virtual(main())

    assert worst_window(moments, 60) <= max(1, 0.6 * limit + 1)
    assert len(moments) >= 0.9 * 0.6 * limit * minutes


@pytest.mark.parametrize(("limit", "patience"), [(10_000, 0.05), (300, 1.0), (60, 5.0)])
def test_polls_never_starve_submits(limit: int, patience: float) -> None:
    """While looks want all they can get, a submit waits for a few tokens at most."""

    async def main() -> float:
        gate = RateGate(limit, poll_share=0.6)
        loop = asyncio.get_running_loop()
        waits: list[float] = []

        async def submit() -> None:
            while True:
                await asyncio.sleep(1_000 / limit)
                asked = loop.time()
                await gate.wait_open(poll=False)
                waits.append(loop.time() - asked)

        submitter = asyncio.create_task(submit())
        await saturate(lambda _: gate.wait_open(poll=True), workers=200, seconds=600_000 / limit)
        submitter.cancel()
        await asyncio.gather(submitter, return_exceptions=True)
        assert len(waits) > 100
        return max(waits)

    assert run_virtual(main()) <= patience


def test_submits_never_starve_polls() -> None:
    """While submits want all they can get, looks still come through at some rate."""

    async def main() -> int:
        gate = RateGate(600, poll_share=0.6)
        passed = {True: 0, False: 0}

        async def enter(number: int) -> None:
            await gate.wait_open(poll=number == 0)
            passed[number == 0] += 1

        await saturate(enter, workers=20, seconds=120)
        return passed[True]

    assert run_virtual(main()) >= 50


def test_nobody_passes_a_closed_gate() -> None:
    """After closing, neither newcomers nor those already queueing pass before the end."""

    async def main() -> list[float]:
        gate = RateGate(600, poll_share=0.6)
        loop = asyncio.get_running_loop()
        loop.call_later(2.05, lambda: gate.close_for(10.0, now=loop.time()))
        return await saturate(
            lambda number: gate.wait_open(poll=number % 2 == 0), workers=30, seconds=20
        )

    moments = run_virtual(main())
    between = [moment for moment in moments if 2.05 < moment < 12.05]

    assert between == []
    assert moments[0] < 2.05
    assert moments[-1] > 12.05
    assert worst_window(moments, 61) <= 600


def test_a_later_end_counts_and_an_earlier_one_does_not() -> None:
    """A second 429 may lengthen the pause of those who sleep already, never shorten it."""

    async def main() -> float:
        gate = RateGate(600, poll_share=0.6)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        gate.close_for(5.0, now=begin)
        waiter = asyncio.create_task(gate.wait_open(poll=False))
        await asyncio.sleep(3.0)
        gate.close_for(1.0, now=loop.time())
        assert gate.closed_for(loop.time()) == pytest.approx(2.0)
        gate.close_for(10.0, now=loop.time())
        assert gate.closed_for(loop.time()) == pytest.approx(10.0)
        await waiter
        assert gate.closed_for(loop.time()) == 0.0
        return loop.time() - begin

    assert run_virtual(main()) == pytest.approx(13.0, abs=0.01)


def test_who_gives_up_takes_nothing_along() -> None:
    """Half of all waiters are cancelled: the others get the whole rate."""

    async def main() -> int:
        gate = RateGate(600, poll_share=0.6)
        waiters = [asyncio.create_task(gate.wait_open(poll=False)) for _ in range(1_000)]
        await asyncio.sleep(1)
        for waiter in waiters[::2]:
            waiter.cancel()
        await asyncio.sleep(40)
        passed = sum(waiter.done() and not waiter.cancelled() for waiter in waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        return passed

    assert run_virtual(main()) >= 0.95 * 600 * 41 / 61


@pytest.mark.parametrize(
    ("limit", "burst"),
    [
        (1, 1),
        (3, 1),
        (10, 1),
        (60, 1),
        (199, 1),
        (200, 2),
        (5_000, 50),
        (10_000, 100),
        (10**6, 100),
    ],
)
def test_a_burst_is_a_hundredth_of_the_limit(limit: int, burst: int) -> None:
    """Few requests go at once, at least one and at most a hundred."""
    assert bucket_size(limit).burst == burst


@given(st.integers(1, 10**7))
def test_the_sum_of_burst_and_rate_stays_below_the_next_request(limit: int) -> None:
    """In exact numbers, a full bucket and 61 s of refilling are less than one request too many."""
    size = bucket_size(limit)
    most = Fraction(size.burst) + 61 * Fraction(size.per_second)

    assert math.floor(most) <= limit
    assert most > Fraction(limit) * Fraction(99, 100)


@pytest.mark.parametrize(
    ("limit", "share", "burst"),
    [(10_000, 0.6, 60.0), (10_000, 1.0, 100.0), (10, 0.6, 1.0), (1, 0.01, 1.0)],
)
def test_an_inner_bucket_is_a_part_of_the_outer(limit: int, share: float, burst: float) -> None:
    """A share scales burst and rate; but a bucket of less than one would let nothing through."""
    size = bucket_size(limit, share=share)

    assert size.burst == burst
    assert size.per_second == pytest.approx(share * bucket_size(limit).per_second)


def test_a_bucket_is_a_limiter() -> None:
    """A size of 5 at 2 a second is full after 5 and gives 2 more each second."""

    async def main() -> list[float]:
        limiter = BucketSize(5, 2).limiter()
        return await saturate(lambda _: limiter.acquire(), workers=3, seconds=2.25)

    assert run_virtual(main()) == pytest.approx([0, 0, 0, 0, 0, 0.5, 1, 1.5, 2], abs=1e-3)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(100.0, 3), (159.0, 3), (159.5, 3), (160.0, 1), (160.9, 1), (161.0, 0), (1_000.0, 0)],
)
def test_the_meter_forgets_after_a_minute(now: float, expected: int) -> None:
    """Requests count for 60 s, to the second, without another request to push them out."""
    meter = RequestMeter()
    for moment in (100.0, 100.9, 101.0):
        meter.count(moment)

    assert expected == meter.last_minute(now)
    assert meter.total == 3


def test_the_meter_stays_small() -> None:
    """A million requests over a day take no more memory than sixty."""
    meter = RequestMeter()
    for number in range(100_000):
        meter.count(number * 0.864)

    assert meter.total == 100_000
    assert len(meter._seconds) == 60
    assert meter.last_minute(86_400.0) == pytest.approx(69, abs=2)


def test_the_gate_meters_what_it_lets_through() -> None:
    """Both kinds of calls are counted, those that still wait are not."""

    async def main() -> tuple[int, int]:
        gate = RateGate(60, poll_share=0.6)
        waiters = [asyncio.create_task(gate.wait_open(poll=n % 2 == 0)) for n in range(40)]
        await asyncio.sleep(10.5)
        counted = gate.meter.total, gate.meter.last_minute(asyncio.get_running_loop().time())
        passed = sum(waiter.done() for waiter in waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert counted == (passed, passed)
        return counted

    assert run_virtual(main())[0] == 11
