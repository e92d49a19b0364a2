"""Limits and slots over everything one client does."""

import asyncio
import gc
import re
from typing import Any

import pytest

from apixo_async import (
    ApixoClient,
    ClientUsageError,
    InvalidSettingError,
    Limits,
    PollSchedule,
    Task,
    TaskTimeoutError,
    TextToVideo,
    Timeouts,
    UnansweredError,
)
from apixo_async._wire import Reply
from tests.fakes import BASE_URL, KEY, FakeApi, client_for, refusal
from tests.virtual import run_virtual, virtual

OCEAN = TextToVideo("a calm ocean")
LOST = UnansweredError("cut", host="api.test", reason="reset")


def worst_window(times: list[float], seconds: float) -> int:
    """The most requests in any half-open window of this length."""
    worst, start = 0, 0
    for end, at in enumerate(times):
        while at - times[start] >= seconds:
            start += 1
        worst = max(worst, end - start + 1)
    return worst


@virtual
async def test_five_thousand_generations_at_once_are_held_to_the_cap() -> None:
    """5,000 `generate()` calls of an application keep to 1,000 unfinished tasks and the rate."""
    api = FakeApi(duration=lambda number: 100.0 + number % 40)
    async with client_for(api) as client:
        tasks = await asyncio.gather(*(client.generate(OCEAN) for _ in range(5000)))

    assert len({task.id for task in tasks}) == 5000
    assert api.peak_unfinished == 1000
    assert worst_window(api.requests, 60.0) <= 10_000


@virtual
async def test_a_slot_is_freed_when_the_server_ends_the_task_not_when_the_caller_leaves() -> None:
    """A caller that gives up keeps the slot taken; it is free soon after the task has ended."""
    api = FakeApi(duration=lambda _: 200.0)
    async with client_for(api, limits=Limits(concurrent_tasks=1)) as client:
        with pytest.raises(TaskTimeoutError):
            await client.generate(OCEAN, timeout=100)
        left = asyncio.get_running_loop().time()
        await client.submit(OCEAN)
        waited = asyncio.get_running_loop().time() - left

    assert api.peak_unfinished == 1
    assert 100 <= waited <= 125, "seen to end by looks made while somebody waits for the slot"


@virtual
async def test_cancelled_waits_free_their_slots_too() -> None:
    """Cancelled generations hold their slots until their tasks end, and then no longer."""
    api = FakeApi()
    async with client_for(api, limits=Limits(concurrent_tasks=10)) as client:
        first = [asyncio.create_task(client.generate(OCEAN)) for _ in range(10)]
        await asyncio.sleep(30)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)
        second = await asyncio.gather(*(client.generate(OCEAN) for _ in range(10)))

    assert len(second) == 10
    assert api.peak_unfinished == 10
    assert len(api.tasks) == 20


@pytest.mark.parametrize("seconds", [0.01, 1.0, 4.0, 100.0, 125.0])
@virtual
async def test_a_group_that_one_sibling_ends_loses_no_task(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Of hundreds of generations at once, every accepted one is a result or named in the log.

    The POSTs on their way are answered all the same, and a slot is held for each task that runs.
    """
    api = FakeApi(latency=0.5)
    done: list[Task] = []

    async def generate() -> None:
        done.append(await client.generate(OCEAN))

    async def fail() -> None:
        await asyncio.sleep(seconds)
        msg = "something else went wrong"
        raise RuntimeError(msg)

    async def all_together() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(400):
                group.create_task(generate())
            group.create_task(fail())

    async with client_for(api) as client:
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            await all_together()
        await asyncio.sleep(5)
        statistics = client.statistics()

    logged = set(re.findall(r"\btask_\d+\b", caplog.text))
    assert logged | {task.id for task in done} == set(api.tasks)
    assert statistics.gate.tasks == statistics.unfinished_tasks == len(api.tasks) - len(done)
    assert statistics.submits_in_flight == 0


@virtual
async def test_submits_without_a_wait_do_not_fill_the_cap_for_ever() -> None:
    """Somebody who only submits gets on as tasks end, though he never asks for them."""
    api = FakeApi()
    async with client_for(api, limits=Limits(concurrent_tasks=5)) as client:
        for _ in range(20):
            await client.submit(OCEAN)

    assert api.peak_unfinished == 5
    assert len(api.tasks) == 20


@virtual
async def test_a_task_that_never_ends_gives_its_slot_up_in_the_end() -> None:
    """The slot of a stuck task is free after twice the deadline, by rule."""
    api = FakeApi(duration=lambda _: 1e9)
    limits, schedule = Limits(concurrent_tasks=1), PollSchedule(deadline=300)
    async with client_for(api, limits=limits, schedule=schedule) as client:
        await client.submit(OCEAN)
        started = asyncio.get_running_loop().time()
        await client.submit(OCEAN)
        waited = asyncio.get_running_loop().time() - started

    assert waited == pytest.approx(600, abs=1)


@virtual
async def test_a_429_on_a_look_pauses_submits_too() -> None:
    """One 429 closes the gate for everybody, whoever was told."""
    api = FakeApi(on_status=lambda task: refusal(429, retry_after="30"))
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        with pytest.raises(Exception, match="refused"):
            await client.status(task)
        told = asyncio.get_running_loop().time()
        await client.submit(OCEAN)

    assert 30 <= api.submits[1] - told <= 33.2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(refusal(503), 1.0), (Reply(502, b"<html>"), 1.0), (LOST, 3.0)],
    ids=["503", "HTML", "no answer"],
)
@virtual
async def test_any_answer_after_a_pause_lets_the_others_in(
    answer: Reply | Exception, expected: float
) -> None:
    """Who goes ahead need not be answered well: it is enough that it is not refused again."""
    answers = iter([refusal(429, retry_after="1"), answer])
    api = FakeApi(latency=0.0, on_submit=lambda *_: next(answers, None))
    async with client_for(api) as client:
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(client.submit(OCEAN) for _ in range(3)), return_exceptions=True)
        waited = asyncio.get_running_loop().time() - begin

    assert expected <= waited < expected + 1


@virtual
async def test_an_account_with_three_slots_is_found_out() -> None:
    """Configured for 1,000 tasks on an account that allows 3, everything still gets done."""

    def on_submit(number: int, body: object) -> object:
        full = api.unfinished(asyncio.get_running_loop().time()) >= 3
        return refusal(429, "too many tasks") if full else None

    api = FakeApi(duration=lambda _: 30.0)
    api.on_submit = on_submit  # type: ignore[assignment]  # the hook needs the fake itself
    schedule = PollSchedule(first=20, interval=2)
    async with client_for(api, schedule=schedule) as client:
        done = await asyncio.gather(*(client.generate(OCEAN) for _ in range(60)))

    refused = len(api.submits) - len(api.tasks)
    assert len(done) == 60
    assert api.peak_unfinished <= 3
    assert refused < 60, "about one refusal per job would be a storm"


def test_nothing_is_opened_before_the_first_use() -> None:
    """Building a client needs no event loop and leaves nothing to close."""
    client = ApixoClient(KEY, base_url=BASE_URL)

    assert "api.test" in repr(client)
    assert KEY not in repr(client)
    del client
    gc.collect()


def test_a_client_belongs_to_one_loop() -> None:
    """Used from a second event loop, a client says what is wrong."""
    client = client_for(FakeApi())

    async def use() -> None:
        await client.balance()

    run_virtual(use())
    with pytest.raises(ClientUsageError, match="another event loop"):
        run_virtual(use())
    run_virtual(client.aclose())


def test_a_client_left_open_is_reported() -> None:
    """A client that was used and dropped without closing gives a ResourceWarning."""

    async def use() -> None:
        client = client_for(FakeApi())
        await client.balance()
        del client
        with pytest.warns(ResourceWarning, match="not closed"):
            gc.collect()

    run_virtual(use())


@pytest.mark.parametrize(
    "settings",
    [{"limits": 5}, {"schedule": 10}, {"timeout": 30}, {"session": "x"}],
    ids=["limits", "schedule", "timeout", "session"],
)
def test_settings_of_the_wrong_kind_are_named(settings: dict[str, Any]) -> None:
    """What is no setting of that name is refused when the client is built, by name."""
    with pytest.raises(InvalidSettingError, match=next(iter(settings))):
        ApixoClient(KEY, base_url=BASE_URL, **settings)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "a", True])
def test_a_timeout_is_a_time(seconds: Any) -> None:  # noqa: ANN401  # wrong on purpose
    """Zero would mean no timeout at all to the layer below: it is refused, as is nonsense."""
    with pytest.raises(InvalidSettingError, match="submit"):
        Timeouts(submit=seconds)
