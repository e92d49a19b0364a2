"""Callbacks: what is sent to whom and when, and the worker that sends it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from apixo_async.emulator.clock import Clock
from apixo_async.emulator.replies import callback_data

if TYPE_CHECKING:
    from apixo_async.emulator.tasks import Task

RETRY_DELAYS = (30.0, 60.0, 120.0)
"""API seconds before each repetition. The documents promise up to 3 with growing delays, of which
only the first is known."""

PATIENCE = 30.0
"""API seconds a receiver has for its answer."""

SHORTEST_PATIENCE = 1.0
"""Real seconds that are left to a receiver however fast the clock runs."""

FORGED_URL = "https://forged.invalid/video.mp4"

_LATER = 1.0
"""API seconds by which a callback out of order follows the final one."""


@attrs.frozen
class Delivery:
    """One callback to send; *due* is in API seconds since the start."""

    due: float
    url: str
    body: bytes = attrs.field(repr=False)
    kind: str = "final"
    """Only a ``final`` one is repeated; the others are counted under this name."""
    attempt: int = 0


def deliveries(task: Task, clock: Clock, urls: list[str]) -> Iterator[Delivery]:
    """Yield every callback that *task* gives rise to."""
    url = task.submission.callback_url
    if url is None or math.isinf(task.duration):
        return
    data = callback_data(task, clock, urls)
    final = Delivery(task.ends_at, url, _envelope(data))
    if "callback_lost" not in task.faults:
        yield final
    if "callback_doubled" in task.faults:
        yield attrs.evolve(final, kind="doubled")
    if "callback_reordered" in task.faults:
        late = {"taskId": task.id, "state": "processing", "createTime": data.get("createTime")}
        yield Delivery(task.ends_at + _LATER, url, _envelope(late), "reordered")
    if "callback_forged" in task.faults:
        halfway = task.accepted_at + task.duration / 2
        result = json.dumps({"resultUrls": [FORGED_URL]})
        forged = _envelope({"taskId": task.id, "state": "success", "resultJson": result})
        yield Delivery(halfway, url, forged, "forged")
        yield Delivery(halfway, damaged(url), forged, "forged")


def damaged(url: str) -> str:
    """Return *url* with its last character exchanged, as a guess at somebody's secret would be."""
    return url[:-1] + ("0" if url[-1] != "0" else "1")


def _envelope(data: dict[str, Any]) -> bytes:
    # A failure has code 200, too: the webhook page shows it so.
    return json.dumps({"code": 200, "message": "success", "data": data}).encode()


@attrs.define(eq=False)
class CallbackSender:
    """Sends callbacks when they are due; one worker for all that are waiting."""

    clock: Clock
    _waiting: list[tuple[float, int, Delivery, Counter[str]]] = attrs.field(
        factory=list[tuple[float, int, Delivery, "Counter[str]"]], repr=False
    )
    _order: Iterator[int] = attrs.field(factory=itertools.count, repr=False)
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event, repr=False)
    _session: aiohttp.ClientSession | None = None

    def schedule(self, delivery: Delivery, counts: Counter[str]) -> None:
        """Send *delivery* when it is due, counting what becomes of it in *counts*."""
        heapq.heappush(self._waiting, (delivery.due, next(self._order), delivery, counts))
        if self._waiting[0][2] is delivery:
            self._wake.set()

    def clear(self) -> None:
        """Forget everything that is waiting."""
        self._waiting.clear()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for delivery, counts in self._take_due():
                        group.create_task(self.send(delivery, counts))
                    await self._sleep()
        finally:
            if self._session is not None:
                await self._session.close()

    def _take_due(self) -> Iterator[tuple[Delivery, Counter[str]]]:
        now = self.clock.now()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, delivery, counts = heapq.heappop(self._waiting)
            yield delivery, counts

    async def _sleep(self) -> None:
        """Wait until something is due, or until something earlier comes in."""
        self._wake.clear()
        wait = None
        if self._waiting:
            wait = max(0.0, self.clock.real(self._waiting[0][0] - self.clock.now()))
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            return

    async def send(self, delivery: Delivery, counts: Counter[str]) -> None:
        """Send one callback now; a final one that is not taken is put back for later."""
        counts["sent"] += 1
        is_taken = await self._post(delivery)
        if delivery.kind != "final":
            counts[delivery.kind] += 1
        elif is_taken:
            counts["delivered"] += 1
        elif delivery.attempt < len(RETRY_DELAYS):
            counts["retried"] += 1
            due = self.clock.now() + RETRY_DELAYS[delivery.attempt]
            self.schedule(attrs.evolve(delivery, due=due, attempt=delivery.attempt + 1), counts)
        else:
            counts["failed"] += 1

    async def _post(self, delivery: Delivery) -> bool:
        """Return whether the receiver answered 200, the only answer that counts."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        patience = max(SHORTEST_PATIENCE, self.clock.real(PATIENCE))
        try:
            async with self._session.post(
                delivery.url,
                data=delivery.body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=patience),
            ) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
