"""How long a batch goes on: tables of what is known and what follows from it."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from apixo_async.cli.eta import ENOUGH, Kind, Left, Lives, time_left

FAST: Kind = ("veo-3-1", "fast")
SLOW: Kind = ("veo-3-1", "quality")


@pytest.mark.parametrize(
    ("ended", "running", "ages", "alive"),
    [
        pytest.param([], [], [], [], id="nothing is known"),
        pytest.param([3, 1], [], [1, 3], [0.5, 0], id="all have ended"),
        pytest.param([2, 2, 4, 4], [], [2, 4], [0.5, 0], id="some together"),
        pytest.param([2], [5, 6, 7], [2], [0.75], id="one of four was quick"),
        pytest.param([2, 4], [1, 3], [2, 4], [2 / 3, 0], id="too young to tell"),
    ],
)
def test_how_many_live_how_long(
    ended: list[float], running: list[float], ages: list[float], alive: list[float]
) -> None:
    """Tasks that still run count among those that could have ended, up to their age."""
    lives = Lives.of(ended, running)

    assert lives.ages == ages
    assert lives.alive == pytest.approx(alive)


@pytest.mark.parametrize(
    ("age", "part", "left"),
    [
        (0, 0.0, 100),
        (0, 0.24, 100),
        (0, 0.26, 110),
        (0, 0.99, 130),
        (105, 0.0, 5),
        (105, 0.34, 15),
        (125, 0.5, 5),
        (130, 0.5, 28.75 * math.log(2)),
        (500, 0.5, 28.75 * math.log(2)),
    ],
)
def test_what_is_left_of_a_life_goes_by_those_that_got_as_old(
    age: float, part: float, left: float
) -> None:
    """Of those that end at 100, 110, 120 and 130 s; older ones end at a steady rate."""
    lives = Lives.of([100, 110, 120, 130])

    assert lives.left(age, part) == pytest.approx(left)
    assert lives.is_late(age) == (age >= 130)


def test_what_is_not_known_of_the_oldest_goes_by_a_rule() -> None:
    """Half of all still run, and live on for a quarter of the mean, which is what was seen."""
    lives = Lives.of([100], [100])

    assert lives.mean == 100
    assert lives.left(0, 0.4) == 100
    assert lives.left(0, 0.9) == pytest.approx(100 + 25 * math.log(5))


def usual(number: int = ENOUGH) -> list[float]:
    """All tasks take two minutes."""
    return [120.0] * number


@pytest.mark.parametrize(
    ("given", "left"),
    [
        pytest.param({}, Left(0.0), id="nothing is left"),
        pytest.param({"running": {FAST: [20.0, 50.0]}}, Left(100.0), id="all have started"),
        pytest.param(
            {"running": {FAST: [60.0] * 50}, "queued": {FAST: 1}},
            Left(180.0),
            id="the last one has to wait for a slot",
        ),
        pytest.param(
            {"running": {FAST: [60.0] * 49}, "queued": {FAST: 1}}, Left(120.0), id="a slot is free"
        ),
        pytest.param({"queued": {FAST: 150}}, Left(360.0), id="three waves"),
        pytest.param({"queued": {FAST: 151}}, Left(480.0), id="three waves and one"),
        pytest.param({"queued": {SLOW: 50}}, Left(120.0), id="of a kind of which none has ended"),
        pytest.param({"ended": {}, "queued": {FAST: 9}}, Left(None), id="nothing is known"),
        pytest.param({"running": {FAST: [121.0, 500.0]}}, Left(0.0, 2), id="only late ones"),
        pytest.param(
            {"running": {FAST: [500.0, 100.0]}, "queued": {}}, Left(20.0, 1), id="one is late"
        ),
        pytest.param(
            {
                "running": {FAST: [0.0], SLOW: [0.0]},
                "ended": {FAST: usual(), SLOW: [300.0] * ENOUGH},
            },
            Left(300.0),
            id="the slower kind ends last",
        ),
    ],
)
def test_time_left(given: Mapping[str, Any], left: Left) -> None:
    """With 50 slots, where all tasks that were seen took two minutes."""
    all_usual = {"running": {}, "queued": {}, "ended": {FAST: usual()}, "slots": 50}

    assert time_left(**{**all_usual, **given}) == left


def played(durations: Sequence[float], slots: int) -> float:
    """When the last of these ends, if each begins where one ends."""
    ends = [0.0] * slots
    for duration in durations:
        heapq.heappush(ends, heapq.heappop(ends) + duration)
    return max(ends)


@pytest.mark.parametrize(
    ("jobs", "slots", "within"),
    [(50, 50, 0.2), (400, 50, 0.08), (3_000, 1_000, 0.08), (20_000, 300, 0.03)],
)
def test_it_says_what_comes(jobs: int, slots: int, within: float) -> None:
    """Close to what happens where durations differ; which is the last is a matter of luck."""
    chance = random.Random(jobs)
    seen = [max(30.0, chance.gauss(120, 25)) for _ in range(ENOUGH)]
    comes = played([max(30.0, chance.gauss(120, 25)) for _ in range(jobs)], slots)
    said = time_left(running={}, queued={FAST: jobs}, ended={FAST: seen}, slots=slots).seconds

    assert said == pytest.approx(comes, rel=within)


def test_the_first_to_end_do_not_make_all_look_quick() -> None:
    """Nothing is claimed before half have ended; then most are known to take longer."""
    chance = random.Random(7)
    lives = sorted(max(30.0, chance.gauss(120, 25)) for _ in range(100))
    quick, now = lives[:11], lives[10]

    early = time_left(running={FAST: [now] * 89}, queued={}, ended={FAST: quick}, slots=100)
    later = time_left(
        running={FAST: [lives[60]] * 39, SLOW: [0.0]}, queued={}, ended={FAST: lives[:61]}, slots=99
    )

    assert early == Left(None)
    assert later.seconds == pytest.approx(lives[60], rel=0.4)
    assert Lives.of(quick).left(0, 0.5) == quick[5]


def test_a_rare_kind_does_not_keep_all_from_being_known() -> None:
    """It is taken to be like all together until half of its tasks have ended."""
    left = time_left(
        running={SLOW: [60.0] * 3}, queued={}, ended={FAST: usual(), SLOW: [50.0]}, slots=9
    )

    assert left.seconds == pytest.approx(60)


def test_late_tasks_free_their_slots_some_time() -> None:
    """What waits behind them begins then; so one that ended early says nothing absurd."""
    left = time_left(
        running={FAST: [500.0] * 50}, queued={FAST: 1}, ended={FAST: usual()}, slots=50
    )

    assert left.late == 50
    assert left.seconds is not None
    assert 120 < left.seconds < 240


def test_of_many_the_last_tell_enough() -> None:
    """What still runs beside them would make all look slow: it is of another time."""
    ended = [100.0, 140.0] * (ENOUGH // 2)
    left = time_left(running={FAST: [99.0] * 800}, queued={}, ended={FAST: ended}, slots=800)

    assert left == Left(41.0)


def test_a_large_batch_is_no_more_work_than_a_small_one() -> None:
    """A million jobs in 10,000 slots come to what a thousand in ten do."""
    ages = [float(age % 120) for age in range(10_000)]
    large = time_left(
        running={FAST: ages}, queued={FAST: 1_000_000}, ended={FAST: usual()}, slots=10_000
    ).seconds

    assert large == pytest.approx(100 * 120 + 120, rel=0.02)
