"""The gate: the one place where both limits of the account are held. One per client."""

from __future__ import annotations

import asyncio
import logging
import random

import attrs

from apixo_async.limits.rate import Permit, RateGate
from apixo_async.limits.settings import Limits
from apixo_async.limits.slots import Lease, Slots
from apixo_async.limits.throttling import CapFinder, is_task_limit, pause_seconds

_LOGGER = logging.getLogger("apixo_async")


@attrs.frozen(kw_only=True)
class GateStatistics:
    """A snapshot of the gate. `requests_last_minute` is exact to the second."""

    requests: int
    requests_last_minute: int
    tasks: int
    tasks_peak: int
    tasks_cap: int
    waiting: int
    throttled: int
    closed_for: float


@attrs.frozen
class Turn:
    """The right to one POST, with its permit."""

    lease: Lease
    post: Lease
    permit: Permit

    def end(self) -> None:
        """The POST is answered; unless a task is or may be running, its place is free again."""
        if not self.lease.is_running and self.lease.place is not None:
            self.lease.place.release()
            self.lease.place = None
        self.post.release()


class Gate:
    """Holds the request rate and the number of unfinished tasks.

    The order of a submit is: `lease()`, then `turn()`, then the POST. The lease stays with the
    task until the server is seen to have ended it. Every HTTP attempt needs a permit of its
    own. After a 429 everybody pauses (`throttled`).
    """

    def __init__(self, limits: Limits, *, rng: random.Random | None = None) -> None:
        self.limits = limits
        self.slots = Slots(limits.concurrent_tasks)
        self.rate = RateGate(limits.requests_per_minute, poll_share=limits.poll_share)
        self._places = Slots(limits.concurrent_tasks)
        self._posts = Slots(limits.concurrent_submits)
        self._finder = CapFinder(limits.concurrent_tasks, limits.concurrent_tasks)
        self._probe_timer: asyncio.TimerHandle | None = None
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not secrets
        self._in_a_row = {True: 0, False: 0}
        self._throttled = 0

    def poll_budget(self, share: float) -> float:
        """Status calls a second that a schedule may plan with, for this share of the rate."""
        return share * self.rate.size.per_second

    async def lease(self) -> Lease:
        """Waits for a slot for one unfinished task."""
        self._arm_probe()
        return await self.slots.acquire()

    def occupy(self) -> Lease:
        """A slot for a task that runs already, or may; it is there whether or not one is free."""
        lease = self.slots.occupy()
        lease.place = self._places.occupy()
        lease.is_running = True
        return lease

    async def turn(self, lease: Lease) -> Turn:
        """Waits for the right to send one POST for this lease; end it with `Turn.end()`.

        At most `concurrent_submits` have a turn at once; after a 429 on a submit they go one at a
        time until one is accepted. Each takes a place among the tasks that run or are being
        started, which counts when the cap has dropped below the leases that are out already.
        """
        self._arm_probe()
        post = await self._posts.acquire()
        try:
            place, permit = await self._place_and_permit()
        except BaseException:
            post.release()
            raise
        lease.place = place
        return Turn(lease, post, permit)

    async def _place_and_permit(self) -> tuple[Lease, Permit]:
        while True:
            place = await self._places.acquire()
            try:
                permit = await self.permit(poll=False)
            except BaseException:
                place.release()
                raise
            if self._places.held <= self._places.cap:
                return place, permit
            # The cap dropped while we waited for the permit: that is spent, to the safe side.
            place.release()

    async def permit(self, *, poll: bool) -> Permit:
        """Waits for the right to send one request."""
        return await self.rate.wait_open(poll=poll)

    def throttled(self, permit: Permit, *, retry_after: float | None, submit: bool) -> None:
        """A request with this permit was answered 429: close for everyone.

        Requests that were under way when the gate closed belong to the same episode: they may
        lengthen the pause, but do not count as another 429 in a row.
        """
        now = asyncio.get_running_loop().time()
        self._throttled += 1
        if self.rate.is_new_episode(permit):
            self._in_a_row[submit] += 1
        episode = max(self._in_a_row[submit], 1)
        pause = pause_seconds(retry_after, episode=episode, unit=self._rng.random())
        self.rate.close_for(pause, now=now)
        _LOGGER.info("429: pausing %.1f s", pause, extra={"pause": pause, "submit": submit})
        if submit:
            self._posts.set_cap(1)
            self._suspect_cap(episode, now)

    def _suspect_cap(self, episode: int, now: float) -> None:
        # Everything but this submit: others on their way may have been accepted a moment before.
        running = self._places.held - 1
        used = self.rate.meter.last_minute(now) / self.limits.requests_per_minute
        lowered = self._finder.cap < self._finder.limit
        if is_task_limit(episode=episode, rate=used, running=running, is_lowered=lowered):
            self._find(self._finder.refused(running=running, now=now))

    def accepted(self, lease: Lease) -> None:
        """A submit was accepted: ends a row of 429s and may prove a raised cap."""
        lease.is_running = True
        self._in_a_row[True] = 0
        self._posts.set_cap(self.limits.concurrent_submits)
        now = asyncio.get_running_loop().time()
        self._find(self._finder.accepted(running=self._places.held, now=now))

    def answered(self) -> None:
        """A status call was answered well: ends a row of 429s on status calls."""
        self._in_a_row[False] = 0

    def close(self) -> None:
        """Stops the timer of the cap finder, if one runs."""
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    def _find(self, finder: CapFinder) -> None:
        self._finder = finder
        if finder.cap != self.slots.cap:
            _LOGGER.info(
                "task cap is %d of %d", finder.cap, finder.limit, extra={"cap": finder.cap}
            )
            self.slots.set_cap(finder.cap)
            self._places.set_cap(finder.cap)

    def _arm_probe(self) -> None:
        """While the cap is lowered and somebody may have to wait, tries to raise it in time."""
        if self._finder.cap < self._finder.limit and self._probe_timer is None:
            loop = asyncio.get_running_loop()
            self._probe_timer = loop.call_at(self._finder.next_probe, self._probe)

    def _probe(self) -> None:
        self._probe_timer = None
        if self.slots.waiting or self._places.waiting:
            self._find(self._finder.probed(now=asyncio.get_running_loop().time()))
            self._arm_probe()

    def statistics(self) -> GateStatistics:
        """What the gate holds at this moment."""
        now = asyncio.get_running_loop().time()
        return GateStatistics(
            requests=self.rate.meter.total,
            requests_last_minute=self.rate.meter.last_minute(now),
            tasks=self.slots.held,
            tasks_peak=self.slots.peak,
            tasks_cap=self.slots.cap,
            waiting=self.slots.waiting,
            throttled=self._throttled,
            closed_for=self.rate.closed_for(now),
        )
