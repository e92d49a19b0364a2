"""The replicas of the guide run as it shows them; what the emulator bills is the judge."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apixo_async import OutcomeStatus, PollSchedule
from apixo_async.integrations.dbos import DurableVeo
from apixo_async.testing import EmulatorThread
from tests.filehost import until
from tests.pages import blocks
from tests.services import postgres_database

PAGE = "docs/how-to/durable.md"
JOBS = 30
QUICK = PollSchedule(first=1.0, interval=0.2)
LEASE = 3.0
RUN = f"""
import runpy
from functools import partial
from apixo_async import PollSchedule
from apixo_async.integrations import dbos
schedule = PollSchedule(first={QUICK.first}, interval={QUICK.interval})
dbos.DurableVeo = partial(dbos.DurableVeo, schedule=schedule, lease={LEASE})
runpy.run_path("replica.py", run_name="__main__")
"""
"""Runs a replica with looks as much faster as the emulator's clock, and with a short lease."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.apixo_emulator(speed=30, durations="120"),
]


@contextmanager
def replicas(
    count: int, *, directory: Path, database: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that run the page's replica."""
    (program,) = [block.text for block in blocks(PAGE) if block.text.startswith("# replica.py\n")]
    (directory / "replica.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-P", "-c", RUN]
    environment = {**os.environ, "DATABASE_URL": database}
    running = [subprocess.Popen(command, cwd=directory, env=environment) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


async def test_of_three_replicas_one_is_killed_and_one_is_ended(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """The third makes what is left, nothing is paid twice, and who was ended ends well."""
    with postgres_database() as database:
        async with DurableVeo(database, works=False, schedule=QUICK, lease=LEASE) as veo:
            names = [f"harbour-{number}" for number in range(JOBS)]
            jobs = [await veo.enqueue(name, prompt=name, mode="fast") for name in names]
            with replicas(3, directory=tmp_path, database=database) as running:
                await until(lambda: apixo_emulator.ledger.billed_total == JOBS)
                while {await veo.state(name) for name in names} - {"accepted", "succeeded"}:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                running[0].kill()
                running[1].send_signal(signal.SIGTERM)
                async with asyncio.timeout(60):
                    found = [outcome async for outcome in veo.as_completed(jobs)]
                    code = await asyncio.to_thread(running[1].wait)

    assert {outcome.status for outcome in found} == {OutcomeStatus.SUCCEEDED}
    assert (len(found), code) == (JOBS, 0)
    assert apixo_emulator.ledger.billed == dict.fromkeys(names, 1)
