"""Every order of submit, record, callback and crash: nothing is paid twice, nothing gets lost."""

from collections import Counter

import pytest

from apixo_async import OutcomeStatus
from tests.model.bugs import BUGS, FAST, SLOW, Bug, Variant
from tests.model.explore import explore, told
from tests.model.rules import Model
from tests.model.world import Budgets, Phase, World

S, F, U = OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED, OutcomeStatus.UNCERTAIN
LATE = OutcomeStatus.TIMED_OUT


def checked(variant: Variant) -> None:
    """Explores all of it; a number that differs means that the protocol was changed."""
    found = explore(variant.model)
    tasks = max(len(world.tasks) for world in found.states)

    paths = {fault: found.path(fault) for fault in found.faults}
    assert not paths, told(paths)
    assert (len(found.states), tasks) == (variant.states, variant.tasks)


@pytest.mark.parametrize("variant", FAST.values(), ids=FAST.keys())
def test_every_promise_holds_in_every_state(variant: Variant) -> None:
    """Whatever happens in whatever order, no state breaks a promise and each leads to an end."""
    checked(variant)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", SLOW.values(), ids=SLOW.keys())
def test_every_promise_holds_in_every_state_of_larger_models(variant: Variant) -> None:
    """The same with more crashes, callbacks and decisions."""
    checked(variant)


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(bug: Bug) -> None:
    """A protocol with the bug breaks just these promises, on paths of this length."""
    found = explore(bug.model)
    paths = {fault: found.path(fault) for fault in found.faults}

    assert {fault: len(path) for fault, path in paths.items()} == bug.breaks, told(paths)


def outcomes(worlds: list[World]) -> dict[tuple[OutcomeStatus, int], int]:
    """How many states there are in which a job has ended so, with so many tasks."""
    ended = Counter[tuple[OutcomeStatus, int]]()
    for world in worlds:
        process = world.process
        is_ended = process is not None and process.phase is Phase.ENDED
        if process is not None and is_ended and process.outcome is not None:
            ended[process.outcome, len(world.tasks)] += 1
    return ended


def test_a_job_ends_in_these_ways_and_no_others() -> None:
    """The model gets everywhere: a promise that holds because nothing happens is none."""
    found = explore(Model(Budgets(runs=2, crashes=1, faults=1)))

    assert set(outcomes(found.states)) == {(S, 1), (LATE, 1), (U, 0), (U, 1), (F, 0)}


@pytest.mark.parametrize(("calls", "is_found"), [(0, False), (1, True)], ids=["none", "one"])
def test_only_a_callback_finds_the_task_of_a_crash(calls: int, is_found: bool) -> None:
    """A task whose submit was cut by a crash is found if it calls back, and in no other way."""
    found = explore(Model(Budgets(runs=2, crashes=1, calls=calls)))
    in_doubt = [world for world in found.states if world.kept.why().get("phase") == "crash"]
    known = found.reached_from(in_doubt)

    assert any(world.tasks for world in in_doubt)
    assert any(world.kept.task_id for world in known) is is_found
