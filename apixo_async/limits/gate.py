"""The gate: the one place where both limits of the account are held. One per client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async._narrow import shown
from apixo_async.errors import InvalidSettingError
from apixo_async.events import ClientEvent, LimitFound, Paused
from apixo_async.limits.finding import CapFinder
from apixo_async.limits.membership import Membership, check_shared
from apixo_async.limits.rate import Permit, RateGate
from apixo_async.limits.settings import Limits
from apixo_async.limits.sharing import SharedLimits
from apixo_async.limits.slots import Lease, Slots
from apixo_async.limits.statistics import GateStatistics
from apixo_async.limits.throttling import Cause, cause_of, pause_seconds
from apixo_async.limits.turns import Turn

PROBE_RETRY: Final = 0.5
"""A probe whose time has come waits for the cap to be filled; it looks again so often."""


class Gate:
    """Holds the request rate and the number of unfinished tasks, and finds what is real of both.

    The order of a submit is: `lease()`, then `turn()`, then the POST. The lease stays with the
    task until the server is seen to have ended it. Every HTTP attempt needs a permit of its
    own. After a 429 everybody pauses (`throttled`); then one goes ahead, and the rest when that
    one was `answered` or `accepted`.

    A gate belongs to one client, which closes it, and to that client's event loop. Make one by
    yourself to hold the limits together with other processes, and pass it to `ApixoClient(gate=)`;
    a client without one has a gate of its own.

    Args:
        limits: What the account allows, for all processes together.
        shared: Where the processes of this account share its limits; `None` shares nothing. It
            belongs to this gate, which closes it.
        rng: What pauses are drawn from; `None` is the client's.
        tell: What pauses and found limits are told to; `None` is the client's `on_event`.

    Raises:
        InvalidSettingError: `limits` or `shared` are something else, or the lease of `shared` is
            not above 0.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        shared: SharedLimits | None = None,
        rng: random.Random | None = None,
        tell: Callable[[ClientEvent], None] | None = None,
    ) -> None:
        if not isinstance(limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidSettingError(f"limits must be a Limits, got {shown(limits)}")
        self.limits = limits
        self._tell = tell
        self._has_client = False
        self.ran_short: Callable[[], None] | None = None
        """Told when other processes want slots that are held here."""
        self.slots = Slots(limits.concurrent_tasks)
        self._places = Slots(limits.concurrent_tasks)
        self._member = None if shared is None else self._join(shared)
        also = None if self._member is None else self._member.permits.take
        self.rate = RateGate(limits.requests_per_minute, tell=tell, also=also)
        if self._member is not None:
            self.rate.others = self._member.others
        self._posts = Slots(1)
        self._posts_before = 1
        self._starting: dict[Lease, Lease] = {}  # places of submits under way, and their leases
        self._finder = CapFinder(limits.concurrent_tasks, limits.concurrent_tasks)
        self._probe_timer: asyncio.TimerHandle | None = None
        self._has_rng = rng is not None
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not secrets
        self._in_a_row = {True: 0, False: 0}
        self._unexplained = 0
        self._looks_pass = False
        self._throttled = 0

    def _join(self, shared: SharedLimits) -> Membership:
        """Nothing may begin before the first grant."""
        check_shared(shared)
        self.slots.set_cap(0)
        self._places.set_cap(0)
        return Membership(
            shared,
            self.limits,
            self.slots,
            self._places,
            line=lambda: self.rate.line,
            found_cap=lambda: self._finder.cap,
            changed=self._recap,
            heard=self._heard,
        )

    def _heard(self) -> None:
        """The store has answered."""
        if self.is_short and self.ran_short is not None:
            self.ran_short()

    def belong_to(self, rng: random.Random, tell: Callable[[ClientEvent], None] | None) -> None:
        """Makes this the gate of one client, and uses its random numbers and hook.

        Args:
            rng: What pauses are drawn from, unless the gate was made with its own.
            tell: What pauses and found limits are told to, unless the gate was made with its own.

        Raises:
            InvalidSettingError: It is the gate of another one.
        """
        if self._has_client:
            raise InvalidSettingError("gate must not be that of another client; make one for each")
        self._has_client = True
        if not self._has_rng:
            self._rng = rng
        if self._tell is None:
            self._tell = self.rate.tell = tell

    @property
    def is_short(self) -> bool:
        """Whether a slot is wanted: by who waits here, or by a process whose share it is."""
        if self.slots.waiting:
            return True
        return self._member is not None and self.slots.held > self._member.keeper.granted(_now())

    def poll_budget(self, share: float) -> float:
        """How many status calls a second a schedule may plan with at this moment; always above 0.

        At most `share` of the request rate as it is found to be, and what submits leave of it.
        `Limits.poll_share` takes the place of `share` where it is set.

        Args:
            share: A part of the request rate, from 0 to 1.
        """
        share = share if self.limits.poll_share is None else self.limits.poll_share
        return self.rate.polls_per_second(share, _now())

    async def join(self) -> None:
        """Makes this process known to the others at once, and keeps it so until the gate closes.

        Without it that happens with the first task. Where nothing is shared it does nothing.

        Raises:
            StoreError: The store of shared limits was away for a minute.
        """
        if self._member is not None:
            await self._member.join()

    async def lease(self) -> Lease:
        """Waits for a slot for one unfinished task."""
        self._arm_probe()
        if self._member is None:
            return await self.slots.acquire()
        return await self._member.slot(self.slots)

    def occupy(self) -> Lease:
        """A slot for a task that runs already, or may; it is there whether or not one is free."""
        lease = self.slots.occupy()
        lease.place = self._places.occupy()
        lease.is_running = True
        if self._member is not None:
            self._member.keeper.need(soon=True)
        return lease

    async def turn(self, lease: Lease) -> Turn:
        """Waits for the right to send one POST for this lease; end it with `Turn.end()`.

        At first, and after a 429 on a submit, they go one at a time. Every answer lets one more
        have a turn, so twice as many each round, up to `concurrent_submits`. Each takes a place
        among the tasks that run or are being started, which counts when the cap has dropped below
        the leases that are out already.

        Args:
            lease: The slot of the task that the POST is to start.

        Raises:
            StoreError: The store of shared limits was away for a minute.
        """
        self._arm_probe()
        if self._member is None:
            return await self._turn(lease)
        self._member.keeper.need(soon=False)
        async with self._member.contact.patiently():
            return await self._turn(lease)

    async def _turn(self, lease: Lease) -> Turn:
        post = await self._posts.acquire()
        try:
            while True:
                place = await self._places.acquire()
                self._starting[place] = lease
                try:
                    permit = await self.rate.wait_open(poll=False)
                except BaseException:
                    self._unplace(place)
                    raise
                if self._member is not None:
                    self._recap()  # frozen meanwhile, the lease may have ended
                if self._places.held <= self._places.cap:
                    break
                # The cap dropped while we waited for the permit: that is spent, to the safe side.
                self._unplace(place)
        except BaseException:
            post.release()
            raise
        lease.place = place
        return Turn(lease, place, post, permit, self._starting)

    def _unplace(self, place: Lease) -> None:
        del self._starting[place]
        place.release()

    async def permit(self, *, poll: bool) -> Permit:
        """Waits for the right to send one request.

        Args:
            poll: Whether it is a status call.

        Raises:
            StoreError: The store of shared limits was away for a minute; not for a status call,
                which waits as long as it takes.
        """
        if poll or self._member is None:
            return await self.rate.wait_open(poll=poll)
        async with self._member.contact.patiently():
            return await self.rate.wait_open(poll=False)

    def throttled(self, permit: Permit, *, retry_after: float | None, submit: bool) -> None:
        """A request with this permit was answered 429: close for everyone.

        Requests that were under way when the gate closed belong to the same episode: they may
        lengthen the pause, but do not count as another 429 in a row. A submit that was surely
        refused because of the task limit only holds up submits.

        Args:
            permit: That of the request.
            retry_after: Seconds that the answer asks to wait; `None` if it does not say.
            submit: Whether it was a submit.
        """
        now = _now()
        self._throttled += 1
        is_new = self.rate.is_new_episode(permit)
        if is_new:
            self._in_a_row[submit] += 1
        if not submit:
            self.rate.note_refused_look(now)
        episode = max(self._in_a_row[submit], 1)
        pause = pause_seconds(retry_after, episode=episode, unit=self._rng.random())
        if submit:
            self._posts_before = self._posts.cap if is_new else self._posts_before
            self._posts.set_cap(1)
        cause = self._cause(now, is_new=is_new) if submit else Cause.RATE
        if cause in {Cause.TASKS, Cause.PERHAPS_TASKS}:
            self._posts_before = 1
            asked = retry_after or 0.0
            self._find(self._finder.refused(running=self._running(), now=now, pause=asked))
        elif cause is Cause.RATE and self.rate.refused(permit, in_a_row=episode, now=now):
            pause = max(pause, self.rate.room_in(now)) if retry_after is None else pause
        if cause is Cause.TASKS:
            self.rate.close_submits_for(pause, now=now)
        else:
            self.rate.close_for(pause, now=now)
        if is_new:
            self._note_pause(pause, retry_after, only_submits=cause is Cause.TASKS)

    def _note_pause(self, pause: float, retry_after: float | None, *, only_submits: bool) -> None:
        LOGGER.info(
            "429: pausing %.1f s",
            pause,
            extra=fields("gate_paused", seconds=pause, only_submits=only_submits),
        )
        if self._tell is not None:
            self._tell(Paused(seconds=pause, only_submits=only_submits, retry_after=retry_after))

    def _running(self) -> int:
        """Tasks that run or may run for all we know; not those whose submit is under way."""
        starting = sum(not lease.is_running for lease in self._starting.values())
        return self._places.held - starting

    def _cause(self, now: float, *, is_new: bool) -> Cause:
        """What a refused submit is about."""
        self._unexplained += is_new
        if self._unexplained <= 1:
            self._looks_pass = False
        running = self._running()
        is_probing = self._finder.is_probing(running=running)
        cause = cause_of(
            episode=self._unexplained,
            is_rate_high=self.rate.is_high(now),
            running=running,
            is_probing=is_probing,
            looks_pass=self._looks_pass,
            noise=self.rate.noise(now),
        )
        if is_probing and cause is Cause.TASKS:
            self._unexplained = 0
        return cause

    def accepted(self, lease: Lease, permit: Permit) -> None:
        """A submit was accepted: ends a row of 429s and may prove a raised cap.

        Args:
            lease: The slot of its task.
            permit: That of the POST.
        """
        lease.is_running = True
        self._in_a_row[True] = self._unexplained = 0
        self._widen(permit)
        now, running = _now(), self._running()
        before = self._finder = self._finder.knowing(running=running)
        self._find(before.accepted(running=running, now=now))
        if self._finder is not before:
            self.rate.find(self.rate.finder.hurried(now=now))

    def rejected(self, permit: Permit) -> None:
        """A submit was answered, and not with 429: another one may go beside it.

        Args:
            permit: That of the request.
        """
        self._widen(permit)

    def _widen(self, permit: Permit) -> None:
        self._passed(permit)
        cap = self._posts.cap
        # Slowly into the unknown, faster back to where we were.
        cap = 2 * cap if 2 * cap <= self._posts_before else cap + 1
        self._posts.set_cap(min(cap, self.limits.concurrent_submits))

    def failed(self, permit: Permit) -> None:
        """A request was answered, neither well nor with 429: it tells nothing about the limits.

        Args:
            permit: That of the request.
        """
        self.rate.let_in(permit, now=_now())

    def answered(self, permit: Permit) -> None:
        """A status call was answered, and not with 429: ends a row of 429s on status calls.

        Args:
            permit: That of the request.
        """
        self._looks_pass |= self._passed(permit)

    def _passed(self, permit: Permit) -> bool:
        is_since_pause = self.rate.answered(permit, now=_now())
        if is_since_pause:
            self._in_a_row[False] = 0
        return is_since_pause

    async def aclose(self) -> None:
        """Ends what runs by itself; leaves the store with what is held, and closes it.

        What is held stays this process's there until its lease ends, as its tasks may run on. May
        be called twice.
        """
        self._disarm_probe()
        if self._member is not None:
            self.rate.end("this client is closed; open a new one")
            await self._member.aclose(held=self._running())

    def _disarm_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    def _find(self, finder: CapFinder) -> None:
        before, self._finder = self._finder, finder
        if finder.cap != before.cap:
            LOGGER.info(
                "task cap is %d of %d",
                finder.cap,
                finder.limit,
                extra=fields(
                    "limit_found", limit="tasks", value=finder.cap, configured=finder.limit
                ),
            )
            if self._tell is not None:
                self._tell(LimitFound(limit="tasks", value=finder.cap, configured=finder.limit))
            self._recap()
        if finder.next_probe < before.next_probe and self._probe_timer is not None:
            self._disarm_probe()
            self._arm_probe()

    def _recap(self) -> None:
        """Lets so many tasks run as the account was found to allow, and we are granted."""
        cap = self._finder.cap
        if self._member is not None:
            cap = min(cap, self._member.keeper.allowed(_now()))
        self.slots.set_cap(cap)
        self._places.set_cap(cap)

    def _arm_probe(self) -> None:
        """While the cap is lowered and somebody may have to wait, tries to raise it in time."""
        if self._finder.cap < self._finder.limit and self._probe_timer is None:
            loop = asyncio.get_running_loop()
            when = max(self._finder.next_probe, loop.time() + PROBE_RETRY)
            self._probe_timer = loop.call_at(when, self._probe)

    def _probe(self) -> None:
        self._probe_timer = None
        if self.slots.waiting or self._places.waiting:
            self._find(self._finder.probed(running=self._running(), now=_now()))
            self._arm_probe()

    def statistics(self) -> GateStatistics:
        """What the gate holds at this moment."""
        now, member = _now(), self._member
        return GateStatistics(
            requests=self.rate.meter.total,
            requests_last_minute=self.rate.meter.last_minute(now),
            tasks=self.slots.held,
            tasks_peak=self.slots.peak,
            tasks_cap=self._finder.cap,
            requests_cap=self.rate.finder.rate,
            waiting=self.slots.waiting,
            throttled=self._throttled,
            closed_for=self.rate.closed_for(now),
            is_shared=member is not None,
            tasks_granted=None if member is None else member.keeper.granted(now),
            is_store_reachable=member is None or not member.contact.is_lost,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
