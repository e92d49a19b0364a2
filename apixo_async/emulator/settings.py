"""Every knob of the emulator, checked when it is set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeGuard

import attrs

from apixo_async.emulator.durations import OTHER, Durations, parse_distribution
from apixo_async.emulator.faults import read_rates

DAY = 86_400.0

PRICES: Mapping[str, float] = MappingProxyType({"fast": 0.20, "quality": 1.50, OTHER: 0.10})
"""US dollars for one video by mode, from the older Veo page; ``default`` is for anything else."""

InsufficientAs = Literal["400", "200", "402"]

_HIGHEST_PORT = 65_535


def _frozen(value: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType(dict(value))


def _rates(value: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType(read_rates(value))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(field: attrs.Attribute[Any], value: object, rule: str, *, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{field.name} must be {rule}, not {value!r}")


def _positive(_: object, field: attrs.Attribute[Any], value: object) -> None:
    _require(field, value, "a number above 0", holds=_is_number(value) and value > 0)


def _not_negative(_: object, field: attrs.Attribute[Any], value: object) -> None:
    _require(field, value, "a number of 0 or more", holds=_is_number(value) and value >= 0)


def _count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    _require(field, value, "a whole number of 1 or more", holds=is_count)


def _integer(_: object, field: attrs.Attribute[Any], value: object) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    _require(field, value, "a whole number", holds=is_integer)


def _port(_: object, field: attrs.Attribute[Any], value: object) -> None:
    is_port = isinstance(value, int) and 0 <= value <= _HIGHEST_PORT
    _require(field, value, "a port, or 0 for any free one", holds=is_port)


def _text(_: object, field: attrs.Attribute[Any], value: object) -> None:
    holds = isinstance(value, str) and value.isascii() and value.isprintable() and value.strip()
    _require(field, value, "printable ASCII, not empty", holds=bool(holds))


def _choice_of_insufficient(_: object, field: attrs.Attribute[Any], value: object) -> None:
    _require(field, value, "one of '400', '200', '402'", holds=value in {"400", "200", "402"})


def _durations(_: object, field: attrs.Attribute[Any], value: object) -> None:
    try:
        Durations.parse(str(value))
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None


def _latency(_: object, field: attrs.Attribute[Any], value: object) -> None:
    try:
        parse_distribution(str(value))
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None
    # The bell curves are cut off at seconds that suit a task, not an answer.
    _require(field, value, "SECONDS or uniform:LOW:HIGH", holds="normal" not in str(value))


def _prices(_: object, field: attrs.Attribute[Any], value: Mapping[str, object]) -> None:
    holds = OTHER in value and all(_is_number(price) and price >= 0 for price in value.values())
    _require(
        field, dict(value), f"amounts of 0 or more by mode, with a {OTHER!r} entry", holds=holds
    )


@attrs.frozen(kw_only=True)
class EmulatorSettings:
    """What an emulator is started with.

    Every time is in seconds of API time, which passes *speed* times as fast as real time, except
    *latency* and *drip_seconds*, which are real.

    Raises:
        ValueError: A value is out of its range; the message names the field and the rule.
    """

    host: str = attrs.field(default="127.0.0.1", validator=_text)
    """The address to listen on."""
    port: int = attrs.field(default=0, validator=_port)
    """The port to listen on; 0 takes any free one."""
    api_key: str = attrs.field(default="test-key", validator=_text, repr=False)
    """The only key that is accepted."""
    speed: float = attrs.field(default=1.0, validator=_positive)
    """How many times as fast API time passes; 60 makes a minute of it pass in a second: durations,
    windows, expiry, retries."""
    seed: int = attrs.field(default=0, validator=_integer)
    """The same seed and the same requests give the same durations and the same faults."""
    durations: str = attrs.field(default="normal:120:20", validator=_durations)
    """How many seconds of API time tasks take: ``120``, ``uniform:60:180``, ``normal:120:15`` or
    ``lognormal:120:0.3`` (mean first), or one for each mode:
    ``fast=normal:75:10,quality=normal:150:20,default=60``."""
    requests_per_minute: int = attrs.field(default=10_000, validator=_count)
    """Requests in any minute of API time: "Requests 10000 / minute" (Veo 3.1 page, rate limits)."""
    concurrent_tasks: int = attrs.field(default=1_000, validator=_count)
    """Unfinished tasks: "Concurrent tasks 1000" (Veo 3.1 page, rate limits)."""
    balance: float = attrs.field(default=1_000_000.0, validator=_not_negative)
    """US dollars on the key."""
    prices: Mapping[str, float] = attrs.field(default=PRICES, converter=_frozen, validator=_prices)
    """US dollars for one accepted task, by mode."""
    latency: str = attrs.field(default="0", validator=_latency)
    """Real seconds added to each answer of the API, ``0.05`` or ``uniform:0.01:0.2``."""
    faults: Mapping[str, float] = attrs.field(factory=dict[str, float], converter=_rates)
    """Rates from 0 to 1 by the names in `FAULTS`."""
    result_lifetime: float = attrs.field(default=15 * DAY, validator=_positive)
    """Seconds for which a file can be had: "Result URLs are valid for 15 days" (Veo 3.1 page,
    tips)."""
    errors_as_http_200: bool = False
    """Whether every error comes with HTTP status 200 and its code in the body only."""
    insufficient_as: InsufficientAs = attrs.field(default="400", validator=_choice_of_insufficient)
    """HTTP status when the balance does not suffice; 200 keeps code 400 in the body."""
    drip_seconds: float = attrs.field(default=90.0, validator=_positive)
    """Real seconds a trickling answer takes; longer than a client should wait."""
    urls_per_task: int = attrs.field(default=1, validator=_count)
    """How many files a finished task has."""
