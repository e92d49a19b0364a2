"""Untyped values from outside as typed ones, for readers that then check each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast


def as_mapping(value: object) -> Mapping[object, object] | None:
    """The value if it is a mapping of whatever."""
    is_mapping = isinstance(value, (dict, Mapping))  # a dict is recognised without asking the ABC
    return cast("Mapping[object, object]", value) if is_mapping else None


def as_sequence(value: object) -> Sequence[object] | None:
    """The value if it is a list, tuple or another sequence that is no text."""
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, (list, Sequence)):
        return None
    return cast("Sequence[object]", value)
