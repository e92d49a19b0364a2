"""Thousands of generations: every job ends in a stated outcome."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from apixo_async import (
    AuthenticationError,
    BadRequestError,
    BatchRunner,
    ClientUsageError,
    DownloadError,
    InsufficientCreditsError,
    InvalidRequestError,
    InvalidSettingError,
    Job,
    Limits,
    NotSentError,
    OutcomeStatus,
    PollSchedule,
    Request,
    StopReason,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    TextToVideo,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async._wire import Reply
from apixo_async.batch import events
from tests.fakes import Answer, FakeApi, client_for, envelope, refusal, widen
from tests.virtual import virtual


def prompts(count: int) -> list[Request]:
    """So many different requests."""
    return [TextToVideo(f"prompt {number}") for number in range(count)]


@virtual
async def test_a_batch_gathers_urls_and_outcomes_in_input_order() -> None:
    """`run` returns one outcome per request, in the order of the input whatever ends first."""
    api = FakeApi(duration=lambda number: 200.0 - number)
    async with client_for(api) as client:
        report = await BatchRunner(client).run(prompts(50))

    assert [outcome.index for outcome in report.outcomes] == list(range(50))
    asked = [outcome.job.request for outcome in report.outcomes]
    assert asked == prompts(50)
    assert report.counts[OutcomeStatus.SUCCEEDED] == 50
    assert len(set(report.urls)) == 50
    assert report.urls[7] == report.outcomes[7].urls[0]
    assert report.stopped is None


@virtual
async def test_a_stream_gives_outcomes_as_they_complete() -> None:
    """`stream` yields the first video when it is done, not when all are."""
    api = FakeApi(duration=lambda number: 400.0 - 10 * number)
    async with client_for(api) as client, BatchRunner(client).stream(prompts(20)) as outcomes:
        seen = [outcome async for outcome in outcomes]

    by_end = [f"task_{number}" for number in range(20, 0, -1)]
    assert [outcome.task.id for outcome in seen if outcome.task] == by_end
    assert {outcome.index for outcome in seen} == set(range(20))


@virtual
async def test_the_input_is_pulled_lazily() -> None:
    """No item is taken before a slot is free for it."""
    taken = 0

    def lazily() -> Iterator[Request]:
        nonlocal taken
        for request in prompts(100):
            taken += 1
            yield request

    api = FakeApi()
    async with (
        client_for(api, limits=Limits(concurrent_tasks=10)) as client,
        BatchRunner(client).stream(lazily()) as outcomes,
    ):
        await asyncio.sleep(60)
        early = taken
        count = len([outcome async for outcome in outcomes])

    assert early == 10
    assert (taken, count) == (100, 100)
    assert api.peak_unfinished == 10


@virtual
async def test_an_endless_async_input_can_be_left() -> None:
    """An endless async iterator is fine; leaving the stream early ends everything."""

    async def endless() -> AsyncIterator[Request]:
        number = 0
        while True:
            number += 1
            await asyncio.sleep(1)
            yield TextToVideo(f"prompt {number}")

    api = FakeApi()
    async with client_for(api) as client:
        async with BatchRunner(client).stream(endless()) as outcomes:
            async for outcome in outcomes:
                assert outcome.status is OutcomeStatus.SUCCEEDED
                break
        before = len(api.submits)
        await asyncio.sleep(100)

    assert len(api.submits) == before


@virtual
async def test_one_failure_is_one_outcome() -> None:
    """A failed task, a refused request and an ambiguous submit leave their neighbours alone."""
    cut = UnansweredError("cut", host="api.test", reason="reset")
    answers: dict[int, Answer] = {3: refusal(400, "bad prompt"), 5: cut, 7: refusal(503)}
    api = FakeApi(
        on_submit=lambda number, _: answers.get(number),
        failure=lambda task: "CONTENT_VIOLATION" if task.id == "task_1" else None,
    )
    async with client_for(api) as client:
        report = await BatchRunner(client).run(prompts(20))

    kinds = [type(outcome.error) for outcome in report.outcomes if outcome.error is not None]
    assert sorted(kind.__name__ for kind in kinds) == [
        BadRequestError.__name__,
        "ContentViolationError",
        SubmitUncertainError.__name__,
        SubmitUncertainError.__name__,
    ]
    assert report.counts == {
        OutcomeStatus.SUCCEEDED: 16,
        OutcomeStatus.FAILED: 2,
        OutcomeStatus.UNCERTAIN: 2,
        OutcomeStatus.TIMED_OUT: 0,
        OutcomeStatus.NOT_STARTED: 0,
    }
    assert len(api.submits) == 20, "nothing was sent twice"


STOPPERS = {
    "wrong key": (refusal(401), StopReason.KEY, AuthenticationError),
    "key refused in 200": (envelope(None, code=401), StopReason.KEY, AuthenticationError),
    "empty balance": (refusal(402), StopReason.BALANCE, InsufficientCreditsError),
    "empty balance as 400": (
        refusal(400, "Insufficient credits"),
        StopReason.BALANCE,
        InsufficientCreditsError,
    ),
}


@pytest.mark.parametrize(("answer", "reason", "error"), list(STOPPERS.values()), ids=list(STOPPERS))
@virtual
async def test_a_wrong_key_or_an_empty_balance_stops_the_batch(
    answer: Reply, reason: StopReason, error: type[Exception]
) -> None:
    """No more is submitted, what runs is awaited, and every other job is stated not started."""

    def after_thirty(number: int, _: object) -> Answer:
        return answer if number > 30 else None

    api = FakeApi(on_submit=after_thirty)
    limits = Limits(concurrent_tasks=20, concurrent_submits=1)
    async with client_for(api, limits=limits) as client:
        report = await BatchRunner(client).run(prompts(100))

    assert report.stopped is reason
    assert isinstance(report.stop_error, error)
    assert report.counts[OutcomeStatus.SUCCEEDED] == 30
    assert report.counts[OutcomeStatus.NOT_STARTED] == 70
    assert len(report.outcomes) == 100
    assert len(api.submits) == 31


@virtual
async def test_a_fail_code_for_an_empty_balance_stops_the_batch() -> None:
    """A task that fails for lack of credits says that the next ones would, too."""
    api = FakeApi(failure=lambda task: "INSUFFICIENT_CREDITS" if task.id == "task_5" else None)
    async with client_for(api, limits=Limits(concurrent_tasks=5)) as client:
        report = await BatchRunner(client).run(prompts(50))

    assert report.stopped is StopReason.BALANCE
    assert isinstance(report.stop_error, TaskFailedError)
    assert report.counts[OutcomeStatus.NOT_STARTED] > 30


@virtual
async def test_a_host_that_was_never_reached_stops_the_batch_soon() -> None:
    """An unreachable host ends the batch after 15 s, with everything not started."""
    gone = NotSentError("cannot reach api.test", host="api.test", reason="dns")
    api = FakeApi(on_submit=lambda *_: gone)
    async with client_for(api) as client:
        started = asyncio.get_running_loop().time()
        report = await BatchRunner(client).run(prompts(2000))
        took = asyncio.get_running_loop().time() - started

    assert report.stopped is StopReason.UNREACHABLE
    assert report.counts[OutcomeStatus.NOT_STARTED] == 2000
    assert took < 60


@virtual
async def test_an_outage_of_a_minute_costs_time_and_nothing_else() -> None:
    """A host that worked and is gone for a minute is waited for; every job still succeeds."""
    gone = NotSentError("cannot reach api.test", host="api.test", reason="refused")

    def during_outage() -> NotSentError | None:
        return gone if 1100 <= asyncio.get_running_loop().time() < 1160 else None

    api = FakeApi(on_submit=lambda *_: during_outage(), on_status=lambda _: during_outage())
    async with client_for(api, limits=Limits(concurrent_tasks=20)) as client:
        report = await BatchRunner(client).run(prompts(100))

    assert report.counts[OutcomeStatus.SUCCEEDED] == 100
    assert len(api.tasks) == 100


@virtual
async def test_a_task_that_outlasts_the_deadline_is_timed_out_with_its_id() -> None:
    """A job whose task goes on too long ends as timed out; the id is in the outcome."""
    api = FakeApi(duration=lambda number: 1e9 if number == 2 else 100.0)
    async with client_for(api) as client:
        report = await BatchRunner(client, deadline=500).run(prompts(3))

    lost = report.outcomes[1]
    assert lost.status is OutcomeStatus.TIMED_OUT
    assert isinstance(lost.error, TaskTimeoutError)
    assert lost.task is not None
    assert lost.task.id == "task_2"


@virtual
async def test_a_success_without_urls_is_a_failure_with_its_task() -> None:
    """A video without a URL is stated as failed, and its task id is there."""
    async with client_for(FakeApi(result=lambda _: "{}")) as client:
        report = await BatchRunner(client).run(prompts(1))

    (outcome,) = report.outcomes
    assert outcome.status is OutcomeStatus.FAILED
    assert isinstance(outcome.error, UnexpectedAnswerError)
    assert outcome.task is not None


@virtual
async def test_an_input_that_breaks_is_raised_after_what_runs_is_done() -> None:
    """An error of the input is raised at the end; what was running is in the report."""

    def broken() -> Iterator[Request]:
        yield from prompts(10)
        msg = "the database is gone"
        raise OSError(msg)

    api = FakeApi()
    async with client_for(api) as client:
        runner = BatchRunner(client)
        with pytest.raises(OSError, match="database is gone"):
            await runner.run(broken())

    assert runner.report.counts[OutcomeStatus.SUCCEEDED] == 10
    assert runner.report.stopped is StopReason.INPUT


@virtual
async def test_a_list_is_checked_before_anything_is_sent() -> None:
    """A list with a wrong item, or one key for two requests, is refused as a whole."""
    api = FakeApi()
    one, other = TextToVideo("one"), TextToVideo("other")
    async with client_for(api) as client:
        runner = BatchRunner(client)
        with pytest.raises(TypeError, match=r"requests\[1\]"):
            await runner.run([one, "other"])  # type: ignore[list-item]  # the mistake under test
        with pytest.raises(InvalidRequestError, match=r"requests\[1\].*another request"):
            await runner.run([Job(one, key="a"), Job(other, key="a")])
        with pytest.raises(TypeError, match="iterable of requests"):
            await runner.run("a calm ocean")  # type: ignore[arg-type]  # the mistake under test

    assert not api.requests


@virtual
async def test_the_same_job_twice_is_one_job() -> None:
    """One key with the same request again is the same job and is paid once."""
    api = FakeApi()
    job = Job(TextToVideo("one"), key="a")
    async with client_for(api) as client:
        report = await BatchRunner(client).run([job, job])

    assert len(report.outcomes) == 1
    assert len(api.tasks) == 1


@virtual
async def test_the_same_request_twice_is_two_jobs() -> None:
    """Without keys, a request that occurs twice is wanted twice, under two keys."""
    api = FakeApi()
    async with client_for(api) as client:
        report = await BatchRunner(client).run([TextToVideo("one"), TextToVideo("one")])

    first, second = (outcome.key for outcome in report.outcomes)
    assert second == f"{first}-2"
    assert len(api.tasks) == 2


@virtual
async def test_events_tell_the_story_of_each_job() -> None:
    """Every step of a job is an event, in order."""
    seen: list[events.Event] = []
    api = FakeApi(on_submit=lambda number, _: refusal(429) if number == 1 else None)
    async with client_for(api) as client:
        job = Job(TextToVideo("one", mode="fast"), key="a")
        await BatchRunner(client, on_event=seen.append).run([job])

    names = [type(event).__name__ for event in seen]
    assert names == ["Queued", "Sending", "NotSent", "Sending", "Accepted", "Succeeded"]


@virtual
async def test_a_failing_callback_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Errors of the user's `on_event` are logged; the batch goes on."""

    def broken(event: events.Event) -> None:
        msg = "no screen"
        raise RuntimeError(msg)

    async with client_for(FakeApi()) as client:
        with caplog.at_level(logging.ERROR, "apixo_async"):
            report = await BatchRunner(client, on_event=broken).run(prompts(3))

    assert report.counts[OutcomeStatus.SUCCEEDED] == 3
    assert "on_event failed" in caplog.text


@virtual
async def test_stop_takes_no_more_and_awaits_the_rest() -> None:
    """After `stop()` nothing is submitted, running tasks are collected, the rest is stated."""
    api = FakeApi()
    async with client_for(api, limits=Limits(concurrent_tasks=10)) as client:
        runner = BatchRunner(client)
        running = asyncio.create_task(runner.run(prompts(100)))
        await asyncio.sleep(60)
        runner.stop()
        report = await running

    assert report.stopped is StopReason.REQUESTED
    assert report.counts[OutcomeStatus.SUCCEEDED] == 10
    assert report.counts[OutcomeStatus.NOT_STARTED] == 90
    assert len(api.submits) == 10


@virtual
async def test_cancelling_a_run_lets_its_posts_be_answered() -> None:
    """A cancelled run waits for POSTs on their way, sends no more, and leaves no task behind."""
    seen: list[events.Event] = []
    api = FakeApi(latency=10.0)
    async with client_for(api, limits=Limits(concurrent_submits=4)) as client:
        widen(client.engine.gate)
        running = asyncio.create_task(BatchRunner(client, on_event=seen.append).run(prompts(50)))
        await asyncio.sleep(2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = asyncio.all_tasks() - {asyncio.current_task()}

    accepted = [event for event in seen if isinstance(event, events.Accepted)]
    assert len(accepted) == len(api.tasks) == 4
    assert not left


@virtual
async def test_cancelling_at_every_step_leaves_a_stated_number_of_tasks() -> None:
    """Cancelled after any number of loop steps, each task of the server has its event."""
    for steps in range(1, 80):
        seen: list[events.Event] = []
        api = FakeApi(latency=0.001, duration=lambda _: 0.01)
        schedule = PollSchedule(first=0.001, interval=0.001)
        async with client_for(api, schedule=schedule) as client:
            runner = BatchRunner(client, on_event=seen.append)
            running = asyncio.create_task(runner.run(prompts(5)))
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        known = {event.task_id for event in seen if isinstance(event, events.Accepted)}

        assert known == set(api.tasks)


async def test_a_video_that_cannot_be_saved_is_still_a_success(tmp_path: Path) -> None:
    """A failed download is an error beside a success with its URLs, and nothing is paid again."""
    api = FakeApi(duration=lambda _: 0.0, result=lambda _: '{"resultUrls":["file:///etc/passwd"]}')
    async with client_for(api, schedule=PollSchedule(first=0, interval=0.01)) as client:
        report = await BatchRunner(client, save_to=tmp_path / "videos").run(prompts(1))

    (outcome,) = report.outcomes
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert isinstance(outcome.error, DownloadError)
    assert outcome.urls
    assert not outcome.files
    assert len(api.submits) == 1


@virtual
async def test_a_slow_reader_slows_the_batch_down() -> None:
    """Outcomes that nobody takes do not pile up: the batch stops pulling."""
    api = FakeApi(duration=lambda _: 10.0)
    schedule = PollSchedule(first=10, interval=1)
    async with (
        client_for(api, limits=Limits(concurrent_tasks=50), schedule=schedule) as client,
        BatchRunner(client).stream(iter(prompts(5000))) as outcomes,
    ):
        await asyncio.sleep(2000)
        submitted = len(api.submits)
        await anext(outcomes)

    assert submitted < 1000


@virtual
async def test_misuse_is_said() -> None:
    """A stream used outside `async with` or twice, and a bad deadline, are clear errors."""
    async with client_for(FakeApi()) as client:
        stream = BatchRunner(client).stream(prompts(1))
        with pytest.raises(ClientUsageError, match="async with"):
            await anext(stream)
        async with stream:
            pass
        with pytest.raises(ClientUsageError, match=r"stream\(\) again"):
            await stream.__aenter__()
        with pytest.raises(InvalidSettingError, match="deadline"):
            BatchRunner(client, deadline=0)
