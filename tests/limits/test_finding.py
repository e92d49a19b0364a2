import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.limits.finding import CapFinder, RateFinder, trial_seconds

# Tasks

NEW = CapFinder(1_000, 1_000)
LOWERED = NEW.refused(running=50, now=0.0)


@pytest.mark.parametrize(
    ("running", "expected"), [(0, 1), (1, 1), (50, 50), (999, 999), (1_000, 1_000), (5_000, 1_000)]
)
def test_a_refusal_drops_the_cap_to_what_runs(running: int, expected: int) -> None:
    """The account holds what is running; at least one task always may."""
    assert NEW.refused(running=running, now=0.0).cap == expected


def test_a_refusal_forgets_all_haste() -> None:
    """After a refusal the next probe is one step, much later each time, up to five minutes."""
    finder, waits = NEW, list[float]()
    for _ in range(6):
        finder = finder.refused(running=50, now=100.0)
        waits.append(finder.next_probe - 100.0)

    assert waits == [5.0, 20.0, 80.0, 300.0, 300.0, 300.0]
    assert finder.step == 1


def test_a_refusal_below_what_is_known_is_a_new_quarrel() -> None:
    """A probe that fails costs patience; a cap that has to fall further may fall by mistake."""
    quarrel = NEW
    for _ in range(6):
        quarrel = quarrel.refused(running=50, now=0.0)
    probe = quarrel.probed(running=50, now=300.0)

    assert probe.refused(running=50, now=300.0).next_probe == 600.0
    assert probe.refused(running=49, now=300.0).next_probe == 600.0
    assert probe.refused(running=47, now=300.0).next_probe == 305.0


def test_a_cap_that_held_for_two_minutes_is_known_to_fit() -> None:
    """What was refused beside fewer tasks before then counts no more."""
    grown = LOWERED.probed(running=50, now=5.0).accepted(running=51, now=6.0)
    refused = grown.refused(running=51, now=7.0)

    assert refused.probed(running=51, now=126.9).known == 50
    assert refused.probed(running=51, now=127.0).known == 51


@pytest.mark.parametrize(
    ("wait", "known"), [(119.0, 50), (120.0, 50)], ids=["before", "within a run of probes"]
)
def test_a_run_of_probes_proves_nothing_about_the_cap_it_passes(wait: float, known: int) -> None:
    """Only the first step of a run begins at a cap that held."""
    run = LOWERED.probed(running=50, now=5.0).accepted(running=51, now=6.0)

    assert run.probed(running=51, now=wait).known == known


@pytest.mark.parametrize(
    ("pause", "expected"), [(0.0, 5.0), (0.4, 5.0), (3.0, 30.0), (120.0, 300.0)]
)
def test_a_refusal_that_costs_more_is_risked_less_often(pause: float, expected: float) -> None:
    """Where the account asks for a pause after each, probes are ten times as far apart."""
    assert NEW.refused(running=50, now=0.0, pause=pause).next_probe == expected


def test_probes_grow_while_they_go_well() -> None:
    """Each probe that nobody refuses is twice as large as the one before, up to the limit."""
    finder, caps = LOWERED, list[int]()
    now = 0.0
    while finder.cap < finder.limit:
        now = finder.next_probe
        finder = finder.probed(running=finder.cap, now=now)
        finder = finder.accepted(running=finder.cap, now=now)
        caps.append(finder.cap)

    assert caps == [51, 53, 57, 65, 81, 113, 177, 305, 561, 1_000]
    assert now <= 10 * 10.0


def test_a_first_success_brings_the_next_probe_near_and_a_second_ends_the_quarrel() -> None:
    """One may be a task that ended unseen; two mean that the account allows more."""
    finder = NEW
    for _ in range(9):
        finder = finder.refused(running=50, now=0.0)
    first = finder.probed(running=50, now=300.0).accepted(running=51, now=301.0)
    second = first.probed(running=51, now=361.0).accepted(running=53, now=362.0)

    assert (first.next_probe, first.probe_every) == (361.0, 300.0)
    assert (second.next_probe, second.probe_every) == (367.0, 5.0)


def test_what_was_on_its_way_may_raise_the_cap() -> None:
    """A task that is accepted beside more than the cap proves that they all fit."""
    assert LOWERED.accepted(running=53, now=1.0).cap == 53


@pytest.mark.parametrize(
    ("finder", "running"),
    [
        (NEW, 1_000),
        (LOWERED, 50),
        (LOWERED.probed(running=50, now=5.0), 50),
    ],
    ids=["never lowered", "lowered and not probed", "probe not filled"],
)
def test_an_acceptance_that_proves_nothing_changes_nothing(finder: CapFinder, running: int) -> None:
    """Only a task in the newly opened place shows that the place exists."""
    assert finder.accepted(running=running, now=100.0) is finder


@pytest.mark.parametrize(
    ("finder", "running", "known"),
    [(LOWERED, 62, 50), (LOWERED, 100, 80), (LOWERED, 5_000, 1_000), (NEW, 1_000, 1_000)],
)
def test_most_tasks_beside_an_accepted_one_did_run(
    finder: CapFinder, running: int, known: int
) -> None:
    """Four fifths of what we count is surely no more than the account allows."""
    assert finder.knowing(running=running).known == known


@pytest.mark.parametrize(
    ("finder", "running", "now"),
    [(NEW, 1_000, 1e9), (LOWERED, 50, 4.9), (LOWERED, 49, 1e9)],
    ids=["at the limit", "too early", "places free"],
)
def test_a_probe_waits_for_its_time(finder: CapFinder, running: int, now: float) -> None:
    """A cap is not raised that was never lowered, that has room, or before its time."""
    assert finder.probed(running=running, now=now) is finder


@pytest.mark.parametrize(
    ("finder", "running", "expected"),
    [
        (NEW, 1_000, False),
        (LOWERED, 49, False),
        (LOWERED, 50, True),
        (LOWERED.refused(running=70, now=0.0), 55, True),
        (LOWERED.refused(running=40, now=0.0), 45, True),
        (LOWERED.refused(running=40, now=0.0), 39, False),
    ],
)
def test_a_task_beside_as_many_as_were_refused_once_is_a_probe(
    finder: CapFinder, running: int, expected: bool
) -> None:
    """The smallest number counts: some of what we take for running may have ended."""
    assert finder.is_probing(running=running) is expected


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
        finder = getattr(finder, what)(running=number, now=now)

        assert 1 <= finder.cap <= limit
        assert 5.0 <= finder.probe_every <= 300.0
        assert 1 <= finder.step <= max(limit, 1)
        assert finder.next_probe <= now + 300.0


# Requests

FULL = RateFinder(10_000, 10_000)
FALLEN = FULL.refused(good=10, part=0.4, now=0.0)
TEN = attrs.evolve(FALLEN, before=0, next_probe=30.0)
"""The same, when it is known that the fall was of use."""


@pytest.mark.parametrize(
    ("finder", "good", "expected"),
    [
        (FULL, 0, 10),
        (FULL, 10, 10),
        (FULL, 17, 17),
        (FULL, 6_000, 6_000),
        (FULL, 9_900, 7_500),
        (RateFinder(10, 10), 3, 7),
        (RateFinder(1, 1), 1, 1),
        (TEN, 9, 7),
        (RateFinder(60, 40), 25, 25),
        (RateFinder(60, 40), 39, 30),
    ],
    ids=[
        "nothing seen: the smallest plan",
        "the smallest plan",
        "a bucket's burst included",
        "a large plan",
        "as much as we may send",
        "less than the smallest plan",
        "never nothing",
        "again",
        "explained by what was seen",
        "not explained",
    ],
)
def test_a_refusal_drops_the_rate_to_what_was_answered_well(
    finder: RateFinder, good: int, expected: int
) -> None:
    """What came through in a minute is the limit; where that is all we send, three fourths."""
    found = finder.refused(good=good, now=0.0)

    assert found.rate == found.proven == expected


@pytest.mark.parametrize(
    ("part", "rate", "noise"),
    [(0.4, 10_000, 0.4), (0.2, 10_000, 0.2), (0.19, 7, 0.0), (0.01, 7, 0.0)],
    ids=["as many", "half as many", "fewer: a lower limit", "far fewer: a lower limit"],
)
def test_a_fall_after_which_as_many_are_refused_is_taken_back(
    part: float, rate: int, noise: float
) -> None:
    """A limit refuses what is too much; what is refused at any rate is noise."""
    found = FALLEN.refused(good=10, part=part, now=200.0)
    probed = FALLEN.probed(good=10, part=part, now=240.0)

    assert (found.rate, found.noise) == (rate, noise)
    assert (probed.rate, probed.noise) == (10_000 if noise else 12, noise)


def test_a_fall_has_time_to_show_its_use_before_the_next_probe() -> None:
    """The minute before it has to pass, then there are three trials; a probe settles it."""
    assert FALLEN.next_probe == 60 + 3 * 60
    assert FULL.refused(good=720, part=0.4, now=0.0).next_probe == 60 + 3 * 5
    probed = FALLEN.probed(good=10, now=240.0)

    assert probed.refused(good=10, part=0.4, now=260.0).rate == 10


def test_a_fall_that_is_not_judged_yet_is_not_taken_back() -> None:
    """A second fall in the minute after the first leaves open what the first was good for."""
    again = FULL.refused(good=60, part=0.4, now=0.0).refused(good=40, now=30.0)

    assert (again.rate, again.before, again.part) == (40, 10_000, 0.4)
    assert again.refused(good=40, part=0.3, now=100.0).rate == 10_000


@pytest.mark.parametrize(
    ("good", "part", "rate"), [(5, 0.5, 7), (10, 0.5, 7), (10, 0.41, 7), (10, 0.4, 10_000)]
)
def test_a_real_limit_below_the_smallest_plan_is_no_noise(
    good: int, part: float, rate: int
) -> None:
    """What refuses half of all at the smallest rate is a limit, as no service is that noisy."""
    fallen = FULL.refused(good=good, part=0.6, now=0.0)

    assert fallen.rate == 10
    assert fallen.refused(good=10, part=part, now=200.0).rate == rate


def test_a_cut_is_measured_by_what_a_limit_would_still_refuse() -> None:
    """From 10 to 7 on a limit of 5, half of all becomes two in seven: of use, though not gone."""
    cut = attrs.evolve(TEN, rate=10).refused(good=10, part=0.5, now=0.0)
    assert cut.rate == 7

    assert cut.refused(good=7, part=0.29, now=200.0).rate < 7
    assert cut.refused(good=7, part=0.4, now=200.0).rate == 10


def test_what_is_taken_back_is_not_raised_further_at_once() -> None:
    """The rate before the fall is tried before more."""
    noisy = FALLEN.refused(good=10, part=0.4, now=200.0)

    assert noisy.next_probe == 230.0


def test_a_run_that_only_makes_good_a_fall_is_no_gain() -> None:
    """Down from 12 for no good reason and up to 12 again: the next run waits longer, not less."""
    cut = attrs.evolve(TEN, rate=12, proven=12).refused(good=12, now=0.0)
    back = cut.probed(good=9, now=300.0).probed(good=11, now=400.0).refused(good=12, now=420.0)

    assert (cut.rate, back.rate, back.probe_every) == (9, 12, 60.0)


def test_probes_of_the_rate_double_while_they_go_well() -> None:
    """From the smallest plan to the largest it takes eleven trials, each shorter than a minute."""
    finder, rates, now = TEN, list[int](), 0.0
    while finder.is_lowered:
        now = finder.next_probe
        finder = finder.probed(good=finder.rate, now=now)
        rates.append(finder.rate)

    assert rates == [12, 16, 24, 40, 72, 136, 264, 520, 1_032, 2_056, 4_104, 8_200, 10_000]
    assert now < 300


def test_the_slowest_rates_are_probed_in_the_smallest_steps() -> None:
    """A quarter of three requests a minute is one, and then two."""
    three = RateFinder(60, 3)
    first = three.probed(good=3, now=0.0)
    second = first.probed(good=4, now=first.next_probe)

    assert (first.rate, second.rate) == (4, 6)


def test_a_run_of_probes_knows_where_it_began_and_what_is_proven() -> None:
    """It began where its first step did; what came through is proven, up to the rate itself."""
    first = TEN.probed(good=10, now=30.0)
    second = first.probed(good=11, now=first.next_probe)
    third = second.probed(good=99, now=second.next_probe)

    assert (first.began, second.began, third.began) == (10, 10, 10)
    assert (first.proven, second.proven, third.proven) == (10, 11, 16)


def test_a_fall_below_what_was_refused_of_less_is_not_judged() -> None:
    """Where fewer came through than the smallest plan has, as many may be refused as before."""
    assert FULL.refused(good=9, part=0.4, now=0.0).before == 0
    assert FULL.refused(good=10, part=0.4, now=0.0).before == 10_000
    assert RateFinder(60, 40, before=50, part=0.3).refused(good=25, now=0.0).before == 50


@pytest.mark.parametrize(
    ("good", "best"), [(10, 10), (9_499, 9_499), (9_500, 10_000), (10_000, 10_000)]
)
def test_a_cut_remembers_the_rate_that_it_was_made_at(good: int, best: int) -> None:
    """A run of probes that only comes back to it has gained nothing."""
    assert FULL.refused(good=good, now=0.0).best == best


def test_a_refused_probe_ends_where_it_began_and_the_next_waits_longer() -> None:
    """What was seen to work stays; each run without gain doubles the wait, up to five minutes."""
    finder, now, waits = TEN, 0.0, list[float]()
    for _ in range(6):
        now = finder.next_probe
        finder = finder.probed(good=10, now=now).refused(good=10, now=now + 20)
        waits.append(finder.next_probe - (now + 20))

        assert finder.rate == finder.proven == 10

    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_a_run_that_gained_is_followed_by_another_soon() -> None:
    """An account that grew is followed, even when the last step was too large."""
    finder = TEN
    for _ in range(5):
        finder = finder.probed(good=finder.rate, now=finder.next_probe)
    found = finder.refused(good=60, now=finder.next_probe)

    assert finder.rate == 72
    assert found.rate == 60
    assert found.probe_every == found.next_probe - finder.next_probe == 30.0


def test_a_run_begins_anew_where_nobody_wanted_more_for_a_minute() -> None:
    """Large steps belong to the moment in which small ones went well."""
    raised = TEN.probed(good=10, now=30.0).probed(good=12, now=90.0)
    soon = raised.probed(good=16, now=raised.next_probe + 59)
    late = raised.probed(good=16, now=raised.next_probe + 61)

    assert raised.rate == 16
    assert (soon.rate, late.rate) == (24, 20)


@pytest.mark.parametrize(
    ("finder", "now"), [(FULL, 1e9), (TEN, 29.9)], ids=["at the limit", "too early"]
)
def test_a_probe_of_the_rate_waits_for_its_time(finder: RateFinder, now: float) -> None:
    """A rate that was never lowered is not raised, a lowered one not before its time."""
    assert finder.probed(good=10, now=now) is finder


def test_haste_brings_the_probe_forward_and_nothing_else() -> None:
    """When the task limit was seen to grow, the rate is tried at once."""
    assert TEN.hurried(now=5.0).next_probe == 5.0
    assert TEN.hurried(now=5.0).rate == 10
    assert TEN.hurried(now=50.0).next_probe == 30.0
    assert FALLEN.hurried(now=5.0) is FALLEN, "its use has to be seen first"


@pytest.mark.parametrize(
    ("rate", "expected"), [(1, 60.0), (10, 60.0), (12, 60.0), (48, 15.0), (144, 5.0), (10**6, 5.0)]
)
def test_a_trial_takes_twelve_requests(rate: int, expected: float) -> None:
    """Less would show nothing; but at least five seconds and at most a minute."""
    assert trial_seconds(rate) == expected


@given(
    limit=st.integers(1, 20_000),
    steps=st.lists(
        st.tuples(st.sampled_from(["refused", "probed"]), st.integers(0, 20_000)), max_size=40
    ),
)
def test_the_rate_stays_between_1_and_the_limit(limit: int, steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, the rate is usable and never above the configured one."""
    finder, now = RateFinder(limit, limit), 0.0
    for what, number in steps:
        now += number % 400
        finder = getattr(finder, what)(good=number, now=now)

        assert 1 <= finder.rate <= limit
        assert finder.proven <= finder.rate
        assert 30.0 <= finder.probe_every <= 300.0
        assert finder.next_probe <= now + 300.0
