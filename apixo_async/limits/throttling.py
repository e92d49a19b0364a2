"""What a 429 means, as pure decisions: how long everybody pauses, and whose limit it was.

The API answers 429 for both of its limits and does not say which one was hit.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from apixo_async._timing import full_jitter

PAUSE_BASE: Final = 1.0
PAUSE_CAP: Final = 60.0
RETRY_AFTER_CAP: Final = 120.0
"""A longer `Retry-After` is cut to this: a broken header must not stop a batch for a year."""
RETRY_AFTER_JITTER: Final = 0.1
"""Callers come back spread over this part of the pause, never all in one instant."""

LOW_RATE: Final = 0.5
HIGH_RATE: Final = 0.8
"""Below this part of our request rate a 429 is not about the rate: of the configured one, which may
be far from the real one, and of one that was found."""
MANY_EPISODES: Final = 3
FEW_IN_A_ROW: Final = 2
"""Episodes that prove a lower limit: by themselves, and of tasks or where the found rate is
used."""
HIGH_PART: Final = 20
LOW_PART: Final = 50
"""One 429 to fewer good answers than this is too many for chance, likewise."""
NOISE_FACTOR: Final = 2.0
"""More than so many times the noise is no chance."""
RARE: Final = 1e-4
"""Nor is what happens by chance in fewer than this part of all cases."""
LONGEST_ROW: Final = 8
"""No service refuses so many in a row for no reason."""


def pause_seconds(retry_after: float | None, *, episode: int, unit: float) -> float:
    """How long the gate stays closed after the `episode`-th 429 in a row (from 1).

    The server's `Retry-After` counts where given, cut to 0-120 s and lengthened by up to a tenth.
    Otherwise, and beside a `Retry-After` of nearly nothing, exponential backoff with full jitter.
    """
    backoff = full_jitter(unit, base=PAUSE_BASE, cap=PAUSE_CAP, attempt=episode - 1)
    if retry_after is None:
        return backoff
    asked = min(max(retry_after, 0.0), RETRY_AFTER_CAP) * (1 + RETRY_AFTER_JITTER * unit)
    return asked if episode == 1 else max(asked, backoff)


class Cause(enum.Enum):
    """Which of its limits an account meant."""

    TASKS = "tasks"
    PERHAPS_TASKS = "perhaps tasks"
    RATE = "rate"
    UNKNOWN = "unknown"


def is_rate_high(used: float, *, is_found: bool) -> bool:
    """Whether so large a part of the request rate is used that a 429 may be about that."""
    return used >= (HIGH_RATE if is_found else LOW_RATE)


def cause_of(
    *,
    episode: int,
    is_rate_high: bool,
    running: int,
    is_probing: bool,
    looks_pass: bool,
    noise: float = 0.0,
) -> Cause:
    """What a 429 on a submit is about; on a status call it is always the request rate.

    `is_probing` tells whether this task is more than was seen to fit, `looks_pass` whether status
    calls have been answered well since submits are refused. One 429 may be a passing fault, so it
    takes two in a row (no submit accepted in between), or a place that was a guess; where `noise`,
    a part of all requests, is refused for no reason, so many in a row that it is no chance.
    """
    if running == 0:
        return Cause.RATE
    chance = rare_row(noise)
    is_proven = episode >= max(FEW_IN_A_ROW, chance)
    if (is_probing and episode >= chance) or (is_proven and looks_pass):
        return Cause.TASKS
    if is_rate_high:
        return Cause.RATE
    return Cause.PERHAPS_TASKS if is_proven else Cause.UNKNOWN


def rare_row(noise: float) -> int:
    """So many refusals in a row are no chance where this part is refused for no reason."""
    if not 0 < noise < 1:
        return 0
    return min(math.ceil(math.log(RARE) / math.log(noise)), LONGEST_ROW)


def is_rate_limit(
    *,
    in_a_row: int,
    episodes: int,
    refused: int,
    good: int,
    is_expected: bool,
    is_refuted: bool,
    noise: float = 0.0,
) -> bool:
    """Whether 429s about the rate mean a limit below ours, and not faults that pass.

    All counts are of the last three minutes, but `in_a_row`: episodes without a good answer in
    between. `is_expected` tells whether a rate that was found before is made full use of,
    `is_refuted` whether more has passed since the first of them than a limit would have let.
    `noise` is the part of all requests that is refused at any rate; twice as many are no chance.
    Servers that refuse one request in two hundred at random must not slow anyone down.
    """
    few, many = max(FEW_IN_A_ROW, rare_row(noise)), max(MANY_EPISODES + 1, rare_row(noise))
    too_many = refused - NOISE_FACTOR * noise * (refused + good)
    if is_expected and (in_a_row >= few or too_many * LOW_PART > good):
        return True
    if in_a_row >= many:
        return True
    return episodes >= MANY_EPISODES and too_many * HIGH_PART > good and not is_refuted
