"""OpenTelemetry: spans and metrics of what a client does, seen by the SDK's exporters in memory."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from apixo_async import (
    ApixoClient,
    ApixoError,
    BatchRunner,
    Limits,
    PollSchedule,
    TextToVideo,
    events,
)
from apixo_async.integrations.otel import Telemetry
from apixo_async.testing import EmulatorThread
from tests.client.test_events import CUT, PROMPT, UNREACHABLE, client_telling, refuse_first
from tests.fakes import KEY, Answer, FakeApi, receiver, refusal
from tests.virtual import run_virtual

OCEAN = TextToVideo(PROMPT, mode="fast")
TASK = f"generate_content {OCEAN.model}"


@attrs.define
class Backend:
    """An SDK that keeps everything."""

    spans: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(factory=TracerProvider)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader])

    def telemetry(self, **more: bool) -> Telemetry:
        """One that exports here."""
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **more)

    def named(self, name: str) -> list[ReadableSpan]:
        """Spans that have ended."""
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        """The data of one metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def outcomes(self) -> dict[object, int]:
        """Tasks by outcome."""
        return {
            point.attributes["apixo.outcome"]: point.value
            for point in self.points("apixo.client.tasks")
        }


@pytest.fixture
def backend() -> Iterator[Backend]:
    """One for each test."""
    backend = Backend()
    yield backend
    backend.tracers.shutdown()
    backend.meters.shutdown()


def told(span: ReadableSpan) -> Mapping[str, Any]:
    """Its attributes."""
    return span.attributes or {}


def parent_of(span: ReadableSpan) -> int | None:
    """The id of its parent."""
    return None if span.parent is None else span.parent.span_id


@pytest.mark.apixo_emulator(speed=600)
async def test_a_video_is_one_span_below_that_of_its_caller(
    backend: Backend, apixo_emulator: EmulatorThread
) -> None:
    """Its requests are children of it, whoever of the client's tasks made them."""
    tracer = backend.tracers.get_tracer("the program")
    async with ApixoClient(on_event=backend.telemetry()) as client:
        with tracer.start_as_current_span("handler") as handler:
            task = await client.submit(OCEAN)
        await asyncio.create_task(
            client.wait(task, schedule=PollSchedule(first=0.1, interval=0.05))
        )

    [span] = backend.named(TASK)
    spans = backend.spans.get_finished_spans()
    requests = [one for one in spans if one.name.startswith(("GET", "POST"))]
    assert parent_of(span) == handler.get_span_context().span_id
    assert len(requests) >= 2
    assert span.context is not None
    assert {parent_of(one) for one in requests} == {span.context.span_id}
    begin, end = span.start_time or 0, span.end_time or 0
    assert all(begin <= (one.start_time or 0) <= (one.end_time or 0) <= end for one in requests)


@pytest.mark.apixo_emulator(speed=1)
async def test_names_and_attributes_follow_the_conventions(
    backend: Backend, apixo_emulator: EmulatorThread
) -> None:
    """Those of HTTP clients for requests, those for generative AI for the task."""
    async with ApixoClient(on_event=backend.telemetry()) as client:
        task = await client.submit(OCEAN)
        await client.status(task)

    [post] = backend.named("POST /api/v1/generateTask/{model}")
    [get] = backend.named("GET /api/v1/statusTask/{model}")
    [span] = backend.named(TASK)
    host, port = "127.0.0.1", int(apixo_emulator.base_url.rpartition(":")[2])
    assert told(post) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": host,
        "server.port": port,
        "url.template": "/api/v1/generateTask/{model}",
        "url.full": f"{apixo_emulator.base_url}/api/v1/generateTask/veo-3-1",
        "gen_ai.response.id": task.id,
        "apixo.call": "submit",
        "apixo.token_wait": told(post)["apixo.token_wait"],
    }
    assert told(get)["url.full"].endswith(f"?taskId={task.id}")
    assert told(span) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "apixo",
        "gen_ai.request.model": "veo-3-1",
        "gen_ai.output.type": "video",
        "gen_ai.response.id": task.id,
        "server.address": host,
        "server.port": port,
        "apixo.mode": "fast",
        "apixo.outcome": "released",
        "error.type": "closed",
    }
    assert {one.kind for one in (post, get, span)} == {SpanKind.CLIENT}


OUTCOMES: Mapping[str, tuple[Answer, str, str | None]] = {
    "succeeded": (None, "succeeded", None),
    "rejected": (refusal(400), "rejected", "BadRequestError"),
    "uncertain": (CUT, "uncertain", "SubmitUncertainError"),
    "not started": (UNREACHABLE, "not_started", "not_started"),
}


@pytest.mark.parametrize(("answer", "outcome", "error"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_every_end_ends_a_span_and_is_counted(
    backend: Backend, answer: Answer, outcome: str, error: str | None
) -> None:
    """With its outcome; what is no success is an error that says what kind of."""
    telemetry = backend.telemetry()

    async def main() -> None:
        api = FakeApi(on_submit=lambda *_: answer)
        async with client_telling(telemetry, api) as client:
            with contextlib.suppress(ApixoError):
                await client.generate(OCEAN)

    run_virtual(main())

    [span] = backend.named(TASK)
    assert (told(span)["apixo.outcome"], told(span).get("error.type")) == (outcome, error)
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert backend.outcomes() == {outcome: 1}
    assert all(point.value == 0 for point in backend.points("apixo.client.tasks.running"))
    [duration] = backend.points("gen_ai.client.operation.duration")
    assert duration.count == 1


def test_a_refused_request_is_an_error_by_its_status(backend: Backend) -> None:
    """429 is told as such, by spans and by the metric of requests, as is which attempt it was."""
    telemetry = backend.telemetry()

    async def main() -> None:
        api = FakeApi(on_submit=refuse_first(refusal(429, retry_after="5")))
        async with client_telling(telemetry, api) as client:
            await client.submit(OCEAN)

    run_virtual(main())

    first, second = backend.named("POST /api/v1/generateTask/{model}")
    assert (told(first)["error.type"], first.status.status_code) == ("429", StatusCode.ERROR)
    assert (told(second)["http.request.resend_count"], "error.type" in told(second)) == (1, False)
    counts = {
        point.attributes.get("error.type"): point.count
        for point in backend.points("http.client.request.duration")
    }
    assert counts == {"429": 1, None: 1}
    [paused] = backend.points("apixo.client.paused")
    assert paused.value >= 5


def test_a_job_of_a_batch_is_a_trace_of_its_own_and_nothing_is_kept(backend: Backend) -> None:
    """Linked to the batch's caller; when all is done, no span is open and no task counted."""
    telemetry = backend.telemetry()

    async def main() -> int:
        api = FakeApi()
        limits = Limits(concurrent_tasks=100)
        tracer = backend.tracers.get_tracer("the program")
        async with client_telling(telemetry, api, limits=limits) as client:
            with tracer.start_as_current_span("nightly") as span:
                await BatchRunner(client).run([OCEAN] * 300)
            return span.get_span_context().span_id

    around = run_virtual(main())

    spans = backend.named(TASK)
    traces = {span.context.trace_id for span in spans if span.context is not None}
    assert len(spans) == len(traces) == 300
    assert all(span.parent is None for span in spans)
    assert {link.context.span_id for span in spans for link in span.links} == {around}
    assert Counter(told(span)["apixo.outcome"] for span in spans) == {"succeeded": 300}
    assert (telemetry._submits, telemetry._tasks) == ({}, {})
    [running] = backend.points("apixo.client.tasks.running")
    assert running.value == 0


def test_a_submit_that_is_found_again_leads_back_to_its_doubt(backend: Backend) -> None:
    """The span that ended in doubt is linked from the one that has the task."""
    telemetry = backend.telemetry()

    async def main() -> None:
        api = FakeApi(on_submit=lambda *_: CUT, accept_anyway=True, receiver=receiver())
        async with client_telling(telemetry, api) as client:
            await client.wait(await client.submit(OCEAN))

    run_virtual(main())

    doubt, found = backend.named(TASK)
    assert told(doubt)["apixo.outcome"] == "uncertain"
    assert told(found)["apixo.outcome"] == "succeeded"
    assert [link.context for link in found.links] == [doubt.context]


def test_what_runs_stands_beside_what_is_allowed(backend: Backend) -> None:
    """Over all clients of a process, and gone with the client."""
    seen: list[tuple[int, dict[object, int]]] = []

    def look() -> None:
        limits = {
            point.attributes["apixo.limit"]: point.value
            for point in backend.points("apixo.client.limit")
        }
        seen.append((sum(p.value for p in backend.points("apixo.client.tasks.running")), limits))

    async def main() -> None:
        limits = Limits(concurrent_tasks=7, requests_per_minute=70)
        one, two = (client_telling(backend.telemetry(), FakeApi(), limits=limits) for _ in "12")
        async with one, two:
            await one.submit(OCEAN)
            await two.submit(OCEAN)
            look()
        look()

    run_virtual(main())

    assert seen == [(2, {"tasks": 14, "requests": 140}), (0, {"tasks": 0, "requests": 0})]


def test_the_delay_of_detection_is_measured(backend: Backend) -> None:
    """One value for each task that was seen to end."""
    telemetry = backend.telemetry()

    async def main() -> None:
        async with client_telling(telemetry, FakeApi()) as client:
            await client.generate(OCEAN)

    run_virtual(main())

    [delay] = backend.points("apixo.client.task.detection_delay")
    assert delay.count == 1
    assert 0 <= delay.sum < 10


def test_requests_can_be_left_to_metrics(backend: Backend) -> None:
    """Their spans can be turned off: a video is looked at dozens of times."""
    telemetry = backend.telemetry(request_spans=False)

    async def main() -> None:
        async with client_telling(telemetry, FakeApi()) as client:
            await client.generate(OCEAN)

    run_virtual(main())

    assert [span.name for span in backend.spans.get_finished_spans()] == [TASK]
    assert sum(point.count for point in backend.points("http.client.request.duration")) >= 2


async def test_nothing_tells_the_api_of_a_trace(backend: Backend) -> None:
    """The bytes of a request have no header of a trace, though a span is around it."""
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"code": 200, "data": 1.0}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with backend.tracers.get_tracer("the program").start_as_current_span("handler") as around:
            async with ApixoClient(KEY, base_url=url, on_event=backend.telemetry()) as client:
                await client.balance()

    [request] = received
    assert b"Authorization: Bearer" in request
    assert not [one for one in (b"trace", b"baggage", b"b3") if one in request.lower()]
    [span] = backend.named("GET /api/v1/apikeys/current-balance")
    assert parent_of(span) == around.get_span_context().span_id


def test_no_prompt_url_of_a_result_or_key_is_exported(backend: Backend) -> None:
    """Neither as an attribute nor in the words of an error."""
    telemetry = backend.telemetry()

    async def main() -> None:
        api = FakeApi(on_submit=refuse_first(refusal(429)))
        async with client_telling(telemetry, api) as client:
            await client.generate(OCEAN)

    run_virtual(main())
    exported = "".join(span.to_json() for span in backend.spans.get_finished_spans())

    assert exported
    assert not [secret for secret in (PROMPT, KEY, "files.test") if secret in exported]


def test_an_event_of_a_later_version_is_passed_over(backend: Backend) -> None:
    """An adapter that is older than the client does not fail."""

    @attrs.frozen(kw_only=True)
    class New(events.Closed):
        pass

    backend.telemetry()(New())

    assert backend.spans.get_finished_spans() == ()
