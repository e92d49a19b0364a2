"""How long a task takes: distributions written as text.

``120`` | ``uniform:60:180`` | ``normal:120:15`` | ``lognormal:120:0.3``, or one for each mode:
``fast=normal:75:10,quality=normal:150:20,default=60``. Each is a function from one number in
[0, 1) to seconds (the inverse of its cumulative distribution), so that one hash is one duration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import attrs

SHORTEST = 5.0
"""Seconds; the lower end of the bell curves, which reach below zero otherwise."""

OTHER = "default"
"""Stands for every mode that has no distribution of its own."""

_FALLBACK = "normal:120:20"
"""The page says: "Generation time: Average ~2 minutes"."""

_EDGE = 1e-12
"""Keeps a draw off 0 and 1, where a bell curve's inverse is infinite."""

Quantile = Callable[[float], float]


def parse_distribution(text: str) -> Quantile:
    """Read one distribution; ValueError says what was wrong with it."""
    kind, *numbers = text.strip().split(":")
    if not numbers:
        kind, numbers = "fixed", [kind]
    makers: dict[str, tuple[str, Callable[..., Quantile]]] = {
        "fixed": ("SECONDS", _fixed),
        "uniform": ("uniform:LOW:HIGH", _uniform),
        "normal": ("normal:MEAN:DEVIATION", _normal),
        "lognormal": ("lognormal:MEAN:SIGMA", _lognormal),
    }
    if kind not in makers:
        raise ValueError(f"{text!r} is none of SECONDS, uniform:, normal:, lognormal:")
    form, make = makers[kind]
    values = _numbers(text, numbers)
    expected = 1 if kind == "fixed" else 2
    if len(values) != expected:
        raise ValueError(f"{text!r} must have the form {form}")
    return make(*values)


def _numbers(text: str, parts: list[str]) -> list[float]:
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{text!r} holds something that is not a number") from None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"{text!r} holds a number that is negative or not finite")
    return values


def _fixed(seconds: float) -> Quantile:
    return lambda _: seconds


def _uniform(low: float, high: float) -> Quantile:
    if low > high:
        raise ValueError(f"uniform:{low:g}:{high:g} must have the lower end first")
    return lambda share: low + (high - low) * share


def _normal(mean: float, deviation: float) -> Quantile:
    if deviation == 0:
        return _fixed(mean)
    bell = NormalDist(mean, deviation)
    return lambda share: max(SHORTEST, bell.inv_cdf(_inside(share)))


def _lognormal(mean: float, sigma: float) -> Quantile:
    if mean == 0:
        raise ValueError("lognormal needs a mean above 0")
    if sigma == 0:
        return _fixed(mean)
    # The mean of a lognormal is exp(mu + sigma**2 / 2); solved for mu.
    bell = NormalDist(math.log(mean) - sigma * sigma / 2, sigma)
    return lambda share: max(SHORTEST, math.exp(bell.inv_cdf(_inside(share))))


def _inside(share: float) -> float:
    return min(max(share, _EDGE), 1 - _EDGE)


@attrs.frozen
class Durations:
    """The distribution of each mode, and of all others under ``default``."""

    by_mode: Mapping[str, Quantile]

    @classmethod
    def parse(cls, text: str) -> Durations:
        """Read the text of a setting; ValueError names the part that is wrong."""
        if "=" not in text:
            return cls({OTHER: parse_distribution(text)})
        by_mode = {OTHER: parse_distribution(_FALLBACK)}
        for part in text.split(","):
            mode, separator, distribution = part.partition("=")
            if not separator or not mode.strip():
                raise ValueError(f"{part!r} must have the form MODE=DISTRIBUTION")
            by_mode[mode.strip()] = parse_distribution(distribution)
        return cls(by_mode)

    def draw(self, mode: str | None, share: float) -> float:
        """Return seconds for a *share* in [0, 1), to the millisecond, as the API counts."""
        quantile = self.by_mode.get(mode or OTHER, self.by_mode[OTHER])
        return round(quantile(share), 3)
