"""The server of the simulation: it bills, lies, forgets to answer and calls back; and it counts."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import attrs

from apixo_async._wire import Reply
from tests.fakes import envelope, refusal
from tests.simulation.plans import RETRY_CODE, VIOLATION
from tests.simulation.world import World

WINDOW: Final = 60.0
GATEWAY: Final = Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")
RETRY_AFTER: Final = (None, None, "3", "20", "0", "-1", "soon")
FOREVER: Final = 2_500.0
DENIALS: Final = 3


@attrs.define
class BilledTask:
    """A task that was made, and so is paid for."""

    id: str
    key: str
    accepted_at: float
    ends_at: float
    visible_at: float
    fail_code: str | None
    url: str | None
    bare_looks: int
    """Answers that say success and give no URL yet."""
    sent_at: float = 0.0
    life: int = 0
    """The process that submitted it, which may be gone when it is made."""
    denied_from: float = math.inf
    """From when on the server denies it for good, although it was made and is paid."""
    denied_in_a_row: int = 0
    answered_at: float | None = None
    """When the client was given the whole answer that names it."""
    told_at: float | None = None
    """When a callback that names it was answered 200."""

    @property
    def is_denied_for_good(self) -> bool:
        """Whether no look will ever find it again."""
        return self.denied_from < math.inf

    @property
    def result(self) -> str:
        return f"https://files.test/{self.id}.mp4"


class Server:
    """One account. `handle` is called when a request arrives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.tasks: dict[str, BilledTask] = {}
        self._requests: deque[float] = deque()
        self.peaks: list[tuple[float, list[BilledTask]]] = []
        """Which tasks ran each time that one was added."""

    def of(self, key: str) -> list[BilledTask]:
        """All that was billed for a job."""
        return [task for task in self.tasks.values() if task.key == key]

    def unfinished(self) -> list[BilledTask]:
        """Tasks that run at this moment."""
        return [task for task in self.tasks.values() if task.ends_at > self._world.time]

    def is_over_limit(self) -> bool:
        """Counts one request against the sliding window of the account."""
        now = self._world.time
        self._requests.append(now)
        while self._requests[0] <= now - WINDOW:
            self._requests.popleft()
        return not self._world.is_calm and len(self._requests) > self._world.plan.account_requests

    def throttle(self) -> Reply:
        """A 429 in one of its forms."""
        world = self._world
        after = world.rng.choice(RETRY_AFTER)
        if world.rng.random() < 0.3:
            return Reply(200, b'{"code":429,"message":"wait and retry","data":null}', after)
        return refusal(429, "wait and retry", retry_after=after)

    # Submits

    def submit(  # noqa: PLR0911  # one way to answer after the other
        self, body: Mapping[str, Any], *, fault: str | None, sent_at: float, life: int
    ) -> Reply:
        """The answer to a submit, and its task where one is made."""
        world = self._world
        if self.is_over_limit() or fault == "throttled":
            return self.throttle()
        if not world.is_calm and len(self.unfinished()) >= world.plan.account_tasks:
            return self.throttle()
        refused = {
            "no_credits": refusal(400, "Insufficient credits"),
            "bad_request": refusal(400, "prompt is too odd"),
            "unauthorized": refusal(401, "invalid api key"),
            "conflict": refusal(409, "conflict"),
        }.get(fault or "")
        if refused is not None:
            return refused
        half = fault in {"gateway", "code_500"} and world.rng.random() < 0.5
        earlier = self.given()
        task = None if half else self._bill(body, sent_at, life)
        if fault == "gateway":
            return GATEWAY
        if fault == "code_500":
            return envelope(None, code=500, status=world.rng.choice((200, 500)), message="oops")
        assert task is not None
        if fault == "answer_empty":
            return envelope(world.rng.choice((None, {}, {"taskId": ""}, {"taskId": []})))
        whole = envelope({"taskId": task.id})
        if fault == "answer_damaged":
            return attrs.evolve(whole, body=whole.body[: -world.rng.randint(1, 40)])
        if fault == "answer_of_another" and earlier:
            return envelope({"taskId": world.rng.choice(earlier)})
        return whole

    def _bill(self, body: Mapping[str, Any], sent_at: float, life: int) -> BilledTask:
        world, now = self._world, self._world.time
        rng = world.rng
        seconds = FOREVER if world.happens("task_straggles") else rng.uniform(15, 240)
        code = RETRY_CODE if world.happens("task_fails") else None
        code = VIOLATION if world.happens("task_violates") else code
        denied_from = math.inf
        if world.happens("task_denied"):
            denied_from, code = now + rng.choice((0.0, rng.uniform(0, 300))), None
        task = BilledTask(
            id=f"task_{len(self.tasks) + 1}",
            key=body["input"]["prompt"],
            accepted_at=now,
            ends_at=now + seconds,
            visible_at=now + (rng.uniform(1, 50) if world.happens("task_unknown_at_first") else 0),
            denied_from=denied_from,
            fail_code=code,
            url=body.get("callback_url"),
            bare_looks=rng.randint(1, 2) if world.happens("look_without_urls") else 0,
            sent_at=sent_at,
            life=life,
        )
        self.tasks[task.id] = task
        self.peaks.append((now, self.unfinished()))
        world.note("billed", task.id, task.key)
        return task

    def given(self) -> list[str]:
        """Ids that a client was given and could record: whose others are, nobody could tell."""
        return [
            task.id
            for task in self.tasks.values()
            if task.answered_at is not None and self._world.had_time(task.life, task.answered_at)
        ]

    def note_answer(self, answer: object) -> None:
        """A client was given this: what it names is known to it from now on."""
        task_id = named(answer) if isinstance(answer, Reply) else None
        task = self.tasks.get(task_id or "")
        if task is not None and task.answered_at is None:
            task.answered_at = self._world.time

    # Looks

    def status(self, task_id: str, *, fault: str | None) -> Reply:  # noqa: PLR0911  # likewise
        """The answer to a status call."""
        world = self._world
        if self.is_over_limit() or fault == "look_throttled":
            return self.throttle()
        task = self.tasks.get(task_id)
        if task is None or not task.visible_at <= world.time < task.denied_from:
            return refusal(404, "task not found")
        task.denied_in_a_row = task.denied_in_a_row + 1 if fault == "look_denied" else 0
        if 0 < task.denied_in_a_row < DENIALS:  # denied for good, it would not be there
            return refusal(404, "task not found")
        if fault == "look_gateway":
            return GATEWAY
        if fault == "look_code_500":
            return envelope(None, code=500, message="oops")
        if fault == "look_garbage":
            return Reply(200, world.rng.choice((b"", b"{", b"[]", b'{"code":200}', b"\xff\xfe")))
        if fault == "look_backwards":
            return envelope({"taskId": task.id, "state": "processing"})
        return envelope(self.data(task))

    def data(self, task: BilledTask) -> dict[str, object]:
        """What is true of a task, as a status call and a callback say it."""
        now = self._world.time
        data: dict[str, object] = {"taskId": task.id, "createTime": int(task.accepted_at * 1000)}
        if now < task.ends_at:
            age = now - task.accepted_at
            state = "pending" if age < 3 else "warming_up" if age < 6 else "processing"
            return {**data, "state": state}
        data["completeTime"] = int(task.ends_at * 1000)
        if task.fail_code is not None:
            return {**data, "state": "failed", "failCode": task.fail_code, "failMsg": None}
        if task.bare_looks > 0:
            task.bare_looks -= 1
            return {**data, "state": "success"}
        return {**data, "state": "success", "resultJson": json.dumps({"resultUrls": [task.result]})}


def named(reply: Reply) -> str | None:
    """The task that an answer names."""
    try:
        task_id = json.loads(reply.body)["data"]["taskId"]
    except (ValueError, TypeError, KeyError):
        return None
    return task_id if isinstance(task_id, str) else None
