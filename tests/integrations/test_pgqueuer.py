"""The recipe with PgQueuer runs as its page shows it; what the emulator bills is the judge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psycopg
import pytest
from psycopg import sql

from apixo_async.emulator import Ledger
from apixo_async.testing import EmulatorThread
from tests.pages import blocks
from tests.services import POSTGRES, postgres_database

PAGE = "docs/how-to/pgqueuer.md"
JOBS = 30
SECONDS = 60
RUN = """
import runpy, sys
from datetime import timedelta
from functools import partial
import pgqueuer
from apixo_async import PollSchedule
from apixo_async.client import verbs
from apixo_async.durable import DurableJobs
verbs.PollSchedule = lambda: PollSchedule(first=1.0, interval=0.2)
DurableJobs.left.__kwdefaults__["untouched_for"] = 1.0
later = timedelta(seconds=1)
pgqueuer.run = partial(pgqueuer.run, heartbeat_timeout=timedelta(seconds=3), restart_delay=later)
sys.path.insert(0, "")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program of the page with looks as much faster as the emulator's clock, and with workers
that are taken for dead after three seconds."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.apixo_emulator(speed=30, durations="90"),
]


@attrs.define
class Place:
    """Programs of the page, each in a process of its own, on one database."""

    directory: Path
    emulator: EmulatorThread
    database: str
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    @property
    def ledger(self) -> Ledger:
        """What the emulator has billed."""
        return self.emulator.ledger

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Runs it as a reader does; what it prints is in `<program>.log`."""
        with (self.directory / f"{program}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", RUN, program, *arguments],
                cwd=self.directory,
                env={**os.environ, "DATABASE_URL": self.database, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def ask(self) -> subprocess.Popen[bytes]:
        """Asks for all videos, and waits for them."""
        return self.start("ask.py", *(f"river number {number}" for number in range(JOBS)))

    def states(self) -> Counter[str]:
        """How many jobs the record has in each state."""
        with psycopg.connect(self.database) as connection:
            return Counter(state for (state,) in connection.execute("SELECT state FROM apixo.jobs"))

    def queued(self) -> int:
        """How many jobs PgQueuer has, carried ones included."""
        with psycopg.connect(self.database) as connection:
            return len(connection.execute("SELECT id FROM pgqueuer").fetchall())


@pytest.fixture
def place(
    tmp_path: Path, apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A directory with the programs of the page, and the tables of PgQueuer in a new database."""
    for block in blocks(PAGE):
        if block.language == "python":
            name = block.text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block.text, encoding="utf-8")
    with postgres_database() as database:
        install = [sys.executable, "-m", "pgqueuer", "install"]
        subprocess.run(install, env={**os.environ, "PGDSN": database}, check=True)
        place = Place(tmp_path, apixo_emulator, database)
        try:
            yield place
        finally:
            for process in place.processes:
                process.kill()
                process.wait()


def until(is_so: Callable[[], bool]) -> None:
    """Waits for something that processes do."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def all_made(asking: subprocess.Popen[bytes], place: Place) -> None:
    """Every video is there, and was paid once."""
    code = asking.wait(timeout=SECONDS)
    printed = (place.directory / "ask.py.log").read_text(encoding="utf-8")
    assert (code, printed.count(" succeeded http")) == (0, JOBS), printed
    assert place.ledger.billed == {f"river number {number}": 1 for number in range(JOBS)}


def test_a_killed_workers_jobs_are_carried_on_by_another(place: Place) -> None:
    """Once its heartbeat has stopped; what was running is waited for, and not sent again."""
    asking, first = place.ask(), place.start("worker.py")
    until(lambda: place.ledger.billed_total == JOBS == place.states()["accepted"])
    first.kill()
    place.start("worker.py")

    all_made(asking, place)


def test_jobs_are_shared_by_workers_and_go_to_others_when_one_leaves(place: Place) -> None:
    """SIGTERM: what is on its way is answered and recorded, and the worker ends at once."""
    workers = [place.start("worker.py") for _ in range(2)]
    asking = place.ask()
    until(lambda: place.ledger.billed_total >= JOBS // 2)
    workers[0].send_signal(signal.SIGTERM)

    assert workers[0].wait(timeout=SECONDS) == 0
    all_made(asking, place)
    until(lambda: place.queued() == 0)


def test_an_outage_of_the_database_ends_no_job(place: Place) -> None:
    """Workers begin anew by themselves, and every task that was accepted meanwhile is on record."""
    asking = place.ask()
    for _ in range(2):
        place.start("worker.py")
    until(lambda: place.ledger.billed_total >= JOBS // 2)
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        name = place.database.rpartition("/")[2]
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format
        connection.execute(allow(sql.Identifier(name), sql.Literal(False)))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        connection.execute(end, [name])
        time.sleep(2)
        connection.execute(allow(sql.Identifier(name), sql.Literal(True)))

    assert asking.wait(timeout=SECONDS) == 1  # it does not wait for a database: ask again
    all_made(place.ask(), place)


def test_what_was_added_and_never_put_into_the_queue_is_found(place: Place) -> None:
    """Whoever asked died in between; any worker finds it."""
    ask = place.directory / "ask.py"
    dies = ask.read_text().replace("await enqueue(connection, list(requests))", "os.abort()")
    ask.write_text(f"import os\n{dies}")
    worker = place.directory / "worker.py"
    worker.write_text(worker.read_text().replace('"* * * * *"', '"* * * * * */2"'))

    assert place.ask().wait(timeout=SECONDS) == -signal.SIGABRT
    assert place.states() == {"queued": JOBS}
    place.start("worker.py")
    until(lambda: place.states() == {"succeeded": JOBS})
    assert place.ledger.billed == {f"river number {number}": 1 for number in range(JOBS)}
