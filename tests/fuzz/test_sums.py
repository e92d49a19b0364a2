from __future__ import annotations

import math

from hypothesis import strategies as st

from apixo_async._wire import Reply, unwrap
from apixo_async.errors import ApixoError, RateLimitedError
from apixo_async.limits.meters import MEMORY_SECONDS, RecentRate, RequestMeter
from apixo_async.limits.throttling import Cause, cause_of, is_rate_limit, rare_row
from apixo_async.polling import LearnedSchedule, Look, Pacer
from apixo_async.polling.arrivals import Arrivals
from apixo_async.retries import (
    NOT_SENT_CAP,
    SubmitVerdict,
    is_look_fatal,
    resubmit_delay,
    stops_batch,
    submit_verdict,
)
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import Choices, scripts, spoilt
from tests.fuzz.test_answers import NOW, REFUSED, SUBMITTED

units = st.floats(0, 1, exclude_max=True)
SCHEDULES = [
    LearnedSchedule(),
    LearnedSchedule(first=0, interval=0.01, jitter=9.0),
    LearnedSchedule(interval=600, deadline=60, most_looks=1),
    LearnedSchedule(share=1e-9, shortest=1e-3, most_looks=1e9),
]


@fuzzed(st.binary(max_size=60), st.sampled_from(SCHEDULES), units, slow=4_000)
def test_a_pause_is_never_endless_and_never_nothing(
    script: bytes, schedule: LearnedSchedule, unit: float
) -> None:
    """Whatever tasks did, and by whatever clock, the next look lies ahead and in sight."""
    choices = Choices(script)
    budget = choices.of([100.0, 1e-3, 1e6])
    pacer = Pacer(lambda share: share * budget)
    now, looks = 1_000.0, []
    for _ in range(len(script) // 2):
        now += choices.of([0.0, 0.5, 5.0, 90.0, 1e4, 1e-9])
        look = Look(("m", None), schedule, now - choices.of([100.0, 0.0, -5.0, 1e6]))
        look.is_told = choices.below(2) == 1
        pacer.watch(look)
        looks.append(look)
        seen = choices.of(looks)
        pacer.saw(
            seen,
            now=now,
            has_ended=choices.below(4) > 0,
            duration=choices.of([None, 0.0, 41.4, -1.0, 1e9, 1e-9]),
            was_told=choices.below(2) == 1,
        )
        pause = pacer.pause(choices.of(looks), now=now, unit=unit)
        assert pause is None or schedule.shortest_pause <= pause < math.inf


def moments(script: bytes) -> list[float]:
    """Times that go on, by nothing, by less than a second, or by much."""
    choices, now, found = Choices(script), 0.0, []
    for _ in script:
        now += choices.of([0.0, 0.3, 1.0, 17.0, 59.5, 200.0])
        found.append(now)
    return found


@fuzzed(scripts.map(moments), st.integers(0, MEMORY_SECONDS), st.integers(1, 6), slow=2_500)
def test_a_meter_counts_what_was(times: list[float], seconds: int, limit: int) -> None:
    """It counts as a list of all times would, to the second, and knows when there is room."""
    meter = RequestMeter()
    for time in times:
        meter.count(time)
    now = times[-1] if times else 0.0
    room = meter.room_at(limit, now)

    assert meter.total == len(times)
    assert meter.last(seconds, now) == sum(int(time) > now - seconds for time in times)
    assert now <= room <= now + 61
    assert meter.last_minute(room) < limit


@fuzzed(scripts.map(moments), slow=3_000)
def test_a_recent_rate_is_a_rate(times: list[float]) -> None:
    """It is never negative, and never more than if all had just been."""
    rate = RecentRate()
    for time in times:
        rate.count(time)
    now = times[-1] if times else 0.0

    assert 0 <= rate.per_second(now + 1e9) <= rate.per_second(now) <= len(times)


@fuzzed(st.lists(st.booleans(), max_size=300), slow=1_000)
def test_the_part_that_gets_lost_is_a_part(told: list[bool]) -> None:
    """Whatever comes or does not, some get lost, and not more than all."""
    arrivals = Arrivals()
    for was_told in told:
        arrivals.saw(was_told=was_told)

    assert 0 < arrivals.lost <= 1


@fuzzed(
    st.integers(200, 599),
    scripts,
    st.booleans(),
    st.integers(0, 10**9),
    st.floats(0, 1e9) | st.just(math.inf),
    slow=1_500,
)
def test_only_a_429_is_sent_again(
    status: int, script: bytes, is_refused: bool, in_a_row: int, span: float
) -> None:
    """Of all answers to a submit there is one kind after which it is repeated by itself."""
    try:
        unwrap(Reply(status, spoilt(REFUSED if is_refused else SUBMITTED, script), None, NOW))
    except ApixoError as error:
        verdict = submit_verdict(error)
        assert (verdict is SubmitVerdict.THROTTLED) == isinstance(error, RateLimitedError)
        assert verdict is not SubmitVerdict.NOT_SENT
        assert not (stops_batch(error) and verdict is SubmitVerdict.UNCERTAIN)
        is_fatal = is_look_fatal(error, key_worked=True, in_a_row=in_a_row, span=span, age=None)
        assert not is_fatal or verdict is SubmitVerdict.REJECTED


@fuzzed(
    st.integers(1, 10**6),
    st.booleans(),
    st.integers(0, 10**6),
    st.tuples(st.booleans(), st.booleans()),
    units | st.sampled_from([1.0, -0.0, 5e-324, 1 - 2**-53]),
    slow=1_500,
)
def test_every_refusal_has_a_cause(
    episode: int, is_high: bool, running: int, known: tuple[bool, bool], noise: float
) -> None:
    """Any counts give an answer, and where no task runs a refusal is never about tasks."""
    is_probing, looks_pass = known
    cause = cause_of(
        episode=episode,
        is_rate_high=is_high,
        running=running,
        is_probing=is_probing,
        looks_pass=looks_pass,
        noise=noise,
    )

    assert running > 0 or cause is Cause.RATE
    assert 0 <= rare_row(noise) <= 8


@fuzzed(
    st.integers(0, 10), st.integers(0, 10), st.integers(0, 10**6), st.booleans(), units, slow=1_500
)
def test_what_speaks_against_a_rate_limit_proves_none(
    in_a_row: int, episodes: int, good: int, is_expected: bool, noise: float
) -> None:
    """Neither a refutation nor more good answers make a limit of what was none."""

    def is_limit(good: int, *, is_refuted: bool) -> bool:
        return is_rate_limit(
            in_a_row=in_a_row,
            episodes=episodes,
            refused=episodes,
            good=good,
            is_expected=is_expected,
            is_refuted=is_refuted,
            noise=noise,
        )

    if not is_limit(good, is_refuted=False):
        assert not is_limit(good, is_refuted=True)
        assert not is_limit(2 * good + 1, is_refuted=False)


@fuzzed(st.integers(0, 10**12), units, slow=3_000)
def test_a_submit_that_was_not_sent_waits_in_bounds(failures: int, unit: float) -> None:
    """However often a host was not reached, the next try comes within the documented time."""
    assert 0 <= resubmit_delay(failures, unit=unit) <= NOT_SENT_CAP
