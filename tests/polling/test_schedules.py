import math
import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.errors import InvalidSettingError
from apixo_async.polling import LearnedSchedule, PollSchedule, next_look, stretched_interval

DOCUMENTED = PollSchedule()
ALMOST_ONE = math.nextafter(1.0, 0.0)


def look(
    *,
    looks: int = 1,
    failures: int = 0,
    age: float | None = 100.0,
    interval: float = 5.0,
    unit: float = 0.5,
    schedule: PollSchedule = DOCUMENTED,
) -> float:
    """The next look, in the middle of its jitter unless something else is asked for."""
    return next_look(
        schedule, looks=looks, failures=failures, age=age, interval=interval, unit=unit
    )


def test_the_defaults_are_the_documented_schedule() -> None:
    """90 s, then every 5 s, as the page says; a wait ends after half an hour."""
    assert attrs.asdict(DOCUMENTED) == {
        "first": 90.0,
        "interval": 5.0,
        "jitter": 0.1,
        "deadline": 1_800.0,
    }


def test_a_lost_task_frees_its_slot_in_the_end() -> None:
    """A slot is held for twice the deadline, and 600 s for a submit that may never have been."""
    assert DOCUMENTED.slot_lifetime == 3_600.0
    assert DOCUMENTED.uncertain_hold == 600.0


@pytest.mark.parametrize(
    ("age", "unit", "expected"),
    [
        (0.0, 0.0, 90.0),
        (0.0, 0.5, 92.5),
        (0.0, ALMOST_ONE, 95.0),
        (10.0, 0.0, 80.0),
        (89.0, 0.5, 3.5),
        (92.0, 0.5, 0.5),
    ],
    ids=["new", "new, middle", "new, latest", "10 s old", "nearly due", "within the jitter"],
)
def test_the_first_look_comes_90_seconds_after_the_submit(
    age: float, unit: float, expected: float
) -> None:
    """It comes 90 to 95 s after the submit, so that a burst of submits is no burst of looks."""
    assert look(looks=0, age=age, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("age", [95.0, 100.0, 1e6])
@pytest.mark.parametrize(("unit", "expected"), [(0.0, 0.0), (0.5, 2.5), (ALMOST_ONE, 5.0)])
def test_overdue_tasks_are_looked_at_within_one_interval(
    age: float, unit: float, expected: float
) -> None:
    """After a restart all tasks are overdue: they are spread over one interval, none waits 90 s."""
    assert look(looks=0, age=age, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", [0.0, 0.5, ALMOST_ONE])
def test_a_foreign_task_is_looked_at_at_once(unit: float) -> None:
    """Nobody knows the age of a task that somebody else submitted: nothing to wait for."""
    assert look(looks=0, age=None, unit=unit) == 0.0


@pytest.mark.parametrize("age", [None, 0.0, 100.0, 1e6])
@pytest.mark.parametrize("looks", [1, 2, 1_000])
@pytest.mark.parametrize(("unit", "expected"), [(0.0, 4.5), (0.5, 5.0), (ALMOST_ONE, 5.5)])
def test_further_looks_come_every_5_seconds(
    looks: int, age: float | None, unit: float, expected: float
) -> None:
    """From the second look on only the interval counts, a tenth more or less."""
    assert look(looks=looks, age=age, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(0, 5.0), (1, 10.0), (2, 20.0), (3, 40.0), (4, 60.0), (5, 60.0), (12, 60.0), (10**6, 60.0)],
)
def test_failed_looks_are_spaced_out_up_to_a_minute(failures: int, expected: float) -> None:
    """Each failure in a row doubles the pause, up to twelve intervals; a good one ends that."""
    assert expected == look(looks=7, failures=failures)


def test_a_stretched_interval_counts_everywhere() -> None:
    """Where many tasks share the rate, the wider interval spreads first and further looks."""
    assert look(looks=0, age=0.0, interval=8.0, unit=0.5) == 94.0
    assert look(looks=0, age=200.0, interval=8.0, unit=0.5) == 4.0
    assert look(looks=3, interval=8.0) == 8.0
    assert look(looks=3, interval=8.0, failures=1) == 16.0


@pytest.mark.parametrize(
    ("interval", "expected"), [(5.0, 60.0), (8.0, 60.0), (59.0, 60.0), (60.0, 60.0), (200.0, 200.0)]
)
def test_many_tasks_come_back_from_an_outage_as_soon_as_one(
    interval: float, expected: float
) -> None:
    """An interval that is stretched is no longer stretched twelvefold: a minute, or itself."""
    assert look(looks=3, interval=interval, failures=20) == expected


@pytest.mark.parametrize(
    ("tasks", "polls_per_second", "expected"),
    [
        (1_000, 10_000 / 60, 6.0),
        (1_000, 0.6 * 10_000 / 60, 10.0),
        (500, 0.6 * 10_000 / 60, 5.0),
        (833, 10_000 / 60, 5.0),
        (1, 100.0, 5.0),
        (0, 100.0, 5.0),
        (10, 1.0, 10.0),
        (3, 0.1, 30.0),
    ],
    ids=[
        "1,000 tasks at 10,000 a minute",
        "1,000 tasks at 60 % of that",
        "500 tasks at 60 %",
        "833 tasks just fit",
        "one task",
        "no task",
        "10 tasks at 60 a minute",
        "3 tasks at 6 a minute",
    ],
)
def test_an_interval_is_stretched_to_what_fits(
    tasks: int, polls_per_second: float, expected: float
) -> None:
    """Tasks are looked at as often as the rate allows, and never more often than asked."""
    actual = stretched_interval(5.0, tasks=tasks, polls_per_second=polls_per_second)

    assert actual == pytest.approx(expected)


def test_the_documented_advice_breaks_the_documented_limit() -> None:
    """1,000 tasks every 5 s would be 12,000 requests a minute; stretched they are 10,000."""
    interval = stretched_interval(5.0, tasks=1_000, polls_per_second=10_000 / 60)

    assert 1_000 * 60 / 5.0 == 12_000
    assert 1_000 * 60 / interval == pytest.approx(10_000)


@given(tasks=st.integers(0, 10**6), rate=st.floats(0.001, 1e4), interval=st.floats(0.01, 600))
def test_no_number_of_tasks_exceeds_the_rate(tasks: int, rate: float, interval: float) -> None:
    """At the stretched interval the looks of all tasks together fit into the rate."""
    stretched = stretched_interval(interval, tasks=tasks, polls_per_second=rate)

    assert stretched >= interval
    assert tasks / stretched <= rate * (1 + 1e-9)


@settings(max_examples=200)
@given(
    schedule=st.builds(
        PollSchedule,
        first=st.floats(0, 1e4),
        interval=st.floats(1e-3, 1e4),
        jitter=st.floats(0, 5),
    ),
    looks=st.integers(0, 5),
    failures=st.integers(0, 10**9),
    age=st.none() | st.floats(0, 1e7),
    unit=st.floats(0, 1, exclude_max=True),
)
def test_no_look_lies_in_the_past_or_far_away(
    schedule: PollSchedule, looks: int, failures: int, age: float | None, unit: float
) -> None:
    """Whatever the numbers, the next look is at most a first wait or 24 intervals away."""
    pause = look(
        schedule=schedule,
        looks=looks,
        failures=failures,
        age=age,
        interval=schedule.interval,
        unit=unit,
    )

    assert 0 <= pause <= max(schedule.first + schedule.interval, 24 * schedule.interval)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("first", -1, "at least 0"),
        ("first", math.nan, "at least 0"),
        ("first", math.inf, "at least 0"),
        ("first", "90", "at least 0"),
        ("first", None, "at least 0"),
        ("first", True, "at least 0"),
        ("interval", 0, "at least 0.001"),
        ("interval", -5.0, "at least 0.001"),
        ("interval", math.inf, "at least 0.001"),
        ("interval", "5", "at least 0.001"),
        ("interval", 1e-307, "at least 0.001"),
        ("jitter", -0.1, "at least 0"),
        ("jitter", math.nan, "at least 0"),
        ("deadline", 0, "above 0"),
        ("deadline", math.inf, "above 0"),
        ("deadline", None, "above 0"),
    ],
)
def test_a_senseless_setting_is_named(field: str, value: object, rule: str) -> None:
    """A schedule out of its range cannot be built; the error names field, rule and value."""
    message = re.escape(f"{field} must be {rule} seconds, got {value!r}")
    with pytest.raises(InvalidSettingError, match=f"^{message}$"):
        PollSchedule(**{field: value})  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "changes",
    [{"first": 0}, {"first": 0.0, "interval": 0.05}, {"jitter": 0}, {"deadline": 0.001}],
    ids=repr,
)
def test_a_fast_schedule_is_allowed(changes: dict[str, float]) -> None:
    """Tests and other models may look early and often; whole numbers are fine."""
    schedule = PollSchedule(**changes)

    assert changes == {name: getattr(schedule, name) for name in changes}


def test_a_schedule_without_jitter_is_exact() -> None:
    """With a jitter of 0 further looks come to the second."""
    exact = PollSchedule(jitter=0)

    assert {look(schedule=exact, unit=unit) for unit in (0.0, 0.3, ALMOST_ONE)} == {5.0}


def test_a_jitter_above_1_counts_as_1() -> None:
    """A pause is never negative: the widest spread is from 0 to twice the interval."""
    wild = PollSchedule(jitter=3)

    assert look(schedule=wild, unit=0.0) == 0.0
    assert look(schedule=wild, unit=ALMOST_ONE) == pytest.approx(10.0)


def test_a_learned_schedule_begins_as_another_one() -> None:
    """It takes over all numbers of a plain one; one that learns already is left as it is."""
    plain = PollSchedule(first=1.0, interval=2.0, jitter=0.3, deadline=4.0)
    learned = LearnedSchedule(first=1.0, share=0.5)

    expected = LearnedSchedule(first=1.0, interval=2.0, jitter=0.3, deadline=4.0)
    assert LearnedSchedule.beginning_as(plain) == expected
    assert LearnedSchedule.beginning_as(learned) is learned


def test_the_defaults_of_a_learned_schedule_are_the_documented_ones_and_its_own() -> None:
    """Nine tenths of the rate, a second between two looks, thirty looks on average."""
    own = {"share": 0.9, "shortest": 1.0, "most_looks": 30.0}

    assert attrs.asdict(LearnedSchedule()) == attrs.asdict(DOCUMENTED) | own


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("share", 0, "above 0 and at most 1"),
        ("share", 1.01, "above 0 and at most 1"),
        ("share", math.nan, "above 0 and at most 1"),
        ("share", True, "above 0 and at most 1"),
        ("share", "1", "above 0 and at most 1"),
        ("shortest", 0, "at least 0.001 seconds"),
        ("most_looks", 0.9, "at least 1"),
        ("most_looks", math.inf, "at least 1"),
        ("most_looks", True, "at least 1"),
        ("most_looks", None, "at least 1"),
    ],
)
def test_a_senseless_setting_of_a_learned_schedule_is_named(
    field: str, value: object, rule: str
) -> None:
    """As those of the plain one are."""
    message = re.escape(f"{field} must be {rule}, got {value!r}")
    with pytest.raises(InvalidSettingError, match=f"^{message}$"):
        LearnedSchedule(**{field: value})  # type: ignore[arg-type]  # that is the point


def test_the_bounds_of_a_learned_schedule_are_allowed() -> None:
    """All of the rate, and no more than one look a task."""
    bounds = LearnedSchedule(share=1, most_looks=1)

    assert (bounds.share, bounds.most_looks) == (1, 1)
