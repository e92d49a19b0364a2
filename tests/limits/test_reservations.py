"""The bucket that several processes draw from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.limits import BucketSize, bucket_size
from apixo_async.limits.reservations import Line
from tests.limits.judges import worst_window

TEN = BucketSize(10.0, 2.0)
START = 1_795_000_000.0


def line(**more: float) -> Line:
    """One whose bucket holds 4 when 3 seconds have gone by."""
    return Line(**{"changed_at": START, "ahead": 3.0, "tokens": 4.0, **more})  # type: ignore[arg-type]  # numbers


@pytest.mark.parametrize(
    ("before", "requests", "after", "wait", "tokens"),
    [
        (Line(changed_at=START), 1, 0, 0.0, 9.0),
        (Line(changed_at=START), 10, 0, 0.0, 0.0),
        (Line(changed_at=START), 11, 0, 0.5, 0.0),
        (Line(changed_at=START), 30, 0, 10.0, 0.0),
        (line(), 1, 0, 3.0, 3.0),
        (line(), 6, 0, 4.0, 0.0),
        (line(), 1, 2, 1.0, 3.0),
        (line(), 1, 3, 0.0, 3.0),
        (line(), 1, 4, 0.0, 5.0),
        (line(), 1, 100, 0.0, 9.0),
        (line(tokens=50.0), 1, 0, 3.0, 9.0),
        (line(), 0, 1, 2.0, 4.0),
        (line(), 1, -3600, 3.0, 3.0),
    ],
)
def test_each_has_its_moment(
    before: Line, requests: int, after: float, wait: float, tokens: float
) -> None:
    """Those before are waited for, pauses fill the bucket, a clock that steps back does nothing."""
    joined = before.joined(requests, TEN, now=START + after)

    assert joined.ahead == pytest.approx(wait)
    assert joined.tokens == pytest.approx(tokens)
    assert joined.requests == requests
    assert joined.changed_at == START + after


SIZES = st.builds(BucketSize, st.floats(1, 50), st.floats(0.1, 100))
ASKING = st.tuples(st.floats(0, 3), st.integers(1, 30), SIZES)


@given(st.lists(ASKING, min_size=1, max_size=40), st.floats(0.1, 30))
def test_no_window_sees_more_than_the_largest_size_allows(
    asking: list[tuple[float, int, BucketSize]], window: float
) -> None:
    """Whatever sizes the members take the bucket to have, and in whatever order they ask."""
    now, all_of, moments = 0.0, Line(changed_at=0.0), list[float]()
    for pause, requests, size in asking:
        now += pause
        for _ in range(requests):
            all_of = all_of.joined(1, size, now=now)
            moments.append(now + all_of.ahead)
    burst = max(size.burst for _, _, size in asking)
    per_second = max(size.per_second for _, _, size in asking)

    assert moments == sorted(moments)
    assert worst_window(moments, window) <= math.floor(burst + window * per_second + 1e-6)


@given(st.integers(1, 200), st.integers(1, 300), SIZES)
def test_many_at_once_leave_as_one_after_the_other(first: int, more: int, size: BucketSize) -> None:
    """The span is that of the last of them."""
    at_once = Line(changed_at=START).joined(first, size, now=START).joined(more, size, now=START)
    each = Line(changed_at=START)
    for _ in range(first + more):
        each = each.joined(1, size, now=START)

    assert at_once.ahead == pytest.approx(each.ahead, abs=1e-6)
    assert at_once.tokens == pytest.approx(each.tokens, abs=1e-6)
    assert at_once.requests == each.requests


def test_no_rounding_adds_up() -> None:
    """After 300,000 requests on a clock of today the limit of a minute still holds exactly."""
    size, now, all_of = bucket_size(10_000), START, Line(changed_at=START)
    moments: list[float] = []
    for number in range(300_000):
        all_of = all_of.joined(1, size, now=now)
        moments.append(now - START + all_of.ahead)
        now += all_of.ahead * (number % 3 == 0)
    expected = (300_000 - size.burst) / size.per_second

    assert moments[-1] == pytest.approx(expected, abs=0.001)
    assert worst_window(moments, 61.0) <= 10_000
