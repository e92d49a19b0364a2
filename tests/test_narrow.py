from __future__ import annotations

import math
from decimal import Decimal

import pytest

from apixo_async._narrow import NESTING_MAX, as_number, is_nested_too_deeply, shown

LONG = 10**5_000


def nested(depth: int) -> list[object]:
    """So many lists in each other."""
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("fast", "'fast'"),
        (LONG, "a number far too long"),
        ([LONG], "a number far too long"),
        (nested(100_000), "a list nested too deeply"),
    ],
    ids=["text", "long number", "long number inside", "deep list"],
)
def test_every_value_can_be_shown(value: object, expected: str) -> None:
    """A message about a wrong value never fails itself, whatever Python cannot write down."""
    assert expected == shown(value)


@pytest.mark.parametrize("value", [None, True, "1", Decimal(1), LONG, 10**400, math.nan], ids=shown)
def test_what_is_no_number_fits_into_no_bounds(value: object) -> None:
    """Neither text nor a boolean is a number, nor a whole one that no sum of floats can hold."""
    assert math.isnan(as_number(value))


def test_a_number_is_itself() -> None:
    """Whole or not, up to the largest."""
    assert [as_number(value) for value in (0, -1, 0.5, 10**300)] == [0.0, -1.0, 0.5, 1e300]


def test_nesting_is_counted() -> None:
    """Lists and objects count alike; what is beside each other does not count."""
    wide = [nested(NESTING_MAX - 1), {"a": [[]] * 1_000}]

    assert not is_nested_too_deeply(wide)
    assert not is_nested_too_deeply(nested(NESTING_MAX))
    assert is_nested_too_deeply(nested(NESTING_MAX + 1))
    assert is_nested_too_deeply({"a": nested(NESTING_MAX)})
    assert not is_nested_too_deeply("plain")
