"""Thousands of jobs that are called back over real sockets, with all that can go wrong."""

import asyncio
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import attrs
import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Job,
    LearnedSchedule,
    Limits,
    OutcomeStatus,
    TextToVideo,
    WebhookReceiver,
)
from apixo_async.emulator import EmulatorSettings, callbacks
from apixo_async.emulator.callbacks import FORGED_URL
from apixo_async.testing import EmulatorThread
from apixo_async.webhooks import reception
from tests.ports import kept_port
from tests.thorough import at_most

SPEED = 60
SCHEDULE = LearnedSchedule(
    first=90 / SPEED, interval=5 / SPEED, shortest=1 / SPEED, deadline=1800 / SPEED
)
SLOW = 12
"""For batches that are killed: APIXO calls again for three and a half minutes, and in the
seventeen seconds that are left of those a process has to be up again."""
UNKIND = {
    "callback_lost": 0.2,
    "callback_doubled": 0.2,
    "callback_early": 0.05,
    "callback_forged": 0.1,
    "callback_reordered": 0.1,
}
LONG = [pytest.mark.slow, pytest.mark.timeout(300)]
few_and_many = pytest.mark.parametrize(
    "count", [200, pytest.param(at_most(2_000, 5_000), marks=LONG)]
)


def receiver_at(port: int) -> WebhookReceiver:
    """A receiver without a proxy in front of it."""
    return WebhookReceiver(f"http://127.0.0.1:{port}", secret="a secret of the tests alone")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where callbacks are received, however long that takes."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", 30.0)
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 30.0)
    with kept_port() as port:
        yield port


def jobs(count: int) -> list[Job]:
    """So many different jobs."""
    return [Job(TextToVideo(f"prompt {n}", mode="fast"), key=f"k{n}") for n in range(count)]


def client_of(emulator: EmulatorThread, receiver: WebhookReceiver) -> ApixoClient:
    """A client on the emulator's clock."""
    return ApixoClient(
        emulator.api_key,
        base_url=emulator.base_url,
        limits=Limits(requests_per_minute=10_000 * SPEED),
        schedule=SCHEDULE,
        webhook=receiver,
    )


@asynccontextmanager
async def guessing(port: int) -> AsyncIterator[list[int]]:
    """Somebody tries URLs meanwhile; gives the answers."""
    answers: list[int] = []

    async def guess() -> None:
        rng = random.Random(1)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while True:
                token = f"k{rng.randrange(99)}.1.{rng.getrandbits(104):026x}"
                body = {"data": {"taskId": "t", "state": "success"}}
                async with session.post(f"/{token}", json=body) as response:
                    answers.append(response.status)
                await asyncio.sleep(0.01)

    guesser = asyncio.create_task(guess())
    try:
        yield answers
    finally:
        guesser.cancel()


@few_and_many
async def test_all_outcomes_are_right_however_callbacks_come(
    count: int, port: int, tmp_path: Path
) -> None:
    """Lost, doubled, early, out of order, forged: nothing is paid twice, no forged one counts."""
    settings = EmulatorSettings(speed=SPEED, seed=6, faults=UNKIND)
    receiver = receiver_at(port)
    with EmulatorThread(settings) as emulator:
        async with (
            receiver.serve(port=port),
            guessing(port) as guesses,
            client_of(emulator, receiver) as client,
        ):
            runner = BatchRunner(client, journal=tmp_path / "run.db", schedule=SCHEDULE)
            report = await runner.run(jobs(count))
            ledger = emulator.ledger  # of what was sent while somebody listened

    assert report.counts[OutcomeStatus.SUCCEEDED] == count
    assert all(outcome.task and FORGED_URL not in outcome.task.urls for outcome in report.outcomes)
    assert len({outcome.task.id for outcome in report.outcomes if outcome.task}) == count
    assert not ledger.billed_twice
    assert ledger.billed_total == count
    assert set(guesses) == {404}
    assert receiver.statistics().forged >= len(guesses) + ledger.callbacks["forged"] // 2 > 0


@few_and_many
async def test_lost_answers_are_all_made_up_for(count: int, port: int, tmp_path: Path) -> None:
    """One submit in ten is accepted and then cut: every job succeeds, and is paid for once."""
    faults = {"submit_cut_after": 0.1}
    receiver = receiver_at(port)
    with EmulatorThread(EmulatorSettings(speed=SPEED, seed=7, faults=faults)) as emulator:
        async with receiver.serve(port=port), client_of(emulator, receiver) as client:
            runner = BatchRunner(client, journal=tmp_path / "run.db", schedule=SCHEDULE)
            report = await runner.run(jobs(count))
        ledger = emulator.ledger

    assert report.counts[OutcomeStatus.SUCCEEDED] == count
    assert ledger.faults["submit_cut_after"] > count // 20
    assert not ledger.billed_twice
    assert ledger.billed_total == count


# Killed in between


@attrs.frozen
class Batch:
    """A batch of the command line with callbacks, to be killed."""

    directory: Path
    emulator: EmulatorThread
    port: int

    def start(self) -> "subprocess.Popen[bytes]":
        """Begins, or goes on with the journal alone once it has all jobs."""
        verb = ["resume", "run.db"]
        if not (self.directory / "run.db").exists() or not self.states():
            url = f"http://127.0.0.1:{self.port}/cb"
            verb = ["batch", "prompts.txt", "--journal", "run.db"]
            verb += ["--webhook-url", url, "--webhook-port", str(self.port)]
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "apixo_async.cli", *verb, "--json"),
                *("--base-url", self.emulator.base_url, "--deadline", "45"),
                *("--first-poll", str(90 / SLOW), "--poll-every", str(5 / SLOW)),
                *("--requests-per-minute", str(10_000 * SLOW), "--concurrent-tasks", "200"),
            ],
            cwd=self.directory,
            env={**os.environ, "APIXO_API_KEY": self.emulator.api_key},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_until_called(self, process: "subprocess.Popen[bytes]") -> None:
        """Returns once the process can be called back."""
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def states(self) -> list[tuple[str, str]]:
        """Prompts and where their jobs stand."""
        with sqlite3.connect(f"file:{self.directory}/run.db?mode=ro", uri=True) as database:
            rows = database.execute("SELECT request, state FROM jobs").fetchall()
        return [(json.loads(request)["input"]["prompt"], state) for request, state in rows]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
def test_lost_answers_are_made_up_for_through_kills(seed: int, port: int, tmp_path: Path) -> None:
    """Kill -9 again and again: all that was accepted succeeds, and nothing is paid for twice."""
    count, kills = 400, 4
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {n} of all\n" for n in range(count)))
    moments = random.Random(seed)
    settings = EmulatorSettings(speed=SLOW, seed=seed, faults={"submit_cut_after": 0.1})
    with EmulatorThread(settings) as emulator:
        batch = Batch(tmp_path, emulator, port)
        process = batch.start()
        for _ in range(kills):
            batch.wait_until_called(process)
            time.sleep(moments.uniform(2.0, 4.0))
            process.kill()
            process.communicate()
            process = batch.start()
        _, errors = process.communicate(timeout=200)
        ledger = emulator.ledger

    assert process.returncode in {0, 3}, errors.decode()
    assert not ledger.billed_twice
    states = batch.states()
    assert len(states) == count
    # What was recorded as on its way and was killed before it left stays a doubt: no callback can
    # tell of a task that does not exist.
    assert {state for prompt, state in states if ledger.billed[prompt]} == {"succeeded"}
    assert Counter(state for _, state in states)["succeeded"] == ledger.billed_total
