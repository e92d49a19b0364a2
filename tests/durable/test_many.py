"""Lives of processes that share jobs, by the hundred: what holds, whatever happens to them."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from apixo_async import OutcomeStatus, UnansweredError
from apixo_async.batch import events
from apixo_async.batch.journal import OTHER_TASKS, Entry, JobState, after
from apixo_async.durable import Ledger, MemoryRows, jobs, ledger
from apixo_async.durable.steps import Step, step_of
from tests.durable.processes import Process, job, lived
from tests.fakes import Answer, FakeApi, refusal

JOBS = 8
SEEDS = range(150)


@attrs.define
class World:
    """Three processes on one ledger, an API that fails at times, and an engine that errs."""

    seed: int
    rng: random.Random = attrs.field(init=False)
    api: FakeApi = attrs.field(init=False)
    rows: MemoryRows = attrs.field(factory=MemoryRows, init=False)
    all: list[Process] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.api = FakeApi(
            duration=lambda _: self.rng.uniform(10, 150),
            latency=self.rng.choice([0.05, 3.0, 10.0]),
            on_submit=self._answer,
            accept_anyway=False,
        )

    def _answer(self, _: int, __: Mapping[str, Any]) -> Answer:
        if self.rng.random() < 0.05:
            return refusal(429)
        if self.rng.random() < 0.05:
            return UnansweredError("cut", host="api.test", reason="reset")
        return None

    def process(self) -> Process:
        """One more."""
        lag = self.rng.choice([0.01, 0.5, 3.0])
        process = Process(self.api, self.rows, delay=lambda: self.rng.uniform(0, lag))
        self.all.append(process)
        return process

    async def live(self) -> None:
        """Accidents for a while; then a process that has none carries everything to its end."""
        keys = [f"k{number}" for number in range(JOBS)]
        processes = [self.process() for _ in range(3)]
        for key in keys:
            await self.rows.insert(Entry.new(0, job(key), at=datetime.now(UTC)))
        for _ in range(30):
            await asyncio.sleep(self.rng.uniform(0, 12))
            self._accident(processes, keys)
        last = self.process()
        outcomes = await asyncio.gather(*(last.jobs.carry(key) for key in keys))
        for process in processes:
            process.is_cut_off = False
            process.thaw()
        await asyncio.sleep(1200)
        assert all(one.status is not OutcomeStatus.NOT_STARTED for one in outcomes)

    def _accident(self, processes: list[Process], keys: list[str]) -> None:
        process = self.rng.choice(processes)
        match self.rng.choice(["carry", "carry", "carry", "freeze", "thaw", "cut", "cancel"]):
            case "carry":
                _ = process.carry(self.rng.choice(keys))
            case "freeze":
                process.freeze()
            case "thaw":
                process.thaw()
            case "cut":
                process.is_cut_off = not process.is_cut_off
            case _ if process.works:
                self.rng.choice(sorted(process.works, key=id)).cancel()
            case _:
                pass

    async def end(self) -> None:
        """Nothing is left."""
        for process in self.all:
            await process.end()

    async def faults(self) -> list[str]:
        """What must not be."""
        found = [
            f"{key} was paid {n} times" for key, n in Counter(self.api.billed).items() if n > 1
        ]
        entries = {entry.key: entry async for entry in self.rows.entries(list(JobState))}
        found += [
            f"{entry.key} is left {entry.state}"
            for entry in entries.values()
            if entry.state in {JobState.QUEUED, JobState.SENDING}
        ]
        for task in self.api.tasks.values():  # each id was told to a process, which lives
            entry = entries[task.prompt]
            if task.id not in {entry.task_id, *entry.why().get(OTHER_TASKS, ())}:
                found.append(f"{task.id} of {entry.key} is lost: the job is {entry.state}")
        return found


def faults_of(seed: int) -> list[str]:
    """What goes wrong in one life of the world."""
    found: list[str] = []

    @lived
    async def life() -> None:
        world = World(seed)
        await world.live()
        found.extend(await world.faults())
        await world.end()

    life()
    return found


@pytest.mark.parametrize("start", range(0, len(SEEDS), 25))
def test_nothing_is_paid_twice_lost_or_stuck(start: int) -> None:
    """In no life of three processes that freeze, are cut off, cancelled, and err about another."""
    broken = {seed: found for seed in SEEDS[start : start + 25] if (found := faults_of(seed))}
    assert not broken


# What would break it is found


async def claims_blindly(
    self: Ledger, number: int, event: events.Sending, hand: ledger.Hand
) -> Entry:
    """Whoever comes first has no advantage."""
    entry = await self._numbered(number, event.key)
    claimed = after(attrs.evolve(entry, state=JobState.QUEUED), event)
    await self.rows.replace(entry, claimed)
    hand.attempt = claimed.attempts
    return claimed


def drops_late_ids(
    entry: Entry, event: events.JobEvent, *, attempt: int | None
) -> events.JobEvent | None:
    """What cannot follow is not recorded."""
    try:
        after(entry, event)
    except Exception:  # noqa: BLE001  # of the mutant
        return None
    return event


def sends_what_is_under_way(entry: Entry, *, patience: float) -> Step:
    """A submit that is old is sent again."""
    step = step_of(entry, patience=patience)
    return Step.SUBMIT if step in {Step.DOUBT, Step.HEAR} else step


def _claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "_claim", claims_blindly)


def _late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "reconciled", drops_late_ids)


def _again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "_claim", claims_blindly)
    patch.setattr(jobs, "step_of", sends_what_is_under_way)


@pytest.mark.parametrize("plant", [_claim, _late, _again])
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the lives above are not harmless ones."""
    plant(monkeypatch)
    assert any(faults_of(seed) for seed in SEEDS)
