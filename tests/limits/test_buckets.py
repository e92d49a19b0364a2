"""Buckets are judged by their worst window, whatever is changed while they are in use."""

import asyncio
import math
from collections.abc import Sequence
from fractions import Fraction

import attrs
import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.errors import ClientUsageError
from apixo_async.limits import BucketSize, bucket_size
from apixo_async.limits.buckets import Bucket, limiter_holding, tokens_in
from tests.limits.judges import saturate, worst_window
from tests.virtual import run_virtual, virtual


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("moments", "expected"),
    [([], 0), ([0.0], 1), ([0.0, 59.9, 60.0, 61.0], 3), ([0.0, 60.0, 120.0], 1)],
    ids=["none", "one", "moving", "a window apart"],
)
def test_the_judge_counts_right(moments: list[float], expected: int) -> None:
    """A minute holds what is less than 60 s apart: else the tests below could not fail."""
    assert expected == worst_window(moments, 60)


def test_a_plain_limiter_breaks_the_limit() -> None:
    """What anybody would write first lets nearly twice the limit through in the first minute."""

    async def main() -> list[float]:
        plain = AsyncLimiter(10_000, 60)
        return await saturate(lambda _: plain.acquire(), workers=50, seconds=60)

    assert worst_window(run_virtual(main()), 60) > 19_900


# Sizes


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


@given(st.integers(1, 10**5), st.integers(0, 10**5))
def test_a_smaller_limit_has_nothing_that_is_larger(limit: int, more: int) -> None:
    """Neither its burst nor its rate: so a bucket that shrinks and grows keeps the largest."""
    small, large = bucket_size(limit), bucket_size(limit + more)

    assert small.burst <= large.burst
    assert small.per_second <= large.per_second


@pytest.mark.parametrize(
    ("limit", "share", "burst"),
    [(10_000, 0.6, 60.0), (10_000, 1.0, 100.0), (10, 0.6, 1.0), (1, 0.01, 1.0)],
)
def test_an_inner_bucket_is_a_part_of_the_outer(limit: int, share: float, burst: float) -> None:
    """A share scales burst and rate; but a bucket of less than one would let nothing through."""
    size = bucket_size(limit, share=share)

    assert size.burst == burst
    assert size.per_second == pytest.approx(share * bucket_size(limit).per_second)


# Limiters


@virtual
async def test_a_size_makes_a_limiter() -> None:
    """A size of 5 at 2 a second is full after 5 and gives 2 more each second."""
    limiter = BucketSize(5, 2).limiter()
    moments = await saturate(lambda _: limiter.acquire(), workers=3, seconds=2.25)

    assert moments == pytest.approx([0, 0, 0, 0, 0, 0.5, 1, 1.5, 2], abs=1e-3)


@pytest.mark.parametrize("burst", [1.0, 5.0, 100.0])
@pytest.mark.parametrize("part", [0.0, 0.25, 0.999, 1.0])
@virtual
async def test_a_limiter_holds_what_it_was_given(burst: float, part: float) -> None:
    """The tokens of one limiter can be counted and given to another, never one more."""
    limiter = limiter_holding(BucketSize(burst, 1e-9), part * burst)

    assert tokens_in(limiter) == pytest.approx(part * burst, abs=1e-6)
    assert tokens_in(limiter) <= part * burst


@virtual
async def test_no_limiter_holds_more_than_its_burst() -> None:
    """What does not fit is lost."""
    assert tokens_in(limiter_holding(BucketSize(2, 1e-9), 50)) == 2


# Retuning


Change = tuple[float, int]
"""After so many seconds, so many requests a minute."""


async def changed(limit: int, changes: Sequence[Change], *, rest: float) -> list[float]:
    """When workers that want all they can get came through a bucket that is retuned."""
    bucket = Bucket(bucket_size(limit))

    async def retune() -> None:
        for wait, rate in changes:
            await asyncio.sleep(wait)
            bucket.retune(bucket_size(min(rate, limit)))

    retuning = asyncio.create_task(retune())
    seconds = sum(wait for wait, _ in changes) + rest
    moments = await saturate(
        lambda number: bucket.acquire(first=number % 3 == 0), workers=20, seconds=seconds
    )
    await retuning
    return moments


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 10, 60, 300, 1_000]),
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 1_200)), max_size=12),
)
def test_no_window_sees_more_than_the_limit_across_changes(
    limit: int, changes: list[Change]
) -> None:
    """However often and to whatever the rate is changed, 61 s never hold more than the limit."""
    moments = run_virtual(changed(limit, changes, rest=130.0))

    assert worst_window(moments, 61) <= limit


@pytest.mark.parametrize("rate", [10, 60, 300])
def test_changes_cost_no_tokens(rate: int) -> None:
    """A bucket that is replaced by its like every second gives as much as one that is not."""
    moments = run_virtual(changed(rate, [(1.0, rate)] * 600, rest=0.5))

    assert len(moments) >= 0.95 * rate * 600 / 61


@virtual
async def test_who_waits_on_a_slow_bucket_moves_to_the_fast_one() -> None:
    """The next token was a minute away; after the change all twenty are through in seconds."""
    bucket = Bucket(bucket_size(1))
    begin = now()
    waiters = [asyncio.create_task(bucket.acquire()) for _ in range(20)]
    await asyncio.sleep(5)
    bucket.retune(bucket_size(600))
    await asyncio.gather(*waiters)

    assert now() - begin < 5 + 20 * 61 / 600 + 0.5


@virtual
async def test_who_waits_on_a_fast_bucket_waits_on_the_slow_one() -> None:
    """After the change nobody comes through at the old rate."""
    bucket = Bucket(bucket_size(600))
    waiters = [asyncio.create_task(bucket.acquire()) for _ in range(50)]
    await asyncio.sleep(1)
    before = sum(waiter.done() for waiter in waiters)
    bucket.retune(bucket_size(6))
    await asyncio.sleep(20)

    assert sum(waiter.done() for waiter in waiters) - before <= 2
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)


# The line


@virtual
async def test_some_go_first() -> None:
    """However many wait, the next token is for those who go first; each group keeps its order."""
    bucket = Bucket(BucketSize(1, 1))
    passed = list[str]()

    async def come(name: str) -> None:
        await bucket.acquire(first=name.startswith("first"))
        passed.append(name)

    names = ["at once", "other 1", "other 2", "first 1", "other 3", "first 2"]
    await asyncio.gather(*(come(name) for name in names))

    assert passed == ["at once", "first 1", "first 2", "other 1", "other 2", "other 3"]


@virtual
async def test_a_free_bucket_is_passed_at_once() -> None:
    """Without a line nobody waits, not even for another turn of the loop."""
    bucket = Bucket(BucketSize(3, 1))
    for _ in range(3):
        passing = bucket.acquire()
        with pytest.raises(StopIteration):
            passing.send(None)

    assert bucket.waiting == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["leave", "retune", "close", "open"]), st.floats(0, 3)),
        max_size=30,
    )
)
def test_who_leaves_takes_nothing_along(steps: list[tuple[str, float]]) -> None:
    """After any leaving, closing and changing the rest gets the whole rate, and no task is left."""

    async def main() -> None:
        bucket = Bucket(bucket_size(300))
        waiters = [asyncio.create_task(bucket.acquire(first=n % 2 == 0)) for n in range(60)]
        for what, wait in steps:
            await asyncio.sleep(wait)
            if what == "leave":
                for waiter in waiters[len(waiters) // 2 :]:
                    waiter.cancel()
                del waiters[len(waiters) // 2 :]
            elif what == "retune":
                bucket.retune(bucket_size(100 + int(wait * 50)))
            elif what == "close":
                bucket.close(wait, now=now(), one_ahead=wait > 1)
            else:
                bucket.open(now=now())
        await asyncio.sleep(3)
        bucket.open(now=now())
        bucket.retune(bucket_size(300))
        begin = now()
        await asyncio.gather(*waiters)
        assert now() - begin <= len(waiters) * 61 / 300 + 0.1
        assert bucket.waiting == 0

    run_virtual(main())


# Pauses


@virtual
async def test_nobody_passes_while_it_is_closed() -> None:
    """Neither newcomers nor those already in line pass before the end."""
    bucket = Bucket(bucket_size(600))
    loop = asyncio.get_running_loop()
    loop.call_later(2.05, lambda: bucket.close(10.0, now=now(), one_ahead=False))
    moments = await saturate(
        lambda number: bucket.acquire(first=number % 2 == 0), workers=30, seconds=20
    )

    assert [moment for moment in moments if 2.05 < moment < 12.05] == []
    assert moments[0] < 2.05
    assert moments[-1] > 12.05
    assert worst_window(moments, 61) <= 600


@virtual
async def test_a_token_given_in_the_moment_of_closing_is_spent() -> None:
    """Who was handed one and had not yet gone stands in line again."""
    bucket = Bucket(BucketSize(1, 1))
    await bucket.acquire()
    waiter = asyncio.create_task(bucket.acquire())
    asyncio.get_running_loop().call_later(
        1.0, lambda: bucket.close(10.0, now=now(), one_ahead=False)
    )
    begin = now()
    await waiter

    assert now() - begin > 10


@virtual
async def test_a_later_end_counts_and_an_earlier_one_does_not() -> None:
    """A second 429 may lengthen the pause of those who wait already, never shorten it."""
    bucket = Bucket(bucket_size(600))
    begin = now()
    bucket.close(5.0, now=begin, one_ahead=False)
    waiter = asyncio.create_task(bucket.acquire())
    await asyncio.sleep(3.0)
    bucket.close(1.0, now=now(), one_ahead=False)
    assert bucket.closed_for(now()) == pytest.approx(2.0)
    bucket.close(10.0, now=now(), one_ahead=False)
    assert bucket.closed_for(now()) == pytest.approx(10.0)
    await waiter

    assert bucket.closed_for(now()) == 0.0
    assert now() - begin == pytest.approx(13.0, abs=0.01)


@virtual
async def test_after_a_pause_one_goes_ahead() -> None:
    """The others wait for its answer; when it comes, they follow at once."""
    bucket = Bucket(bucket_size(10_000))
    bucket.close(5.0, now=now(), one_ahead=True)
    begin = now()
    waiters = [asyncio.create_task(bucket.acquire()) for _ in range(50)]
    await asyncio.sleep(5.5)
    assert sum(waiter.done() for waiter in waiters) == 1
    bucket.open(now=now())
    await asyncio.gather(*waiters)

    assert now() - begin == pytest.approx(5.5, abs=0.01)


@virtual
async def test_without_an_answer_one_goes_ahead_every_two_seconds() -> None:
    """Whatever became of who went ahead, nobody waits for ever, and no herd breaks loose."""
    bucket = Bucket(bucket_size(10_000))
    bucket.close(5.0, now=now(), one_ahead=True)
    moments = await saturate(lambda _: bucket.acquire(), workers=50, seconds=12)

    assert moments == pytest.approx([5, 7, 9, 11], abs=0.01)


@virtual
async def test_an_answer_does_not_end_a_pause() -> None:
    """Only who goes ahead of the others can let them follow: a pause lasts to its end."""
    bucket = Bucket(bucket_size(600))
    bucket.close(5.0, now=now(), one_ahead=True)
    begin = now()
    bucket.open(now=begin)
    await bucket.acquire()

    assert now() - begin == pytest.approx(5.0, abs=0.01)


def test_a_new_bucket_is_open() -> None:
    """There is no pause before the first one, whatever the clock says."""
    assert Bucket(BucketSize(1.0, 1.0)).closed_for(0.0) == 0.0


@attrs.frozen
class Leaky(BucketSize):
    """A size whose limiters begin empty."""

    def limiter(self) -> AsyncLimiter:
        return limiter_holding(BucketSize(self.burst, self.per_second), 0.0)


@virtual
async def test_a_limiter_that_would_make_us_wait_is_an_error() -> None:
    """Tokens are taken out of a new one at once, or the limit would not be what it is taken for."""
    with pytest.raises(RuntimeError, match="a new limiter is not full"):
        limiter_holding(Leaky(10.0, 1.0), 5.0)


@virtual
@pytest.mark.parametrize("leaves_first", [True, False], ids=["leaves first", "is served first"])
async def test_a_token_for_somebody_who_leaves_in_the_same_instant_goes_on(
    leaves_first: bool,
) -> None:
    """Whether the token or the leave comes first, who stands behind gets it, and nobody else."""
    bucket = Bucket(BucketSize(1.0, 0.1))
    await bucket.acquire()
    leaving, staying, last = (asyncio.create_task(bucket.acquire()) for _ in range(3))
    await asyncio.sleep(1)
    for step in (leaving.cancel, lambda: bucket._hand_over(now()))[:: 1 if leaves_first else -1]:
        step()
    await asyncio.sleep(0.1)

    assert leaving.cancelled()
    assert staying.done()
    assert not last.done()
    assert bucket.waiting == 1
    await last


@virtual
async def test_who_leaves_last_stops_the_service() -> None:
    """Nobody is left who would take a token; the next one to come is served as ever."""
    bucket = Bucket(BucketSize(1.0, 0.1))
    await bucket.acquire()
    alone = asyncio.create_task(bucket.acquire())
    await asyncio.sleep(1)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    begin = now()
    await bucket.acquire()

    assert now() - begin == pytest.approx(9, abs=0.1)


@virtual
async def test_a_token_that_comes_while_it_is_closed_is_spent() -> None:
    """Whoever stands in line goes on waiting."""
    bucket = Bucket(BucketSize(1.0, 0.1))
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire())
    await asyncio.sleep(1)
    bucket.close(5.0, now=now(), one_ahead=False)
    bucket._hand_over(now())
    await asyncio.sleep(1)

    assert not waiting.done()
    await waiting


@virtual
async def test_who_leaves_as_the_last_one_is_served_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service has ended by then; it begins again for the next one to come."""
    bucket = Bucket(BucketSize(1.0, 0.1))
    await bucket.acquire()
    leaving = asyncio.create_task(bucket.acquire())
    hand_over = bucket._hand_over

    def and_leave(moment: float) -> None:
        hand_over(moment)
        leaving.cancel()

    monkeypatch.setattr(bucket, "_hand_over", and_leave)
    await asyncio.gather(leaving, return_exceptions=True)
    monkeypatch.undo()

    assert leaving.cancelled()
    assert bucket._server is None
    begin = now()
    await bucket.acquire()
    assert now() - begin == pytest.approx(10, abs=0.1)


# The end


@virtual
async def test_a_bucket_that_ends_tells_all_who_wait_and_all_who_come() -> None:
    """Whoever was cancelled in the same moment is cancelled."""
    bucket = Bucket(BucketSize(1, 0.01), also=nothing)
    await bucket.acquire()
    first, other, leaving = (
        asyncio.create_task(bucket.acquire(first=number == 0)) for number in range(3)
    )
    await asyncio.sleep(1)
    leaving.cancel()
    bucket.end("closed")
    ends = await asyncio.gather(first, other, leaving, return_exceptions=True)
    with pytest.raises(ClientUsageError, match=r"^closed$"):
        await bucket.acquire()

    assert [type(end) for end in ends] == [
        ClientUsageError,
        ClientUsageError,
        asyncio.CancelledError,
    ]


async def nothing() -> None:
    """Nothing is needed beside a token."""
