"""The emulator over HTTP: paths to decisions, decisions to the wire, and the server's lifetime."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs
from aiohttp import web

from apixo_async.emulator.callbacks import CallbackSender, deliveries
from apixo_async.emulator.clock import Clock
from apixo_async.emulator.disturbances import Circumstances, disturb
from apixo_async.emulator.downloads import FileName, serve_video
from apixo_async.emulator.draws import unit
from apixo_async.emulator.durations import Quantile, parse_distribution
from apixo_async.emulator.faults import FaultPlan, Stage, read_rates
from apixo_async.emulator.replies import Reply, as_json, error
from apixo_async.emulator.service import Service
from apixo_async.emulator.settings import EmulatorSettings
from apixo_async.emulator.tasks import Task, describe
from apixo_async.emulator.videos import choose, load
from apixo_async.emulator.wire import send

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from apixo_async.emulator.ledger import Ledger

_API = "/api/v1/"
_CLOSING = 0.1
"""Real seconds an unfinished answer gets when the emulator closes."""

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - compared only


def _show(service: Service | None) -> str:
    return service.base_url if service else "not open"


@attrs.define(eq=False)
class Emulator:
    """An APIXO of one's own; open from ``async with`` to its end.

    Before it is opened it has neither an address nor tasks, and asking for them raises
    RuntimeError. It is opened once.
    """

    settings: EmulatorSettings = attrs.field(factory=EmulatorSettings)
    _service: Service | None = attrs.field(default=None, init=False, repr=_show)
    _rates: Mapping[str, float] = attrs.field(init=False, repr=False)
    _latency: Quantile = attrs.field(init=False, repr=False)
    _answers: int = attrs.field(default=0, init=False, repr=False)
    _sender: CallbackSender | None = attrs.field(default=None, init=False, repr=False)
    _worker: asyncio.Task[None] | None = attrs.field(default=None, init=False, repr=False)
    _runner: web.ServerRunner | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Read what the settings hold as text."""
        self._rates = self.settings.faults
        self._latency = parse_distribution(self.settings.latency)

    async def __aenter__(self) -> Self:
        """Open the port and start answering."""
        clock = Clock.start(self.settings.speed, asyncio.get_running_loop().time)
        runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=_CLOSING
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.settings.host, self.settings.port, backlog=1024)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        port = runner.addresses[0][1]
        host = _ANY_ADDRESS.get(self.settings.host, self.settings.host)
        self._service = self._new_service(clock, f"http://{host}:{port}")
        self._runner, self._sender = runner, CallbackSender(clock)
        self._worker = asyncio.create_task(self._sender.run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the port and drop callbacks that were not due yet."""
        try:
            if self._runner is not None:
                await self._runner.cleanup()
        finally:
            if self._worker is not None:
                await _end(self._worker)

    # For whoever started it.

    @property
    def base_url(self) -> str:
        """Where it listens, without a path: ``http://127.0.0.1:43117``."""
        return self._open_service.base_url

    @property
    def api_key(self) -> str:
        """The only key that is accepted."""
        return self.settings.api_key

    @property
    def ledger(self) -> Ledger:
        """What happened so far, brought up to date by this very access."""
        ledger = self._open_service.ledger
        ledger.refresh()
        return ledger

    def bound(self) -> dict[str, Any]:
        """Return the shortest possible time beside the one that was needed."""
        return self._open_service.bound()

    def tasks(self) -> list[dict[str, object]]:
        """Return every task in order of acceptance, as ``/emulator/tasks`` shows them."""
        service = self._open_service
        now, table = service.clock.now(), service.tasks.by_id
        return [describe(task, now, service.clock) for task in table.values()]

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace all rates; ValueError for a wrong name or rate. Tasks keep what they have."""
        self._rates = read_rates(faults)
        self._open_service.plan = FaultPlan.from_rates(self.settings.seed, self._rates)

    def reset(self) -> None:
        """Forget all tasks, counts and pending callbacks; faults are as the settings say again."""
        old = self._open_service
        self._rates = self.settings.faults
        if self._sender is not None:
            self._sender.clear()
        self._service = self._new_service(old.clock, old.base_url)

    @property
    def _open_service(self) -> Service:
        if self._service is None:
            raise RuntimeError("the emulator is not open: use it with 'async with'")
        return self._service

    def _new_service(self, clock: Clock, base_url: str) -> Service:
        plan = FaultPlan.from_rates(self.settings.seed, self._rates)
        return Service(settings=self.settings, clock=clock, base_url=base_url, plan=plan)

    # Paths to decisions.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
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

    async def _answer_api(self, request: web.BaseRequest, path: str) -> Reply:
        service, authorized = self._open_service, self._is_authorized(request)
        verb, _, model = path.removeprefix(_API).partition("/")
        match request.method, verb:
            case "GET", "statusTask":
                task_id = request.query.get("taskId", "")
                reply = service.status(model, task_id, authorized=authorized, path=path)
            case "POST", "generateTask":
                reply = await self._submit(request, model, path, authorized=authorized)
            case "GET", "apikeys" if model == "current-balance":
                reply = service.balance(authorized=authorized)
            case _, "statusTask" | "generateTask" | "apikeys":
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
            return self._open_service.stray(400, "the body must not be larger than 1 MiB")
        service = self._open_service
        reply, task = service.submit(model, body, authorized=authorized, path=path)
        if task is not None and task.submission.callback_url is not None:
            await self._arrange_callbacks(service, task)
        return reply

    async def _arrange_callbacks(self, service: Service, task: Task) -> None:
        counts, sender = service.ledger.callbacks, self._sender
        if sender is None:
            return
        if "callback_lost" in task.faults:
            counts["lost"] += 1
        for delivery in deliveries(task, service.clock, service.urls(task)):
            if "callback_early" in task.faults and delivery.kind == "final":
                counts["early"] += 1
                await sender.send(delivery, counts)
            else:
                sender.schedule(delivery, counts)

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        given = request.headers.get("Authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {self.settings.api_key}".encode())

    async def _delay(self) -> None:
        self._answers += 1
        seconds = self._latency(unit(self.settings.seed, "latency", self._answers))
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _answer_file(self, request: web.BaseRequest, path: str) -> Reply:
        service = self._open_service
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
        reply = serve_video(video, request.headers)
        attempt = task.file_requests
        task.file_requests += 1
        if fault := service.plan.first(Stage.FILE, f"{task.id}/{name.index}", attempt):
            service.ledger.faults[fault] += 1
            return disturb(fault, reply, Circumstances())
        service.ledger.files_served += 1
        return reply

    def _answer_redirected(self, request: web.BaseRequest) -> Reply:
        ledger = self._open_service.ledger
        ledger.redirects_followed += 1
        if "Authorization" in request.headers:
            ledger.redirects_followed_with_key += 1
        return error(404, "Nobody should have followed this redirect")

    async def _answer_control(self, request: web.BaseRequest, path: str) -> Reply:
        match request.method, path.removeprefix("/emulator/"):
            case "GET", "ledger":
                return as_json(self.ledger.as_dict())
            case "GET", "bound":
                return as_json(self.bound())
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
        return as_json({"faults": dict(self._rates)})


async def _end(worker: asyncio.Task[None]) -> None:
    """Stop *worker*, and let be heard what had stopped it before."""
    worker.cancel()
    await asyncio.wait({worker})
    if not worker.cancelled() and (problem := worker.exception()):
        raise problem


async def serve(
    settings: EmulatorSettings, *, on_ready: Callable[[Emulator], None] | None = None
) -> None:
    """Run an emulator until cancelled; *on_ready* gets it once it can be reached."""
    async with Emulator(settings) as emulator:
        if on_ready is not None:
            on_ready(emulator)
        await asyncio.Event().wait()
