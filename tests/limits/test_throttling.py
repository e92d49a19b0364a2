import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.limits.throttling import CapFinder, is_task_limit, pause_seconds

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
    ("episode", "rate", "running", "is_lowered", "expected"),
    [
        (1, 0.1, 50, False, False),
        (2, 0.1, 50, False, True),
        (9, 0.1, 50, False, True),
        (1, 0.1, 50, True, True),
        (2, 0.49, 50, False, True),
        (2, 0.5, 50, False, False),
        (2, 1.0, 50, True, False),
        (2, 0.1, 0, False, False),
        (9, 0.0, 0, True, False),
        (2, 0.1, 1, False, True),
    ],
    ids=[
        "a stray 429",
        "two in a row",
        "many in a row",
        "one, the cap being lowered",
        "just below half the rate",
        "at half the rate",
        "at the full rate",
        "nothing running",
        "nothing running, lowered",
        "one task running",
    ],
)
def test_whose_limit_a_429_was(
    episode: int, rate: float, running: int, is_lowered: bool, expected: bool
) -> None:
    """It is about tasks if some run, the rate is low, and it is not just one."""
    assert expected == is_task_limit(
        episode=episode, rate=rate, running=running, is_lowered=is_lowered
    )


NEW = CapFinder(1_000, 1_000)


@pytest.mark.parametrize(
    ("running", "expected"), [(0, 1), (1, 1), (50, 50), (999, 999), (1_000, 1_000), (5_000, 1_000)]
)
def test_a_refusal_drops_the_cap_to_what_runs(running: int, expected: int) -> None:
    """The account holds what is running; at least one task always may."""
    assert NEW.refused(running=running, now=0.0).cap == expected


def test_a_refusal_forgets_all_haste() -> None:
    """After a refusal the next probe is one step, later each time, up to five minutes."""
    finder, waits = NEW, list[float]()
    for _ in range(9):
        finder = finder.refused(running=50, now=100.0)
        waits.append(finder.next_probe - 100.0)

    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    assert finder.step == 1


def test_probes_grow_while_they_go_well() -> None:
    """Each probe that nobody refuses is twice as large as the one before, up to the limit."""
    finder, caps = NEW.refused(running=50, now=0.0), list[int]()
    now = 0.0
    while finder.cap < finder.limit:
        now = finder.next_probe
        finder = finder.probed(now=now).accepted(running=finder.cap, now=now)
        finder = finder.accepted(running=finder.cap, now=now)
        caps.append(finder.cap)

    assert caps == [51, 53, 57, 65, 81, 113, 177, 305, 561, 1_000]
    assert now <= 10 * 10.0


def test_a_probe_that_was_filled_brings_the_next_one_near() -> None:
    """After long quarrels one good probe is enough to go on within seconds."""
    finder = NEW
    for _ in range(9):
        finder = finder.refused(running=50, now=0.0)
    probed = finder.probed(now=300.0)
    good = probed.accepted(running=probed.cap, now=301.0)

    assert probed.next_probe == 600.0
    assert good.next_probe == 306.0
    assert good.probe_every == 5.0


@pytest.mark.parametrize(
    ("finder", "running"),
    [
        (NEW, 1_000),
        (NEW.refused(running=50, now=0.0), 50),
        (NEW.refused(running=50, now=0.0).probed(now=5.0), 50),
    ],
    ids=["never lowered", "lowered and not probed", "probe not filled"],
)
def test_an_acceptance_that_proves_nothing_changes_nothing(finder: CapFinder, running: int) -> None:
    """Only a task in the newly opened place shows that the place exists."""
    assert finder.accepted(running=running, now=100.0) is finder


@pytest.mark.parametrize(
    ("finder", "now"),
    [(NEW, 1e9), (NEW.refused(running=50, now=0.0), 4.9)],
    ids=["at the limit", "too early"],
)
def test_a_probe_waits_for_its_time(finder: CapFinder, now: float) -> None:
    """A cap that was never lowered is not raised, a lowered one not before its time."""
    assert finder.probed(now=now) is finder


@given(
    limit=st.integers(1, 2_000),
    steps=st.lists(
        st.tuples(st.sampled_from(["refused", "accepted", "probed"]), st.integers(0, 3_000)),
        max_size=40,
    ),
)
def test_the_cap_stays_between_1_and_the_limit(limit: int, steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, the cap is a usable one, and time only goes on."""
    finder, now = CapFinder(limit, limit), 0.0
    for what, number in steps:
        now += number
        if what == "probed":
            finder = finder.probed(now=now)
        else:
            finder = getattr(finder, what)(running=number, now=now)

        assert 1 <= finder.cap <= limit
        assert 5.0 <= finder.probe_every <= 300.0
        assert 1 <= finder.step <= max(limit, 1)
        assert finder.next_probe <= now + 300.0
