"""Kill -9 at every labelled point and at any moment: the emulator's ledger is the judge."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from apixo_async._killpoints import LABELS
from apixo_async.emulator import EmulatorSettings
from apixo_async.testing import EmulatorThread
from tests.thorough import at_most

SPEED = 100
JOBS = 40
POSTS_IN_FLIGHT = 32
SLOTS = 60
ROUNDS = at_most(10, 20)
MANY = 1_000
KILLED = -signal.SIGKILL


@pytest.fixture
def emulator() -> Iterator[EmulatorThread]:
    """An emulator whose tasks take about a second."""
    with EmulatorThread(EmulatorSettings(speed=SPEED, seed=5)) as emulator:
        yield emulator


@attrs.frozen
class Batch:
    """A batch in a directory of its own, run by child processes."""

    directory: Path
    emulator: EmulatorThread

    @property
    def journal(self) -> Path:
        return self.directory / "run.db"

    def write_input(self, jobs: int = JOBS) -> None:
        lines = (f"prompt {number} of this batch\n" for number in range(jobs))
        (self.directory / "prompts.txt").write_text("".join(lines))

    def command(self, *arguments: str) -> list[str]:
        # Fewer slots than jobs, so that there is always something left to submit.
        return [
            sys.executable,
            *("-m", "apixo_async.cli", *arguments),
            *("--base-url", self.emulator.base_url, "--json"),
            *("--first-poll", str(90 / SPEED), "--poll-every", str(5 / SPEED)),
            *("--requests-per-minute", str(10_000 * SPEED), "--concurrent-tasks", str(SLOTS)),
        ]

    def start(
        self, *, resume: bool = False, kill_at: str = "", keep_output: bool = False
    ) -> subprocess.Popen[bytes]:
        verb = ("resume", "run.db") if resume else ("batch", "prompts.txt", "--journal", "run.db")
        return subprocess.Popen(
            self.command(*verb, "--save-to", "videos"),
            cwd=self.directory,
            env={
                **os.environ,
                "APIXO_API_KEY": self.emulator.api_key,
                "APIXO_TEST_KILL_AT": kill_at,
            },
            stdout=subprocess.PIPE if keep_output else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, *, resume: bool = False, kill_at: str = "") -> int:
        process = self.start(resume=resume, kill_at=kill_at)
        _, errors = process.communicate(timeout=120)
        assert b"Traceback" not in errors, errors.decode()
        return process.returncode

    def finish(self) -> None:
        """Resumes until done; a batch that was killed before it was recorded is run again."""
        code = self.run(resume=self.journal.exists() and self.jobs() == JOBS)
        assert code in {0, 3}

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()

    def jobs(self) -> int:
        (row,) = self._rows("SELECT count(*) FROM jobs")
        return int(str(row[0]))

    def states(self) -> Mapping[str, int]:
        return Counter(str(row[0]) for row in self._rows("SELECT state FROM jobs"))

    def task_ids(self) -> set[str]:
        return {str(row[0]) for row in self._rows("SELECT task_id FROM jobs WHERE task_id > ''")}

    def in_doubt(self) -> int:
        return self.states().get("sending", 0) + self.states().get("uncertain", 0)

    def check(self, *, uncertain: int, jobs: int = JOBS) -> None:
        """Nothing billed twice, nothing known lost, every job in a stated outcome."""
        ledger = self.emulator.ledger
        states = self.states()
        assert not ledger.billed_twice
        assert set(states) <= {"succeeded", "uncertain"}
        assert sum(states.values()) == jobs
        assert states.get("uncertain", 0) <= uncertain
        billed = ledger.billed_total
        assert states["succeeded"] <= billed <= states["succeeded"] + states.get("uncertain", 0)
        files = [path.name for path in (self.directory / "videos").iterdir()]
        assert not [name for name in files if name.endswith(".part") or "~" in name]
        assert len(files) == states["succeeded"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("times", [1, 7])
@pytest.mark.parametrize("label", LABELS)
def test_a_batch_killed_at_a_point_goes_on_where_it_was(
    label: str, times: int, tmp_path: Path, emulator: EmulatorThread
) -> None:
    """Only what was on its way is uncertain; everything else is finished and paid once."""
    batch = Batch(tmp_path, emulator)
    batch.write_input()
    once = label in {"K0", "K1"}

    code = batch.run(kill_at=label if once else f"{label}:{times}")
    known = batch.task_ids()
    batch.finish()

    assert code == KILLED
    assert known <= batch.task_ids()
    batch.check(uncertain=POSTS_IN_FLIGHT if label in {"K2", "K3", "K4", "K5", "K6"} else 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(at_most(3, 10)))
def test_a_batch_killed_again_and_again_never_pays_twice(
    seed: int, tmp_path: Path, emulator: EmulatorThread
) -> None:
    """At any moment under load: at most the POSTs in flight become uncertain, nothing else."""
    batch = Batch(tmp_path, emulator)
    batch.write_input(MANY)
    moments = random.Random(seed)
    known: set[str] = set()
    in_doubt, kills = 0, 0
    process = batch.start()
    errors = b""
    while kills < ROUNDS:
        time.sleep(moments.uniform(0.6, 1.6))
        process.kill()
        _, errors = process.communicate()
        if process.returncode != KILLED:  # the batch was done before
            break
        kills += 1
        if batch.journal.exists() and batch.jobs():
            assert known <= batch.task_ids()
            known = batch.task_ids()
            assert batch.in_doubt() - in_doubt <= POSTS_IN_FLIGHT
            in_doubt = batch.in_doubt()
        process = batch.start(resume=batch.journal.exists() and batch.jobs() == MANY)
    else:
        _, errors = process.communicate(timeout=120)

    assert process.returncode in {0, 3}, errors.decode()
    assert known <= batch.task_ids()
    batch.check(uncertain=kills * POSTS_IN_FLIGHT, jobs=MANY)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_leaves_nothing_in_doubt_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path, emulator: EmulatorThread
) -> None:
    """Submits in flight are answered and written; the command that is printed finishes the rest."""
    batch = Batch(tmp_path, emulator)
    batch.write_input(MANY)
    process = batch.start(keep_output=True)
    while not emulator.ledger.billed_total > SLOTS // 2:
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    summary = json.loads(output.splitlines()[-1])["summary"]

    assert process.returncode == 128 + number, errors.decode()
    assert summary["resume"] == f"apixo resume run.db --base-url {emulator.base_url}"
    assert batch.in_doubt() == 0
    assert len(batch.task_ids()) == emulator.ledger.billed_total
    assert batch.run(resume=True) == 0
    batch.check(uncertain=0, jobs=MANY)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_second_signal_is_no_worse_than_a_kill(tmp_path: Path, emulator: EmulatorThread) -> None:
    """It ends at once; what was on its way is uncertain, and everything else goes on."""
    batch = Batch(tmp_path, emulator)
    batch.write_input(MANY)
    process = batch.start()
    while not emulator.ledger.billed_total > SLOTS // 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert batch.in_doubt() <= POSTS_IN_FLIGHT
    assert batch.run(resume=True) in {0, 3}
    batch.check(uncertain=POSTS_IN_FLIGHT, jobs=MANY)
