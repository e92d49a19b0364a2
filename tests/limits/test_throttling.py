import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.limits.throttling import (
    Cause,
    cause_of,
    is_rate_high,
    is_rate_limit,
    pause_seconds,
    rare_row,
)

UNITS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("episode", "unit", "expected"),
    [
        (1, 0.0, 0.0),
        (1, 0.5, 0.5),
        (1, 0.999, 0.999),
        (2, 0.5, 1.0),
        (3, 0.5, 2.0),
        (6, 0.5, 16.0),
        (7, 0.5, 30.0),
        (8, 0.5, 30.0),
        (10**6, 0.999, 59.94),
    ],
)
def test_without_advice_the_pause_doubles_up_to_a_minute(
    episode: int, unit: float, expected: float
) -> None:
    """It is drawn evenly, up to 1 s after the first 429, 2 s after the second, and so on."""
    assert pause_seconds(None, episode=episode, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "unit", "expected"),
    [
        (7.0, 0.0, 7.0),
        (7.0, 0.5, 7.35),
        (7.0, 0.999, 7.6993),
        (0.0, 0.5, 0.0),
        (120.0, 0.0, 120.0),
        (1e9, 0.0, 120.0),
        (1e9, 0.999, 131.988),
        (-5.0, 0.5, 0.0),
        (math.inf, 0.0, 120.0),
    ],
)
def test_advice_is_followed_within_limits(asked: float, unit: float, expected: float) -> None:
    """`Retry-After` counts, cut to 0 to 120 s and lengthened by up to a tenth."""
    assert pause_seconds(asked, episode=1, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "episode", "expected"),
    [(0.0, 2, 1.0), (0.0, 7, 30.0), (1.0, 7, 30.0), (100.0, 7, 105.0)],
)
def test_advice_that_does_not_help_is_not_followed_for_ever(
    asked: float, episode: int, expected: float
) -> None:
    """From the second 429 in a row on, the longer of advice and backoff counts."""
    assert pause_seconds(asked, episode=episode, unit=0.5) == pytest.approx(expected)


@given(st.none() | st.floats(allow_nan=False), st.integers(1, 10**9), UNITS)
def test_no_pause_is_endless(asked: float | None, episode: int, unit: float) -> None:
    """Whatever a server says, the pause lies between nothing and 132 s."""
    assert 0 <= pause_seconds(asked, episode=episode, unit=unit) <= 132


@pytest.mark.parametrize(
    ("noise", "row"),
    [(0.0, 0), (0.001, 2), (0.05, 4), (0.1, 4), (0.2, 6), (0.4, 8), (0.99, 8), (1.0, 0)],
)
def test_how_many_in_a_row_are_no_chance(noise: float, row: int) -> None:
    """Fewer than one case in ten thousand; eight are too many for any service."""
    assert rare_row(noise) == row


@attrs.frozen(kw_only=True)
class Refused:
    """What is known when a submit is answered 429."""

    episode: int = 1
    is_rate_high: bool = False
    running: int = 50
    is_probing: bool = False
    looks_pass: bool = False
    noise: float = 0.0


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Refused(), Cause.UNKNOWN),
        (Refused(looks_pass=True), Cause.UNKNOWN),
        (Refused(episode=2), Cause.PERHAPS_TASKS),
        (Refused(episode=9, running=1), Cause.PERHAPS_TASKS),
        (Refused(episode=2, looks_pass=True), Cause.TASKS),
        (Refused(is_rate_high=True), Cause.RATE),
        (Refused(is_rate_high=True, looks_pass=True), Cause.RATE),
        (Refused(episode=2, is_rate_high=True), Cause.RATE),
        (Refused(episode=2, is_rate_high=True, looks_pass=True), Cause.TASKS),
        (Refused(is_probing=True), Cause.TASKS),
        (Refused(is_probing=True, is_rate_high=True), Cause.TASKS),
        (Refused(running=0), Cause.RATE),
        (Refused(running=0, episode=9, is_probing=True, looks_pass=True), Cause.RATE),
        (Refused(episode=3, noise=0.1), Cause.UNKNOWN),
        (Refused(episode=4, noise=0.1), Cause.PERHAPS_TASKS),
        (Refused(episode=3, looks_pass=True, noise=0.1), Cause.UNKNOWN),
        (Refused(episode=4, looks_pass=True, noise=0.1), Cause.TASKS),
        (Refused(episode=3, is_probing=True, noise=0.1), Cause.UNKNOWN),
        (Refused(episode=4, is_probing=True, noise=0.1), Cause.TASKS),
        (Refused(episode=2, looks_pass=True, noise=0.001), Cause.TASKS),
    ],
    ids=repr,
)
def test_whose_limit_a_429_was(known: Refused, expected: Cause) -> None:
    """It is about tasks if some run and this was one too many, or if other requests pass.

    Where one request in ten is refused for no reason, that takes four in a row.
    """
    assert cause_of(**attrs.asdict(known)) is expected


@pytest.mark.parametrize(
    ("used", "is_found", "expected"),
    [(0.49, False, False), (0.5, False, True), (0.79, True, False), (0.8, True, True)],
)
def test_when_a_429_may_be_about_the_rate(used: float, is_found: bool, expected: bool) -> None:
    """A rate that was found is nearly used up when exceeded, a configured one may be wrong."""
    assert is_rate_high(used, is_found=is_found) is expected


@attrs.frozen(kw_only=True)
class Refusals:
    """429s about the request rate among good answers."""

    in_a_row: int = 1
    episodes: int = 1
    refused: int = 1
    good: int = 0
    is_expected: bool = False
    is_refuted: bool = False
    noise: float = 0.0


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        (Refusals(), False),
        (Refusals(in_a_row=3, episodes=2, refused=3), False),
        (Refusals(in_a_row=4, episodes=2, refused=4, good=5_000), True),
        (Refusals(episodes=3, refused=3, good=59), True),
        (Refusals(episodes=3, refused=3, good=60), False),
        (Refusals(episodes=3, refused=3, good=5, is_refuted=True), False),
        (Refusals(episodes=3, refused=60, good=12_000), False),
        (Refusals(episodes=3, refused=900, good=12_000), True),
        (Refusals(good=49, is_expected=True), True),
        (Refusals(good=50, is_expected=True), False),
        (Refusals(in_a_row=2, episodes=2, refused=2, good=5_000, is_expected=True), True),
        (Refusals(episodes=3, refused=60, good=12_000, is_expected=True), False),
        (Refusals(episodes=9, refused=100, good=900, noise=0.05), False),
        (Refusals(episodes=9, refused=160, good=840, noise=0.05), True),
        (Refusals(episodes=9, refused=100, good=900, is_expected=True, noise=0.05), False),
        (Refusals(in_a_row=3, refused=3, good=97, is_expected=True, noise=0.05), False),
        (Refusals(in_a_row=4, refused=4, good=96, is_expected=True, noise=0.05), True),
        (Refusals(in_a_row=7, refused=50, good=50, noise=0.4), False),
        (Refusals(in_a_row=8, refused=50, good=50, noise=0.4), True),
    ],
    ids=[
        "one",
        "three in a row",
        "four in a row",
        "three among few",
        "three among enough",
        "three within seconds",
        "one in two hundred",
        "one in thirteen",
        "one where it was expected",
        "one where it was expected, among many",
        "two in a row where it was expected",
        "one in two hundred at the rate that was found",
        "twice the noise",
        "more than twice the noise",
        "twice the noise at the rate that was found",
        "three in a row where one in twenty is noise",
        "four in a row where one in twenty is noise",
        "seven in a row where two in five are noise",
        "eight in a row are too many for any noise",
    ],
)
def test_when_429s_mean_a_limit(refusals: Refusals, expected: bool) -> None:
    """It takes more than chance: many in a row, or too many for faults that pass."""
    assert is_rate_limit(**attrs.asdict(refusals)) is expected
