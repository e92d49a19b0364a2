import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.polling import Ends
from apixo_async.polling.ends import BINS, ENOUGH, MEMORY
from tests.polling.by_hand import EDGES, TableByHand

INTERVAL = 5.0
LOOK_EVERY = 10.0


def watch_one(ends: Ends, duration: float, *, is_told: bool = True, every: float = 0) -> None:
    """A task is looked at again and again until it has ended."""
    every = every or LOOK_EVERY
    since, age = 0.0, every
    while age < duration:
        ends.saw_alive(since, age)
        since, age = age, age + every
    ends.saw_end(since, age, at=duration if is_told else None)


def learned(
    *humps: float, count: int = 2_000, is_told: bool = True, ends: Ends | None = None
) -> Ends:
    """What is known after many tasks that took about as long as one of `humps`."""
    rng = random.Random(7)
    ends = ends or Ends(INTERVAL)
    for _ in range(count):
        watch_one(ends, rng.choice(humps) * rng.lognormvariate(0, 0.1), is_told=is_told)
    return ends


def test_nothing_is_known_before_enough_tasks_have_ended() -> None:
    """A few may be anything; then the table is relied on."""
    ends = Ends(INTERVAL)
    for number in range(ENOUGH):
        assert not ends.is_known, number
        watch_one(ends, 120)

    assert ends.is_known


@pytest.mark.parametrize("is_told", [True, False], ids=["own times", "looks only"])
def test_looks_are_urgent_where_tasks_end(is_told: bool) -> None:
    """By the API's own times, or by the looks between which they must have ended."""
    ends = learned(120, is_told=is_told)

    assert ends.root(120) > 10 * ends.root(40)
    assert 80 < ends.due(0, 0.5) < 110
    assert ends.due(120, 0.5) < 123


def test_two_humps_are_two_places_to_look() -> None:
    """Between them there is little to see."""
    ends = learned(60, 180)

    assert ends.root(110) < ends.root(60) / 4
    assert ends.root(110) < ends.root(180) / 4


def test_a_hazard_is_that_of_those_who_are_left() -> None:
    """Half end at 60 s, so their chance there is a half; of the rest all end at 180 s."""
    ends = learned(60, 180, count=4_000)

    assert ends.root(200) > 1.3 * ends.root(60)


def test_tasks_that_still_run_are_no_quick_ones() -> None:
    """Of a hundred tasks five have ended early; that the others have not is known as well."""
    few, many = Ends(INTERVAL), Ends(INTERVAL)
    for _ in range(ENOUGH):
        watch_one(few, 30)
        watch_one(many, 30)
        for _ in range(19):
            many.saw_alive(0, 60)

    assert many.root(30) < few.root(30) / 3


def test_what_was_never_asked_is_a_guess() -> None:
    """Until the table is made, a life is an interval, and nothing comes together in it."""
    ends = Ends(INTERVAL)

    assert (ends.typical, ends.lifetime, ends.seen) == (0.0, INTERVAL, 0)


def test_the_floor_of_attention_is_kept_where_nobody_was_seen() -> None:
    """A task of an age that none had before is looked at, though not often."""
    ends = learned(120)

    assert ends.root(1_500) == pytest.approx((1 / 60 / INTERVAL) ** 0.5, rel=0.05)
    assert ends.root(1e9) > 0


def test_a_service_that_got_faster_is_learned_anew() -> None:
    """After as many ends as are remembered, looks go where tasks end now.

    What became of the few that got old is still known, and of no use to those that never do.
    """
    ends = learned(120, count=5_000)
    before = ends.root(60)
    learned(60, count=MEMORY, ends=ends)

    assert ends.root(60) > 50 * before
    assert ends.root(60) > 20 * ends.root(40)
    assert ends.root(80) < ends.root(60) / 3


def test_the_same_history_gives_the_same_answers() -> None:
    """There is neither clock nor chance in it."""
    one, other = learned(70, 165), learned(70, 165)

    assert [one.due(age, 1.0) for age in range(400)] == [other.due(age, 1.0) for age in range(400)]


def test_a_long_history_stays_in_bounds() -> None:
    """Weights that grow are cut back before they lose their last digits."""
    ends = Ends(INTERVAL)
    for _ in range(30 * MEMORY):
        ends.saw_end(100.0, 125.0, at=120.0)

    assert ends._weight <= 1e9
    assert 0 < ends.root(120) < 10
    assert ends.typical < 100


AGES = st.floats(0, 3_000, allow_nan=False)
HISTORIES = st.lists(st.tuples(AGES, AGES, st.none() | AGES), max_size=60)


PRICES = st.floats(1e-3, 100)


@given(history=HISTORIES, age=AGES, price=PRICES, more=st.floats(1.01, 10))
def test_a_dearer_look_comes_later(
    history: list[tuple[float, float, float | None]], age: float, price: float, more: float
) -> None:
    """Whatever was seen: the next look is ahead, and later the more it costs."""
    ends = Ends(INTERVAL)
    for since, seen, at in history:
        ends.saw_alive(min(since, seen), max(since, seen))
        ends.saw_end(min(since, seen), max(since, seen), at=at)

    due = ends.due(age, price)
    assert age < due < math.inf
    assert ends.due(age, price * more) >= due - 1e-6


def expected_delay(ends: Ends, age: float, due: float, *, steps: int = 20_000) -> float:
    """What `due` is said to make worth the price, summed up by hand."""
    step = (due - age) / steps
    hazard = delay = 0.0
    for number in range(steps):
        hazard += ends.root(age + (number + 0.5) * step) ** 2 * step
        delay += -math.expm1(-hazard) * step
    return delay


@pytest.mark.parametrize("age", [0.0, 60.0, 100.0, 119.0, 150.0, 300.0])
@pytest.mark.parametrize("price", [0.2, 1.0, 5.0])
def test_a_look_is_due_when_the_delay_to_be_expected_is_worth_it(age: float, price: float) -> None:
    """Half the square of the price, on a steady hazard or over a hump, to the grain of the bins."""
    ends = learned(120)
    due = ends.due(age, price)

    assert expected_delay(ends, age, due) == pytest.approx(price**2 / 2, rel=0.15)


def test_a_moment_at_which_nearly_all_end_is_not_forgotten() -> None:
    """Whoever lived up to it is looked at soon after, though hardly anything happens later."""
    ends = Ends(INTERVAL)
    for _ in range(500):
        watch_one(ends, 120.0)

    assert 117 < ends.due(100, 2.0) < 126
    assert ends.due(100, 5.0) < 140


@given(interval=st.floats(1e-3, 1e4), age=st.floats(0, 1e6))
def test_any_scale_of_time_will_do(interval: float, age: float) -> None:
    """The bins follow the schedule's interval, so that short ones work as well."""
    ends = Ends(interval)
    ends.saw_end(0.0, age, at=None)

    assert ends.root(age) > 0
    assert ends.due(age, 1.0) > age


def both(seed: int, count: int) -> tuple[Ends, TableByHand]:
    """The table and the one done by hand, after the same looks at some tasks."""
    rng = random.Random(seed)
    ends, by_hand = Ends(INTERVAL), TableByHand()
    for _ in range(count):
        duration = rng.choice([0.09, 1.0, 60.0, 130.0, 700.0, 2_500.0]) * rng.lognormvariate(0, 0.2)
        since, age = 0.0, rng.uniform(0.05, 60)
        while age < duration:
            ends.saw_alive(since, age)
            by_hand.saw_alive(since, age)
            since, age = age, age + rng.expovariate(1 / 40)
        at = rng.choice([duration, None, since - 1, age + 1])
        ends.saw_end(since, age, at=at)
        by_hand.saw_end(since, age, at)
    return ends, by_hand


SOME_AGES = [0.0, 0.05, 0.104, 0.3, 1.5, 17.0, 59.0, 61.0, 117.0, 150.0, 700.0, 1_990.0, 9e3]


@pytest.mark.parametrize("count", [1, 30, 400])
def test_the_table_is_what_its_definition_says(count: int) -> None:
    """Urgency, mean life and what comes together in it, bin by bin, are as done by hand."""
    ends, by_hand = both(count, count)
    roots = [ends.root(age) for age in SOME_AGES]

    assert len(EDGES) == BINS + 1
    assert roots == pytest.approx([math.sqrt(by_hand.hazard(age)) for age in SOME_AGES])
    assert ends.lifetime == pytest.approx(by_hand.lifetime())
    assert ends.typical == pytest.approx(by_hand.typical())


@pytest.mark.parametrize("price", [0.003, 0.1, 1.0, 4.0, 9.0, 40.0])
@pytest.mark.parametrize("age", SOME_AGES[:-1])
def test_a_look_is_due_exactly_when_its_delay_is_worth_the_price(age: float, price: float) -> None:
    """At the age that is given the delay is half the square of the price.

    Within its own bin, where a steady hazard is taken to hold, after price / sqrt(hazard) seconds;
    and not before the end of that bin if it is later.
    """
    ends, by_hand = both(5, 300)
    due, end = ends.due(age, price), EDGES[sum(edge <= age for edge in EDGES)]
    in_own_bin = age + price / math.sqrt(by_hand.hazard(age))

    if in_own_bin <= end or by_hand.delay(age, end) >= price**2 / 2:
        assert due == pytest.approx(min(in_own_bin, end))
    elif due < EDGES[-2]:
        assert by_hand.delay(age, due) == pytest.approx(price**2 / 2, rel=1e-6)
    else:
        assert by_hand.delay(age, EDGES[-2]) <= price**2 / 2 + 1e-6


@pytest.mark.parametrize("age", [EDGES[-2] + 0.1, EDGES[-1] - 0.1, EDGES[-1] + 0.1, 9e3])
def test_in_the_last_bin_the_hazard_stays_what_it_is(age: float) -> None:
    """It has no end, so a look is due after price / sqrt(hazard) seconds."""
    ends, by_hand = both(5, 300)

    assert ends.due(age, 20.0) == pytest.approx(age + 20 / math.sqrt(by_hand.hazard(age)))


@pytest.mark.parametrize(
    ("seen", "until"), [(3, 1), (8, 2), (11, 2), (100, 25), (256, 64), (1_000, 64)]
)
def test_what_was_seen_counts_soon(seen: int, until: int) -> None:
    """The table is made anew after a quarter more ends, and after 64 in any case."""
    ends = learned(120, count=seen)
    before = ends.root(300)
    for _ in range(until - 1):
        watch_one(ends, 300)

    assert ends.root(300) == before
    watch_one(ends, 300)
    assert ends.root(300) > before


def test_weights_that_are_cut_back_change_no_answer() -> None:
    """What has been seen again and again for long is known as well before as after."""
    ends = Ends(INTERVAL)
    answers: list[list[float]] = []
    for _ in range(3):
        for _ in range(10 * MEMORY):
            ends.saw_alive(0.0, 100.0)
            ends.saw_end(100.0, 125.0, at=120.0)
            ends.saw_alive(0.0, 290.0)
            ends.saw_end(290.0, 310.0, at=300.0)
        ends.root(0.0)
        answers.append([ends.root(age) for age in (50.0, 120.0, 300.0)])

    for later in answers[1:]:
        assert later == pytest.approx(answers[0], rel=1e-3)


@pytest.mark.parametrize("price", [1e-9, 1e-8, 1e-7])
def test_the_end_of_a_bin_is_no_place_to_get_stuck(price: float) -> None:
    """However near it is and however cheap a look, the next one is due there or soon after."""
    ends = learned(120)
    for edge in EDGES[100:300]:
        due = ends.due(math.nextafter(edge, 0.0), price)

        assert edge - 1e-9 <= due <= edge + 1e-3, "but for rounding"


def test_an_age_that_surely_nobody_reaches_has_an_answer() -> None:
    """Where the part that is alive is too small for a number, the end of the bin is soon enough."""
    ends = Ends(INTERVAL)
    middles = [(a + b) / 2 for a, b in itertools.pairwise(EDGES)]
    for middle in middles * 50:
        ends.saw_end(middle, middle, at=middle)

    assert ends.due(middles[-2], 50.0) == pytest.approx(EDGES[-2])
