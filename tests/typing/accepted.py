"""What users write, and what it is inferred as."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_type

from apixo_async import (
    ApixoClient,
    ApixoError,
    BatchReport,
    BatchRunner,
    ClientStatistics,
    ExtendVideo,
    FramesToVideo,
    Gate,
    Job,
    LearnedSchedule,
    Limits,
    ModelRequest,
    Outcome,
    OutcomeStatus,
    OutcomeStream,
    PollSchedule,
    ReferenceToVideo,
    Request,
    SavedFile,
    StopReason,
    Task,
    TaskFailedError,
    TaskState,
    TextToVideo,
    Timeouts,
    WebhookReceiver,
    events,
)
from apixo_async.batch import events as batch_events
from apixo_async.integrations.otel import Telemetry
from apixo_async.integrations.sqlite import SqliteLimits

URL = "https://example.com/a.png"


async def verbs(client: ApixoClient) -> None:
    """Each verb of the client."""
    task = await client.generate(TextToVideo("a fox", mode="fast", aspect_ratio="16:9"))
    assert_type(task, Task)
    assert_type(await client.submit(FramesToVideo("a fox", first_frame=URL)), Task)
    assert_type(await client.status("id", model="veo-3-1"), Task)
    assert_type(await client.wait(task, timeout=60), Task)
    assert_type(await client.download(task, Path("videos")), list[Path])
    assert_type(await client.download(task, "s3://bucket/videos"), list[Path | str])
    assert_type(await client.save(task, Path("videos")), list[SavedFile])
    assert_type(await client.balance(), float)
    assert_type(client.statistics(), ClientStatistics)
    async for snapshot in client.watch(task):
        assert_type(snapshot, Task)
    async with client as same:
        assert_type(same, ApixoClient)
    await client.aclose()


def a_task(task: Task) -> None:
    """The fields of a task."""
    assert_type(task.id, str)
    assert_type(task.state, TaskState | str)
    assert_type(task.urls, tuple[str, ...])
    assert_type(task.fail_code, str | None)
    assert_type(task.completed_at, datetime | None)
    assert_type(task.duration, float | None)
    assert_type(task.has_succeeded, bool)
    assert_type(task.is_terminal, bool)
    assert_type(task.expires_at, datetime | None)
    assert_type(task.raw, Mapping[str, object])


async def batches(client: ApixoClient) -> None:
    """A runner, its report and its stream."""
    runner = BatchRunner(client, journal="run.db", save_to=Path("videos"), max_cost="12.50")
    report = await runner.run([TextToVideo("a fox"), Job(ExtendVideo(task_id="t", prompt="on"))])
    assert_type(report, BatchReport)
    assert_type(report.outcomes, tuple[Outcome, ...])
    assert_type(report.stopped, StopReason | None)
    assert_type(report.counts, Mapping[OutcomeStatus, int])
    assert_type(await runner.resume(), BatchReport)
    assert_type(runner.stream_resumed(), OutcomeStream)
    runner.stop()
    stream = runner.stream(TextToVideo(f"number {n}") for n in range(3))
    assert_type(stream, OutcomeStream)
    async with stream as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            assert_type(outcome.status, OutcomeStatus)
            assert_type(outcome.task, Task | None)
            assert_type(outcome.error, ApixoError | None)
            assert_type(outcome.files, tuple[SavedFile, ...])
            assert_type(outcome.job.request, Request)
            assert_type([file.path for file in outcome.files], list[Path])
        outcomes.stop()
    assert_type(stream.left, Sequence[Outcome])
    assert_type(stream.stopped, StopReason | None)
    assert_type(stream.stop_error, BaseException | None)
    assert_type(stream.was_begun and stream.is_running, bool)


def schedules(schedule: PollSchedule) -> None:
    """Numbers that follow from those of a schedule."""
    learned = LearnedSchedule.beginning_as(schedule)
    assert_type(learned, LearnedSchedule)
    assert_type(learned.shortest_pause, float)
    assert_type(schedule.slot_lifetime, float)
    assert_type(schedule.uncertain_hold, float)


def requests() -> list[Request]:
    """Every kind of request is a `Request`."""
    return [
        TextToVideo("a fox"),
        FramesToVideo("a fox", first_frame=URL, last_frame=URL),
        ReferenceToVideo("a fox", image_urls=[URL]),
        ExtendVideo(task_id="t", prompt="on"),
        ModelRequest("another", {"prompt": "a fox"}),
    ]


def modes(given: ReferenceToVideo, other: ModelRequest) -> None:
    """The API leaves one of them no choice, and the other is any model's."""
    assert_type(given.mode, Literal["quality", "fast"])
    assert_type(other.mode, str | None)


def heard(event: events.ClientEvent) -> str:
    """A hook may match over all that is told."""
    match event:
        case events.Requested(duration=seconds, method=method):
            assert_type(seconds, float)
            assert_type(method, Literal["GET", "POST"])
        case events.Accepted() | events.Identified():
            assert_type(event.task_id, str)
            assert_type(event.key, str | None)
        case events.Succeeded():
            assert_type(event.task, Task)
            assert_type(event.detection_delay, float | None)
        case _:
            assert_type(event.at, datetime)
    return "what a hook returns is not looked at"


def told(event: batch_events.Event) -> None:
    """A batch's hook."""
    assert_type(event.at, datetime)


def hooks(receiver: WebhookReceiver) -> None:
    """Whatever takes an event will do."""
    client = ApixoClient(
        "key",
        limits=Limits(concurrent_tasks=3),
        schedule=PollSchedule(first=1),
        timeout=Timeouts(submit=5),
        webhook=receiver,
        on_event=heard,
    )
    ApixoClient(on_event=Telemetry(request_spans=False))
    gate = Gate(Limits(), shared=SqliteLimits("limits.db"))
    assert_type(ApixoClient(gate=gate).statistics().gate.tasks_granted, int | None)
    ApixoClient(on_event=lambda event: assert_type(event, events.ClientEvent))
    BatchRunner(client, on_event=told, schedule=LearnedSchedule())


async def errors(client: ApixoClient) -> None:
    """Facts of errors are attributes."""
    try:
        await client.generate(TextToVideo("a fox"))
    except TaskFailedError as error:
        assert_type(error.task, Task)
        assert_type(error.fail_code, str | None)
    except ApixoError as error:
        assert_type(error.task_id, str | None)
