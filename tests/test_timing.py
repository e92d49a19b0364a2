import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._timing import full_jitter, spread

UNITS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 20.0), (7, 20.0), (64, 20.0), (10**9, 20.0)],
)
def test_full_jitter_doubles_up_to_its_cap(attempt: int, longest: float) -> None:
    """The longest possible delay doubles with each attempt and then stays at the cap."""
    nearly_one = math.nextafter(1.0, 0.0)

    assert full_jitter(nearly_one, base=0.5, cap=20.0, attempt=attempt) == pytest.approx(longest)


@pytest.mark.parametrize(("unit", "expected"), [(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (0.75, 3.0)])
def test_full_jitter_is_even_from_zero(unit: float, expected: float) -> None:
    """The delay is the drawn part of the longest one, so that callers spread evenly from 0 on."""
    assert expected == full_jitter(unit, base=1.0, cap=60.0, attempt=2)


@given(unit=UNITS, attempt=st.integers(0, 10_000))
def test_full_jitter_stays_in_its_range(unit: float, attempt: int) -> None:
    """No attempt, however late, waits longer than the cap or less than nothing."""
    assert 0 <= full_jitter(unit, base=1.0, cap=60.0, attempt=attempt) <= 60


@pytest.mark.parametrize(
    ("unit", "expected"), [(0.0, 4.5), (0.25, 4.75), (0.5, 5.0), (0.75, 5.25), (1.0, 5.5)]
)
def test_spread_is_even_on_both_sides(unit: float, expected: float) -> None:
    """A tenth either way: 5 s become 4.5 to 5.5 s, in the middle exactly 5 s."""
    assert spread(5.0, by=0.1, unit=unit) == pytest.approx(expected)


@given(unit=UNITS)
def test_no_spread_changes_nothing(unit: float) -> None:
    """With a fraction of 0 the draw does not matter."""
    assert spread(5.0, by=0.0, unit=unit) == 5.0
