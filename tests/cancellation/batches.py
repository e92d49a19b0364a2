"""Batches that are cancelled: what runs, on which server, and in which program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from apixo_async import ApixoClient, BatchRunner, Limits, Outcome, PollSchedule, TextToVideo
from tests.cancellation.scenes import (
    LOST,
    SPLIT,
    UNSENT,
    Api,
    check_gate,
    check_waiters,
    refusal,
)
from tests.cancellation.stepping import Scene, Stage, sweep, sweep_again, sweep_hasty
from tests.fakes import client_for, receiver, widen


def quick(api: Api, *, tasks: int = 2) -> ApixoClient:
    """A client that looks every second, and sends all that it has slots for at once."""
    client = client_for(
        api,
        limits=Limits(concurrent_tasks=tasks),
        schedule=PollSchedule(first=1.0, interval=1.0, deadline=100),
    )
    widen(client.engine.gate)
    return client


def _short(_: int) -> float:
    return 2.5


JOBS = [TextToVideo(f"prompt {number}") for number in range(3)]


Taken: TypeAlias = list[Outcome]
Batch: TypeAlias = Callable[[BatchRunner, Taken], Coroutine[Any, Any, None]]


async def _run(runner: BatchRunner, taken: Taken) -> None:
    try:
        await runner.run(JOBS)
    finally:
        taken += runner.report.outcomes


async def _stream(runner: BatchRunner, taken: Taken) -> None:
    outcomes = runner.stream(iter(JOBS))
    try:
        async with outcomes:
            async for outcome in outcomes:
                taken.append(outcome)
    finally:
        taken += outcomes.left


async def _stream_left(runner: BatchRunner, taken: Taken) -> None:
    async def requests() -> AsyncIterator[TextToVideo]:
        for job in JOBS:
            await asyncio.sleep(0.1)
            yield job

    outcomes = runner.stream(requests())
    try:
        async with outcomes:
            taken.append(await anext(outcomes))
    finally:
        taken += outcomes.left


async def _resumed(runner: BatchRunner, taken: Taken) -> None:
    try:
        await runner.resume()
    finally:
        taken += runner.report.outcomes


async def begin(api: Api, journal: Path) -> None:
    """A first process, which leaves the journal with tasks that run and jobs that wait."""
    async with quick(api) as client, BatchRunner(client, journal=journal).stream(JOBS):
        await asyncio.sleep(1)
    api.is_closed = False


BATCHES: dict[str, tuple[Batch, Callable[[], Api]]] = {
    "run": (_run, lambda: Api(duration=_short)),
    "run, odd answers": (_run, lambda: Api(duration=_short, first=(LOST, refusal(429), UNSENT))),
    "run, split": (_run, lambda: Api(duration=_short, first=(SPLIT,))),
    "run, found": (_run, lambda: Api(duration=_short, first=(LOST,), receiver=receiver())),
    "stream": (_stream, lambda: Api(duration=_short)),
    "stream left": (_stream_left, lambda: Api(duration=_short)),
    "resumed": (_resumed, lambda: Api(duration=_short)),
}


async def play_batch(stage: Stage, client: ApixoClient, batch: Coroutine[Any, Any, None]) -> None:
    """Cancels a program that opens the client, runs the batch, and closes the client."""

    async def program() -> None:
        async with client:
            await batch

    others = asyncio.all_tasks()
    caller = await stage.cancelled(program())
    batch.close()  # where it never began
    assert caller.cancelled() == (stage.cancels > 0)
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == others
    check_gate(client, running=0)
    check_waiters(client)


def cut_in(stage: Stage, api: Api) -> int:
    """POSTs whose answers nobody can have had: lost ones, and those that a hasty end has cut."""
    return (LOST in api.first) + 2 * (len(stage.at) > 2)


def sweep_often(scene: Scene) -> None:
    """Once at every step, and twice and thrice at a sample."""
    lengths = sweep(scene)
    assert len(lengths) > 50
    sweep_again(scene, lengths, most=50)
    sweep_hasty(scene, lengths)
