"""After a minute without the API: no herd, nothing paid for twice, and soon all is known."""

import asyncio
import functools
from itertools import product

import pytest

from apixo_async import Limits, OutcomeStatus, PollSchedule, TextToVideo
from tests.outages import LATE, SCHEDULES, Aftermath, after_outage, busiest, mean
from tests.simulated import Account, Fate, Outage, client_of
from tests.thorough import THOROUGH
from tests.virtual import virtual

TICK = PollSchedule().interval
STRETCHED = 1_000 / (0.6 * 10_000 / 61)
"""The interval at which the looks at all tasks fit into their part of the rate: 10.2 s."""

MANY = [pytest.mark.slow, pytest.mark.timeout(600)]
CASES = [
    pytest.param(fate, name, tasks, id=f"{fate.name.lower()}-{name}-{tasks}", marks=marks)
    for (tasks, marks), name, fate in product([(100, []), (1_000, MANY)], SCHEDULES, Fate)
    if tasks == 100 or THOROUGH or fate is Fate.BUSY
]
every_outage = pytest.mark.parametrize(("fate", "name", "tasks"), CASES)


@functools.cache
def after(fate: Fate, name: str, tasks: int) -> Aftermath:
    """One run serves several tests."""
    return after_outage(fate, name, tasks=tasks)


@every_outage
def test_the_ends_that_an_outage_hid_are_known_within_two_ticks(
    fate: Fate, name: str, tasks: int
) -> None:
    """On average two of 5 s; and none later than two as they are stretched for so many tasks."""
    seen = after(fate, name, tasks)

    assert len(seen.ended) > tasks / 5
    assert mean(seen.ended) < 2 * TICK
    assert mean(seen.running) < 2 * TICK
    assert seen.ended[-1] < 2 * STRETCHED


@every_outage
def test_no_herd_comes_back(fate: Fate, name: str, tasks: int) -> None:
    """The limit holds in every window, each second is one that the gate allows, none is a 429."""
    seen = after(fate, name, tasks)

    assert seen.busiest_window <= 10 * tasks
    assert seen.busiest_second <= seen.most_a_second
    assert seen.peak_unfinished <= tasks
    assert seen.refused == 0


@every_outage
def test_submits_that_meet_an_outage_are_paid_at_most_once(
    fate: Fate, name: str, tasks: int
) -> None:
    """What was not sent is sent later; what may have been taken is not, but its callback tells."""
    seen = after(fate, name, tasks)
    is_lost = fate is Fate.BUSY or (fate is Fate.SILENT and name != "callbacks")

    assert seen.stopped is None
    assert seen.late_submits >= LATE * tasks // 1_000
    assert max(seen.arrived.values()) == max(seen.billed.values()) == 1
    assert set(seen.statuses) <= {OutcomeStatus.SUCCEEDED, OutcomeStatus.UNCERTAIN}
    assert len(seen.doubtful) == seen.statuses[OutcomeStatus.UNCERTAIN]
    assert len(seen.doubtful) == (seen.late_submits if is_lost else 0)
    assert (fate is Fate.BUSY) == bool(seen.doubtful - set(seen.billed))


@virtual
async def test_a_service_that_answers_now_and_then_is_no_outage() -> None:
    """One of four looks is answered, all the time, so that those that failed stay rare."""
    account = Account(lambda _: 700.0, outage=Outage(Fate.BUSY, 120, 700, part=0.75))
    limits = Limits(requests_per_minute=2_000, concurrent_tasks=100)
    client = client_of(account, seed=1, limits=limits, schedule=PollSchedule(first=10.0))
    async with client:
        await asyncio.gather(*(client.generate(TextToVideo(f"scene {n}")) for n in range(100)))
    times = [at - account.opened_at for at in account.requests]
    well, ill = (sum(since <= at < since + 90 for at in times) for since in (30, 200))

    assert ill < well / 2


def test_the_busiest_stretch_is_found_wherever_it_begins() -> None:
    """Three within a second, across a full one."""
    assert busiest([0.0, 0.9, 1.2, 1.8, 3.0], seconds=1.0) == 3
    assert busiest([], seconds=1.0) == 0
