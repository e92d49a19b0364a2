"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from apixo_async.batch.spending import in_usd

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def counted(number: int, noun: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def lasting(seconds: float) -> str:
    """A time span in its two largest units: `7 s`, `2 min 5 s`, `1 h 4 min`, `11 d 3 h`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        number, rest = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
            left = rest
        elif parts:
            break
        if len(parts) > 1:
            break
    return " ".join(parts)


def amount(money: Decimal) -> str:
    """`$1,234.50`."""
    return f"${in_usd(money).removesuffix(' USD')}"


def moment(at: datetime | float | None) -> str:
    """A time by the calendar, in UTC."""
    if at is None:
        return "an unknown time"
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
