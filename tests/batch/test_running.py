"""A run from its first item to its end: stops, broken inputs, leaving early."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    ClientUsageError,
    DownloadError,
    Job,
    Limits,
    Outcome,
    OutcomeStatus,
    Request,
    SavedFile,
    StopReason,
    TextToVideo,
    UnansweredError,
)
from apixo_async.batch import events
from apixo_async.downloads import Directory, Downloader
from tests.fakes import Answer, FakeApi, FakeTask, client_for, refusal, widen
from tests.virtual import virtual

WRONG_KEY = refusal(401)


def prompts(count: int) -> list[Request]:
    """So many different requests."""
    return [TextToVideo(f"prompt {number}") for number in range(count)]


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


class Given:
    """An input of known length that is no list, so that nobody checks it beforehand."""

    def __init__(self, items: list[object]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._items)  # type: ignore[arg-type]  # what is wrong with it is under test


# Stops


@pytest.mark.parametrize(
    "limits",
    [Limits(concurrent_tasks=3000), Limits(concurrent_tasks=3000, requests_per_minute=60)],
    ids=["full rate", "60 a minute"],
)
@virtual
async def test_a_wrong_key_ends_thousands_of_jobs_at_once(limits: Limits) -> None:
    """After the first refusal nobody waits for a turn or a permit that would be of no use."""
    api = FakeApi(on_submit=lambda *_: WRONG_KEY)
    async with client_for(api, limits=limits) as client:
        started = now()
        report = await BatchRunner(client).run(prompts(3000))
        took = now() - started
        left = client.statistics()

    assert report.stopped is StopReason.KEY
    assert report.counts[OutcomeStatus.NOT_STARTED] == 3000
    assert took < 0.2
    assert left.gate.tasks == 0, "every slot was given back"


@virtual
async def test_a_stop_does_not_sit_out_a_pause() -> None:
    """`stop()` while the API asked for a pause ends what has not been sent at once."""
    api = FakeApi(on_submit=lambda *_: refusal(429, retry_after="20"))
    async with client_for(api, limits=Limits(concurrent_tasks=50)) as client:
        runner = BatchRunner(client)
        running = asyncio.create_task(runner.run(prompts(200)))
        await asyncio.sleep(2)
        runner.stop()
        stopped_at = now()
        report = await running
        took = now() - stopped_at

    assert report.stopped is StopReason.REQUESTED
    assert report.counts[OutcomeStatus.NOT_STARTED] == 200
    assert took < 0.2


@virtual
async def test_a_stop_leaves_posts_on_their_way_alone() -> None:
    """A POST that has left is answered, its task awaited; what waited behind it is not started."""
    seen: list[events.Event] = []
    api = FakeApi(latency=10.0)
    limits = Limits(concurrent_tasks=50, concurrent_submits=4)
    async with client_for(api, limits=limits) as client:
        widen(client.engine.gate)
        runner = BatchRunner(client, on_event=seen.append)
        running = asyncio.create_task(runner.run(prompts(60)))
        await asyncio.sleep(3)
        runner.stop()
        await asyncio.sleep(1)
        told = sum(isinstance(event, events.NotStarted) for event in seen)
        report = await running

    assert told == 56
    assert report.counts[OutcomeStatus.SUCCEEDED] == len(api.tasks) == 4
    assert report.counts[OutcomeStatus.NOT_STARTED] == 56
    assert sorted(outcome.index for outcome in report.outcomes) == list(range(60))


@virtual
async def test_a_post_answered_429_after_the_stop_is_not_repeated() -> None:
    """A job whose POST comes back for another attempt learns of the stop at once."""
    api = FakeApi(latency=10.0, on_submit=lambda *_: refusal(429, retry_after="60"))
    async with client_for(api, limits=Limits(concurrent_tasks=2)) as client:
        widen(client.engine.gate)
        runner = BatchRunner(client)
        running = asyncio.create_task(runner.run(prompts(2)))
        await asyncio.sleep(3)
        runner.stop()
        report = await running
        took = now() - 1000

    assert report.counts[OutcomeStatus.NOT_STARTED] == 2
    assert len(api.submits) == 2
    assert took < 12


@virtual
async def test_a_stop_at_any_step_accounts_for_every_job() -> None:
    """Stopped after any number of loop steps, each job has one outcome and each slot is free."""
    for steps in range(1, 60):
        api = FakeApi(latency=0.001, duration=lambda _: 0.01)
        limits = Limits(concurrent_tasks=6, concurrent_submits=2)
        async with client_for(api, limits=limits) as client:
            runner = BatchRunner(client)
            running = asyncio.create_task(runner.run(prompts(10)))
            for _ in range(steps):
                await asyncio.sleep(0)
            runner.stop()
            report = await running
            left = client.statistics()

        assert [outcome.index for outcome in report.outcomes] == list(range(10))
        assert report.counts[OutcomeStatus.SUCCEEDED] == len(api.tasks)
        assert left.gate.tasks == 0


@virtual
async def test_a_broken_input_calls_nobody_back() -> None:
    """What was taken before the input broke is still sent, also what still waits for its turn."""

    def broken() -> Iterator[Request]:
        yield from prompts(20)
        raise OSError

    api = FakeApi()
    async with client_for(api, limits=Limits(requests_per_minute=60)) as client:
        runner = BatchRunner(client)
        with pytest.raises(OSError):  # noqa: PT011  # it has no text
            await runner.run(broken())

    assert runner.report.counts[OutcomeStatus.SUCCEEDED] == 20


@virtual
async def test_a_wrong_key_after_a_broken_input_still_ends_at_once() -> None:
    """The report keeps the first reason, but no more submits are made."""

    def broken() -> Iterator[Request]:
        yield from prompts(500)
        raise OSError

    api = FakeApi(on_submit=lambda *_: WRONG_KEY)
    async with client_for(api, limits=Limits(concurrent_submits=2)) as client:
        runner = BatchRunner(client)
        with pytest.raises(OSError):  # noqa: PT011  # it has no text
            await runner.run(broken())

    assert runner.report.stopped is StopReason.INPUT
    assert runner.report.counts[OutcomeStatus.NOT_STARTED] == 500
    assert len(api.submits) <= 2


# Leaving early


@virtual
async def test_a_cancelled_run_reports_every_accepted_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Tasks that go on are in the report as timed out, with their ids, and the log names them."""
    api = FakeApi(duration=lambda number: 50.0 if number <= 3 else 500.0)
    async with client_for(api, limits=Limits(concurrent_tasks=10)) as client:
        runner = BatchRunner(client)
        running = asyncio.create_task(runner.run(prompts(12)))
        await asyncio.sleep(100)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    by_id = {outcome.task.id: outcome for outcome in runner.report.outcomes if outcome.task}
    assert set(by_id) == set(api.tasks)
    assert runner.report.counts[OutcomeStatus.SUCCEEDED] == 3
    assert runner.report.counts[OutcomeStatus.TIMED_OUT] == 9
    assert all(
        outcome.error is not None
        for outcome in runner.report.outcomes
        if outcome.status is OutcomeStatus.TIMED_OUT
    )
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "9 tasks go on at the server" in record.getMessage()
    assert "task_12" in record.getMessage()


@virtual
async def test_a_run_cancelled_at_any_step_reports_every_task() -> None:
    """Whenever it is cancelled, each task of the server is in the report."""
    for steps in range(1, 80):
        api = FakeApi(latency=0.001, duration=lambda _: 0.01)
        async with client_for(api, limits=Limits(concurrent_tasks=3)) as client:
            runner = BatchRunner(client)
            running = asyncio.create_task(runner.run(prompts(5)))
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            unstarted = client.statistics().gate.tasks - client.statistics().unfinished_tasks

        known = [outcome.task.id for outcome in runner.report.outcomes if outcome.task]
        assert sorted(known) == sorted(api.tasks)
        assert unstarted == 0, "a job that never began kept its slot"


@virtual
async def test_a_cancelled_run_reports_what_is_uncertain() -> None:
    """A POST whose answer is lost while the run ends is in the report, as it may be billed."""
    cut = UnansweredError("cut", host="api.test", reason="reset")
    api = FakeApi(latency=10.0, on_submit=lambda *_: cut)
    async with client_for(api, limits=Limits(concurrent_submits=4)) as client:
        widen(client.engine.gate)
        runner = BatchRunner(client)
        running = asyncio.create_task(runner.run(prompts(50)))
        await asyncio.sleep(3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert runner.report.counts[OutcomeStatus.UNCERTAIN] == len(api.submits) == 4


@virtual
async def test_a_stream_left_early_names_the_tasks_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning with the ids, the first hundred of them, and how many there are more."""
    api = FakeApi(duration=lambda number: 10.0 if number == 1 else 500.0)
    async with (
        client_for(api, limits=Limits(concurrent_tasks=150)) as client,
        BatchRunner(client).stream(prompts(150)) as outcomes,
    ):
        await anext(outcomes)

    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "149 tasks go on at the server" in record.getMessage()
    assert "task_2" in record.getMessage()
    assert "and 49 more" in record.getMessage()


# Inputs


@pytest.mark.parametrize("place", [0, 20, 1000])
@virtual
async def test_a_bad_item_leaves_every_other_job_an_outcome(place: int) -> None:
    """In an input of known length each good item has an outcome, whichever one is bad."""
    items: list[object] = [*prompts(1000)]
    items.insert(place, "no request")
    async with client_for(FakeApi()) as client:
        runner = BatchRunner(client)
        with pytest.raises(TypeError, match="expected a request"):
            await runner.run(Given(items))

    counts = runner.report.counts
    assert counts[OutcomeStatus.SUCCEEDED] == place
    assert counts[OutcomeStatus.NOT_STARTED] == 1000 - place


@virtual
async def test_an_input_that_raises_cancelled_error_is_a_broken_input() -> None:
    """A cancellation that only the input met does not look like its end."""

    async def broken() -> AsyncIterator[Request]:
        yield TextToVideo("one")
        raise asyncio.CancelledError

    async with client_for(FakeApi()) as client:
        runner = BatchRunner(client)
        with pytest.raises(RuntimeError, match="nobody cancelled the batch"):
            await runner.run(broken())

    assert runner.report.stopped is StopReason.INPUT
    assert runner.report.counts[OutcomeStatus.SUCCEEDED] == 1


@virtual
async def test_an_input_may_stop_its_own_batch() -> None:
    """`stop()` called from within the input ends the batch and states what was taken."""
    async with client_for(FakeApi(), limits=Limits(concurrent_tasks=1)) as client:
        runner = BatchRunner(client)

        async def three() -> AsyncIterator[Request]:
            for number, request in enumerate(prompts(10)):
                if number == 3:
                    runner.stop()
                yield request

        report = await asyncio.wait_for(runner.run(three()), 10_000)

    assert report.stopped is StopReason.REQUESTED
    assert [outcome.status for outcome in report.outcomes] == [
        *[OutcomeStatus.SUCCEEDED] * 2,
        *[OutcomeStatus.NOT_STARTED] * 2,
    ]


@virtual
async def test_an_async_input_may_use_the_same_client() -> None:
    """Its items may be made by tasks of the client, even where only one may run."""
    async with client_for(FakeApi(), limits=Limits(concurrent_tasks=1)) as client:

        async def sequels() -> AsyncIterator[Request]:
            for number in range(3):
                task = await client.generate(TextToVideo(f"part {number}"))
                yield TextToVideo(f"after {task.id}")

        report = await asyncio.wait_for(BatchRunner(client).run(sequels()), 10_000)

    assert report.counts[OutcomeStatus.SUCCEEDED] == 3


@virtual
async def test_an_idle_async_input_holds_no_slot() -> None:
    """Others may use the whole account while an input has nothing to give."""

    async def idle() -> AsyncIterator[Request]:
        await asyncio.sleep(1000)
        yield TextToVideo("late")

    async with client_for(FakeApi(), limits=Limits(concurrent_tasks=1)) as client:
        running = asyncio.create_task(BatchRunner(client).run(idle()))
        await asyncio.sleep(1)
        started = now()
        await client.generate(TextToVideo("meanwhile"))
        took = now() - started
        report = await running

    assert took < 300
    assert report.counts[OutcomeStatus.SUCCEEDED] == 1


@virtual
async def test_an_async_input_is_at_most_one_item_ahead() -> None:
    """One item is taken before it has a slot, not two."""
    taken = 0

    async def counted() -> AsyncIterator[Request]:
        nonlocal taken
        for request in prompts(50):
            taken += 1
            yield request

    async with (
        client_for(FakeApi(), limits=Limits(concurrent_tasks=5)) as client,
        BatchRunner(client).stream(counted()),
    ):
        await asyncio.sleep(60)

    assert taken == 6


# Consumers


@virtual
async def test_every_consumer_of_a_stream_learns_the_end() -> None:
    """Two loops over one stream share its outcomes and both end."""

    async def consume(outcomes: AsyncIterator[Outcome]) -> int:
        return len([outcome async for outcome in outcomes])

    async with client_for(FakeApi()) as client, BatchRunner(client).stream(prompts(10)) as outcomes:
        numbers = await asyncio.gather(*(consume(outcomes) for _ in range(3)))

    assert sum(numbers) == 10


@virtual
async def test_a_stream_has_ended_after_its_block() -> None:
    """Reading on after the block ends at once, also for whoever was waiting inside it."""
    async with client_for(FakeApi()) as client:
        async with BatchRunner(client).stream(prompts(10)) as outcomes:
            waiting = asyncio.create_task(anext(outcomes, None))
            await asyncio.sleep(1)
        after = [outcome async for outcome in outcomes]

        assert await waiting is None
        assert after == []


@virtual
async def test_one_runner_runs_one_batch_at_a_time() -> None:
    """A second batch at the same time is refused, one after the other is fine."""
    async with client_for(FakeApi()) as client:
        runner = BatchRunner(client)
        first = asyncio.create_task(runner.run(prompts(3)))
        await asyncio.sleep(1)
        with pytest.raises(ClientUsageError, match="another BatchRunner"):
            await runner.run(prompts(2))
        await first
        assert len(runner.report.outcomes) == 3
        await runner.run(prompts(2))

    assert len(runner.report.outcomes) == 2


def test_a_long_list_is_checked_quickly() -> None:
    """All at once it holds up the event loop, so hardly anything is done for an item."""
    plain = prompts(1_000)
    named = [Job(request, key=f"job {number}") for number, request in enumerate(plain)]
    runner = BatchRunner(ApixoClient("key"))

    assert calls_of(lambda: runner.stream(plain)) < 5 * len(plain)
    assert calls_of(lambda: runner.stream(named)) < 6 * len(named)


def calls_of(function: Callable[[], object]) -> int:
    """How many functions of Python it calls, which is the same at every try."""
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


# Bugs


@pytest.mark.parametrize("bug", [ZeroDivisionError, MemoryError])
@pytest.mark.parametrize("where", ["submit", "status"])
@virtual
async def test_a_bug_costs_one_job(
    where: str, bug: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody provided for is that job's outcome, with its task if there is one."""

    def on_submit(number: int, _: object) -> Answer:
        return bug("a bug") if where == "submit" and number == 2 else None

    def on_status(task: FakeTask) -> Answer:
        is_hit = where == "status" and task.id == "task_2"
        return bug("a bug") if is_hit else None

    api = FakeApi(on_submit=on_submit, on_status=on_status)
    async with client_for(api) as client:
        report = await BatchRunner(client).run(prompts(5))

    assert report.stopped is None
    assert report.counts[OutcomeStatus.SUCCEEDED] == 4
    (hit,) = (outcome for outcome in report.outcomes if outcome.error is not None)
    assert hit.error is not None
    assert bug.__name__ in str(hit.error)
    assert (hit.error.__cause__, hit.error.__context__) == (None, None), "it may hold the key"
    if where == "status":
        assert hit.status is OutcomeStatus.TIMED_OUT
        assert hit.task is not None
        assert hit.task.id == "task_2"
    else:
        assert hit.status is OutcomeStatus.UNCERTAIN
    assert "Traceback" in caplog.text


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories are not tried: a thread would do it, for which virtual time does not wait."""

    async def check(_: Directory) -> None:
        """It is a good one."""

    monkeypatch.setattr(Directory, "check", check)


@virtual
async def test_a_bug_while_saving_keeps_the_video(
    monkeypatch: pytest.MonkeyPatch, believed: None
) -> None:
    """A success whose saving met a bug is still a success with its URLs."""

    async def save(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ApixoClient, "save", save)
    async with client_for(FakeApi()) as client:
        runner = BatchRunner(client, save_to="videos")
        report = await runner.run(prompts(1))

    (outcome,) = report.outcomes
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert outcome.urls
    assert outcome.error is not None


@pytest.mark.parametrize("ending", ["error", "cancelled"])
@virtual
async def test_files_that_were_saved_are_named_though_a_later_one_is_missing(
    ending: str, monkeypatch: pytest.MonkeyPatch, believed: None
) -> None:
    """Of several results those that are on disk are in the outcome, whatever ended the rest."""

    async def save(_: Downloader, url: str, to: Directory, stem: str, **__: object) -> SavedFile:
        if url.endswith("2"):
            await asyncio.sleep(100 if ending == "cancelled" else 0)
            raise DownloadError("gone", url=url, reason="gone")
        return SavedFile(to.place / f"{stem}.mp4", 7, "00")

    monkeypatch.setattr(Downloader, "save", save)
    seen: list[events.Event] = []
    urls = '{"resultUrls":["https://files.test/1","https://files.test/2"]}'
    async with client_for(FakeApi(result=lambda _: urls)) as client:
        runner = BatchRunner(client, save_to="videos", on_event=seen.append)
        running = asyncio.create_task(runner.run([Job(TextToVideo("one"), key="a")]))
        await asyncio.sleep(180)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    (outcome,) = runner.report.outcomes
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert isinstance(outcome.error, DownloadError)
    assert [str(file) for file in outcome.files] == [str(Path("videos").absolute() / "a.mp4")]
    kinds = [type(event) for event in seen if not isinstance(event, events.Stopped)]
    assert kinds[-2:] == [events.Saved, events.SaveFailed]
