"""A simulated APIXO behind the client's transport: no sockets, so that it runs in virtual time."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from apixo_async import ApixoClient, Limits, PollSchedule, WebhookReceiver
from apixo_async._wire import Reply
from apixo_async.limits import Gate, Permit
from apixo_async.webhooks import Slip

BASE_URL = "http://api.test"
KEY = "apx_CANARY_of_the_tests"


def envelope(
    data: object, *, code: int = 200, status: int = 200, message: str = "success"
) -> Reply:
    """An answer as the API words it."""
    body = {"code": code, "message": message, "data": data}
    return Reply(status, json.dumps(body).encode())


def refusal(code: int, message: str = "refused", *, retry_after: str | None = None) -> Reply:
    """An error of the API, by HTTP status and code alike."""
    body = {"code": code, "message": message, "data": None}
    return Reply(code, json.dumps(body).encode(), retry_after)


@attrs.define
class FakeTask:
    """A task at the fake server."""

    id: str
    prompt: str
    accepted_at: float
    ends_at: float
    looks: int = 0


Answer = Reply | Exception | None


@attrs.define
class FakeApi:
    """Accepts every submit and ends its task after `duration` seconds; hooks change single answers.

    `on_submit(number, body)` and `on_status(task)` may return a reply or an error to use instead of
    the normal answer; `accept_anyway` decides whether a replaced submit still creates its task.
    With a `receiver`, submits that ask for it are called back as often, and so many seconds after
    the end of their task, as `callbacks` says.
    """

    duration: Callable[[int], float] = lambda _: 120.0
    latency: float = 0.05
    on_submit: Callable[[int, Mapping[str, Any]], Answer] = lambda *_: None
    on_status: Callable[[FakeTask], Answer] = lambda _: None
    accept_anyway: bool = False
    result: Callable[[FakeTask], object] = lambda task: json.dumps(
        {"resultUrls": [f"https://files.test/{task.id}.mp4"]}
    )
    failure: Callable[[FakeTask], str | None] = lambda _: None
    receiver: WebhookReceiver | None = None
    callbacks: Callable[[FakeTask], Sequence[float]] = lambda _: (0.3,)
    called: list[HTTPStatus] = attrs.field(factory=list)
    tasks: dict[str, FakeTask] = attrs.field(factory=dict)
    submits: list[float] = attrs.field(factory=list)
    requests: list[float] = attrs.field(factory=list)
    bodies: list[Mapping[str, Any]] = attrs.field(factory=list)
    statuses: int = 0
    answered: int = 0
    """Status calls whose caller was still there for the answer."""
    peak_unfinished: int = 0
    is_closed: bool = False
    _ending: list[float] = attrs.field(factory=list, init=False)

    @property
    def billed(self) -> list[str]:
        """Prompts of all tasks ever created, in order."""
        return [task.prompt for task in self.tasks.values()]

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """The transport's one method."""
        self.requests.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency / 2)
        answer = self._submit(body or b"") if method == "POST" else self._read(path)
        await asyncio.sleep(self.latency / 2)
        self.answered += method == "GET"
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _submit(self, raw: bytes) -> Reply | Exception:
        now = asyncio.get_running_loop().time()
        body = json.loads(raw)
        self.submits.append(now)
        self.bodies.append(body)
        instead = self.on_submit(len(self.submits), body)
        if instead is not None and not self.accept_anyway:
            return instead
        number = len(self.tasks) + 1
        ends_at = now + self.duration(number)
        task = FakeTask(f"task_{number}", body["input"].get("prompt", ""), now, ends_at)
        self.tasks[task.id] = task
        if "callback_url" in body:
            for delay in self.callbacks(task):
                self.call_in(ends_at + delay - now, body["callback_url"], {"taskId": task.id})
        while self._ending and self._ending[0] <= now:
            heapq.heappop(self._ending)
        heapq.heappush(self._ending, ends_at)
        self.peak_unfinished = max(self.peak_unfinished, len(self._ending))
        return instead or envelope({"taskId": task.id})

    def call_in(self, seconds: float, url: str, data: Mapping[str, object]) -> None:
        """Calls back then; `data` is that of an end, with what is said otherwise."""
        loop = asyncio.get_running_loop()
        body = json.dumps({"code": 200, "data": {"state": "success", **data}}).encode()
        loop.call_later(seconds, lambda: loop.create_task(self.call(url, body)))

    async def call(self, url: str, body: bytes) -> None:
        """Calls back now."""
        assert self.receiver is not None
        admitted = self.receiver.admit("POST", url, {})
        if isinstance(admitted, Slip):
            admitted = await self.receiver.take(admitted, body)
        self.called.append(admitted)

    def unfinished(self, now: float) -> int:
        """Tasks that the server has not ended."""
        return sum(task.ends_at > now for task in self.tasks.values())

    def _read(self, path: str) -> Reply | Exception:
        if path == "/apikeys/current-balance":
            return envelope(74.87)
        self.statuses += 1
        (task_id,) = parse_qs(urlsplit(path).query)["taskId"]
        task = self.tasks.get(task_id)
        if task is None:
            return refusal(404, "task not found")
        task.looks += 1
        return self.on_status(task) or self._status(task)

    def _status(self, task: FakeTask) -> Reply:
        now = asyncio.get_running_loop().time()
        data: dict[str, object] = {"taskId": task.id, "createTime": int(task.accepted_at * 1000)}
        if now < task.ends_at:
            return envelope({**data, "state": "processing"})
        data["completeTime"] = int(task.ends_at * 1000)
        if (code := self.failure(task)) is not None:
            return envelope({**data, "state": "failed", "failCode": code, "failMsg": "no"})
        return envelope({**data, "state": "success", "resultJson": self.result(task)})

    async def aclose(self) -> None:
        """Remembers that it was closed."""
        self.is_closed = True


def client_for(
    api: FakeApi, *, limits: Limits | None = None, schedule: PollSchedule | None = None
) -> ApixoClient:
    """A client whose network is the fake, and whose receiver is the one that the fake calls."""
    return ApixoClient(
        KEY,
        base_url=BASE_URL,
        transport=api,
        limits=limits,
        schedule=schedule,
        webhook=api.receiver,
    )


def receiver() -> WebhookReceiver:
    """A receiver that is mounted nowhere."""
    return WebhookReceiver("https://receiver.test/apixo", secret="a secret of the tests alone")


def widen(gate: Gate) -> None:
    """Lets as many submits go at once as are configured, as if so many had been answered."""
    for _ in range(gate.limits.concurrent_submits):
        gate.rejected(Permit(0))
