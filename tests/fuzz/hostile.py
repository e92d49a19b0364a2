"""Input that is nearly right: something valid, and a few bytes that say how it is spoilt.

The bytes come from Hypothesis, which finds and shrinks them at little cost. All zero, and used up,
they spoil nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import attrs
from hypothesis import strategies as st

T = TypeVar("T")

DEEP: Final = 1_500
"""Deeper than Python's own recursion goes."""
NEARLY: Final = 980
"""Deeper than it goes once a few functions have been called."""
LONG: Final = 20_000

VALUES: Final[Sequence[bytes]] = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-1",
    b"200",
    b'"200"',
    b"200.0",
    b"401",
    b"429",
    b"5e2",
    b"1e400",
    b"-1e400",
    b"NaN",
    b"-Infinity",
    b"9007199254740993",
    b"18446744073709551616",
    b"9" * 400,
    b"9" * 4_301,
    b"1E-400",
    b'""',
    b'" "',
    b'"success"',
    b'"failed"',
    b'"SUCCESS"',
    b'"t1"',
    b'"t2"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\u202e"',
    b'"\x1b[2J"',
    '"\u0664\u0660\u0664"'.encode(),
    b'"' + b"x" * LONG + b'"',
    b'"<html>' + b"<p>" * 2_000 + b'"',
    b"[]",
    b"{}",
    b"[[]]",
    b'[null, 0, "", [], {}]',
    b'{"": null}',
    b'{"error": {"message": "no"}}',
    b'{"taskId": "t2", "state": "failed"}',
    b"[" + b'"https://a/1.mp4",' * 999 + b'"https://a/1.mp4"]',
    b"[" * 150 + b"]" * 150,
    b"[" * NEARLY + b"]" * NEARLY,
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * NEARLY + b"1" + b"}" * NEARLY,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"",
    b"undefined",
    b"'t1'",
)
"""JSON values, and what is nearly one, that break readers."""


class Choices:
    """Draws from bytes; from none that are left it draws the first."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, limit: int) -> int:
        """A number from 0 up, below `limit`."""
        drawn = next(self._data, 0)
        if limit > 256:
            drawn = drawn * 256 + next(self._data, 0)
        if limit > 65_536:
            drawn = drawn * 256 + next(self._data, 0)
        return drawn % limit

    def of(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]


Fields: TypeAlias = "list[tuple[bytes, bytes | Fields]]"


def fields_of(value: dict[str, object]) -> Fields:
    """An object as names and values that are written already."""
    return [
        (
            json.dumps(name).encode(),
            fields_of(inner) if isinstance(inner, dict) else json.dumps(inner).encode(),
        )
        for name, inner in value.items()
    ]


def written(fields: Fields) -> bytes:
    """The object as JSON."""
    parts = [
        name + b":" + (value if isinstance(value, bytes) else written(value))
        for name, value in fields
    ]
    return b"{" + b",".join(parts) + b"}"


def _spoilt_name(name: bytes, choices: Choices) -> bytes:
    text = name.strip(b'"')
    return choices.of([b'""', b'"%s "' % text, name.upper(), name.lower(), b'"\\ud800"', text])


def _spoil(fields: Fields, choices: Choices) -> None:
    place = choices.below(len(fields))
    name, value = fields[place]
    match choices.below(6):
        case 1:
            del fields[place]
        case 2:
            fields[place] = (_spoilt_name(name, choices), value)
        case 3:
            fields.append((name, choices.of(VALUES)))
        case 4:
            fields.insert(0, (name, choices.of(VALUES)))
        case 5:
            fields[place] = (name, json.dumps(_text(value).decode("utf-8", "replace")).encode())
        case _:
            fields[place] = (name, choices.of(VALUES))


def _text(value: bytes | Fields) -> bytes:
    return value if isinstance(value, bytes) else written(value)


def _anywhere(fields: Fields, choices: Choices) -> Fields:
    """The object itself, or one that is in it."""
    objects = [fields, *(value for _, value in fields if not isinstance(value, bytes) and value)]
    return choices.of(objects)


def spoilt(valid: dict[str, object], data: bytes) -> bytes:
    """JSON of an object with up to three faults inside, and perhaps one in its bytes."""
    choices = Choices(data)
    fields = fields_of(valid)
    for _ in range(choices.below(4)):
        inner = _anywhere(fields, choices)
        if inner:
            _spoil(inner, choices)
    return damaged(written(fields), choices)


def damaged(text: bytes, choices: Choices) -> bytes:
    """The same bytes, or with something done to them that any network or file may do."""
    place = choices.below(len(text) + 1)
    change: Callable[[], bytes] = choices.of(
        [
            lambda: text,
            lambda: text[:place],
            lambda: text[place:],
            lambda: text[:place] + bytes([choices.below(256)]) + text[place + 1 :],
            lambda: text[:place] + bytes([choices.below(256)]) + text[place:],
            lambda: text[:place] + choices.of(VALUES) + text[place:],
            lambda: text[:place] + text[choices.below(len(text) + 1) :],
            lambda: text + text,
            lambda: b"\xef\xbb\xbf" + text,
            lambda: text.decode("utf-8", "replace").encode("utf-16"),
            lambda: b"[" + text + b"]",
            lambda: json.dumps(text.decode("utf-8", "replace")).encode(),
        ]
    )
    return change()


@attrs.frozen
class Spoilt:
    """What was made, shown in short by Hypothesis."""

    body: bytes

    def __repr__(self) -> str:
        return f"{self.body[:300]!r} ({len(self.body)} bytes)"


scripts = st.binary(max_size=24)
"""What says how something is spoilt."""
