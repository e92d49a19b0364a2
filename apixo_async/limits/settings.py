"""The two limits of an account, as numbers the user may change."""

from __future__ import annotations

from typing import Final

import attrs

from apixo_async._narrow import as_number, shown
from apixo_async.errors import InvalidSettingError

REQUESTS_PER_MINUTE: Final = 10_000
""" "Requests 10000 / minute" (Veo 3.1 page, rate limits); other plans have 10 or 60."""
CONCURRENT_TASKS: Final = 1_000
""" "Concurrent tasks 1000" (Veo 3.1 page, rate limits); other plans have 3 or 10."""
CONCURRENT_SUBMITS: Final = 32
"""POSTs in flight at once: a crash leaves at most this many submits whose outcome is unknown."""
MOST: Final = 10**9
"""More than any plan has, and a number that can be reckoned with."""


def _at_least_one(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{attribute.name} must be a whole number of at least 1, got {shown(value)}"
        raise InvalidSettingError(msg)
    if value > MOST:
        msg = f"{attribute.name} must be at most {MOST:,}, got {shown(value)}"
        raise InvalidSettingError(msg)


def _share(_: object, attribute: attrs.Attribute[float | None], value: object) -> None:
    if value is not None and not 0 < as_number(value) <= 1:
        msg = f"{attribute.name} must be above 0 and at most 1, got {shown(value)}"
        raise InvalidSettingError(msg)


@attrs.frozen(kw_only=True)
class Limits:
    """What the account allows. The client never exceeds either limit.

    An account that allows less is noticed, at the cost of refusals. Where several processes share
    an account, let them hold the limits together (`Gate`), or give each its part of both.

    Raises:
        InvalidSettingError: A number is out of its range; the message names it.
    """

    requests_per_minute: int = attrs.field(default=REQUESTS_PER_MINUTE, validator=_at_least_one)
    """Calls of any kind in any 60 seconds, from 1 to a billion: "Requests 10000 / minute" (Veo 3.1
    page, rate limits)."""
    concurrent_tasks: int = attrs.field(default=CONCURRENT_TASKS, validator=_at_least_one)
    """Tasks that this client started and has not seen end, from 1 to a billion: "Concurrent tasks
    1000" (Veo 3.1 page, rate limits)."""
    concurrent_submits: int = attrs.field(default=CONCURRENT_SUBMITS, validator=_at_least_one)
    """POSTs in flight at once, from 1 to a billion. A crash leaves at most so many submits in
    doubt."""
    poll_share: float | None = attrs.field(default=None, validator=_share)
    """The part of the request rate that status calls may plan with, above 0 and at most 1; `None`
    is what their schedule asks for."""
