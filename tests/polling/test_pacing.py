import heapq
import math
import random

import pytest

from apixo_async.polling import LearnedSchedule, Look, Pacer
from apixo_async.polling.pacing import LONGEST
from tests.polling.by_hand import INTERVAL, PriceByHand
from tests.polling.test_ends import watch_one

FAST = ("veo-3-1", "fast")
SCHEDULE = LearnedSchedule()
RATE = 150.0


def pacer_with(*, rate: float = RATE, hump: float = 120.0) -> Pacer:
    """One that has seen many tasks of about this duration."""
    pacer = Pacer(lambda share: share * rate)
    rng = random.Random(3)
    ends = pacer.ends_of(FAST, SCHEDULE)
    for _ in range(3_000):
        watch_one(ends, hump * rng.lognormvariate(0, 0.25))
    return pacer


def watched(
    pacer: Pacer, ages: list[float], now: float, schedule: LearnedSchedule = SCHEDULE
) -> list[Look]:
    """Tasks of these ages that were looked at before."""
    looks = [Look(FAST, schedule, now - age, since=age, is_first=False) for age in ages]
    for look in looks:
        pacer.watch(look)
    return looks


def pauses(pacer: Pacer, looks: list[Look], now: float) -> list[float]:
    """What each of them is told."""
    told = [pacer.pause(look, now=now, unit=0.5) for look in looks]
    assert None not in told
    return [pause for pause in told if pause is not None]


def steady_ages(count: int) -> list[float]:
    """Ages of tasks as they are found in a batch that has run for a while."""
    rng = random.Random(5)
    ages: list[float] = []
    while len(ages) < count:
        duration, age = 120 * rng.lognormvariate(0, 0.25), rng.uniform(0, 400)
        if age < duration:
            ages.append(age)
    return ages


def test_a_kind_that_is_not_known_has_no_answer_yet() -> None:
    """Then the documented schedule counts."""
    pacer = pacer_with()
    look = Look(("veo-3-1", "quality"), SCHEDULE, 0.0)
    pacer.watch(look)

    assert pacer.pause(look, now=100.0, unit=0.5) is None


def test_a_kind_is_known_once_enough_of_it_have_ended() -> None:
    """As long as the task is watched."""
    pacer = Pacer(lambda share: share * RATE)
    look = Look(FAST, SCHEDULE, 0.0)
    unknown = pacer.knows(look)
    pacer.watch(look)
    known: list[bool] = []
    for _ in range(20):
        known.append(pacer.knows(look))
        watch_one(pacer.ends_of(FAST, SCHEDULE), 120)

    assert unknown is False
    assert known == [False] * 20
    assert pacer.knows(look)
    pacer.leave(look)
    assert not pacer.knows(look)


def test_what_is_not_watched_has_no_answer() -> None:
    """It takes no part in the rate."""
    pacer = pacer_with()
    (look,) = watched(pacer, [100.0], 1_000.0)
    pacer.leave(look)

    assert pacer.pause(look, now=1_000.0, unit=0.5) is None


def looks_a_second(tasks: int, *, rate: float, seconds: float = 600.0) -> float:
    """What so many tasks use, each of which is followed by another when it was seen to end."""
    pacer = pacer_with(rate=rate)
    rng = random.Random(9)
    due: list[tuple[float, int, Look, float]] = []
    count, done = 0, 0
    now = 0.0

    def schedule_next(look: Look, ends_at: float) -> None:
        pause = pacer.pause(look, now=now, unit=rng.random())
        assert pause is not None
        heapq.heappush(due, (now + pause, rng.getrandbits(60), look, ends_at))

    def begin() -> None:
        look = Look(FAST, SCHEDULE, now)
        pacer.watch(look)
        schedule_next(look, now + 120 * rng.lognormvariate(0, 0.25))

    for number in range(tasks):
        now = number * 120 / tasks
        begin()
    while due[0][0] < seconds:
        now, _, look, ends_at = heapq.heappop(due)
        done += now > seconds / 2
        count += 1
        pacer.saw(look, now=now, has_ended=now >= ends_at, duration=ends_at - look.born)
        if now < ends_at:
            schedule_next(look, ends_at)
        else:
            pacer.leave(look)
            begin()
    return done / (seconds / 2)


@pytest.mark.parametrize(("tasks", "rate"), [(300, 10.0), (300, 20.0), (300, 40.0), (30, 1.0)])
def test_all_tasks_together_use_the_rate_that_is_there(tasks: int, rate: float) -> None:
    """Whoever is likely to end is looked at more often, and the sum of it all is the budget."""
    used = looks_a_second(tasks, rate=rate)

    assert used == pytest.approx(SCHEDULE.share * rate, rel=0.15)


def test_more_rate_than_is_of_use_is_left_alone() -> None:
    """Beyond some looks a task there is little to gain."""
    used = looks_a_second(100, rate=1e6)

    assert used < 1.1 * SCHEDULE.most_looks * 100 / 120


def test_a_look_comes_sooner_where_the_end_is_likely() -> None:
    """A young task can wait."""
    now = 10_000.0
    pacer = pacer_with()
    watched(pacer, steady_ages(1_000), now)
    young, ripe = pauses(pacer, watched(pacer, [5.0, 125.0], now), now)

    assert young > 5 * ripe
    assert 50 < young < 120


def test_no_task_is_looked_at_again_within_a_second() -> None:
    """However much rate there is."""
    now = 10_000.0
    greedy = LearnedSchedule(most_looks=1e6)
    pacer = pacer_with(rate=1e6)
    looks = watched(pacer, [float(age) for age in range(1, 400)], now, greedy)

    assert min(pauses(pacer, looks, now)) == 1.0


def test_a_shorter_interval_is_the_users_wish() -> None:
    """Whoever asks for looks every tenth of a second may have them."""
    assert LearnedSchedule(interval=0.1).shortest_pause == 0.1
    assert LearnedSchedule(shortest=3.0).shortest_pause == 3.0


def test_a_jitter_above_the_whole_is_the_whole() -> None:
    """However wild the jitter, hardly any look comes at the shortest pause because of it."""
    wild = LearnedSchedule(jitter=5.0)
    pacer = pacer_with()
    looks = watched(pacer, steady_ages(300), 1_000.0, wild)
    rng = random.Random(1)
    told = [pacer.pause(look, now=1_000.0, unit=rng.random()) or 0.0 for look in looks]

    assert sum(pause <= wild.shortest_pause for pause in told) < 0.25 * len(told)


def test_a_single_task_is_not_looked_at_without_need() -> None:
    """With all the rate for itself it still gets about as many looks as it may on average."""
    pacer = pacer_with(rate=1e6)
    rng = random.Random(1)
    counts: list[int] = []
    for _ in range(300):
        duration = 120 * rng.lognormvariate(0, 0.25)
        look = Look(FAST, SCHEDULE, 0.0)
        pacer.watch(look)
        age, looks = 0.0, 0
        while age < duration:
            pause = pacer.pause(look, now=age, unit=rng.random())
            assert pause is not None
            age, looks = age + pause, looks + 1
        pacer.leave(look)
        counts.append(looks)

    assert sum(counts) / len(counts) < SCHEDULE.most_looks + 2


def test_tasks_submitted_together_are_not_looked_at_together() -> None:
    """Their first looks are spread over all of what one look is worth."""
    now = 10_000.0
    pacer = pacer_with()
    watched(pacer, steady_ages(1_000), now)
    looks = [Look(FAST, SCHEDULE, now) for _ in range(100)]
    firsts: list[float] = []
    for number, look in enumerate(looks):
        pacer.watch(look)
        first = pacer.pause(look, now=now, unit=number / 100)
        assert first is not None
        firsts.append(first)

    assert firsts == sorted(firsts)
    assert len({round(first) for first in firsts}) > 10


def test_even_the_most_unlikely_end_is_looked_for() -> None:
    """When the service gets faster, somebody has to see it."""
    pacer = pacer_with(rate=0.5, hump=1_200.0)
    now = 10_000.0
    (pause,) = pauses(pacer, watched(pacer, [1.0], now), now)

    assert LONGEST * SCHEDULE.interval == 120
    assert pause <= 120


def test_tasks_of_unknown_kinds_have_their_part() -> None:
    """They are looked at by the documented schedule, and the known ones make room."""
    now = 10_000.0
    pacer = pacer_with()
    looks = watched(pacer, steady_ages(500), now)
    alone = sum(1 / pause for pause in pauses(pacer, looks, now))
    for _ in range(400):
        pacer.watch(Look(("other", None), SCHEDULE, now - 100))
    now += 2
    beside = sum(1 / pause for pause in pauses(pacer, looks, now))

    assert beside < 0.6 * alone


@pytest.mark.parametrize(
    ("duration", "is_believed"), [(50.0, True), (None, False), (2_400.0, False), (-5.0, False)]
)
def test_only_a_duration_that_can_be_is_believed(duration: float | None, is_believed: bool) -> None:
    """A task that was seen to have ended after 100 s did not take 40 minutes."""
    pacer = Pacer(lambda share: share * RATE)
    for _ in range(50):
        look = Look(FAST, SCHEDULE, 0.0)
        pacer.watch(look)
        pacer.saw(look, now=100.0, has_ended=True, duration=duration)
    ends = pacer.ends_of(FAST, SCHEDULE)

    assert (ends.root(50) > 4 * ends.root(80)) is is_believed


def test_what_is_known_stays_in_bounds() -> None:
    """A client used for ever more kinds than 256 forgets those it met first."""
    pacer = pacer_with()
    for number in range(255):
        pacer.ends_of((f"model-{number}", None), SCHEDULE)
    assert pacer.ends_of(FAST, SCHEDULE).is_known
    pacer.ends_of(("one more", None), SCHEDULE)

    assert not pacer.ends_of(FAST, SCHEDULE).is_known


NOW = 10_000.0
CROWDS = {
    "ages of a batch": (150.0, 1_000, 0),
    "less rate": (20.0, 1_000, 0),
    "beside others": (150.0, 1_000, 400),
    "beside too many others": (150.0, 1_000, 4_000),
    "few, who may have more": (150.0, 3, 0),
}


@pytest.mark.parametrize(("rate", "tasks", "others"), CROWDS.values(), ids=CROWDS)
@pytest.mark.parametrize("unit", [0.0, 0.3, 0.9])
def test_the_price_of_a_look_is_what_its_definition_says(
    rate: float, tasks: int, others: int, unit: float
) -> None:
    """It is that of all urgency, spread over nine tenths of the rate that others leave."""
    pacer = pacer_with(rate=rate)
    ages = [*steady_ages(tasks), 118.0]
    looks = watched(pacer, ages, NOW)
    for _ in range(others):
        pacer.watch(Look(("other", None), SCHEDULE, NOW - 90))
        pacer.watch(Look(("other", None), SCHEDULE, NOW - 89))  # not looked at yet
    ends = pacer.ends_of(FAST, SCHEDULE)
    price = PriceByHand(ends=ends, ages=ages, rate=0.9 * rate, others=others).price
    price = max(price, ends.typical / 30)

    pause = pacer.pause(looks[-1], now=NOW, unit=unit)

    spread = price * (1 + 0.1 * (2 * unit - 1))
    assert pause == pytest.approx(max(ends.due(118.0, spread) - 118.0, 1.0))


@pytest.mark.parametrize("ages", [[1.0] * 1_000, [120.0] * 1_000], ids=["all young", "all ripe"])
def test_the_price_stays_near_that_of_an_even_crowd(ages: list[float]) -> None:
    """Tasks of one age are all of use at once or none is; a look then costs 0.7 to 2 times that."""
    pacer = pacer_with()
    looks = watched(pacer, ages, NOW)
    ends = pacer.ends_of(FAST, SCHEDULE)
    price = PriceByHand(ends=ends, ages=ages, rate=0.9 * RATE).price

    pause = pacer.pause(looks[0], now=NOW, unit=0.5)

    assert pause == pytest.approx(max(ends.due(ages[0], price) - ages[0], 1.0))


def test_a_first_look_comes_anywhere_within_its_price() -> None:
    """From none of it to all; the second one counts the jitter."""
    pacer = pacer_with()
    ages = [*steady_ages(500), 60.0]
    watched(pacer, ages[:-1], NOW)
    look = Look(FAST, SCHEDULE, NOW - 60)
    pacer.watch(look)
    ends = pacer.ends_of(FAST, SCHEDULE)
    price = max(PriceByHand(ends=ends, ages=ages, rate=0.9 * RATE).price, ends.typical / 30)

    first, second = (pacer.pause(look, now=NOW, unit=0.25) for _ in range(2))

    assert first == pytest.approx(ends.due(60, 0.25 * price) - 60)
    assert second == pytest.approx(ends.due(60, 0.95 * price) - 60)


def test_a_jitter_is_at_most_the_whole_price() -> None:
    """However wild, it comes to between nothing and twice the price."""
    pacer = pacer_with()
    ages = [*steady_ages(500), 60.0]
    look = watched(pacer, ages, NOW, LearnedSchedule(jitter=5.0))[-1]
    ends = pacer.ends_of(FAST, SCHEDULE)
    price = max(PriceByHand(ends=ends, ages=ages, rate=0.9 * RATE).price, ends.typical / 30)

    assert pacer.pause(look, now=NOW, unit=0.9) == pytest.approx(ends.due(60, 1.8 * price) - 60)


def test_a_price_holds_for_a_second() -> None:
    """It is not made anew for every look, but each time that a fifth of an interval has passed."""
    pacer = pacer_with()
    (look,) = watched(pacer, [100.0], NOW)
    pacer.pause(look, now=NOW, unit=0.5)
    watched(pacer, [100.0] * 2_000, NOW)
    asked = [pacer.pause(look, now=NOW + later, unit=0.5) for later in (0.0, 0.99, 1.0)]

    assert asked[0] is not None
    assert asked[1] == pytest.approx(asked[0], rel=0.2)
    assert asked[2] is not None
    assert asked[2] > 3 * asked[0]


def pacer_of_long_tasks(rate: float) -> Pacer:
    """One that has seen tasks of about twenty minutes, of which none ended in the first ten."""
    pacer = Pacer(lambda share: share * rate)
    rng = random.Random(4)
    ends = pacer.ends_of(FAST, SCHEDULE)
    for _ in range(2_000):
        duration = max(700.0, 1_200 * rng.lognormvariate(0, 0.2))
        ends.saw_alive(0.0, duration - 50)
        ends.saw_end(duration - 50, duration + 50, at=duration)
    return pacer


@pytest.mark.parametrize(
    ("rate", "tasks", "age", "longest"),
    [
        (0.5, 1, 1.0, 120.0),
        (0.1, 1, 1.0, 1 / 0.05 / 0.09),
        (0.2, 2, 1.0, 2 / 0.05 / 0.18),
        (0.5, 1, 200.0, 200.0),
    ],
    ids=["alone", "with hardly any rate", "two with hardly any rate", "older than that"],
)
def test_even_what_can_wait_is_looked_at_in_time(
    rate: float, tasks: int, age: float, longest: float
) -> None:
    """After two minutes, its own age, or when a twentieth of the looks has room for it."""
    pacer = pacer_of_long_tasks(rate)
    told = pauses(pacer, watched(pacer, [age] * tasks, NOW), NOW)

    assert told == pytest.approx([longest] * tasks)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_look_at_a_living_task_teaches_its_age(is_told: bool) -> None:
    """It was alive since the look before; one that comes out of order changes nothing."""
    pacer, alike = Pacer(lambda share: share * RATE), Pacer(lambda share: share * RATE)
    look = Look(FAST, SCHEDULE, 100.0, is_told=is_told)
    pacer.watch(look)
    for now in (100.0, 130.0, 120.0, 160.0):
        pacer.saw(look, now=now, has_ended=False, duration=None)
    ends = alike.ends_of(FAST, SCHEDULE)
    ends.saw_alive(0.0, 30.0)
    ends.saw_alive(30.0, 60.0)

    assert look.since == 60.0
    assert pacer.ends_of(FAST, SCHEDULE).lifetime == ends.lifetime
    assert [pacer.ends_of(FAST, SCHEDULE).root(age) for age in range(90)] == [
        ends.root(age) for age in range(90)
    ]


@pytest.mark.parametrize(
    ("duration", "ended_at"),
    [
        (0.5, 0.5),
        (50.0, 50.0),
        (104.9, 100.0),
        (105.0, 100.0),
        (105.1, None),
        (0.0, None),
        (-1.0, None),
    ],
)
def test_when_a_task_is_taken_to_have_ended(duration: float, ended_at: float | None) -> None:
    """By its own time, where that is no more than an interval beyond what was seen."""
    pacer, by_hand = Pacer(lambda share: share * RATE), Pacer(lambda share: share * RATE)
    look = Look(FAST, SCHEDULE, 0.0, since=40.0)
    pacer.watch(look)
    pacer.saw(look, now=100.0, has_ended=True, duration=duration)
    ends = by_hand.ends_of(FAST, SCHEDULE)
    ends.saw_end(40.0, 100.0, at=ended_at)

    assert [pacer.ends_of(FAST, SCHEDULE).root(age) for age in range(120)] == [
        ends.root(age) for age in range(120)
    ]


@pytest.mark.parametrize("age", [0.0, -3.0])
def test_an_end_before_the_beginning_teaches_nothing(age: float) -> None:
    """A task cannot have ended before it was accepted; the clocks differ."""
    pacer = Pacer(lambda share: share * RATE)
    look = Look(FAST, SCHEDULE, NOW)
    pacer.watch(look)
    pacer.saw(look, now=NOW + age, has_ended=True, duration=10.0)

    assert pacer.ends_of(FAST, SCHEDULE).seen == 0


def test_a_task_of_the_future_counts_as_new() -> None:
    """Its age is never below nothing."""
    pacer = pacer_with()
    ages = [0.0, -2.0]
    new, future = watched(pacer, ages, NOW)
    ends = pacer.ends_of(FAST, SCHEDULE)
    price = max(PriceByHand(ends=ends, ages=ages, rate=0.9 * RATE).price, ends.typical / 30)
    told = [pacer.pause(look, now=NOW, unit=0.5) for look in (new, future)]

    assert told == pytest.approx([ends.due(0.0, price)] * 2)
    assert told[0] != pytest.approx(ends.due(1.0, price) - 1.0)


def test_others_whose_callbacks_are_expected_take_less_of_the_rate() -> None:
    """They are looked at for those that get lost, so they count by the root of their part."""
    pacer, rate = pacer_with(rate=20.0), 0.9 * 20.0
    ages = [*steady_ages(1_000), 118.0]
    look = watched(pacer, ages, NOW)[-1]
    for _ in range(100):
        pacer.watch(Look(("other", None), SCHEDULE, NOW - 90, is_told=True))
    ends = pacer.ends_of(FAST, SCHEDULE)
    left = rate - 100 * math.sqrt(0.05) / INTERVAL
    price = PriceByHand(ends=ends, ages=ages, rate=left).price

    pause = pacer.pause(look, now=NOW, unit=0.5)

    assert pause == pytest.approx(ends.due(118.0, price) - 118.0)


def told_looks(pacer: Pacer, ages: list[float]) -> list[Look]:
    """As `watched`, of tasks whose callbacks are expected."""
    looks = [Look(FAST, SCHEDULE, NOW - age, is_told=True, since=age) for age in ages]
    for look in looks:
        pacer.watch(look)
    return looks


@pytest.mark.parametrize("rate", [150.0, 0.5], ids=["rate for all", "little rate"])
@pytest.mark.parametrize("unit", [0.0, 0.5])
def test_a_look_for_a_lost_callback_has_its_own_price(rate: float, unit: float) -> None:
    """One in twenty is lost; where 3 % are, a delay of 1.5 s at least is worth a look."""
    pacer, lost = pacer_with(rate=rate), 0.05
    ages = [*steady_ages(300), 110.0]
    look = told_looks(pacer, ages)[-1]
    ends = pacer.ends_of(FAST, SCHEDULE)
    of_all = PriceByHand(ends=ends, ages=ages, rate=0.9 * rate, told=math.sqrt(lost)).price
    least = math.sqrt(2 * 0.3 * INTERVAL * 0.03 / lost)
    price = max(of_all, least) / math.sqrt(lost) * (1 + 0.1 * (2 * unit - 1))
    longest = max(120.0, len(ages) / (0.05 * 0.9 * rate))

    pause = pacer.pause(look, now=NOW, unit=unit)

    overdue = max(0.0, ends.lifetime - 110.0) + max(60.0, lost * longest)
    assert pause == pytest.approx(min(ends.due(110.0, price) - 110.0, overdue))
