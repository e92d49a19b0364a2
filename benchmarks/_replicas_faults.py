"""Cases in which something breaks while POSTs are under way: processes, and the database."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks._replicas_postgres import Cluster
from benchmarks._replicas_rows import Row, Scale
from benchmarks._replicas_stage import Account, Stage, seconds_since, stage
from benchmarks._replicas_watch import SQLITE

LEASE: Final = 6.0
ACCOUNT: Final = Account(
    # Shorter than the lease: what a process leaves behind ends while its slots are kept.
    cap=60,
    durations=(3.0, 5.0),
    latency=(0.3, 0.9),
    lease=LEASE,
    submit_timeout=3.0,
    interval=0.5,
)
JOBS: Final = 150
"""Of a round: two and a half times the cap, so that every slot is of use after the fault."""
OUTAGE: Final = 5.0
LATE: Final = 0.5
"""Seconds that it may take until what has happened is seen."""
WORKERS: Final = 3
FROZEN: Final = (2, 4)
"""Leases for which a process stands still, in turn. Within two, nobody speaks for the POSTs that it
has under way; within four, the others have stated them uncertain before it has its say."""

Fault: TypeAlias = Callable[[Stage, random.Random], Awaitable[dict[str, Any]]]


async def rounds(opened: Stage, fault: Fault, *, count: int, jobs: int) -> list[dict[str, Any]]:
    """So many times: jobs, a fault while some of them are being sent, and all that came of them."""
    rng, told = random.Random(7), list[dict[str, Any]]()
    for number in range(count):
        name, started = f"round{number:03}", time.monotonic()
        assert opened.asker is not None
        opened.asker.ask(f"{name} {jobs}")
        sending = await opened.until_sending(rng.randint(2, 10))
        await asyncio.sleep(rng.uniform(0, 0.2))
        facts = await fault(opened, rng)
        outcomes = await opened.wait_for(name)
        lasted = seconds_since(started)
        told.append({"sending": sending, "outcomes": outcomes, "seconds": lasted, **facts})
        if not outcomes:
            break
        if "place" in facts:
            await opened.replace(facts["place"])
    return told


async def judged(
    opened: Stage, number: int, title: str, told: list[dict[str, Any]], started: float
) -> Row:
    """The row of a case, all of whose rounds are over."""
    judgement, states = await opened.judgement()
    ledger = await asyncio.to_thread(opened.api.ledger)
    outcomes: Counter[str] = Counter()
    for one in told:
        outcomes.update(one["outcomes"])
    name = f"case {number}"
    complaints = [*judgement.complaints(name), *opened.complaints_in_logs()]
    complaints += [
        f"{name}: round {n} did not end" for n, one in enumerate(told) if not one["outcomes"]
    ]
    throttled = {word: count for word, count in ledger["throttled"].items() if count}
    figures = {
        "rounds": len(told),
        "jobs": sum(states.values()),
        "states": states,
        "outcomes": dict(outcomes),
        "billed": ledger["billed_total"],
        "doubled": len(judgement.doubled),
        "lost": len(judgement.lost),
        "stuck": len(judgement.stuck),
        "peak_unfinished": ledger["peak_unfinished"],
        "throttled": throttled,
        "each": told,
    }
    facts = [
        f"{len(told)} rounds, {sum(states.values()):,} jobs, {ledger['billed_total']:,} billed"
    ]
    facts.append(f"{states.get('uncertain', 0)} uncertain")
    facts.append("{doubled} doubled, {lost} lost, {stuck} stuck".format(**figures))
    return Row(number, title, seconds_since(started), facts, complaints, figures)


# Kill -9


async def kill(opened: Stage, rng: random.Random) -> dict[str, Any]:
    """One worker dies; when its slots and its jobs are those of the others."""
    place = await opened.sender(rng)
    pid = opened.workers[place].pid
    await opened.workers[place].kill()
    killed = time.monotonic()
    in_flight = await opened.watch.sending_by(pid)
    held, carried = await opened.watch.slots_of(pid), await opened.watch.carried_by(pid)
    slots_after = await _seconds_until_none(lambda: opened.watch.slots_of(pid), killed)
    jobs_after = await _seconds_until_none(lambda: opened.watch.carried_by(pid), killed)
    return {
        "place": place,
        "in_flight": in_flight,
        "slots": held,
        "carried": carried,
        "slots_back_after": slots_after,
        "jobs_back_after": jobs_after,
    }


async def _seconds_until_none(count: Callable[[], Awaitable[int]], since: float) -> float:
    while await count():  # noqa: ASYNC110  # it is in a database
        await asyncio.sleep(0.1)
    return seconds_since(since)


async def kills(scale: Scale, database: str, directory: Path) -> Row:
    """Case 2."""
    account, started = scale.of(ACCOUNT), time.monotonic()
    async with stage(account, database, directory, workers=WORKERS) as opened:
        told = await rounds(opened, kill, count=scale.rounds, jobs=scale.of_round(JOBS))
        row = await judged(opened, 2, "kill -9 one of three", told, started)
    slots = max(one["slots_back_after"] for one in told)
    jobs = max(one["jobs_back_after"] for one in told)
    row.facts.append(f"slots back after {slots:.1f} s at most, jobs after {jobs:.1f} s")
    if slots > LEASE + LATE and not scale.is_quick:
        row.complaints.append(f"case 2: slots came back {slots} s after a kill")
    row.facts.append(f"{sum(one['in_flight'] for one in told)} POSTs of the killed were in flight")
    if not any(one["in_flight"] for one in told):
        row.complaints.append("case 2: no killed worker had a POST in flight")
    return row


# The database stops


async def outages(scale: Scale, own: Cluster, directory: Path) -> Row:
    """Case 3."""

    async def stop(opened: Stage, _: random.Random) -> dict[str, Any]:
        before = opened.pids()
        await asyncio.to_thread(own.stop)
        await asyncio.sleep(OUTAGE)
        await asyncio.to_thread(own.start)
        return {"pids": before}

    account, started = scale.of(ACCOUNT), time.monotonic()
    async with stage(account, own.url, directory, workers=WORKERS) as opened:
        count, jobs = min(scale.rounds, 5), scale.of_round(JOBS)
        told = await rounds(opened, stop, count=count, jobs=jobs)
        row = await judged(opened, 3, "PostgreSQL stopped hard for 5 s", told, started)
        if any(one["pids"] != opened.pids() for one in told):
            row.complaints.append("case 3: a worker ended")
    return row


# A process that stands still


async def freezes(scale: Scale, database: str, directory: Path) -> Row:
    """Case 4."""
    leases = itertools.cycle(FROZEN)

    async def freeze(opened: Stage, rng: random.Random) -> dict[str, Any]:
        worker, seconds = opened.workers[await opened.sender(rng)], next(leases) * LEASE
        worker.freeze()
        in_flight = await opened.watch.sending_by(worker.pid)
        await asyncio.sleep(seconds)
        worker.thaw()
        return {"pid": worker.pid, "in_flight": in_flight, "frozen": seconds}

    account, started = scale.of(ACCOUNT), time.monotonic()
    async with stage(account, database, directory, workers=WORKERS) as opened:
        count, jobs = min(scale.rounds, 5), scale.of_round(JOBS)
        told = await rounds(opened, freeze, count=count, jobs=jobs)
        return await judged(opened, 4, "SIGSTOP for two leases or four", told, started)


# One process and files


async def restarts(scale: Scale, directory: Path) -> Row:
    """Case 5: the only process dies, and another one is asked for the same jobs."""
    account, started = scale.of(ACCOUNT), time.monotonic()
    jobs = scale.of_round(JOBS)
    database = f"{SQLITE}{directory}.db"

    async with stage(account, database, directory, workers=1, has_asker=False) as opened:
        opened.asker = opened.workers[0]

        async def die(opened: Stage, _: random.Random) -> dict[str, Any]:
            await opened.workers[0].kill()
            await opened.replace(0)
            opened.asker = opened.workers[0]
            opened.asker.ask(f"round{next(numbers):03} {jobs}")
            return {}

        numbers = iter(range(scale.rounds))
        told = await rounds(opened, die, count=min(scale.rounds, 5), jobs=jobs)
        return await judged(opened, 5, "SQLite, kill -9 and started again", told, started)
