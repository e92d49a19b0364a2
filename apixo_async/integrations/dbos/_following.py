"""Outcomes of jobs as they come, whoever carries them: the ledger is looked into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final

import attrs

from apixo_async.batch.journal import ENDED, Entry
from apixo_async.batch.outcomes import Outcome, StopReason
from apixo_async.durable.steps import TO_CARRY
from apixo_async.errors import StoreError
from apixo_async.integrations.dbos._accounts import Account
from apixo_async.integrations.dbos._engine import Engine

LOOK_EVERY: Final = 1.0
QUEUE_EVERY: Final = 5.0
"""Seconds between looks for jobs that nobody carries any more though they have not ended."""
LOOK_SHARE: Final = 0.2
"""With very many jobs the looks themselves take time: so much of it at most."""
PATIENCE: Final = 60.0
"""Seconds for which a database that is away is put up with: a restart or a failover is over by
then, and who still waits wants to know why."""
_ASKS_FOR_PEOPLE: Final = frozenset({StopReason.KEY, StopReason.BALANCE, StopReason.DOUBT})


@attrs.frozen
class DurableJob:
    """A job that was enqueued, and will be carried whatever becomes of this process."""

    key: str
    """Its name."""
    account: str
    """Whose key pays for it."""
    number: int
    """Its number in the ledger."""


async def followed(
    waiting: dict[tuple[str, int], DurableJob],
    engine: Engine,
    *,
    account: Callable[[str], Account],
) -> AsyncGenerator[Outcome]:
    """Each outcome once, until none of these jobs is waited for."""
    loop = asyncio.get_running_loop()
    queue_at, answered_at = loop.time() + QUEUE_EVERY, loop.time()
    while waiting:
        began = loop.time()
        is_queue_due = began >= queue_at
        for name in sorted({of for of, _ in waiting}):
            owner = account(name)
            left = [job for (of, _), job in waiting.items() if of == name]
            try:
                found = await _ended(owner, left)
                if is_queue_due:
                    found += await _left_over(owner, engine, left)
                answered_at = loop.time()
            except StoreError:
                if loop.time() > answered_at + PATIENCE:
                    raise
                found = []
            for entry in found:
                if waiting.pop((name, entry.number), None) is not None:
                    yield entry.outcome(0)
            _raise_if_stopped(owner)
        took = loop.time() - began
        queue_at = loop.time() + QUEUE_EVERY if is_queue_due else queue_at
        await asyncio.sleep(max(LOOK_EVERY, took / LOOK_SHARE - took))


async def _ended(owner: Account, left: Collection[DurableJob]) -> list[Entry]:
    return list(await owner.ledger.rows.among([job.number for job in left], ENDED))


async def _left_over(owner: Account, engine: Engine, left: Collection[DurableJob]) -> list[Entry]:
    """Those that nobody carries any more though they have not ended: uncertain, timed out."""
    active = await engine.active(owner.name)
    idle = [job.key for job in left if job.key not in active]
    if not idle:
        return []
    entries = [await owner.ledger.read(key) for key in idle]
    # Whoever was settled between the two looks is in the queue again by now.
    active = await engine.active(owner.name)
    return [
        entry
        for entry in entries
        if entry is not None and entry.key not in active and not _goes_on(owner, entry)
    ]


def _goes_on(owner: Account, entry: Entry) -> bool:
    """Whether it is put into the queue again by whoever looks for what is in none."""
    return entry.state in TO_CARRY and not owner.jobs.is_overdue(entry)


def _raise_if_stopped(owner: Account) -> None:
    stopped = owner.jobs.stopped
    if stopped is not None and stopped[0] in _ASKS_FOR_PEOPLE and stopped[1] is not None:
        raise stopped[1]
