"""The world around one process after the other: time, what happens in it, and who is watched."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from apixo_async import WebhookReceiver
from tests.simulation.disks import left_behind
from tests.simulation.loops import SimulatedLoop
from tests.simulation.plans import Life, Plan

BEGIN: Final = 1_000.0
LATE_BYTES: Final = 0.7
"""How often bytes of a dying process still arrive."""
KEPT_WITHIN: Final = 30.0
"""Seconds after which an answer must be on record, whatever the disk says."""


class World:
    """Time goes on in it while processes come and go; what is to happen is kept in order."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.rng = random.Random(f"world {plan.seed}")
        self.now = BEGIN
        self.loop: SimulatedLoop | None = None
        self.disk = directory / "0"
        self.disk.mkdir()
        self._directory = directory
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._trace = hashlib.blake2b(digest_size=12)
        self.lines: list[str] | None = None
        self.life: Life | None = None
        self.life_number = 0
        self.is_calm = False
        self.last_began = BEGIN
        self.ended: dict[int, tuple[float, bool]] = {}
        """When each process ended, and whether in good order."""
        self.receiver: WebhookReceiver | None = None
        self.was_cancelled = False
        """Whether this process was told to end at once."""
        self._seen: Counter[str] = Counter()
        self._ends: dict[str, Callable[[], object]] = {}

    # Time

    @property
    def time(self) -> float:
        """The clock of the world."""
        return self.now if self.loop is None else self.loop.time()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Something that happens then, whoever lives."""
        self._count += 1
        heapq.heappush(self._coming, (when, self._count, call))
        if self.loop is not None:
            self.loop.call_at(when, self._pump)

    def _pump(self) -> None:
        while self._coming and self._coming[0][0] <= self.time and not self.is_dead:
            heapq.heappop(self._coming)[2]()

    def pass_time(self, seconds: float) -> None:
        """Time without a process."""
        end = self.now + seconds
        while self._coming and self._coming[0][0] <= end:
            when, _, call = heapq.heappop(self._coming)
            self.now = max(self.now, when)
            call()
        self.now = end

    def note(self, *what: object) -> None:
        """One line of the trace."""
        line = " ".join(map(str, (f"{self.time:.6f}", *what)))
        self._trace.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def trace(self) -> str:
        """The same for the same seed."""
        return self._trace.hexdigest()

    # Lives

    @property
    def is_dead(self) -> bool:
        """Whether the process of this life is gone."""
        return self.loop is None or self.loop.is_dead

    def begin(
        self, loop: SimulatedLoop, life: Life | None, ends: dict[str, Callable[[], object]]
    ) -> None:
        """A process begins; `ends` are the gentle ways to end it."""
        self.loop, self.life, self._ends = loop, life, ends
        self.life_number += 1
        self.last_began = loop.time()
        self.was_cancelled = False
        self._seen.clear()
        self.note("life", self.life_number, life.end if life is not None else "calm")
        for when, _, _ in self._coming:
            loop.call_at(max(when, loop.time()), self._pump)
        if life is not None and life.moment == "time":
            loop.call_later(life.seconds, self.reached, "time", life.count)

    def end(self) -> None:
        """The process has ended, by itself or not; its clock stays the world's."""
        assert self.loop is not None
        self.now = self.loop.time()
        self.ended[self.life_number] = self.now, not self.loop.is_dead
        self.loop, self.life, self.receiver = None, None, None

    def had_time(self, life: int, since: float, *, within: float = KEPT_WITHIN) -> bool:
        """Whether a process has had, or will have, the time to record what it was given."""
        ended_at, in_order = self.ended.get(life, (self.time, True))
        return in_order or ended_at - since > within

    def reached(self, moment: str, times: int = 1) -> None:
        """The process has come to this point; it may be its last."""
        life = self.life
        if life is None or moment != life.moment or self.is_dead:
            return
        before = self._seen[moment]
        self._seen[moment] += times
        if not before < life.count <= self._seen[moment]:
            return
        self.note("end", life.end, moment)
        if life.end in {"crash", "power"}:
            self._crash(lost_power=life.end == "power")
        elif (call := self._ends.get(life.end)) is not None:
            self.was_cancelled = life.end == "cancel"
            asyncio.get_running_loop().call_soon(call)

    def _crash(self, *, lost_power: bool) -> None:
        assert self.loop is not None
        copy = self._directory / str(self.life_number)
        left_behind(self.disk, copy, lost_power=lost_power, rng=self.rng)
        self.disk = copy
        self.loop.is_dead = True

    @property
    def age(self) -> float:
        """Seconds since the world began."""
        return self.time - BEGIN

    def outage(self) -> str | None:
        """What is out of order at this moment, of the network or the server."""
        return self._out_of_order(disk=False)

    @property
    def refuses(self) -> bool:
        """Whether the disk refuses to be written at this moment."""
        return self._out_of_order(disk=True) is not None

    @property
    def has_refused(self) -> bool:
        """Whether the disk has refused to be written since this process began."""
        began = self.last_began - BEGIN
        disks = (outage for outage in self.plan.outages if outage.kind == "disk")
        is_calm = self.is_calm
        return not is_calm and any(disk.start <= self.age and began <= disk.end for disk in disks)

    def _out_of_order(self, *, disk: bool) -> str | None:
        if self.is_calm:
            return None
        for outage in self.plan.outages:
            if (outage.kind == "disk") is disk and outage.start <= self.age < outage.end:
                return outage.kind
        return None

    def happens(self, fault: str) -> bool:
        """Whether this goes wrong now."""
        rate = self.plan.rates[fault]
        return rate > 0 and not self.is_calm and self.rng.random() < rate

    def first_of(self, faults: tuple[str, ...]) -> str | None:
        """The fault that happens now, if any does."""
        return next((fault for fault in faults if self.happens(fault)), None)

    def soon(self, scale: float = 1.0) -> float:
        """A time that something takes on the network."""
        return self.plan.latency * scale * self.rng.uniform(0.5, 2.0)
