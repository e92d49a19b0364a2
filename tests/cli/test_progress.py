from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    Job,
    Outcome,
    OutcomeStatus,
    Task,
    TaskFailedError,
    TextToVideo,
)
from apixo_async.batch import events
from apixo_async.batch.spending import Prices
from apixo_async.cli.figures import Traffic
from apixo_async.cli.money import Cost
from apixo_async.cli.progress import Progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment of the test."""
    return START + timedelta(seconds=seconds)


def outcome(key: str, status: OutcomeStatus, **more: Any) -> Outcome:  # noqa: ANN401  # its fields
    """An outcome of that status."""
    return Outcome(job=Job(TextToVideo("a"), key=key), index=0, status=status, **more)


def queue(progress: Progress, key: str, seconds: float = 0) -> None:
    """A job begins."""
    progress.note(events.Queued(key=key, index=0, model="veo-3-1", at=at(seconds)))


def accept(progress: Progress, key: str, seconds: float = 0) -> None:
    """A job begins and its task exists."""
    queue(progress, key, seconds)
    task_id = f"task-{key}"
    progress.note(events.Accepted(key=key, task_id=task_id, model="veo-3-1", at=at(seconds)))


def succeed(progress: Progress, key: str, seconds: float) -> None:
    """The task of a job has a result."""
    task = Task(id=f"task-{key}", model="veo-3-1", state="success")
    progress.note(events.Succeeded(key=key, task=task, at=at(seconds)))


def test_jobs_move_from_queued_over_running_and_saving_to_done() -> None:
    """At each step of its life a job is counted in exactly one place."""
    progress = Progress(3)
    seen = []

    def look() -> None:
        now = progress.figures(at(0))
        seen.append((now.queued, now.running, now.saving, now.done))

    look()
    accept(progress, "a")
    look()
    succeed(progress, "a", 9)
    look()
    progress.finish(outcome("a", OutcomeStatus.SUCCEEDED))
    look()

    assert seen == [(3, 0, 0, 0), (2, 1, 0, 0), (2, 0, 1, 0), (2, 0, 0, 1)]


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        (OutcomeStatus.FAILED, (1, 0, 0, 1)),
        (OutcomeStatus.TIMED_OUT, (0, 1, 0, 1)),
        (OutcomeStatus.UNCERTAIN, (0, 0, 1, 1)),
        (OutcomeStatus.NOT_STARTED, (0, 0, 0, 0)),
    ],
)
def test_what_went_wrong_is_counted_by_kind(
    status: OutcomeStatus, counted: tuple[int, int, int, int]
) -> None:
    """A task that goes on has not failed, nor has what is uncertain; not started is not done."""
    progress = Progress(1)
    accept(progress, "a")
    progress.finish(outcome("a", status, error=ApixoError("x")))

    now = progress.figures(at(0))

    assert (now.failed, now.timed_out, now.uncertain, now.done) == counted
    assert now.running == 0


def test_a_task_that_ended_twice_leaves_the_running_ones_once() -> None:
    """A failed task is no longer running from its event on, and its outcome changes nothing."""
    progress = Progress(2)
    accept(progress, "a")
    accept(progress, "b")
    task = Task(id="task-a", model="veo-3-1", state="failed")
    progress.note(events.Failed(key="a", task=task, reason="x"))
    assert progress.figures(at(0)).running == 1

    progress.finish(outcome("a", OutcomeStatus.FAILED, task=task, error=ApixoError("x")))

    assert progress.figures(at(0)).running == 1


def test_left_behind_are_the_jobs_with_a_task_and_no_outcome() -> None:
    """Running tasks and finished ones that nobody took are named; queued and done ones are not."""
    progress = Progress(4)
    queue(progress, "queued")
    for key in ("running", "finished", "done"):
        accept(progress, key)
    succeed(progress, "finished", 5)
    succeed(progress, "done", 5)
    progress.finish(outcome("done", OutcomeStatus.SUCCEEDED))

    assert [job.task_id for job in progress.left_behind()] == ["task-running", "task-finished"]


def test_trouble_is_shown_until_a_submit_gets_through() -> None:
    """The reason why a submit did not leave is shown, and gone with the next accepted one."""
    progress = Progress(1)
    progress.note(events.NotSent(key="a", attempt=1, reason="cannot reach host"))
    assert progress.figures(at(0)).trouble == "cannot reach host"

    accept(progress, "a")

    assert not progress.figures(at(0)).trouble


def test_no_time_left_is_claimed_before_a_task_has_ended() -> None:
    """Without a single finished task nothing is known about the time left."""
    progress = Progress(2)
    accept(progress, "a")
    assert progress.figures(at(100)).eta is None

    succeed(progress, "a", 120)

    assert progress.figures(at(120)).eta == pytest.approx(120)


def test_a_task_that_is_generated_again_runs_again() -> None:
    """And leaves the running ones at its second end."""
    progress = Progress(1)
    accept(progress, "a")
    task = Task(id="task-a", model="veo-3-1", state="failed")
    progress.note(events.Failed(key="a", task=task, reason="x"))
    progress.note(events.Accepted(key="a", task_id="task-b", model="veo-3-1", at=at(5)))
    assert progress.figures(at(5)).running == 1

    succeed(progress, "a", 9)

    assert progress.figures(at(9)).running == 0


@pytest.mark.parametrize("saves", [True, False])
def test_what_has_ended_is_queued_no_more(saves: bool) -> None:
    """Between its last file, or its end, and its outcome a job is not counted as one to come."""
    progress = Progress(2, saves=saves)
    queue(progress, "a")
    accept(progress, "a")
    succeed(progress, "a", 60)
    progress.note(events.AllSaved(key="a"))
    now = progress.figures(at(61))

    assert (now.queued, now.running, now.saving, now.done) == (1, 0, 0, 0)


def test_a_total_that_was_too_small_grows() -> None:
    """What is missing on disk shows only when it is looked for."""
    progress = Progress(0)
    progress.finish(outcome("a", OutcomeStatus.SUCCEEDED))
    accept(progress, "b")
    now = progress.figures(at(0))

    assert (now.total, now.done, now.queued) == (2, 1, 0)
    assert now.share == 0.5


def test_nothing_is_being_saved_without_a_directory() -> None:
    """Nor once all files are there, where nobody takes the outcome."""
    for progress in (Progress(1, saves=False), saving := Progress(1)):
        accept(progress, "a")
        succeed(progress, "a", 9)
    assert progress.figures(at(9)).saving == 1

    saving.note(events.AllSaved(key="a"))

    assert saving.figures(at(9)).saving == 0
    assert Progress(1, saves=False).figures(at(9)).saving == 0


def test_time_in_which_no_process_looked_does_not_count() -> None:
    """A task of an earlier process took what the API says; one of this run what was seen."""
    progress = Progress(2)
    early = events.Accepted(key="a", task_id="task-a", model="veo-3-1", at=at(-5_000))
    progress.note(early)
    task = Task(id="task-a", model="veo-3-1", state="success", duration=120)
    progress.note(events.Succeeded(key="a", task=task, at=at(0)))
    accept(progress, "b", 0)

    assert progress.figures(at(0)).eta == pytest.approx(120)


def test_the_time_left_does_not_grow_on_a_task_that_is_stuck() -> None:
    """It shrinks until it is over, and then nothing is claimed."""
    progress = Progress(11)
    for number in range(11):
        accept(progress, f"k{number}")
    for number in range(10):
        succeed(progress, f"k{number}", 100 + number)
        progress.finish(outcome(f"k{number}", OutcomeStatus.SUCCEEDED))
    left = [progress.figures(at(now)).eta for now in (109, 110, 200, 5_000)]

    assert left == sorted(left, reverse=True)  # type: ignore[type-var]  # none is None here
    assert left[-1] == 0


def test_submits_are_counted_that_left_and_are_not_recorded() -> None:
    """And how often jobs were sent that end in doubt; what did not leave does not count."""
    progress = Progress(2)
    for key in "ab":
        queue(progress, key)
        progress.note(events.Sending(key=key, attempt=1))
    assert progress.unanswered == 2

    progress.note(events.NotSent(key="a", attempt=1, reason="x"))
    progress.note(events.Sending(key="a", attempt=2))
    progress.note(events.Uncertain(key="a", reason="x", phase="sent"))
    assert progress.unanswered == 1

    progress.finish(outcome("a", OutcomeStatus.UNCERTAIN))
    assert (progress.unanswered, progress.doubtful_posts) == (1, 1)


def test_a_job_whose_callback_may_come_is_not_queued() -> None:
    """Its submit was not answered; it runs once its task is known, and is uncertain if not."""
    progress = Progress(3)
    for key in "ab":
        queue(progress, key)
        progress.note(events.Sending(key=key, attempt=1, calls_back=True))
        progress.note(events.Uncertain(key=key, reason="x", phase="sent"))
    waiting = progress.figures(at(0))
    progress.note(events.Identified(key="a", task_id="t1"))
    progress.finish(outcome("b", OutcomeStatus.UNCERTAIN))
    later = progress.figures(at(100))

    assert (waiting.doubtful, waiting.running, waiting.queued) == (2, 0, 1)
    assert (later.doubtful, later.running, later.queued, later.uncertain) == (0, 1, 1, 1)
    assert [job.model for job in progress.left_behind()] == ["veo-3-1"]


def test_tasks_that_run_longer_than_any_so_far_are_counted() -> None:
    """Where only those are left, nothing is claimed about the time."""
    progress = Progress(2)
    for key in "ab":
        accept(progress, key)
    succeed(progress, "a", 100)
    now = progress.figures(at(150))

    assert (now.eta, now.late) == (0, 1)


def test_no_more_tasks_are_late_than_run() -> None:
    """Also between two reckonings: one that has ended is late no more."""
    progress = Progress(12)
    for number in range(12):
        accept(progress, f"k{number}")
    for number in range(10):
        succeed(progress, f"k{number}", 100)
    before = progress.figures(at(150))
    succeed(progress, "k10", 150)
    after = progress.figures(at(150.5))

    assert (before.running, before.late) == (2, 2)
    assert (after.running, after.late) == (1, 1)


def test_the_time_left_is_reckoned_once_a_second() -> None:
    """In between it counts down, whatever happens."""
    progress = Progress(3)
    for key in "ab":
        accept(progress, key)
    succeed(progress, "a", 100)
    first = progress.figures(at(100)).eta
    assert first is not None

    assert progress.figures(at(100.75)).eta == pytest.approx(first - 0.75)


def test_the_time_left_is_told_as_soon_as_it_is_known() -> None:
    """Not up to a second later, which is long where a clock goes many times as fast."""
    progress = Progress(2, saves=False)
    for key in "ab":
        accept(progress, key)

    assert progress.figures(at(100)).eta is None
    succeed(progress, "a", 100.1)
    assert progress.figures(at(100.25)).eta is not None


@pytest.mark.parametrize(
    ("cap", "unfinished", "eta"), [(4, 2, 220), (2, 2, 340), (4, 4, 340), (9, 2, 220)]
)
def test_slots_that_are_not_to_be_had_do_not_count(cap: int, unfinished: int, eta: float) -> None:
    """Two tasks of 120 s are 20 s old, four ran at once, four jobs wait.

    Fewer slots are left where the account allows less, or where submits in doubt hold some.
    """
    progress = Progress(10)
    for key in "abcd":
        accept(progress, key)
    for key in "abcd":
        succeed(progress, key, 120)
        progress.finish(outcome(key, OutcomeStatus.SUCCEEDED))
    for key in "ef":
        accept(progress, key, 120)

    assert progress.figures(at(140), Traffic(0, 9, unfinished, cap)).eta == pytest.approx(eta)


KINDS: Mapping[str, Callable[[random.Random], tuple[str, float]]] = {
    "all alike": lambda chance: ("fast", max(30.0, chance.gauss(120, 20))),
    "wide": lambda chance: ("fast", 60 + chance.expovariate(1 / 60)),
    "two modes": lambda chance: (
        ("fast", max(30.0, chance.gauss(80, 10)))
        if chance.random() < 0.6
        else ("quality", max(60.0, chance.gauss(200, 25)))
    ),
}


@pytest.mark.parametrize("kinds", KINDS)
def test_the_time_left_is_near_what_comes(kinds: str) -> None:
    """In a batch of 200 jobs, 50 at a time, looked at every 15 s: within a tenth of it on average.

    And never wrong by half of it, from the first claim on, which comes with the first wave.
    """
    claims, end = simulated(KINDS[kinds], random.Random(1))
    errors = [abs(claimed - (end - when)) / end for when, claimed in claims if claimed]

    assert sum(errors) / len(errors) < 0.1
    assert max(errors) < 0.5
    assert next(when for when, claimed in claims if claimed) < 150


def simulated(
    life: Callable[[random.Random], tuple[str, float]], chance: random.Random
) -> tuple[list[tuple[float, float | None]], float]:
    """What was claimed about the time left, and when, and when it was all over."""
    progress, running, claims = Progress(200, saves=False), list[tuple[float, str]](), []
    number, look, now = 0, 15.0, 0.0
    while number < 200 or running:
        while number < 200 and len(running) < 50:
            key, (mode, seconds) = f"k{number}", life(chance)
            progress.note(events.Queued(key=key, index=0, model="m", mode=mode, at=at(now)))
            progress.note(events.Accepted(key=key, task_id=key, model="m", at=at(now)))
            heapq.heappush(running, (now + seconds, key))
            number += 1
        now, key = heapq.heappop(running)
        while look < now:
            claims.append((look, progress.figures(at(look)).eta))
            look += 15
        task = Task(id=key, model="m", state="success")
        progress.note(events.Succeeded(key=key, task=task, at=at(now)))
        progress.finish(outcome(key, OutcomeStatus.SUCCEEDED))
    return claims, now


def test_the_rate_is_that_of_the_last_minutes() -> None:
    """Since the first submit where that was later; before it there is none."""
    progress = Progress(20)
    assert progress.figures(at(0)).per_minute is None
    for number in range(12):
        accept(progress, f"k{number}")
        succeed(progress, f"k{number}", 60)

    assert progress.figures(at(120)).per_minute == pytest.approx(6)
    assert progress.figures(at(600)).per_minute == 0


def test_what_was_sent_costs_until_it_surely_made_no_task() -> None:
    """Earlier runs count, too; a submit that is on its way or in doubt may be billed."""
    progress = Progress(
        9,
        prices=Prices({"fast": "0.20"}),
        max_cost=Decimal(5),
        charged={("veo-3-1", "fast"): 10, ("other", None): 1},
    )
    costs = [progress.figures(at(0)).cost]
    endings: tuple[events.Event, ...] = (
        events.NotSent(key="a", attempt=1, reason="x"),
        events.Rejected(key="a", reason="x"),
        events.Uncertain(key="a", reason="x", phase="sent"),
    )
    for attempt, ending in enumerate(endings):
        progress.note(events.Queued(key="a", index=0, model="veo-3-1", mode="fast"))
        progress.note(events.Sending(key="a", attempt=attempt))
        costs.append(progress.figures(at(0)).cost)
        progress.note(ending)
        costs.append(progress.figures(at(0)).cost)

    assert [str(cost.known) for cost in costs if cost] == [
        "2.00", "2.20", "2.00", "2.20", "2.00", "2.20", "2.20"
    ]  # fmt: skip
    assert costs[0] == Cost(Decimal("2.00"), Decimal(5), is_whole=False)
    assert Progress(1).figures(at(0)).cost is None


def test_what_went_wrong_is_kept_by_reason() -> None:
    """The reason that was met last comes first, with the key of its last job."""
    progress = Progress(9)
    for key, code in [("a", "X"), ("b", "Y"), ("c", "X")]:
        task = Task(id=key, model="veo-3-1", state="failed", fail_code=code)
        progress.finish(outcome(key, OutcomeStatus.FAILED, error=TaskFailedError(task)))
    progress.finish(outcome("d", OutcomeStatus.NOT_STARTED))
    progress.finish(outcome("e", OutcomeStatus.SUCCEEDED))

    assert [(one.why, one.count, one.last) for one in progress.figures(at(0)).reasons] == [
        ("X", 2, "c"),
        ("Y", 1, "b"),
    ]
