from __future__ import annotations

import math

import pytest

from apixo_async.cli.emulated import scaled_rate
from apixo_async.limits import bucket_size


@pytest.mark.parametrize("speed", [0.5, 1, 7, 20, 60, 500])
@pytest.mark.parametrize("limit", [2, 10, 60, 1_000, 10_000, 100_000])
def test_scaled_rate_keeps_the_limit_in_every_minute_of_the_fast_clock(
    limit: int, speed: float
) -> None:
    """A burst and what follows it within one emulated minute never exceed the account's limit."""
    bucket = bucket_size(scaled_rate(limit, speed=speed))
    minute = 60 / speed
    assert math.floor(bucket.burst + minute * bucket.per_second) <= limit


def test_scaled_rate_gives_little_away() -> None:
    """At the documented limit nearly all of it can be used."""
    assert scaled_rate(10_000, speed=20) > 0.98 * 200_000
