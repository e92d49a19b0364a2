"""What replicas do for each other: the jobs of a dead one go back into the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async.errors import ApixoError
from apixo_async.integrations.dbos._accounts import Account
from apixo_async.integrations.dbos._engine import Engine, is_executor_id

SWEEP_EVERY: Final = 60.0
"""Seconds between looks for jobs that are recorded and in no queue."""

LOOKS: Final = 6
SUSPECT: Final = 3
"""In so many parts of a lease. Who has less than a third of it left has not renewed it for as long
as that takes twice. Its jobs go to others then, which have slots for their tasks before those that
it held are given away: so a death does not lead above the cap."""


async def care_for(account: Account, engine: Engine, *, lease: float) -> None:
    """Goes on until it is cancelled; an outage of the database is waited out."""
    loop = asyncio.get_running_loop()
    sweep_at = loop.time() + SWEEP_EVERY
    while True:
        await asyncio.sleep(lease / LOOKS)
        try:
            alive = await account.limits.members(left=lease / SUSPECT)
            if not cares(engine.executor, alive):
                continue
            count = await engine.resume_of_the_dead(account.name, list(alive))
            if count:
                LOGGER.warning(
                    "%d jobs of replicas that gave no sign of life are carried by others",
                    count,
                    extra=fields("jobs_taken_over", count=count),
                )
            if loop.time() >= sweep_at:
                sweep_at = loop.time() + SWEEP_EVERY
                await _sweep(account, engine)
        except Exception as error:  # noqa: BLE001  # whatever it is, who else would look?
            LOGGER.warning(
                "dead replicas cannot be looked for: %s",
                error if isinstance(error, ApixoError) else repr(error),
                extra=fields("care_failed", error=error),
            )


def cares(executor: str, alive: Collection[str]) -> bool:
    """Whether it is this replica that looks: the first by name of those that live and work.

    Who shares the limits without DBOS, such as a batch, has no part in it.
    """
    return executor == min(filter(is_executor_id, alive), default=None)


async def _sweep(account: Account, engine: Engine) -> None:
    """Whoever recorded a job, or a decision about one, may have died before it was in the queue."""
    active = await engine.active(account.name)
    turn = f"left-{int(datetime.now(UTC).timestamp())}"
    async for key in account.jobs.left():
        if key not in active:
            await engine.enqueue(account.name, key, turn)
