"""The whole client on accounts of every kind: what is finished, what is refused, how soon."""

import math
import random
from collections.abc import Callable

import pytest

from apixo_async import Limits, PollSchedule
from tests.limits.accounts import (
    Account,
    FixedWindow,
    SlidingWindow,
    TokenBucket,
    Window,
    run_batch,
)
from tests.limits.judges import worst_window
from tests.virtual import START, run_virtual

KINDS = [SlidingWindow, FixedWindow, TokenBucket]
Kind = Callable[[int], Window]

PHASE = 2_400.0
"""40 minutes of a small plan, and as long of a larger one."""


SCHEDULES = [None, PollSchedule()]
SCHEDULE_NAMES = ["learned", "documented"]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=SCHEDULE_NAMES)
@pytest.mark.parametrize("tells_when", [False, True], ids=["silent", "Retry-After"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_of_a_small_account_are_found_and_followed(
    kind: Kind, tells_when: bool, schedule: PollSchedule | None
) -> None:
    """Configured with 1,000 and 10,000, a batch is nearly as fast as 3 and 10, then 10 and 60.

    The schedule that learns needs more than 10 requests a minute to be good: with the true limits
    it reaches three quarters of what 3 tasks and 10 requests allow.
    """
    account = Account(task_limit=3, window=kind(10), tells_when=tells_when)
    trace = run_virtual(
        run_batch(account, seconds=2 * PHASE, upgrade=(PHASE, 10, 60), schedule=schedule)
    )
    allowed = [3 * PHASE / 120, 10 * PHASE / 120]
    finished = [
        trace.finished_between(0, PHASE),
        trace.finished_between(PHASE, 2 * PHASE),
    ]

    assert sum(finished) >= (0.85 if schedule else 0.82) * sum(allowed)
    assert finished[0] >= (0.8 if schedule else 0.65) * allowed[0]
    assert finished[1] >= 0.82 * allowed[1]
    assert trace.refused_part() < 0.05


@pytest.mark.parametrize("schedule", SCHEDULES, ids=SCHEDULE_NAMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tasks", "requests", "jobs"), [(3, 10, 30), (10, 60, 100), (1_000, 10_000, 1_200)]
)
def test_who_configures_the_true_limits_is_never_refused(
    kind: Kind, tasks: int, requests: int, jobs: int, schedule: PollSchedule | None
) -> None:
    """However the server counts, no request is one too many, and all tasks are used."""
    account = Account(task_limit=tasks, window=kind(requests))
    limits = Limits(concurrent_tasks=tasks, requests_per_minute=requests)
    trace = run_virtual(run_batch(account, jobs=jobs, limits=limits, schedule=schedule))

    assert trace.refusals == []
    assert account.peak_unfinished == tasks
    assert worst_window(trace.requests, 60) <= requests
    assert max(trace.finished) <= 1.5 * math.ceil(jobs / tasks) * 120


def test_a_large_account_is_full_in_eight_seconds() -> None:
    """The slow start costs less than a second: 1,000 tasks run 8 s after the first POST."""
    account = Account(task_limit=1_000, window=SlidingWindow(10_000))
    run_virtual(run_batch(account, jobs=1_000))

    assert account.submits[999] - START <= 8.0


@pytest.fixture(scope="module")
def undisturbed() -> float:
    """How long 2,500 jobs take on a full account that refuses nothing."""
    account = Account(task_limit=1_000, window=SlidingWindow(10_000), duration=spread)
    return max(run_virtual(run_batch(account, jobs=2_500)).finished)


def spread(number: int) -> float:
    """One to three minutes."""
    return random.Random(number).uniform(60, 180)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_faults_that_pass_slow_nobody_down(seed: int, undisturbed: float) -> None:
    """One request in 200 is refused at random: limits stay, a batch takes 2 % longer at most."""
    account = Account(
        task_limit=1_000,
        window=SlidingWindow(10_000),
        duration=spread,
        fault=0.005,
        rng=random.Random(seed),
    )
    trace = run_virtual(run_batch(account, jobs=2_500))

    assert max(trace.finished) <= 1.02 * undisturbed
    assert trace.gate.tasks_cap == 1_000
    assert trace.gate.requests_cap == 10_000
    assert len(trace.refusals) > 60


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "longer"), [(0.05, 1.25), (0.1, 1.6)])
def test_faults_that_do_not_pass_are_no_limit_either(
    fault: float, longer: float, undisturbed: float
) -> None:
    """Where a service refuses one request in ten at any rate, a lower rate is soon given up."""
    account = Account(task_limit=1_000, window=SlidingWindow(10_000), duration=spread, fault=fault)
    trace = run_virtual(run_batch(account, jobs=2_500))

    assert max(trace.finished) <= longer * undisturbed
    assert trace.gate.requests_cap == 10_000


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("begin", [0.0, 100.0, 250.0])
def test_a_storm_of_refusals_is_left_without_a_herd(begin: float, undisturbed: float) -> None:
    """For 30 s all is refused: hardly anything is sent into it, and nobody rushes out of it."""
    account = Account(
        task_limit=1_000,
        window=SlidingWindow(10_000),
        duration=spread,
        outage=(begin, begin + 30),
    )
    trace = run_virtual(run_batch(account, jobs=2_500))
    after_the_first = [moment for moment, _ in trace.refusals if moment > begin + 1]
    back = min(moment for moment in trace.requests if moment >= begin + 30)

    assert len(after_the_first) <= 12
    assert back <= begin + 30 + 60
    assert worst_window([moment for moment in trace.requests if moment >= back], 1.0) <= 265
    assert max(trace.finished) <= undisturbed + 30 + 60 + 30
