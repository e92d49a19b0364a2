"""How fast jobs are taken from the queue of one API key, and how many at a time."""

from __future__ import annotations

from typing import Any, Final

from apixo_async._narrow import as_number, shown
from apixo_async.errors import InvalidSettingError
from apixo_async.limits import Limits
from apixo_async.limits.rate import SUBMIT_SHARE

WAITING_MIN: Final = 8
WAITING_SHARE: Final = 0.1
_MINUTE: Final = 60
_MANY: Final = 6_000


def queue_settings(limits: Limits, starts_per_minute: object) -> dict[str, Any]:
    """As DBOS takes them. Raises `InvalidSettingError` for a number of starts that cannot be one.

    A limit by the second lets jobs start evenly; it is a whole number, or close to one.
    """
    starts = _starts(limits) if starts_per_minute is None else _checked(starts_per_minute)
    limiter = {"limit": starts, "period": float(_MINUTE)}
    if starts % _MINUTE == 0 or starts >= _MANY:
        limiter = {"limit": starts // _MINUTE, "period": 1.0}
    return {"global_concurrency": in_hand(limits.concurrent_tasks), "limiter": limiter}


def in_hand(cap: int) -> int:
    """How many jobs replicas may have taken from the queue: those that run, and some that wait.

    The gates hold the cap exactly. Who waits there takes a slot in the moment it is free, and not
    when the queue is looked into next.
    """
    return cap + max(WAITING_MIN, int(WAITING_SHARE * cap))


def _starts(limits: Limits) -> int:
    return max(1, int(SUBMIT_SHARE * limits.requests_per_minute))


def _checked(starts: object) -> int:
    is_whole = isinstance(starts, int) and not isinstance(starts, bool)
    if not is_whole or as_number(starts) < 1:
        raise InvalidSettingError(
            f"max_starts_per_minute must be a whole number of at least 1, got {shown(starts)}"
        )
    return int(as_number(starts))
