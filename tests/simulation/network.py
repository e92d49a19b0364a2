"""What lies between client and server: bytes on their way, in both directions, and callbacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import attrs

from apixo_async import NotSentError, UnansweredError
from apixo_async._wire import Reply
from apixo_async.webhooks import Slip
from tests.simulation.plans import CALLBACK_FAULTS, LOOK_FAULTS, SUBMIT_FAULTS
from tests.simulation.server import GATEWAY, BilledTask, Server
from tests.simulation.watching import Watched
from tests.simulation.world import LATE_BYTES, World

HOST: Final = "api.test"
TIMEOUTS: Final = {"POST": 60.0, "GET": 30.0}
CALLED_AGAIN: Final = (30.0, 120.0, 600.0, 5_000.0)
CALLED_FOR: Final = 20_000.0
"""Seconds after the end of a task for which a sender comes again: for hours."""
LATE: Final = ((10.0, 900.0), (1_500.0, 3_000.0), (3_000.0, 15_000.0))
"""Seconds that a callback may be late: within the window, around its end, and hours after."""

Answer = Reply | UnansweredError


@attrs.define(eq=False)
class Request:
    """One request on its way."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    fault: str | None
    sent_at: float
    life: int
    answer: asyncio.Future[Answer]

    @property
    def name(self) -> str:
        return self.body["input"]["prompt"] if self.body is not None else self.path[-8:]


def _unanswered(reason: str, received: bytes = b"") -> UnansweredError:
    return UnansweredError(
        f"no answer ({reason})", host=HOST, reason=reason, received=received.decode()
    )


class Network:
    """The client's transport, and the way of callbacks."""

    def __init__(self, world: World, server: Server, watched: Watched) -> None:
        self._world = world
        self._server = server
        self._watched = watched
        self._callers: set[asyncio.Task[None]] = set()

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """The transport's one method."""
        world = self._world
        if world.is_dead:
            await asyncio.get_running_loop().create_future()
        faults = SUBMIT_FAULTS if method == "POST" else LOOK_FAULTS
        fault, outage = world.first_of(faults), world.outage()
        request = Request(
            method,
            path,
            None if body is None else json.loads(body),
            fault,
            world.time,
            world.life_number,
            asyncio.get_running_loop().create_future(),
        )
        world.note("sent", method, request.name, fault, outage)
        if outage == "refused" or fault in {"not_sent", "look_not_sent"}:
            await asyncio.sleep(world.soon())
            if method == "GET":
                self._watched.looked(request, is_denied=False)
            reason = world.rng.choice(("refused", "dns", "connect_timeout"))
            raise NotSentError(f"not sent ({reason})", host=HOST, reason=reason)
        self._watched.sent(request)
        if outage != "silent" and fault not in {"lost", "look_lost"}:
            world.at(world.time + world.soon(), partial(self._arrive, request))
        if method == "POST":
            world.reached("start")
        return await self._answer(request)

    async def _answer(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(TIMEOUTS[request.method]):
                answer = await request.answer
        except TimeoutError:
            if request.method == "GET":
                self._watched.looked(request, is_denied=False)
            raise _unanswered("timeout") from None
        if isinstance(answer, UnansweredError):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing was opened."""

    # There and back

    def _arrive(self, request: Request) -> None:
        world = self._world
        is_gone = request.life != world.life_number or world.is_dead
        if is_gone and world.rng.random() > LATE_BYTES:
            return
        reply = self._reply(request)
        world.note("arrived", request.method, request.name, reply.status)
        if request.method == "POST":
            world.reached("arrive")
        if request.fault == "answer_lost":
            answer: Answer = _unanswered("reset")
        elif request.fault == "answer_cut":
            part = reply.body[: world.rng.randint(0, len(reply.body) - 1)]
            answer = _unanswered("reset", part)
        else:
            answer = reply
        delay = world.rng.uniform(20, 90) if request.fault == "answer_late" else world.soon()
        world.at(world.time + delay, partial(self._deliver, request, answer))

    def _reply(self, request: Request) -> Reply:
        if self._world.outage() == "503":
            return Reply(503, b"<html>unavailable</html>", "5") if request.body else GATEWAY
        if request.body is None:
            (task_id,) = parse_qs(urlsplit(request.path).query)["taskId"]
            return self._server.status(task_id, fault=request.fault)
        before = len(self._server.tasks)
        reply = self._server.submit(
            request.body, fault=request.fault, sent_at=request.sent_at, life=request.life
        )
        for task in list(self._server.tasks.values())[before:]:
            self._call_back(task)
        return reply

    def _deliver(self, request: Request, answer: Answer) -> None:
        world = self._world
        is_gone = request.life != world.life_number or world.is_dead
        if is_gone or request.answer.done():
            return
        if request.method == "POST":
            world.reached("deliver")
            if world.is_dead:
                return
        self._watched.answered(request, answer)
        self._server.note_answer(answer)
        request.answer.set_result(answer)

    # Callbacks

    def _call_back(self, task: BilledTask) -> None:
        world = self._world
        if task.url is None:
            return
        fault = world.first_of(CALLBACK_FAULTS)
        if fault == "call_lost":
            return
        times = [task.ends_at + world.soon(2)]
        if fault == "call_late":
            times = [task.ends_at + world.rng.uniform(*world.rng.choice(LATE))]
        elif fault == "call_twice":
            times.append(task.ends_at + world.rng.uniform(0, 60))
        elif fault in {"call_early", "call_staged"}:
            times.insert(0, world.time + (0 if fault == "call_early" else world.rng.uniform(1, 10)))
        elif fault is not None:
            world.at(times[0] - world.soon(), partial(self._call, task, fault))
        for when in times:
            world.at(when, partial(self._call, task, None))

    def _call(self, task: BilledTask, lie: str | None) -> None:
        """A callback; one that is not answered 200 is sent again by some senders."""
        world = self._world
        if world.is_dead or world.receiver is None:
            self._again(task, lie)
            return
        calling = asyncio.get_running_loop().create_task(self._called(task, lie))
        self._callers.add(calling)
        calling.add_done_callback(self._callers.discard)

    async def _called(self, task: BilledTask, lie: str | None) -> None:
        world, receiver = self._world, self._world.receiver
        assert receiver is not None
        data = self._server.data(task)
        url = task.url or ""
        if lie == "call_names_another":
            known = self._server.given()
            is_known = bool(known) and world.rng.random() < 0.3
            data["taskId"] = world.rng.choice(known) if is_known else "task_elsewhere"
        elif lie == "call_names_nothing":
            data.pop("taskId")
        elif lie == "call_forged":
            url = url[:-4] + "AAAA"
        body = json.dumps({"code": 200, "data": data}).encode()
        if lie == "call_garbage":
            body = world.rng.choice((b"", b"[1]", b"\x80", body[:-3]))
        admitted = receiver.admit("POST", url, {})
        if isinstance(admitted, Slip):
            admitted = await receiver.take(admitted, body)
        world.note("called", task.id, lie, int(admitted))
        if world.is_dead:
            return
        if admitted is not HTTPStatus.OK:
            self._again(task, lie)
        elif lie is None:
            task.told_at = world.time
        world.reached("called")

    def _again(self, task: BilledTask, lie: str | None) -> None:
        world = self._world
        if lie is None and world.plan.calls_again and task.told_at is None:
            delay = world.rng.choice(CALLED_AGAIN)
            if world.time + delay < task.ends_at + CALLED_FOR:
                world.at(world.time + delay, partial(self._call, task, None))
