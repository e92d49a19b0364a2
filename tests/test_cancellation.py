"""Whoever is cancelled, at whatever step: nothing leaks, nothing is lost, nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    LearnedSchedule,
    Limits,
    Task,
    TextToVideo,
)
from apixo_async.downloads import fetching
from tests.buckets import forget, in_memory, registered
from tests.cancellation.batches import BATCHES, Taken, begin, cut_in, play_batch, quick, sweep_often
from tests.cancellation.journals import copy_of, empty_journal, on_the_loop, told
from tests.cancellation.scenes import (
    LOST,
    SPLIT,
    UNSENT,
    Api,
    check_gate,
    check_waiters,
    refusal,
)
from tests.cancellation.stepping import (
    RealSteps,
    Stage,
    open_files,
    play,
    sweep,
    sweep_again,
)
from tests.fakes import Answer, FakeApi, client_for, envelope, receiver, widen
from tests.faults import FaultServer, answering, reply
from tests.filehost import VIDEO, FileHost, files_in

SHORT = VIDEO[:40_000]
OCEAN = TextToVideo("a calm ocean")

SUBMITS: dict[str, Callable[[], Api]] = {
    "accepted": lambda: Api(latency=10.0),
    "refused": lambda: Api(latency=10.0, first=(refusal(400),)),
    "throttled": lambda: Api(latency=10.0, first=(refusal(429),)),
    "not sent": lambda: Api(latency=10.0, first=(UNSENT,)),
    "lost": lambda: Api(latency=10.0, first=(LOST,)),
    "split": lambda: Api(latency=10.0, first=(SPLIT,)),
    "called back": lambda: Api(latency=10.0, receiver=receiver()),
    "lost and called back": lambda: Api(
        latency=10.0, first=(LOST,), receiver=receiver(), duration=lambda _: 8.0
    ),
}


@pytest.mark.parametrize("make", SUBMITS.values(), ids=SUBMITS)
def test_submit_cancelled_at_every_step(make: Callable[[], Api]) -> None:
    """The caller leaves at once; its POST is answered, its task named, and its slot the task's."""

    async def scene(stage: Stage) -> None:
        api = make()
        async with client_for(api) as client:
            caller = await stage.cancelled(client.submit(OCEAN))
            assert stage.left_after < 0.01
            assert caller.cancelled() == (stage.cancels > 0)
            await asyncio.sleep(60)
            check_gate(client, running=len(api.tasks))
            check_waiters(client)
            named = "" if caller.cancelled() or caller.exception() else caller.result().id
        is_lost = api.first == (LOST,) and api.receiver is None
        api.check(stage.log + named, refused=1, may_be_lost=is_lost)

    lengths = sweep(scene)
    assert len(lengths) > 8
    sweep_again(scene, lengths, most=400)


async def _watched(client: ApixoClient, task: Task) -> list[Task]:
    return [snapshot async for snapshot in client.watch(task)]


LOOKS: dict[str, Callable[[ApixoClient, Task], Coroutine[Any, Any, object]]] = {
    "status": lambda client, task: client.status(task),
    "wait": lambda client, task: client.wait(task),
    "watch": _watched,
    "wait, learned": lambda client, task: client.wait(task, schedule=LearnedSchedule()),
}


def _unwell() -> Api:
    """Refuses the first look for now, breaks off the second, then answers."""
    answers: list[Answer] = [refusal(429), LOST]
    return Api(on_status=lambda _: answers.pop(0) if answers else None)


SERVERS: dict[str, Callable[[], Api]] = {
    "well": Api,
    "unwell": _unwell,
    "called back": lambda: Api(receiver=receiver()),
}


@pytest.mark.parametrize("make", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_look_cancelled_at_every_step(
    look: Callable[[ApixoClient, Task], Coroutine[Any, Any, object]], make: Callable[[], Api]
) -> None:
    """The caller leaves at once; the task keeps its slot, and the next look works."""

    async def scene(stage: Stage) -> None:
        api = make()
        async with client_for(api) as client:
            task = await client.submit(OCEAN)
            caller = await stage.cancelled(look(client, task))
            assert stage.left_after < 0.01
            assert caller.cancelled() == (stage.cancels > 0)
            await asyncio.sleep(5)
            check_waiters(client)
            check_gate(client, running=len(client.engine.tracker))
            ended = await client.wait(task)
            check_gate(client, running=0)
        assert ended.has_succeeded
        api.check([task.id])

    lengths = sweep(scene)
    sweep_again(scene, lengths, most=100)


def test_close_cancelled_at_every_step() -> None:
    """Whoever waits is told, POSTs are answered or stated as cut, and closing again ends it."""

    async def scene(stage: Stage) -> None:
        api = Api(latency=10.0, duration=lambda _: 500)
        client = client_for(api, limits=Limits(concurrent_tasks=3))
        widen(client.engine.gate)
        task = await client.submit(OCEAN)
        callers = {
            asyncio.create_task(client.wait(task)),
            asyncio.create_task(client.submit(TextToVideo("in flight"))),
            asyncio.create_task(client.submit(TextToVideo("in flight, too"))),
            asyncio.create_task(client.submit(TextToVideo("in line"))),
        }
        await asyncio.sleep(2)
        closer = await stage.cancelled(client.aclose())
        assert closer.cancelled() == (stage.cancels > 0)
        await client.aclose()
        assert api.is_closed
        done, waiting = await asyncio.wait(callers, timeout=0.1)
        assert not waiting
        assert not any(caller.cancelled() for caller in done), "nobody cancelled these"
        check_gate(client, running=0)
        check_waiters(client)
        api.check(
            task.id + stage.log + str([caller.exception() or caller.result() for caller in done]),
            may_be_lost=2,
        )

    lengths = sweep(scene)
    sweep_again(scene, lengths, most=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BATCHES if name != "resumed"])
def test_batch_cancelled_at_every_step(name: str) -> None:
    """Without a journal, the report or the log name every task."""
    batch, make = BATCHES[name]

    async def scene(stage: Stage) -> None:
        api = make()
        client = quick(api)
        taken: Taken = []
        await play_batch(stage, client, batch(BatchRunner(client), taken))
        known = str([outcome.task for outcome in taken])
        api.check(known + stage.log, refused=2, may_be_lost=cut_in(stage, api))

    sweep_often(scene)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run, found", "run, split", "stream left", "resumed"])
def test_journal_cancelled_at_every_step(name: str, tmp_path: Path) -> None:
    """With one, every task is on disk, nothing seems to be on its way, and it is given back."""
    batch, make = BATCHES[name]
    with on_the_loop():
        empty = empty_journal(tmp_path)

        async def scene(stage: Stage) -> None:
            api = make()
            client = quick(api)
            with copy_of(empty) as journal:
                if name == "resumed":
                    await begin(api, journal)
                await play_batch(stage, client, batch(BatchRunner(client, journal=journal), []))
                rows = told(journal)
            assert "sending" not in {state for state, _ in rows.values()}
            uncertain = sum(state == "uncertain" for state, _ in rows.values())
            api.check(str(rows), refused=2, may_be_lost=uncertain)

        sweep_often(scene)


def test_a_failing_sibling_loses_no_task_id() -> None:
    """Hundreds of submits of a group are cancelled at once: each task is named, each slot right."""

    async def fail(after: float) -> None:
        await asyncio.sleep(after)
        raise ZeroDivisionError

    async def scene_of(stage: Stage, after: float) -> None:
        api = Api(latency=2.0)
        results: list[Task] = []

        async def submit(client: ApixoClient, number: int) -> None:
            results.append(await client.submit(TextToVideo(f"prompt {number}")))

        async def siblings(client: ApixoClient) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(300):
                    group.create_task(submit(client, number))
                group.create_task(fail(after))

        async with client_for(api, limits=Limits(concurrent_tasks=100)) as client:
            widen(client.engine.gate)
            with pytest.raises(ExceptionGroup):
                await siblings(client)
            sent = len(api.requests)
            await asyncio.sleep(10)
            check_gate(client, running=len(api.tasks))
            check_waiters(client)
        assert len(api.requests) == sent, "nobody is left who would send anything"
        api.check(stage.log + str([task.id for task in results]))

    for after in (0.0, 0.5, 1.0, 1.5, 2.0, 2.0 + 1e-6, 3.0, 4.0, 5.0):
        play(partial(scene_of, after=after), ())


DOWNLOADS: dict[str, Callable[[], FileHost]] = {
    "whole": lambda: FileHost([SHORT]),
    "resumed": lambda: FileHost([SHORT], cuts=[20_000]),
}


@pytest.mark.parametrize("make", DOWNLOADS.values(), ids=DOWNLOADS)
def test_download_cancelled_at_every_step(
    make: Callable[[], FileHost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is the whole file or nothing, and no descriptor is open."""
    monkeypatch.setattr(fetching, "RETRY_BASE", 0.0)

    async def scene(stage: Stage) -> None:
        before = open_files()
        api = FakeApi()
        async with FaultServer(make().act) as host:
            client = ApixoClient("key", base_url=host.url, transport=api, allow_private_hosts=True)
            task = Task(id="task_1", model="veo-3-1", state="success", urls=(f"{host.url}/v",))
            with TemporaryDirectory(dir=tmp_path) as place:
                async with client:
                    caller = await stage.cancelled(client.download(task, place))
                    assert caller.cancelled() == (stage.cancels > 0)
                    await host.until(lambda: host.open == 0)
                saved = files_in(Path(place))
            assert saved in ({}, {"task_1.mp4": SHORT})
            assert saved or caller.cancelled()
        await asyncio.sleep(0)
        assert open_files() == before

    lengths = sweep(scene, kind=RealSteps)
    assert len(lengths) > 30
    sweep_again(scene, lengths, most=50, kind=RealSteps)


@pytest.mark.parametrize("place", ["s3://videos", "memory://videos"])
def test_upload_cancelled_at_every_step(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is the whole file or nothing: no upload that was begun, no temporary name."""
    monkeypatch.setattr(fetching, "RETRY_BASE", 0.0)

    async def scene(stage: Stage) -> None:
        with registered() as bucket:
            forget()
            async with FaultServer(FileHost([SHORT], cuts=[20_000]).act) as host:
                client = ApixoClient(
                    "key", base_url=host.url, transport=FakeApi(), allow_private_hosts=True
                )
                task = Task(id="task_1", model="veo-3-1", state="success", urls=(f"{host.url}/v",))
                async with client:
                    caller = await stage.cancelled(client.download(task, place))
                    assert caller.cancelled() == (stage.cancels > 0)
                    await host.until(lambda: host.open == 0)
            saved = list((bucket.objects if place.startswith("s3") else in_memory()).items())
            assert saved in ([], [(saved[0][0], SHORT)] if saved else [])
            assert saved or caller.cancelled()
            assert not bucket.uploads

    lengths = sweep(scene, kind=RealSteps)
    assert len(lengths) > 30
    sweep_again(scene, lengths, most=20, kind=RealSteps)
    forget()


def test_connections_are_closed_at_every_step() -> None:
    """A program that opens a client, looks, and closes it leaves no socket, wherever it is cut."""
    answer = reply(envelope({"taskId": "task_1", "state": "processing"}).body)

    async def scene(stage: Stage) -> None:
        before = open_files()
        async with FaultServer(answering(answer)) as server:

            async def program() -> None:
                async with ApixoClient("key", base_url=server.url) as client:
                    await client.status("task_1")

            caller = await stage.cancelled(program())
            assert caller.cancelled() == (stage.cancels > 0)
            await server.until(lambda: server.open == 0)
        await asyncio.sleep(0)
        assert open_files() == before

    lengths = sweep(scene, kind=RealSteps)
    assert len(lengths) > 10
    sweep_again(scene, lengths, most=50, kind=RealSteps)
