"""OpenTelemetry: traces and metrics of a client (extra `otel`).

    telemetry = Telemetry()
    async with ApixoClient(on_event=telemetry) as client: ...

It stands on `opentelemetry-api` alone; without an SDK all of it does nothing. Names are those of
the semantic conventions where there are any: for HTTP clients (stable), and for generative AI (in
development, and without a word on video). docs/telemetry.md has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import attrs
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from apixo_async import events
from apixo_async.events import ClientEvent
from apixo_async.integrations._instruments import Instruments

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

NAME: Final = "apixo_async"
__all__ = ["Telemetry"]

SCHEMA: Final = "https://opentelemetry.io/schemas/1.41.0"
OPERATION: Final = "generate_content"
PROVIDER: Final = "apixo"

DOUBTS_KEPT: Final = 1_000
"""Submits in doubt whose spans a task that is found later leads back to."""
ERRORS_FROM: Final = 400
"""HTTP statuses that name an error."""
ROUTES_KEPT: Final = 100
"""Paths of requests that are remembered; there is one for each model."""

Attributes: TypeAlias = dict[str, str | int | float | bool]


@attrs.define(eq=False)
class _Open:
    """A submit or task whose span is open."""

    span: Span
    context: Context
    about: Attributes
    began_at: float
    is_running: bool = False


class Telemetry:
    """What a client does as spans and metrics: pass it as `ApixoClient(on_event=...)`.

    One for each client. A task has one span, from the moment that it has a slot until it is seen to
    end; each request to the API is a child of it, whichever call made it.

    A single call's task is a child of the span that is current where it is submitted. A batch's
    job begins a trace of its own, linked to the one that is current around the batch: a trace of
    ten thousand tasks would be of no use to anybody, and samplers decide by trace. Nothing is added
    to what is sent to the API. Neither prompts nor URLs of results nor the key are recorded.

    Args:
        tracer_provider: Takes the spans; `None` is the global one, which may be set later.
        meter_provider: Takes the metrics; `None` is the global one, which may be set later.
        request_spans: Whether requests get spans of their own.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        request_spans: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider, schema_url=SCHEMA)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider, schema_url=SCHEMA)
        self._request_spans = request_spans
        self._submits: dict[int, _Open] = {}
        self._tasks: dict[str, _Open] = {}
        self._doubts: dict[int, Span] = {}
        self._limits: dict[str, int] = {}
        self._to = Instruments(meter)
        self._server: Attributes = {}
        self._routes: dict[str, Attributes] = {}
        self._handlers: dict[type[ClientEvent], Callable[..., None]] = {
            events.Opened: self._opened,
            events.Closed: self._closed,
            events.Queued: self._queued,
            events.Accepted: self._accepted,
            events.Rejected: self._rejected,
            events.Uncertain: self._uncertain,
            events.NotStarted: self._not_started,
            events.Identified: self._identified,
            events.Adopted: self._adopted,
            events.CalledBack: self._called_back,
            events.Succeeded: self._succeeded,
            events.Failed: self._failed,
            events.Released: self._released,
            events.TimedOut: self._timed_out,
            events.Requested: self._requested,
            events.Paused: self._paused,
            events.LimitFound: self._limit_found,
        }

    def __call__(self, event: ClientEvent) -> None:
        """Takes one event of the client."""
        handler = self._handlers.get(type(event))
        if handler is not None:  # a later version may tell of more
            handler(event)

    # The client

    def _opened(self, event: events.Opened) -> None:
        self._server = _server(event.base_url)
        self._set_limit("tasks", event.concurrent_tasks)
        self._set_limit("requests", event.requests_per_minute)

    def _closed(self, event: events.Closed) -> None:
        left = [*self._submits.values(), *self._tasks.values()]
        self._submits.clear()
        self._tasks.clear()
        for opened in left:  # of a client whose event loop ended before it was closed
            at = event.at.timestamp()
            self._end(opened, at=at, outcome="released", error="closed", says="was cut off")
        for limit in list(self._limits):
            self._set_limit(limit, 0)

    # Submits

    def _queued(self, event: events.Queued) -> None:
        self._submits[event.submit] = self._begin(
            event.model,
            {"apixo.mode": event.mode, "apixo.job.key": event.key},
            at=event.at.timestamp(),
            is_root=event.key is not None,
        )

    def _begin(
        self,
        model: str,
        more: Mapping[str, str | None],
        *,
        at: float,
        is_root: bool,
        links: Sequence[Link] = (),
    ) -> _Open:
        about: Attributes = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            **self._server,
        }
        told = {name: value for name, value in more.items() if value is not None}
        around = trace.get_current_span().get_span_context()
        span = self._tracer.start_span(
            f"{OPERATION} {model}",
            context=Context() if is_root else None,
            kind=SpanKind.CLIENT,
            attributes={**about, "gen_ai.output.type": "video", **told},
            links=[*links, Link(around)] if is_root and around.is_valid else links,
            start_time=_ns(at),
        )
        return _Open(span, trace.set_span_in_context(span), about, at)

    def _accepted(self, event: events.Accepted) -> None:
        opened = self._submits.pop(event.submit, None)
        if opened is not None:
            self._run(opened, event.task_id, at=event.at.timestamp())

    def _run(self, opened: _Open, task_id: str, *, at: float) -> None:
        opened.is_running = True
        self._to.running.add(1, opened.about)
        opened.span.set_attribute("gen_ai.response.id", task_id)
        opened.span.add_event("apixo.accepted", timestamp=_ns(at))
        self._tasks[task_id] = opened

    def _rejected(self, event: events.Rejected) -> None:
        self._end_submit(event, outcome="rejected", error=event.error, says=event.reason)

    def _uncertain(self, event: events.Uncertain) -> None:
        opened = self._end_submit(
            event, outcome="uncertain", error="SubmitUncertainError", says=event.reason
        )
        if opened is not None:
            self._doubts[event.submit] = opened.span
            if len(self._doubts) > DOUBTS_KEPT:
                del self._doubts[next(iter(self._doubts))]

    def _not_started(self, event: events.NotStarted) -> None:
        self._end_submit(event, outcome="not_started", error="not_started", says=event.reason)

    def _end_submit(
        self, event: events.SubmitEvent, *, outcome: str, error: str, says: str
    ) -> _Open | None:
        opened = self._submits.pop(event.submit, None)
        if opened is not None:
            self._end(opened, at=event.at.timestamp(), outcome=outcome, error=error, says=says)
        return opened

    def _identified(self, event: events.Identified) -> None:
        """Its span has ended in doubt; a new one goes on, and leads back to it."""
        doubt = self._doubts.pop(event.submit, None)
        links = [] if doubt is None else [Link(doubt.get_span_context())]
        at = event.at.timestamp()
        opened = self._begin(
            event.model,
            {"apixo.mode": event.mode, "apixo.job.key": event.key},
            at=at,
            is_root=event.key is not None,
            links=links,
        )
        self._run(opened, event.task_id, at=at)

    # Tasks

    def _adopted(self, event: events.Adopted) -> None:
        at = event.at.timestamp() - event.age
        self._run(self._begin(event.model, {}, at=at, is_root=True), event.task_id, at=at)

    def _called_back(self, event: events.CalledBack) -> None:
        opened = self._tasks.get(event.task_id or "")
        if opened is not None:
            about: Attributes = {}
            _put(about, "apixo.task.state", event.state)
            opened.span.add_event("apixo.called_back", about, _ns(event.at.timestamp()))

    def _succeeded(self, event: events.Succeeded) -> None:
        self._end_task(event, outcome="succeeded")

    def _failed(self, event: events.Failed) -> None:
        error = event.task.fail_code or "failed"
        self._end_task(event, outcome="failed", error=error, says=event.reason)

    def _end_task(
        self,
        event: events.Succeeded | events.Failed,
        *,
        outcome: str,
        error: str | None = None,
        says: str | None = None,
    ) -> None:
        opened = self._tasks.pop(event.task.id, None)
        if opened is None:
            return
        if event.detection_delay is not None:
            opened.span.set_attribute("apixo.task.detection_delay", event.detection_delay)
            self._to.detection_delay.record(event.detection_delay, opened.about)
        self._end(opened, at=event.at.timestamp(), outcome=outcome, error=error, says=says)

    def _released(self, event: events.Released) -> None:
        opened = self._tasks.pop(event.task_id, None)
        if opened is not None:
            says = f"its slot was given up: {event.reason}"
            at = event.at.timestamp()
            self._end(opened, at=at, outcome="released", error=event.reason, says=says)

    def _timed_out(self, event: events.TimedOut) -> None:
        opened = self._tasks.get(event.task.id)
        if opened is not None:
            opened.span.add_event("apixo.timed_out", timestamp=_ns(event.at.timestamp()))
        self._to.timeouts.add(1, {"gen_ai.request.model": event.task.model, **self._server})

    def _end(
        self,
        opened: _Open,
        *,
        at: float,
        outcome: str,
        error: str | None = None,
        says: str | None = None,
    ) -> None:
        if opened.is_running:
            self._to.running.add(-1, opened.about)
        about: Attributes = {**opened.about}
        _put(about, "error.type", error)
        self._to.tasks.add(1, {**about, "apixo.outcome": outcome})
        self._to.task_duration.record(max(0.0, at - opened.began_at), about)
        opened.span.set_attribute("apixo.outcome", outcome)
        if error is not None:
            opened.span.set_attribute("error.type", error)
            opened.span.set_status(StatusCode.ERROR, says)
        opened.span.end(_ns(at))

    # Requests and limits

    def _requested(self, event: events.Requested) -> None:
        about = self._request(event)
        self._to.request_duration.record(event.duration, about)
        self._to.token_wait.record(event.waited, {"apixo.call": event.call})
        if not self._request_spans:
            return
        opened = None
        if event.submit is not None:
            opened = self._submits.get(event.submit)
        elif event.task_id is not None:
            opened = self._tasks.get(event.task_id)
        at = event.at.timestamp()
        span_about = {**about, "url.full": event.url, "apixo.call": event.call}
        span_about["apixo.token_wait"] = event.waited
        _put(span_about, "gen_ai.response.id", event.task_id)
        if event.attempt is not None and event.attempt > 1:
            span_about["http.request.resend_count"] = event.attempt - 1
        span = self._tracer.start_span(
            f"{event.method} {about['url.template']}",
            context=None if opened is None else opened.context,
            kind=SpanKind.CLIENT,
            attributes=span_about,
            start_time=_ns(at - event.duration),
        )
        if event.error is not None:
            span.set_status(StatusCode.ERROR)
        span.end(_ns(at))

    def _request(self, event: events.Requested) -> Attributes:
        """What describes a request in few values, for metrics as well."""
        place = event.url.partition("?")[0]
        route = self._routes.get(place)
        if route is None:
            template = urlsplit(place).path
            if event.model is not None:  # the last part of the paths that have one
                template = f"{template.rpartition('/')[0]}/{{model}}"
            route = {"url.template": template, **_server(place)}
            if len(self._routes) < ROUTES_KEPT:
                self._routes[place] = route
        about: Attributes = {"http.request.method": event.method, **route}
        status = event.http_status
        _put(about, "http.response.status_code", status)
        if event.error is not None:
            is_refused = status is not None and status >= ERRORS_FROM
            about["error.type"] = str(status) if is_refused else event.error
        return about

    def _paused(self, event: events.Paused) -> None:
        self._to.pauses.add(event.seconds, {"apixo.only_submits": event.only_submits})

    def _limit_found(self, event: events.LimitFound) -> None:
        self._set_limit(event.limit, event.value)

    def _set_limit(self, limit: str, value: int) -> None:
        """As a sum over all clients of a process, as the tasks that run are."""
        change = value - self._limits.get(limit, 0)
        self._limits[limit] = value
        self._to.limit.add(change, {"apixo.limit": limit})


def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    return {
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


def _put(about: Attributes, name: str, value: str | float | None) -> None:
    if value is not None:
        about[name] = value


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
