"""What each path of the emulator answers: requests as values to the decisions, and back."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping

import attrs
from aiohttp import web

from apixo_async.emulator.callbacks import CallbackSender, deliveries
from apixo_async.emulator.disturbances import Circumstances, disturb
from apixo_async.emulator.downloads import FileName, serve_video
from apixo_async.emulator.draws import unit
from apixo_async.emulator.durations import Quantile, parse_distribution
from apixo_async.emulator.faults import FaultPlan, Stage, read_rates
from apixo_async.emulator.replies import Manner, Reply, as_json, error
from apixo_async.emulator.service import Service
from apixo_async.emulator.settings import EmulatorSettings
from apixo_async.emulator.tasks import Task, describe
from apixo_async.emulator.videos import choose, load
from apixo_async.emulator.wire import send

_API = "/api/v1/"


@attrs.define(eq=False)
class Routes:
    """All paths: the API, the result files, and the control endpoints beside them."""

    settings: EmulatorSettings
    service: Service
    sender: CallbackSender
    rates: Mapping[str, float] = attrs.field(init=False)
    """The faults that are on at this moment."""
    _latency: Quantile = attrs.field(init=False)
    _answers: int = 0

    def __attrs_post_init__(self) -> None:
        """Begin as the settings say."""
        self.rates = self.settings.faults
        self._latency = parse_distribution(self.settings.latency)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        if path.startswith("/api/"):
            reply = await self._answer_api(request, path)
        elif path.startswith("/files/"):
            await load()
            reply = self._answer_file(request, path)
        elif path.startswith("/emulator/"):
            reply = await self._answer_control(request, path)
        elif path.startswith("/redirected/"):
            reply = self._answer_redirected(request)
        else:
            reply = error(404)
        return await send(request, reply, drip_seconds=self.settings.drip_seconds)

    # The control endpoints, which Python reaches through the emulator.

    def tasks(self) -> list[dict[str, object]]:
        """Return every task in order of acceptance."""
        service = self.service
        now = service.clock.now()
        return [describe(task, now, service.clock) for task in service.tasks.by_id.values()]

    def set_faults(self, faults: object) -> None:
        """Replace all rates; ValueError for wrong ones, which change nothing."""
        self.rates = read_rates(faults)
        self.service.plan = FaultPlan.from_rates(self.settings.seed, self.rates)

    def reset(self) -> None:
        """Begin anew with the clock, the address and the settings of before."""
        self.sender.clear()
        self.rates = self.settings.faults
        self.service = Service.open(self.settings, self.service.clock, self.service.base_url)

    # The API.

    async def _answer_api(self, request: web.BaseRequest, path: str) -> Reply:
        service, authorized = self.service, self._is_authorized(request)
        verb, _, model = path.removeprefix(_API).partition("/")
        raw_path = request.rel_url.raw_path  # as it may stand in a header
        if verb == "apikeys":
            verb, model = f"{verb}/{model}", ""
        match request.method, verb:
            case "GET", "statusTask":
                task_id = request.query.get("taskId", "")
                reply = service.status(model, task_id, authorized=authorized, path=raw_path)
            case "POST", "generateTask":
                reply = await self._submit(request, model, raw_path, authorized=authorized)
            case "GET", "apikeys/current-balance":
                reply = service.balance(authorized=authorized)
            case _, "statusTask" | "generateTask" | "apikeys/current-balance":
                reply = service.stray(405)
            case _:
                reply = service.stray(404)
        await self._delay()
        return reply

    async def _submit(
        self, request: web.BaseRequest, model: str, path: str, *, authorized: bool
    ) -> Reply:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self.service.stray(400, "the body must not be larger than 1 MiB")
        service = self.service
        reply, task = service.submit(model, body, authorized=authorized, path=path)
        if task is not None and task.submission.callback_url is not None:
            await self._arrange_callbacks(service, task)
        return reply

    async def _arrange_callbacks(self, service: Service, task: Task) -> None:
        counts, sender = service.ledger.callbacks, self.sender
        if "callback_lost" in task.faults:
            counts["lost"] += 1
        for delivery in deliveries(task, service.clock, service.urls(task)):
            if "callback_early" in task.faults and delivery.kind == "final":
                counts["early"] += 1
                await sender.send(delivery, counts)
            else:
                sender.schedule(delivery, counts)

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        # Bytes that are no UTF-8 come as surrogates; they are as wrong as any other key.
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        return hmac.compare_digest(given, f"Bearer {self.settings.api_key}".encode())

    async def _delay(self) -> None:
        self._answers += 1
        seconds = self._latency(unit(self.settings.seed, "latency", self._answers))
        if seconds > 0:
            await asyncio.sleep(seconds)

    # The result files, and what lies outside.

    def _answer_file(self, request: web.BaseRequest, path: str) -> Reply:
        service = self.service
        if "Authorization" in request.headers:
            service.ledger.files_asked_with_key += 1
        if request.method not in {"GET", "HEAD"}:
            return error(405)
        name = FileName.parse(path)
        task = service.tasks.by_id.get(name.task_id) if name else None
        now, lifetime = service.clock.now(), self.settings.result_lifetime
        if name is None or task is None or name.index >= self.settings.urls_per_task:
            return error(404)
        if not task.is_available(now, lifetime):
            return error(403, "Result expired") if now >= task.ends_at else error(404)
        video = choose(task.id, name.index, is_tall=task.submission.is_tall)
        attempt = task.file_requests
        task.file_requests += 1
        fault = service.plan.first(Stage.FILE, f"{task.id}/{name.index}", attempt)
        has_ranges = request.method == "GET" and fault != "download_no_range"
        reply = serve_video(video, request.headers, has_ranges=has_ranges)
        if fault is not None:
            service.ledger.faults[fault] += 1
            reply = disturb(fault, reply, Circumstances())
            # A HEAD has no body that could be cut.
            return attrs.evolve(reply, manner=Manner.PLAIN) if request.method == "HEAD" else reply
        service.ledger.files_served += request.method == "GET"
        return reply

    def _answer_redirected(self, request: web.BaseRequest) -> Reply:
        ledger = self.service.ledger
        ledger.redirects_followed += 1
        if "Authorization" in request.headers:
            ledger.redirects_followed_with_key += 1
        return error(404, "Nobody should have followed this redirect")

    async def _answer_control(self, request: web.BaseRequest, path: str) -> Reply:
        match request.method, path.removeprefix("/emulator/"):
            case "GET", "ledger":
                return as_json(self.service.ledger.as_dict())
            case "GET", "bound":
                return as_json(self.service.bound())
            case "GET", "tasks":
                return as_json(self.tasks())
            case "POST", "faults":
                return self._control_faults(await request.read())
            case "POST", "reset":
                self.reset()
                return as_json({"reset": True})
            case _:
                return as_json({"error": "no such control endpoint"}, 404)

    def _control_faults(self, body: bytes) -> Reply:
        try:
            self.set_faults(json.loads(body))
        except ValueError as problem:
            return as_json({"error": str(problem)}, 400)
        return as_json({"faults": dict(self.rates)})
