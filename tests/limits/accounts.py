"""Accounts that allow what they allow, whatever the client believes, behind the real client."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from typing import Protocol

import attrs

from apixo_async import BatchRunner, Limits, TextToVideo
from apixo_async._wire import Reply
from apixo_async.limits import GateStatistics
from tests.fakes import FakeApi, client_for, refusal
from tests.virtual import START


class Window(Protocol):
    """How a server counts requests; those that it refuses count, too."""

    limit: int

    def admits(self, now: float) -> bool:
        """Counts one request."""
        ...

    def room_in(self, now: float) -> float:
        """Seconds until one would be admitted."""
        ...


@attrs.define
class SlidingWindow:
    """So many in any 60 seconds."""

    limit: int
    seen: deque[float] = attrs.field(factory=deque[float])

    def _forget(self, now: float) -> None:
        while self.seen and self.seen[0] <= now - 60:
            self.seen.popleft()

    def admits(self, now: float) -> bool:
        """Counts one request."""
        self._forget(now)
        self.seen.append(now)
        return len(self.seen) <= self.limit

    def room_in(self, now: float) -> float:
        """Seconds until fewer than the limit are 60 s young."""
        self._forget(now)
        over = len(self.seen) - self.limit
        return 0.0 if over < 0 else self.seen[over] + 60 - now


@attrs.define
class FixedWindow:
    """So many in each minute of the server's own clock."""

    limit: int
    minute: int = 0
    count: int = 0

    def admits(self, now: float) -> bool:
        """Counts one request."""
        minute = math.floor(now / 60)
        self.minute, self.count = minute, 1 + (self.count if minute == self.minute else 0)
        return self.count <= self.limit

    def room_in(self, now: float) -> float:
        """Seconds until the next minute begins."""
        return 60 - now % 60 if self.count >= self.limit else 0.0


@attrs.define
class TokenBucket:
    """A minute's worth at once, then evenly; a request that comes too early empties it."""

    limit: int
    level: float = math.inf
    at: float = START

    def _fill(self, now: float) -> None:
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / 60)
        self.at = now

    def admits(self, now: float) -> bool:
        """Counts one request."""
        self._fill(now)
        is_full = self.level >= 1
        self.level = max(0.0, self.level - 1)
        return is_full

    def room_in(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self.level) * 60 / self.limit)


WINDOWS = (SlidingWindow, FixedWindow, TokenBucket)


@attrs.define(kw_only=True)
class Account(FakeApi):
    """An API that allows so many unfinished tasks and so many requests a minute."""

    task_limit: int
    window: Window
    tells_when: bool = False
    """Whether a 429 about the request rate has a `Retry-After`."""
    latency: float = 0.2
    fault: float = 0.0
    """The part of all requests that is refused for no reason."""
    outage: tuple[float, float] = (0.0, 0.0)
    """From when to when everything is refused, in seconds from the start."""
    rng: random.Random = attrs.field(factory=lambda: random.Random(5))
    refusals: list[tuple[float, str]] = attrs.field(factory=list[tuple[float, str]])
    ends: list[float] = attrs.field(factory=list[float])

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """Judges a request when it arrives."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.latency / 2)
        self.requests.append(loop.time())
        answer = self._refuses(method, loop.time()) or self._answer(method, path, body or b"")
        await asyncio.sleep(self.latency / 2)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer(self, method: str, path: str, body: bytes) -> Reply | Exception:
        if method == "GET":
            return self._read(path)
        answer = self._submit(body)
        heapq.heappush(self.ends, self.tasks[f"task_{len(self.tasks)}"].ends_at)
        now = asyncio.get_running_loop().time()
        self.peak_unfinished = max(self.peak_unfinished, self.unfinished(now))
        return answer

    def unfinished(self, now: float) -> int:
        """Tasks that the server has not ended."""
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        return len(self.ends)

    def _refuses(self, method: str, now: float) -> Reply | None:
        if not self.window.admits(now):
            return self._refused("rate", now, self.window.room_in(now))
        if self.outage[0] <= now - START < self.outage[1]:
            return self._refused("outage", now)
        if self.rng.random() < self.fault:
            return self._refused("fault", now)
        if method == "POST" and self.unfinished(now) >= self.task_limit:
            return self._refused("tasks", now)
        return None

    def _refused(self, why: str, now: float, room_in: float | None = None) -> Reply:
        self.refusals.append((now - START, why))
        when = None if room_in is None or not self.tells_when else str(math.ceil(room_in))
        return refusal(429, retry_after=when)


def prompts(count: int) -> Iterator[TextToVideo]:
    """So many requests."""
    return (TextToVideo(f"prompt {number}") for number in range(count))


@attrs.frozen
class Trace:
    """What a batch did on an account: seconds from the start."""

    finished: list[float]
    requests: list[float]
    refusals: list[tuple[float, str]]
    gate: GateStatistics

    def finished_between(self, first: float, last: float) -> int:
        """Outcomes in this span."""
        return sum(first <= moment < last for moment in self.finished)

    def refused_part(self) -> float:
        """Which part of all requests was answered 429."""
        return len(self.refusals) / len(self.requests)


async def run_batch(
    account: Account,
    *,
    jobs: int = 100_000,
    limits: Limits | None = None,
    seconds: float = math.inf,
    upgrade: tuple[float, int, int] | None = None,
    seed: int = 1,
) -> Trace:
    """Runs jobs for so long; `upgrade` says when, and to what task and request limits.

    The same seed gives the same trace.
    """
    loop = asyncio.get_running_loop()
    if upgrade is not None:
        loop.call_at(START + upgrade[0], _allow, account, *upgrade[1:])
    finished: list[float] = []
    client = client_for(account, limits=limits)
    client.engine._rng.seed(seed)
    async with client:
        async with BatchRunner(client).stream(prompts(jobs)) as outcomes:
            async for outcome in outcomes:
                assert outcome.task is not None
                finished.append(loop.time() - START)
                if finished[-1] >= seconds:
                    break
        gate = client.statistics().gate
    requests = [moment - START for moment in account.requests]
    return Trace(finished, requests, account.refusals, gate)


def _allow(account: Account, tasks: int, requests: int) -> None:
    account.task_limit = tasks
    account.window.limit = requests
