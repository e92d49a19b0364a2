"""How often callbacks get lost, and how looks follow from that."""

import pytest

from apixo_async.polling import Look
from apixo_async.polling.arrivals import LEAST, Arrivals
from apixo_async.polling.pacing import OVERDUE, Pacer
from tests.polling.test_pacing import FAST, SCHEDULE, pacer_with


def told(pacer: Pacer, *, now: float, age: float) -> Look:
    """A watched task of this age whose callback is expected."""
    look = Look(FAST, SCHEDULE, now - age, is_told=True, since=age, is_first=False)
    pacer.watch(look)
    return look


def end(pacer: Pacer, *, was_told: bool, late: float, now: float = 10_000.0) -> None:
    """A two-minute task is seen to have ended, so much later."""
    look = Look(FAST, SCHEDULE, now - 120.0 - late, is_told=True)
    pacer.watch(look)
    pacer.saw(look, now=now, has_ended=True, duration=120.0, was_told=was_told)
    pacer.leave(look)


def pause_of(pacer: Pacer, age: float) -> float:
    """When a told task of this age is to be looked at."""
    look = told(pacer, now=20_000.0, age=age)
    pause = pacer.pause(look, now=20_000.0, unit=0.5)
    pacer.leave(look)
    assert pause is not None
    return pause


def test_before_anything_is_known_few_get_lost() -> None:
    """One in twenty, as a guess."""
    assert Arrivals().lost == pytest.approx(1 / 20)


@pytest.mark.parametrize(("was_told", "lost"), [(True, 0.0), (False, 1.0)])
def test_one_end_counts_as_one_and_the_past_a_little_less(was_told: bool, lost: float) -> None:
    """A two-hundredth of the past is forgotten with each."""
    arrivals, past = Arrivals(), 1 - 1 / 200
    arrivals.saw(was_told=was_told)

    assert arrivals.lost == pytest.approx((past + lost) / (20 * past + 1))


@pytest.mark.parametrize(("one_in", "lost"), [(1, 1.0), (2, 0.5), (5, 0.2)])
def test_what_gets_lost_is_learned(one_in: int, lost: float) -> None:
    """By counting who told of the end."""
    arrivals = Arrivals()
    for number in range(2_000):
        arrivals.saw(was_told=number % one_in != 0)

    assert arrivals.lost == pytest.approx(lost, abs=0.03)


def test_nothing_lost_is_not_quite_believed() -> None:
    """What is lost is seen last."""
    arrivals = Arrivals()
    for _ in range(2_000):
        arrivals.saw(was_told=True)

    assert arrivals.lost == LEAST == 0.03


def test_a_service_that_begins_to_lose_them_is_noticed() -> None:
    """The past counts less and less."""
    arrivals = Arrivals()
    for number in range(2_000):
        arrivals.saw(was_told=number < 1_500)

    assert arrivals.lost > 0.8


def test_a_task_whose_callback_is_expected_is_left_alone() -> None:
    """At an age at which most still run, nobody looks; without callbacks they do."""
    pacer = pacer_with()
    polled = Look(FAST, SCHEDULE, 20_000.0 - 110.0, since=110.0, is_first=False)
    pacer.watch(polled)
    pause = pacer.pause(polled, now=20_000.0, unit=0.5)

    assert pause is not None
    assert pause < 10
    assert pause_of(pacer, 110.0) > 20


def test_an_overdue_task_is_looked_at_within_a_minute_or_two() -> None:
    """A lost callback costs one look, and not the deadline."""
    pacer = pacer_with()

    assert pause_of(pacer, 300.0) == OVERDUE * SCHEDULE.interval == 60.0
    assert pause_of(pacer, 0.0) <= 130 + OVERDUE * SCHEDULE.interval


def test_where_they_get_lost_looks_come_earlier() -> None:
    """Down to what they would be without any callbacks."""
    pauses: list[float] = []
    for one_in in (1_000, 5, 1):
        pacer = pacer_with()
        for number in range(400):
            is_lost = number % one_in == one_in - 1
            end(pacer, was_told=not is_lost, late=30.0 if is_lost else 0.5)
        pauses.append(pause_of(pacer, 110.0))

    assert pauses[0] > 1.5 * pauses[1] > 2 * pauses[2]


def test_a_look_that_was_only_quicker_says_nothing_of_losses() -> None:
    """The callback of a task that has just ended may be on its way."""
    pacer = pacer_with()
    before = pause_of(pacer, 110.0)
    for _ in range(20):
        end(pacer, was_told=False, late=2.0)

    assert pause_of(pacer, 110.0) == pytest.approx(before, rel=0.1)


def test_the_moment_of_a_callback_is_that_of_the_end() -> None:
    """Where the API tells no times, a task that was told has ended just now."""
    pacer = pacer_with(hump=60.0)
    known = pacer.ends_of(FAST, SCHEDULE)
    for _ in range(6_000):
        look = Look(FAST, SCHEDULE, 0.0, is_told=True)
        pacer.watch(look)
        pacer.saw(look, now=120.0, has_ended=True, duration=None, was_told=True)
        pacer.leave(look)
    known.root(0.0)

    assert known.lifetime == pytest.approx(120, abs=8)
