import math
from typing import Any

import pytest

from apixo_async.emulator.clock import Clock
from apixo_async.emulator.rules import EXTEND, VEO, Submission
from apixo_async.emulator.tasks import FAILURES, TASK_ID_FAILURE, Task, TaskTable, describe

LIFETIME = 1_000.0


def make(
    name: str = "a",
    *,
    at: float = 0,
    duration: float = 100,
    **more: Any,  # noqa: ANN401 - the fields of a task
) -> Task:
    """Return a task for veo-3-1."""
    submission = more.pop("submission", Submission(VEO, {"prompt": "x", "mode": "fast"}, None))
    faults = frozenset(more.pop("faults", ()))
    return Task(name, submission, at, duration, 0.2, faults=faults, **more)


@pytest.mark.parametrize(
    ("faults", "states"),
    [
        ((), "pending processing processing processing success"),
        (["processing_r2"], "pending processing processing processing_r2 success"),
        (["unknown_state"], "queued rendering rendering rendering success"),
    ],
)
def test_the_state_follows_from_the_clock(faults: list[str], states: str) -> None:
    """Nothing but the time decides what a task is doing."""
    task = make(at=10, faults=faults)

    assert [task.state(10 + share) for share in (9.9, 10, 50, 90, 100)] == states.split()


def test_a_failing_task_ends_in_failed() -> None:
    """It looks like any other until its end."""
    task = make(failure=("GENERATION_FAILED", "no"))

    assert (task.state(99.9), task.state(100)) == ("processing", "failed")


def test_a_task_without_end_stays_in_processing() -> None:
    """Not even after a year is it anything else."""
    task = make(duration=math.inf)

    assert {task.state(seconds) for seconds in (0, 1, 3e7)} == {"processing"}


def test_a_task_may_be_unknown_at_first() -> None:
    """With the fault it is found from its tenth second on, without it at once."""
    late = make(at=5, faults=["early_404"])

    assert [late.is_known(now) for now in (5, 14.9, 15)] == [False, False, True]
    assert make(at=5).is_known(5)


def test_results_expire() -> None:
    """A result can be had from the task's end until its lifetime is over, a failure never."""
    task = make()
    moments = (99.9, 100, 1_099.9, 1_100)

    assert [task.is_available(now, LIFETIME) for now in moments] == [False, True, True, False]
    assert not make(failure=("X", "x")).is_available(100, LIFETIME)


def test_the_table_counts_what_is_unfinished() -> None:
    """Tasks leave the count when they end, and their outcomes are kept."""
    table = TaskTable()
    for task in (make("a", duration=10), make("b", duration=30, failure=("X", "x"))):
        table.add(task)
    table.add(make("c", duration=math.inf))

    assert [table.settle(now) for now in (0, 10, 29, 30, 1e9)] == [3, 2, 2, 1, 1]
    assert table.finished == {"success": 1, "failed": 1}
    assert table.peak_unfinished == 3
    assert table.makespan() == 30


def test_an_empty_table_has_no_makespan() -> None:
    """Nothing was begun, so nothing took any time."""
    assert TaskTable().makespan() == 0


@pytest.mark.parametrize("fault", FAILURES)
def test_a_fault_decides_how_a_task_fails(fault: str) -> None:
    """Each failure fault stands for one documented code."""
    submission = Submission(VEO, {"prompt": "x"}, None)

    assert TaskTable().failure_of(submission, frozenset({fault}), 0, 1) == FAILURES[fault]
    assert TaskTable().failure_of(submission, frozenset(), 0, 1) is None


@pytest.mark.parametrize(
    ("source", "now", "failure"),
    [
        pytest.param(make(), 100, None, id="finished"),
        pytest.param(make(), 99, TASK_ID_FAILURE, id="running"),
        pytest.param(make(), 1_100, TASK_ID_FAILURE, id="expired"),
        pytest.param(make(failure=("X", "x")), 100, TASK_ID_FAILURE, id="failed"),
        pytest.param(make("b"), 100, TASK_ID_FAILURE, id="unknown"),
        pytest.param(
            make(submission=Submission(EXTEND, {}, None)), 100, TASK_ID_FAILURE, id="extension"
        ),
    ],
)
def test_only_a_finished_video_can_be_extended(
    source: Task, now: float, failure: tuple[str, str] | None
) -> None:
    """The source must be a successful, unexpired task of veo-3-1 on this server."""
    table = TaskTable()
    table.add(source)
    extension = Submission(EXTEND, {"taskId": "a"}, None)

    assert table.failure_of(extension, frozenset(), now, LIFETIME) == failure


def test_a_task_is_described_for_people() -> None:
    """The row says what was asked for, where it stands and what it cost."""
    row = describe(make(at=10, faults=["early_404"]), 50, Clock(1, lambda: 0, 0, epoch_ms=1_000))

    assert row == {
        "id": "a",
        "model": "veo-3-1",
        "prompt": "x",
        "mode": "fast",
        "state": "processing",
        "duration": 100,
        "accepted_at": 11_000,
        "ends_at": 111_000,
        "fail_code": None,
        "faults": ["early_404"],
        "polls": 0,
        "billed": 0.2,
    }


def test_a_task_without_end_is_described_without_one() -> None:
    """JSON has no infinity: duration and end are null."""
    row = describe(make(duration=math.inf), 50, Clock(1, lambda: 0, 0, epoch_ms=0))

    assert row["duration"] is row["ends_at"] is None
