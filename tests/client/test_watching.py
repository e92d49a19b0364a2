"""Looking at tasks until they end."""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest

from apixo_async import (
    ApixoError,
    AuthenticationError,
    ContentViolationError,
    InvalidSettingError,
    LearnedSchedule,
    Limits,
    NotFoundError,
    NotSentError,
    TaskFailedError,
    TaskState,
    TaskTimeoutError,
    TextToVideo,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async._wire import Reply
from apixo_async.polling import Look, Pacer
from tests.fakes import FakeApi, FakeTask, client_for, envelope, refusal
from tests.virtual import virtual

OCEAN = TextToVideo("a calm ocean")


def now() -> float:
    """The time of the loop."""
    return asyncio.get_running_loop().time()


@virtual
async def test_generate_returns_the_finished_video() -> None:
    """`generate` submits, waits, and returns the successful snapshot with its URLs."""
    api = FakeApi()
    async with client_for(api) as client:
        task = await client.generate(OCEAN)
        held = client.statistics().gate.tasks

    assert task.urls == ("https://files.test/task_1.mp4",)
    assert task.state is TaskState.SUCCESS
    assert held == 0


@virtual
async def test_the_documented_schedule_is_kept() -> None:
    """Nothing is asked in the first 90 s; then one look every 5 s, give or take a tenth."""
    api = FakeApi(duration=lambda _: 131.0, latency=0.0)
    async with client_for(api) as client:
        await client.generate(OCEAN)

    submitted, *looks = api.requests
    gaps = [after - before for before, after in pairwise(looks)]
    assert 90 <= looks[0] - submitted <= 95.1
    assert all(4.5 <= gap <= 5.6 for gap in gaps)
    assert looks[-1] - submitted <= 131 + 5.6


@virtual
async def test_a_thousand_tasks_are_not_looked_at_in_step() -> None:
    """Tasks submitted together are looked at spread over the interval, not in one instant."""
    api = FakeApi(duration=lambda _: 94.0)
    limits = Limits(requests_per_minute=100_000_000, concurrent_submits=1000)
    async with client_for(api, limits=limits) as client:
        await asyncio.gather(*(client.generate(OCEAN) for _ in range(1000)))

    looks = api.requests[1000:2000]
    fullest = max(sum(start <= at < start + 0.5 for at in looks) for start in looks)
    assert fullest < 200, "an even spread would put 100 looks into half a second"


@virtual
async def test_an_overdue_deadline_hands_back_the_task() -> None:
    """When time is up the error carries the task, which goes on and can be waited for again."""
    api = FakeApi(duration=lambda _: 300.0)
    async with client_for(api) as client:
        with pytest.raises(TaskTimeoutError, match="do not submit it again") as caught:
            await client.generate(OCEAN, timeout=200)
        held = client.statistics().gate.tasks
        task = await client.wait(caught.value.task)

    assert caught.value.task_id == "task_1"
    assert caught.value.task.state == "processing"
    assert held == 1, "the server's task still runs"
    assert task.urls
    assert len(api.tasks) == 1


@virtual
async def test_every_wait_has_a_deadline_by_default() -> None:
    """A task that never ends is waited for 30 minutes."""
    api = FakeApi(duration=lambda _: 1e9)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        started = now()
        with pytest.raises(TimeoutError):
            await client.wait(task)
        took = now() - started

    assert took == pytest.approx(1800, abs=1)


@virtual
async def test_a_timeout_that_makes_no_sense_is_refused_before_anything_is_sent() -> None:
    """Zero and negative timeouts are errors, and nothing is paid for."""
    api = FakeApi()
    async with client_for(api) as client:
        for timeout in (0.0, -1.0):
            with pytest.raises(InvalidSettingError, match="above 0"):
                await client.generate(OCEAN, timeout=timeout)

    assert not api.requests


TRANSIENT = {
    "not sent": NotSentError("cannot reach api.test", host="api.test", reason="dns"),
    "no TLS": NotSentError("cannot reach api.test", host="api.test", reason="tls"),
    "cut": UnansweredError("cut", host="api.test", reason="reset"),
    "502 page": Reply(502, b"<html>Bad Gateway</html>"),
    "503": refusal(503),
    "429": refusal(429),
    "500 in 200": envelope(None, code=500),
    "unknown code": envelope(None, code=999),
    "null data": envelope(None),
    "no state": envelope({"taskId": "task_1"}),
    "another task": envelope({"taskId": "task_9", "state": "success"}),
    "truncated": Reply(200, b'{"code":200,"data":{"taskId":"ta'),
    "redirect": Reply(302, b""),
    "401 of a key that works": refusal(401),
    "404 of a new task": refusal(404),
    "400 of a new task": refusal(400),
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
@virtual
async def test_a_failed_look_is_never_fatal(answer: Reply | Exception) -> None:
    """Two looks that fail in whatever way only cost time: the wait goes on to the result."""
    api = FakeApi(
        duration=lambda _: 100.0, on_status=lambda task: answer if task.looks <= 2 else None
    )
    async with client_for(api) as client:
        task = await client.generate(OCEAN)

    assert task.urls
    assert len(api.submits) == 1


@virtual
async def test_failing_looks_are_spaced_out() -> None:
    """While looks fail, the pause between them grows from 10 s to a minute."""
    api = FakeApi(latency=0.0, on_status=lambda _: refusal(503))
    async with client_for(api) as client:
        with pytest.raises(TaskTimeoutError):
            await client.generate(OCEAN, timeout=600)

    looks = api.requests[1:]
    gaps = [round(after - before) for before, after in pairwise(looks)]
    assert 9 <= gaps[0] <= 11
    assert 18 <= gaps[1] <= 22
    assert all(54 <= gap <= 66 for gap in gaps[4:])


@virtual
async def test_a_wrong_key_ends_a_wait_at_once() -> None:
    """A key that never worked is not worth waiting for."""
    api = FakeApi(on_status=lambda _: refusal(401))
    api.tasks["task_1"] = FakeTask("task_1", "", 0.0, 0.0)
    async with client_for(api) as client:
        with pytest.raises(AuthenticationError):
            await client.wait("task_1")

    assert api.statuses == 1


@virtual
async def test_a_revoked_key_ends_a_wait_after_a_minute() -> None:
    """A key that worked and is refused again and again for a minute ends the wait."""
    api = FakeApi(on_status=lambda _: refusal(401))
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        started = now()
        with pytest.raises(AuthenticationError):
            await client.wait(task)
        took = now() - started

    assert 150 <= took <= 300


@virtual
async def test_an_id_that_nobody_knows_is_given_up_after_two_minutes() -> None:
    """Denied at least three times over two minutes, an unknown id ends the wait."""
    api = FakeApi()
    async with client_for(api) as client:
        started = now()
        with pytest.raises(NotFoundError):
            await client.wait("nobody")
        took = now() - started

    assert 120 <= took <= 200
    assert api.statuses >= 3


@virtual
async def test_a_failed_task_is_a_typed_error_with_the_task() -> None:
    """A failed task raises the error of its fail code, which carries code, message and task."""
    codes = {"CONTENT_VIOLATION": ContentViolationError, "SOMETHING_NEW": TaskFailedError}
    for code, expected in codes.items():
        api = FakeApi(failure=lambda _, code=code: code)  # type: ignore[misc]  # a bound default
        async with client_for(api) as client:
            with pytest.raises(TaskFailedError) as caught:
                await client.generate(OCEAN)
            held = client.statistics().gate.tasks

        assert type(caught.value) is expected
        assert (code, "no") == (caught.value.fail_code, caught.value.fail_message)
        assert caught.value.task.state is TaskState.FAILED
        assert held == 0


@pytest.mark.parametrize("result", ["", "{}", '{"resultUrls":[]}', "not json", None, {}])
@virtual
async def test_a_success_without_a_url_is_an_error_of_its_own(result: object) -> None:
    """Looked at three times, a success that shows no URL is an error with the task and its id."""
    api = FakeApi(result=lambda _: result)
    async with client_for(api) as client:
        with pytest.raises(UnexpectedAnswerError, match="task_1") as caught:
            await client.generate(OCEAN)
        held = client.statistics().gate.tasks

    assert caught.value.task is not None
    assert caught.value.task.id == "task_1"
    assert held == 0
    assert len(api.submits) == 1


@virtual
async def test_an_end_that_is_looked_at_again_is_learned_from_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A success without a URL is looked at three times; its task ended but once."""
    ends: list[bool] = []
    saw = Pacer.saw

    def count(self: Pacer, look: Look, **seen: Any) -> None:  # noqa: ANN401  # as it came
        ends.append(seen["has_ended"])
        saw(self, look, **seen)

    monkeypatch.setattr(Pacer, "saw", count)
    api = FakeApi(result=lambda _: "")
    async with client_for(api, schedule=LearnedSchedule()) as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.generate(OCEAN)

    assert sum(ends) == 1


@virtual
async def test_urls_that_come_late_are_waited_for() -> None:
    """A success whose URL shows up at the next look is a success."""
    looks = 0

    def result(task: FakeTask) -> object:
        nonlocal looks
        looks += 1
        return "" if looks == 1 else '{"resultUrls":["https://files.test/late.mp4"]}'

    async with client_for(FakeApi(result=result)) as client:
        task = await client.generate(OCEAN)

    assert task.urls == ("https://files.test/late.mp4",)


SECOND_THOUGHTS: dict[str, tuple[dict[str, object], type[ApixoError]]] = {
    "processing": ({"state": "processing"}, TaskTimeoutError),
    "pending": ({"state": "pending"}, TaskTimeoutError),
    "failed": ({"state": "failed", "failCode": "GENERATION_FAILED"}, UnexpectedAnswerError),
    "something new": ({"state": "queued"}, TaskTimeoutError),
}


@pytest.mark.parametrize(("later", "error"), SECOND_THOUGHTS.values(), ids=SECOND_THOUGHTS.keys())
@virtual
async def test_what_has_ended_stays_ended(
    later: dict[str, object], error: type[ApixoError], caplog: pytest.LogCaptureFixture
) -> None:
    """A success that is taken back while its URL is looked for stays one; that is told once.

    As long as the task is said to run, its URL may still come; said to have failed, it will not.
    """
    first = envelope({"state": "success", "resultJson": ""})
    api = FakeApi(on_status=lambda task: first if task.looks == 1 else envelope(later))
    async with client_for(api) as client:
        with pytest.raises(error) as caught:
            await client.generate(OCEAN)
        held = client.statistics().gate.tasks

    assert isinstance(caught.value, (UnexpectedAnswerError, TaskTimeoutError))
    assert caught.value.task is not None
    assert caught.value.task.state is TaskState.SUCCESS
    assert held == 0
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"task task_1 was success and is now said to be {later['state']!r}"]


@virtual
async def test_a_url_after_a_contradiction_is_taken() -> None:
    """Success, processing, success with a URL: the video is there."""
    states = [{"state": "success"}, {"state": "processing"}]
    api = FakeApi(
        duration=lambda _: 90.0,
        on_status=lambda task: envelope(states[task.looks - 1]) if task.looks <= 2 else None,
    )
    async with client_for(api) as client:
        task = await client.generate(OCEAN)

    assert task.urls


@virtual
async def test_a_state_that_goes_backwards_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task that is pending again still runs; that is told once for each task."""
    caplog.set_level(logging.INFO)
    states = ["processing", "pending", "processing", "pending"]
    api = FakeApi(
        on_status=lambda task: (
            envelope({"state": states[task.looks - 1]}) if task.looks <= 4 else None
        )
    )
    async with client_for(api) as client:
        tasks = [await client.generate(OCEAN) for _ in range(2)]

    assert all(task.urls for task in tasks)
    told = [record.getMessage() for record in caplog.records if "is now said" in record.msg]
    assert told == [
        f"task {task.id} was processing and is now said to be 'pending'" for task in tasks
    ]


@virtual
async def test_watch_yields_changes_only() -> None:
    """`watch` yields one snapshot per change of state, unknown states included, and ends."""
    states = ["pending", "pending", "processing", "processing", "processing_r2", "success"]

    def shown(task: FakeTask) -> Reply:
        state = states[min(task.looks, len(states)) - 1]
        return envelope({"state": state, "resultJson": '{"resultUrls":["https://f/1.mp4"]}'})

    api = FakeApi(on_status=shown)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        seen = [snapshot.state async for snapshot in client.watch(task)]

    assert seen == ["pending", "processing", "processing_r2", "success"]


@virtual
async def test_watch_shows_a_failure_as_a_snapshot() -> None:
    """A failed task ends `watch` without an error."""
    api = FakeApi(failure=lambda _: "GENERATION_FAILED")
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        seen = [snapshot async for snapshot in client.watch(task)]

    assert seen[-1].fail_code == "GENERATION_FAILED"


@pytest.mark.parametrize("way", ["break", "cancelled"])
@virtual
async def test_watching_may_be_left_half_way(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for the task any more, nothing runs on or is told, and its slot is kept."""
    api = FakeApi(duration=lambda _: 300.0)
    async with client_for(api) as client:
        task = await client.submit(TextToVideo("a calm ocean"))

        async def watch() -> None:
            async for snapshot in client.watch(task):
                assert snapshot.state == "processing"
                if way == "break":
                    break

        watching = asyncio.create_task(watch())
        await asyncio.sleep(100)
        watching.cancel()
        await asyncio.wait([watching])
        looks = api.statuses
        await asyncio.sleep(100)

        assert [tracked.task_id for tracked in client.engine.tracker.unwatched()] == [task.id]
        assert client.statistics().gate.tasks == 1
        assert client.engine._watcher._polling == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert api.statuses == looks
    assert not caplog.records


@virtual
async def test_a_bare_id_is_looked_at_immediately() -> None:
    """Waiting for a task that somebody else submitted starts with a look, not with 90 s."""
    api = FakeApi()
    api.tasks["foreign"] = FakeTask("foreign", "", 0.0, 0.0)
    async with client_for(api) as client:
        started = now()
        task = await client.wait("foreign")

    assert task.urls
    assert now() - started < 1


@virtual
async def test_a_client_that_closes_ends_its_waits() -> None:
    """Closing the client ends waits with an error instead of leaving them to their deadline."""
    client = client_for(FakeApi())
    waiting = asyncio.create_task(client.generate(OCEAN))
    await asyncio.sleep(10)
    await client.aclose()
    with pytest.raises(ApixoError, match="closed"):
        await waiting

    assert now() < 1200


@virtual
async def test_status_and_balance_are_one_call_each() -> None:
    """`status` shows the task now; `balance` reads the bare number."""
    api = FakeApi()
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        running = await client.status(task)
        balance = await client.balance()

    assert running.state is TaskState.PROCESSING
    assert balance == 74.87
    assert len(api.requests) == 3


@virtual
async def test_a_timer_that_fires_early_still_means_time_is_up() -> None:
    """A loop whose timers fire a moment early, as uvloop's do, still gives `TaskTimeoutError`."""
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def early(
        when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return call_at(when - 0.002, callback, *args, context=context)

    api = FakeApi(duration=lambda _: 1e9, latency=0.01)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        with mock.patch.object(loop, "call_at", early), pytest.raises(TaskTimeoutError):
            await client.wait(task, timeout=95)


@virtual
async def test_whatever_ends_a_wait_names_the_task() -> None:
    """Errors that end a wait carry the id of the task, also those that are not about it."""
    api = FakeApi(on_status=lambda _: refusal(401))
    async with client_for(api) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.generate(OCEAN)

    assert caught.value.task_id == "task_1"


@virtual
async def test_many_tasks_stretch_the_interval() -> None:
    """On a small plan, looks of many tasks are spaced so that they fit into their share."""
    api = FakeApi(duration=lambda _: 400.0)
    limits = Limits(requests_per_minute=600, concurrent_tasks=100)
    async with client_for(api, limits=limits) as client:
        await asyncio.gather(*(client.generate(OCEAN) for _ in range(100)))

    documented = 100 * (400 - 92) / 5
    assert api.statuses < 0.7 * documented, "100 tasks every 5 s would be 1,200 looks a minute"
