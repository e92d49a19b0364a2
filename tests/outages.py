"""A minute without the API in the middle of a batch of 1,000 running tasks, in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import attrs

from apixo_async import (
    BatchRunner,
    LearnedSchedule,
    Limits,
    Outcome,
    OutcomeStatus,
    PollSchedule,
    StopReason,
    TextToVideo,
    WebhookReceiver,
)
from apixo_async.limits.buckets import bucket_size
from tests.simulated import Account, Allowance, Fate, Outage, SimulatedTask, calling, client_of
from tests.virtual import run_virtual

BEGINS: Final = 200.0
LASTS: Final = 60.0
"""Between the second and the third round of the slots, when a schedule that learns has learned."""
ROUNDS: Final = 2.5
LATE: Final = 30
"""Slots, of a thousand, that are kept free for what is submitted during the outage."""
SECRET: Final = "a secret of the tests alone"

SCHEDULES: Final[Mapping[str, PollSchedule]] = {
    "documented": PollSchedule(),
    "learned": LearnedSchedule(),
    "callbacks": LearnedSchedule(),
}


@attrs.frozen(kw_only=True)
class Aftermath:
    """What an outage left behind. Seconds are from its end, or from a later end of a task."""

    ended: list[float]
    """Until the client knew of each task that ended in it and was due to be seen, shortest first.

    Due are all but those at which the documented schedule looks for the first time later.
    """
    running: list[float]
    """The same for all tasks that ran at any moment of it."""
    most_a_second: int
    """What the gate lets through in a second."""
    busiest_window: int
    busiest_second: int
    """Requests in any second after the outage."""
    refused: int
    peak_unfinished: int
    statuses: Counter[OutcomeStatus]
    stopped: StopReason | None
    arrived: Counter[str]
    billed: Counter[str]
    doubtful: set[str]
    """Prompts whose outcome is uncertain."""
    late_submits: int
    """Submits that were made while there was no API."""


def busiest(times: Sequence[float], *, seconds: float) -> int:
    """The most of these moments, in order, that lie within so many seconds."""
    return max(
        (bisect_right(times, start + seconds) - index for index, start in enumerate(times)),
        default=0,
    )


def mean(values: Sequence[float]) -> float:
    """Their average."""
    return math.fsum(values) / len(values)


def after_outage(fate: Fate, name: str, *, tasks: int = 1_000, seed: int = 1) -> Aftermath:
    """Runs a batch of so many tasks at a time to its end, with the schedule of this name.

    The request rate is ten times the number of tasks a minute, as documented.
    """
    return run_virtual(_run(fate, name, tasks, seed))


async def _run(fate: Fate, name: str, tasks: int, seed: int) -> Aftermath:
    rng, jobs = random.Random(seed), round(ROUNDS * tasks)
    durations = [rng.lognormvariate(math.log(120) - 0.25**2 / 2, 0.25) for _ in range(jobs)]

    def duration(given: Mapping[str, Any]) -> float:
        return durations[int(given["prompt"].rpartition(" ")[2])]

    receiver = WebhookReceiver("https://receiver.test", secret=SECRET)
    account = Account(
        duration,
        allows=[Allowance(requests_per_minute=10 * tasks, concurrent_tasks=tasks)],
        outage=Outage(fate, BEGINS, BEGINS + LASTS),
        calls=calling(receiver) if name == "callbacks" else None,
    )
    client = client_of(
        account,
        seed=seed,
        limits=Limits(requests_per_minute=10 * tasks, concurrent_tasks=tasks),
        schedule=SCHEDULES[name],
        webhook=receiver if name == "callbacks" else None,
    )
    outcomes: list[Outcome] = []

    async def prompts() -> AsyncIterator[TextToVideo]:
        """As many as there are slots but for some, which are filled one by one in the outage."""
        loop, kept = asyncio.get_running_loop(), LATE * tasks // 1_000
        for number in range(jobs):
            while True:
                since = (loop.time() - account.opened_at - BEGINS) * kept / LASTS
                if number - len(outcomes) < tasks - kept + min(max(since, 0.0), kept):
                    break
                await asyncio.sleep(0.1)
            yield TextToVideo(f"scene {number}")

    runner = BatchRunner(client, schedule=SCHEDULES[name])
    async with client, runner.stream(prompts()) as stream:
        async for outcome in stream:
            outcomes.append(outcome)  # noqa: PERF401  # the prompts wait for it
    schedule = SCHEDULES[name]
    waits = 0.0 if isinstance(schedule, LearnedSchedule) else schedule.first + schedule.interval
    size = bucket_size(10 * tasks)
    return _aftermath(
        account, outcomes, stream.stopped, waits, math.floor(size.burst + size.per_second)
    )


def _aftermath(
    account: Account,
    outcomes: Sequence[Outcome],
    stopped: StopReason | None,
    waits: float,
    most_a_second: int,
) -> Aftermath:
    doubtful = {
        str(outcome.job.request.prompt)
        for outcome in outcomes
        if outcome.status is OutcomeStatus.UNCERTAIN
        and isinstance(outcome.job.request, TextToVideo)
    }
    begins = account.opened_at + BEGINS
    ends = begins + LASTS
    through = [task for task in account.tasks if task.accepted_at < ends and task.ends_at > begins]
    after = [moment for moment in account.requests if moment >= ends]
    return Aftermath(
        ended=_recovery([task for task in through if _was_due(task, waits, ends)], ends),
        running=_recovery(through, ends),
        busiest_window=account.busiest_window,
        most_a_second=most_a_second,
        busiest_second=busiest(after, seconds=1.0),
        refused=len(account.refused),
        peak_unfinished=account.peak_unfinished,
        statuses=Counter(outcome.status for outcome in outcomes),
        stopped=stopped,
        arrived=account.arrived,
        billed=account.billed,
        doubtful=doubtful,
        late_submits=account.late_submits,
    )


def _was_due(task: SimulatedTask, waits: float, ends: float) -> bool:
    return max(task.ends_at, task.accepted_at + waits) < ends


def _recovery(tasks: Sequence[SimulatedTask], ends: float) -> list[float]:
    return sorted(
        task.learned_at - max(task.ends_at, ends) for task in tasks if task.learned_at is not None
    )
