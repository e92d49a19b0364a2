"""One client, one event loop: what another loop is told, and one that ends too early."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    ClientUsageError,
    Limits,
    OutcomeStatus,
    PollSchedule,
    Task,
    TaskState,
    TextToVideo,
)
from apixo_async.client.verbs import ClientStatistics
from apixo_async.emulator import EmulatorSettings
from apixo_async.testing import EmulatorThread
from tests.fakes import FakeApi, client_for
from tests.hand import move_by_hand

OCEAN = TextToVideo("a calm ocean")
DONE = Task(id="t", model="m", state=TaskState.SUCCESS, urls=("http://127.0.0.1:1/v.mp4",))
SPEED = 100
SCHEDULE = PollSchedule(first=90 / SPEED, interval=5 / SPEED, deadline=30)

VERBS: dict[str, Callable[[ApixoClient], Awaitable[object]]] = {
    "submit": lambda client: client.submit(OCEAN),
    "status": lambda client: client.status("task_1"),
    "wait": lambda client: client.wait("task_1"),
    "watch": lambda client: anext(client.watch("task_1")),
    "generate": lambda client: client.generate(OCEAN),
    "download": lambda client: client.download(DONE, "unused"),
    "balance": lambda client: client.balance(),
    "batch": lambda client: BatchRunner(client).run([OCEAN]),
    "aclose": lambda client: client.aclose(),
    "block": lambda client: client.__aenter__(),
}


async def awaited(call: Awaitable[object]) -> None:
    """A coroutine of anything that can be awaited."""
    await call


def in_another_loop(client: ApixoClient, call: Callable[[ApixoClient], Awaitable[object]]) -> None:
    """What a thread does that knows nothing of the client's loop."""
    asyncio.run(awaited(call(client)))


@pytest.mark.parametrize("call", VERBS.values(), ids=VERBS)
async def test_another_thread_is_told_that_the_client_has_a_loop(
    call: Callable[[ApixoClient], Awaitable[object]],
) -> None:
    """Whatever it asks for: an error that says so, nothing is sent, and the first loop goes on."""
    api = FakeApi(duration=lambda _: 0.2)
    async with client_for(api, schedule=PollSchedule(first=0.2, interval=0.05)) as client:
        waiting = asyncio.create_task(client.generate(OCEAN))
        await asyncio.sleep(0.1)
        with pytest.raises(ClientUsageError, match="another event loop"):
            await asyncio.to_thread(in_another_loop, client, call)

        assert (await waiting).has_succeeded
    assert len(api.submits) == 1


@pytest.mark.parametrize(
    ("jobs", "latency", "is_so", "told"),
    [
        (
            1,
            60.0,
            lambda now: now.submits_in_flight == 1,
            "1 submits were cut, and 0 tasks go on at the server: ids none",
        ),
        (
            4,
            0.01,
            lambda now: now.unfinished_tasks == 2 and not now.submits_in_flight,
            "0 submits were cut, and 2 tasks go on at the server: ids task_1, task_2",
        ),
    ],
    ids=["a submit", "tasks, and two that wait for a slot"],
)
def test_what_a_loop_left_can_be_closed_and_is_named(
    jobs: int,
    latency: float,
    is_so: Callable[[ClientStatistics], bool],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a loop that stopped with work in it, another one closes the client and tells ids."""
    api = FakeApi(latency=latency)
    client = client_for(api, limits=Limits(concurrent_tasks=2))
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        running.extend(asyncio.create_task(client.generate(OCEAN)) for _ in range(jobs))
        while not is_so(client.statistics()):  # noqa: ASYNC110  # nothing tells it
            await asyncio.sleep(0.001)

    async def close() -> None:
        await asyncio.wait_for(client.aclose(), 30)
        await client.aclose()
        with pytest.raises(ClientUsageError, match="closed"):
            await client.balance()

    running: list[asyncio.Task[Task]] = []
    loop.run_until_complete(begin())
    asyncio.run(close())
    messages = [record.getMessage() for record in caplog.records if record.name == "apixo_async"]
    for task in (left := asyncio.all_tasks(loop)):
        task.cancel()
    loop.run_until_complete(asyncio.wait(left))
    loop.close()

    assert api.is_closed
    assert messages == [f"the event loop ended before this client was closed: {told}"]


PROGRAM = """
import asyncio, logging, sys
from apixo_async import ApixoClient, BatchRunner, Job, PollSchedule, TextToVideo

way, journal, speed = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.basicConfig(level=logging.WARNING, format="%(message)s")

async def begin():
    client = ApixoClient(schedule=PollSchedule(first=90 / speed, interval=5 / speed, deadline=30))
    jobs = [Job(TextToVideo(f"prompt {n}", mode="fast"), key=f"k{n}") for n in range(3)]
    batch = asyncio.create_task(BatchRunner(client, journal=journal).run(jobs))
    while client.statistics().unfinished_tasks < len(jobs) or client.statistics().submits_in_flight:
        await asyncio.sleep(0.001)
    return client, batch

if way == "returned":
    asyncio.run(begin())
else:
    loop = asyncio.new_event_loop()
    client, batch = loop.run_until_complete(begin())
    loop.close()
    asyncio.run(client.aclose())
"""


@pytest.mark.parametrize("way", ["returned", "closed"])
async def test_a_loop_that_ends_under_a_batch_loses_no_task(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has the ids, the log names them, the process ends, and the batch can go on."""
    db, hand = tmp_path / "run.db", move_by_hand(monkeypatch)
    with EmulatorThread(EmulatorSettings(speed=SPEED, seed=3)) as emulator:
        environment = {"APIXO_API_KEY": emulator.api_key, "APIXO_BASE_URL": emulator.base_url}
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", PROGRAM, way, str(db), str(SPEED)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        hand.seconds = 1_000
        with sqlite3.connect(f"file:{db}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT state, task_id FROM jobs").fetchall()
        database.close()
        client = ApixoClient(emulator.api_key, base_url=emulator.base_url, schedule=SCHEDULE)
        async with client:
            report = await BatchRunner(client, journal=db).resume()

        assert emulator.ledger.billed_total == 3
    assert ended.returncode == 0, ended.stderr
    assert {state for state, _ in rows} == {"accepted"}
    assert "tasks go on at the server" in ended.stderr
    assert all(task_id in ended.stderr for _, task_id in rows)
    assert [outcome.status for outcome in report.outcomes] == [OutcomeStatus.SUCCEEDED] * 3
