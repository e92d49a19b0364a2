"""A simulated account for very many tasks: it holds its limits and writes down what was seen.

Where `fakes` lets a test change single answers, this one answers plainly and cheaply: a request
costs it a few microseconds, however many came before. It stands behind the client's transport, so
that real client, gate, schedule and runner run in virtual time. The same seed gives the same
`trace`.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import heapq
import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs

from apixo_async import (
    ApixoClient,
    Limits,
    NotSentError,
    PollSchedule,
    UnansweredError,
    WebhookReceiver,
)
from apixo_async._wire import Reply
from apixo_async.webhooks import Slip

WINDOW: Final = 60.0
EPOCH_MS: Final = 1_767_965_610_000
"""What the server's calendar shows when the loop's clock shows 0; any will do."""

_ENVELOPE: Final = '{"code":200,"message":"success","data":%s}'
_REFUSED: Final = Reply(429, b'{"code":429,"message":"wait and retry","data":null}')
_DOWN: Final = Reply(503, b"upstream unavailable")
_UNKNOWN: Final = Reply(404, b'{"code":404,"message":"task not found","data":null}')


@attrs.frozen(kw_only=True)
class Allowance:
    """What the account allows, `since` so many seconds after it was opened."""

    requests_per_minute: int = 10_000
    concurrent_tasks: int = 1_000
    since: float = 0.0


class Fate(enum.Enum):
    """What becomes of a request during an outage."""

    REFUSED = enum.auto()
    """No connection is made, so nothing is sent."""
    BUSY = enum.auto()
    """A gateway answers 503 and passes nothing on."""
    SILENT = enum.auto()
    """The API takes it, and its answer never comes; the client gives up after its time limit."""


@attrs.frozen
class Outage:
    """From `begins` to `ends`, in seconds since the account was opened; callbacks get lost, too.

    Of requests only a `part` may be hit, evenly.
    """

    fate: Fate
    begins: float
    ends: float
    submit_timeout: float = 60.0
    status_timeout: float = 30.0
    part: float = 1.0


@attrs.define
class SimulatedTask:
    """One task, in loop time; `learned_at` is when the client had the answer that it ended."""

    number: int
    accepted_at: float
    ends_at: float
    learned_at: float | None = None

    @property
    def id(self) -> str:
        """What the API calls it."""
        return f"task_{self.number}"


Call: TypeAlias = Callable[[str, bytes, SimulatedTask], Coroutine[Any, Any, None]]
"""Sends a callback: its URL, its body, and the task that it is about."""


def calling(receiver: WebhookReceiver, *, loses: float = 0.0, seed: int = 0) -> Call:
    """Brings callbacks to a receiver without a network; some of them get lost."""
    rng = random.Random(seed)

    async def call(url: str, body: bytes, _: SimulatedTask) -> None:
        if rng.random() < loses:
            return
        slip = receiver.admit("POST", url, {})
        assert isinstance(slip, Slip), slip
        assert await receiver.take(slip, body) == HTTPStatus.OK

    return call


class Account:
    """The server's side of one account; a `Transport`. Open it on the loop that uses it.

    `duration` gives the seconds that a task takes, from the `input` of its submit. Every request
    counts for the sliding window of `requests_per_minute`, refused ones, too. It arrives after half
    of `round_trip` seconds, always; for that reason it can be judged at once when it is sent.
    Without `tells_times`, answers lack the server's own times. `calls` delivers callbacks where a
    submit asks for one, `delivery` seconds after the end of its task. What an `outage` keeps from
    arriving is counted as a request all the same.
    """

    def __init__(
        self,
        duration: Callable[[Mapping[str, Any]], float],
        *,
        allows: Sequence[Allowance] = (Allowance(),),
        round_trip: float = 0.2,
        tells_times: bool = True,
        calls: Call | None = None,
        delivery: float = 0.3,
        outage: Outage | None = None,
    ) -> None:
        self._outage = outage
        self._duration = duration
        self._calls = calls
        self._delivery = delivery
        self._calling: set[asyncio.Task[None]] = set()
        self.opened_at = asyncio.get_running_loop().time()
        self._allowed = allows[0]
        self._upgrades = list(allows[1:])
        self._round_trip = round_trip
        self._tells_times = tells_times
        self._trace = hashlib.blake2b(digest_size=16)
        self._oldest = 0
        self._ends: list[float] = []
        self.tasks: list[SimulatedTask] = []
        self.requests = array("d")
        """When each request arrived, refused ones included."""
        self.refused = array("d")
        """When each request that was answered 429 arrived."""
        self.arrived: Counter[str] = Counter()
        """Submits that reached the server, or a gateway before it, by prompt."""
        self.billed: Counter[str] = Counter()
        """Tasks by prompt."""
        self.late_submits = 0
        """Submits that met the outage."""
        self.busiest_window = 0
        self.peak_unfinished = 0

    @property
    def trace(self) -> str:
        """A hash of every request so far: when it came, what it was and how it was answered."""
        return self._trace.hexdigest()

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """The transport's one method."""
        loop = asyncio.get_running_loop()
        arrival = loop.time() + self._round_trip / 2
        outage = self._outage_at(arrival)
        if outage is not None and self._is_hit(outage.part):
            return await self._fail(outage, path, body, arrival)
        reply, ended = self._answer(path, body, arrival)
        self._trace.update(f"{arrival!r} {method} {path} {reply.status}\n".encode())
        await asyncio.sleep(self._round_trip)
        if ended is not None and ended.learned_at is None:
            ended.learned_at = loop.time()
        return reply

    async def aclose(self) -> None:
        """Nothing was opened."""

    def _outage_at(self, now: float) -> Outage | None:
        outage, since = self._outage, now - self.opened_at
        return outage if outage is not None and outage.begins <= since < outage.ends else None

    def _is_hit(self, part: float) -> bool:
        count = len(self.requests)
        return int((count + 1) * part) > int(count * part)

    async def _fail(self, outage: Outage, path: str, body: bytes | None, arrival: float) -> Reply:
        """What comes of a request in an outage."""
        self.late_submits += body is not None
        if outage.fate is Fate.SILENT:
            self._answer(path, body, arrival)
            await asyncio.sleep(outage.status_timeout if body is None else outage.submit_timeout)
            raise UnansweredError("no answer in time", host="api.test", reason="timeout")
        self._in_window(arrival)
        if outage.fate is Fate.BUSY and body is not None:
            self.arrived[json.loads(body)["input"]["prompt"]] += 1
        await asyncio.sleep(self._round_trip)
        if outage.fate is Fate.REFUSED:
            raise NotSentError("cannot reach api.test", host="api.test", reason="refused")
        return _DOWN

    def _answer(
        self, path: str, body: bytes | None, now: float
    ) -> tuple[Reply, SimulatedTask | None]:
        """The answer, with the task if the answer says that it ended."""
        while self._upgrades and now >= self.opened_at + self._upgrades[0].since:
            self._allowed = self._upgrades.pop(0)
        if self._in_window(now) > self._allowed.requests_per_minute:
            return self._refuse(now), None
        if body is not None:
            return self._submit(body, now), None
        number = path.rpartition("task_")[2]
        if not number.isdecimal() or not 0 < int(number) <= len(self.tasks):
            return _UNKNOWN, None
        task = self.tasks[int(number) - 1]
        return self._status(task, now), task if now >= task.ends_at else None

    def _in_window(self, now: float) -> int:
        """Counts one request; returns how many came in the last 60 s."""
        self.requests.append(now)
        while self.requests[self._oldest] <= now - WINDOW:
            self._oldest += 1
        count = len(self.requests) - self._oldest
        self.busiest_window = max(self.busiest_window, count)
        return count

    def _refuse(self, now: float) -> Reply:
        self.refused.append(now)
        return _REFUSED

    def _submit(self, body: bytes, now: float) -> Reply:
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._ends) >= self._allowed.concurrent_tasks:
            return self._refuse(now)
        asked = json.loads(body)
        self.arrived[asked["input"]["prompt"]] += 1
        self.billed[asked["input"]["prompt"]] += 1
        ends_at = now + self._duration(asked["input"])
        heapq.heappush(self._ends, ends_at)
        self.peak_unfinished = max(self.peak_unfinished, len(self._ends))
        task = SimulatedTask(len(self.tasks) + 1, now, ends_at)
        self.tasks.append(task)
        if self._calls is not None and "callback_url" in asked:
            loop, delay = asyncio.get_running_loop(), ends_at + self._delivery
            loop.call_at(delay, self._call, self._calls, asked["callback_url"], task)
        return _success(f'{{"taskId":"{task.id}"}}')

    def _call(self, calls: Call, url: str, task: SimulatedTask) -> None:
        if self._outage_at(asyncio.get_running_loop().time()) is not None:
            return
        body = self._status(task, task.ends_at).body
        calling = asyncio.get_running_loop().create_task(calls(url, body, task))
        self._calling.add(calling)
        calling.add_done_callback(self._calling.discard)

    def _status(self, task: SimulatedTask, now: float) -> Reply:
        has_ended = now >= task.ends_at
        state = "success" if has_ended else "processing"
        data = f'"taskId":"{task.id}","state":"{state}"'
        if self._tells_times:
            data += f',"createTime":{_unix_ms(task.accepted_at)}'
        if has_ended:
            data += f',"resultJson":"{{\\"resultUrls\\":[\\"https://files.test/{task.id}.mp4\\"]}}"'
            if self._tells_times:
                data += f',"completeTime":{_unix_ms(task.ends_at)}'
        return _success(f"{{{data}}}")


def _success(data: str) -> Reply:
    return Reply(200, (_ENVELOPE % data).encode())


def _unix_ms(seconds: float) -> int:
    return EPOCH_MS + round(seconds * 1000)


def client_of(
    account: Account,
    *,
    seed: int,
    limits: Limits | None = None,
    schedule: PollSchedule | None = None,
    webhook: WebhookReceiver | None = None,
) -> ApixoClient:
    """A client whose network is the account and whose jitter repeats with the seed."""
    client = ApixoClient(
        "key-of-the-simulation",
        base_url="http://api.test",
        transport=account,
        limits=limits,
        schedule=schedule,
        webhook=webhook,
    )
    client.engine._rng.seed(seed)  # one generator serves the whole client
    return client


def detection_delays(tasks: Iterable[SimulatedTask]) -> list[float]:
    """Seconds from the end of each task to the client's knowing of it, shortest first."""
    return sorted(task.learned_at - task.ends_at for task in tasks if task.learned_at is not None)
