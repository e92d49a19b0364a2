"""Untyped values from outside as typed ones, for readers that then check each item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

NESTING_MAX: Final = 200
"""Lists and objects in each other that JSON may have: what is read has to be written again, from
wherever in a program that happens, and Python's own bound counts the functions called so far."""


def as_mapping(value: object) -> Mapping[object, object] | None:
    """The value if it is a mapping of whatever."""
    is_mapping = isinstance(value, (dict, Mapping))  # a dict is recognised without asking the ABC
    return cast("Mapping[object, object]", value) if is_mapping else None


def as_sequence(value: object) -> Sequence[object] | None:
    """The value if it is a list, tuple or another sequence that is no text."""
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, (list, Sequence)):
        return None
    return cast("Sequence[object]", value)


def is_nested_too_deeply(value: object) -> bool:
    """Whether plain data goes deeper than `NESTING_MAX`. It must not hold itself."""
    level = [value]
    for _ in range(NESTING_MAX + 1):
        inner = [items for items in map(_items, level) if items is not None]
        if not inner:
            return False
        level = [item for items in inner for item in items]
    return True


def _items(value: object) -> Iterable[object] | None:
    if isinstance(value, dict):
        return cast("dict[object, object]", value).values()
    return cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else None


def as_number(value: object) -> float:
    """The value as a float; NaN, of which no comparison is true, if it is no number or too large.

    A boolean is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def shown(value: object) -> str:
    """Any value as messages show what was given instead of what they ask for."""
    try:
        return repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return "a number far too long"
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
