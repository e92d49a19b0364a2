"""Small pure sums on seconds. `unit` is a random number in [0, 1) that the caller draws."""

from __future__ import annotations


def full_jitter(unit: float, *, base: float, cap: float, attempt: int) -> float:
    """A delay drawn evenly from [0, min(cap, base * 2**attempt)); the first attempt is 0."""
    # 2.0**64 * base is beyond any cap; larger exponents would only overflow.
    return unit * min(cap, base * 2.0 ** min(attempt, 64))


def spread(seconds: float, *, by: float, unit: float) -> float:
    """`seconds` moved by up to +-`by` (a fraction), so that many callers never move in step."""
    return seconds * (1 + by * (2 * unit - 1))
