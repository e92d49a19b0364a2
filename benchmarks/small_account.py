"""What a client at default limits gets out of an account with small ones, and out of its upgrade.

    python -m benchmarks.small_account [--json FILE] [--plot PNG]

The account allows 3 tasks and 10 requests a minute, and after 40 minutes 10 tasks and 60 requests.
The client believes in 1,000 and 10,000 and has to find out. Shown is, for both phases, how many
videos of about two minutes it finished of those that the slots allow without any delay, and which
part of its requests was answered 429. Two more clients are set to the limits of a phase. The API
is simulated and the time virtual. Exits with 1 when too little is finished or too much refused; to
those that are set to the limits, nothing must be.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from apixo_async import ApixoClient, BatchRunner, Limits, TextToVideo
from benchmarks._batch import SEED, lognormal, named
from benchmarks._phases import Minute, Phase, Story, refusals
from benchmarks._report import Table, options, verdict, write_json
from tests.simulated import Account, Allowance, client_of
from tests.virtual import run_virtual

PHASE: Final = 40
"""Minutes before the upgrade, and after it."""
SMALL: Final = Allowance(requests_per_minute=10, concurrent_tasks=3)
LARGER: Final = Allowance(requests_per_minute=60, concurrent_tasks=10)
UPGRADED: Final = (SMALL, attrs.evolve(LARGER, since=60.0 * PHASE))


# What there is to do


def durations() -> Iterator[float]:
    """As many as anyone may want, always the same."""
    rng = random.Random(SEED)
    while True:
        yield lognormal(rng, mean=120, sigma=0.25)


def allowed_ends(allows: Sequence[Allowance], minutes: float) -> list[float]:
    """When the tasks end if each begins on the slot that is free first, without any delay."""
    free: list[float] = []
    for allowance in allows:
        free += [allowance.since] * (allowance.concurrent_tasks - len(free))
    ends: list[float] = []
    for seconds in durations():
        if free[0] > 60 * minutes:
            break
        ends.append(free[0] + seconds)
        heapq.heapreplace(free, ends[-1])
    return sorted(ends)


# Measuring


def run(name: str, limits: Limits, allows: Sequence[Allowance], minutes: int) -> Story:
    """Gives a client more to do than it can for so many minutes."""

    async def busy() -> Story:
        loop, seconds = asyncio.get_running_loop(), durations()
        by_prompt: dict[str, float] = {}
        account = Account(lambda given: by_prompt.pop(given["prompt"]), allows=allows)
        client = client_of(account, seed=SEED, limits=limits)
        caps: list[tuple[int, int]] = []
        for minute in range(1, minutes + 1):
            loop.call_at(account.opened_at + 60 * minute, lambda: caps.append(found_by(client)))

        def requests() -> Iterator[TextToVideo]:
            for number, by_prompt[named(number)] in enumerate(seconds):
                yield TextToVideo(named(number), mode="fast")

        async with client, BatchRunner(client).stream(requests()) as outcomes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60 * minutes + 1):
                    async for _ in outcomes:
                        pass
        return Story(client=name, minutes=list(_by_minute(account, allows, caps)))

    return run_virtual(busy())


def found_by(client: ApixoClient) -> tuple[int, int]:
    """The limits that it goes by at this moment: tasks and requests a minute."""
    gate = client.statistics().gate
    return gate.tasks_cap, gate.requests_cap


def _by_minute(
    account: Account, allows: Sequence[Allowance], caps: Sequence[tuple[int, int]]
) -> Iterator[Minute]:
    allowed = allowed_ends(allows, len(caps))
    learned = sorted(task.learned_at for task in account.tasks if task.learned_at is not None)
    for minute, (tasks_cap, requests_cap) in enumerate(caps, start=1):
        end = account.opened_at + 60 * minute

        def within(times: Sequence[float], end: float = end) -> int:
            return bisect_right(times, end) - bisect_right(times, end - 60)

        refused = within(account.refused)
        yield Minute(
            minute=minute,
            answered=within(account.requests) - refused,
            refused=refused,
            jobs=bisect_right(learned, end),
            jobs_allowed=bisect_right(allowed, 60.0 * minute),
            tasks_cap=tasks_cap,
            requests_cap=requests_cap,
        )


def stories() -> list[Story]:
    """The client at default limits, and those that know better."""
    return [
        run("default limits", Limits(), UPGRADED, 2 * PHASE),
        run("set to 3 and 10", limits_of(SMALL), [SMALL], PHASE),
        run("set to 10 and 60", limits_of(LARGER), [LARGER], PHASE),
    ]


def limits_of(allowance: Allowance) -> Limits:
    """The settings that fit an account."""
    return Limits(
        requests_per_minute=allowance.requests_per_minute,
        concurrent_tasks=allowance.concurrent_tasks,
    )


# Telling


TABLE: Final = Table(
    {
        "client": -16,
        "minutes": -8,
        "jobs": 4,
        "allowed": 7,
        "of allowed": 10,
        "requests": 8,
        "429": 3,
        "429 share": 9,
    }
)


def tell(phase: Phase) -> None:
    """One row for people."""
    TABLE.row(
        phase.client,
        f"{phase.begins} to {phase.ends}",
        phase.jobs,
        phase.jobs_allowed,
        f"{phase.of_allowed:.2f}",
        phase.requests,
        phase.refused,
        f"{phase.refused_share:.3f}",
    )


def draw(story: Story, path: Path) -> None:
    """For the docs: what was finished, sent and believed, minute by minute."""
    from benchmarks import _plot  # noqa: PLC0415  # slow to import, and often not needed

    def line(value: Callable[[Minute], float]) -> list[float]:
        return [value(minute) for minute in story.minutes]

    def true(value: Callable[[Allowance], float]) -> list[float]:
        return [value(UPGRADED[minute.minute > PHASE]) for minute in story.minutes]

    _plot.course(
        path,
        [
            _plot.Course(
                title="jobs finished",
                lines={"ours": line(lambda m: m.jobs)},
                allowed={"allowed": line(lambda m: m.jobs_allowed)},
            ),
            _plot.Course(
                title="requests a minute",
                lines={"answered": line(lambda m: m.answered), "429": line(lambda m: m.refused)},
                allowed={"allowed": true(lambda a: a.requests_per_minute)},
            ),
            _plot.Course(
                title="limits the client goes by",
                lines={
                    "tasks": line(lambda m: m.tasks_cap),
                    "requests a minute": line(lambda m: m.requests_cap),
                },
                allowed={
                    "tasks, truly": true(lambda a: a.concurrent_tasks),
                    "requests, truly": true(lambda a: a.requests_per_minute),
                },
                is_log=True,
            ),
        ],
    )


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__).parse_args()
    logging.getLogger("apixo_async").setLevel(logging.ERROR)  # each ends amidst running tasks
    seen = stories()
    by_client = [story.phases(PHASE) for story in seen]
    TABLE.begin()
    complaints: list[str] = []
    for phases in by_client:
        complaints += refusals(phases)
        for row in phases:
            tell(row)
            complaints += row.complaints()
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(story) for story in seen])
    if asked.plot is not None:
        draw(seen[0], asked.plot)
    return verdict(complaints)


if __name__ == "__main__":
    sys.exit(main())
