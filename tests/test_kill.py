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

    def prompts(self, *states: str) -> set[str]:
        """Of the jobs in one of these states, or of all."""
        rows = self._rows("SELECT state, request FROM jobs")
        requests = (json.loads(str(text)) for state, text in rows if not states or state in states)
        return {request["input"]["prompt"] for request in requests}

    def names(self) -> list[str]:
        """Of the files that are there, whole or not."""
        directory = self.directory / "videos"
        return [path.name for path in directory.iterdir()] if directory.exists() else []

    def saved(self) -> int:
        """How many files are on record under their names."""
        ((count,),) = self._rows("SELECT count(*) FROM files WHERE is_named")
        return int(str(count))

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
        files = self.names()
        assert not [name for name in files if name.endswith(".part") or "~" in name]
        assert len(files) == states["succeeded"]


def check_point(batch: Batch, label: str, times: int) -> None:
    """What is on record of the job that came to this point as the last of so many, and died there.

    Every other job that came so far has passed the same point, or is no further.
    """
    states, seen = batch.states(), batch.emulator.ledger.submits_seen
    unsent, known = batch.prompts("queued"), len(batch.task_ids())
    assert not unsent & set(seen)  # nothing has left before its record
    match label:
        case "K1":
            assert states == {"queued": JOBS}
        case "K2":  # the very job has sent nothing
            assert JOBS - len(unsent) >= times
            assert len(seen) < JOBS - len(unsent)
        case "K3":
            assert JOBS - len(unsent) >= times
        case "K4" | "K5":  # the very job's task is there, and its id is not on record
            assert len(seen) >= times
            assert known < times
            assert set(seen) & batch.prompts("sending")
        case "K6":
            assert known >= times
            assert batch.in_doubt() <= min(POSTS_IN_FLIGHT, JOBS - times)
        case "K7":
            assert states["accepted"] >= 1
            assert states.get("succeeded", 0) < times
        case "K8":
            assert states["succeeded"] >= times
        case "K9":
            assert [name for name in batch.names() if name.endswith(".part")]
        case _:
            whole = [name for name in batch.names() if name.endswith(".mp4")]
            assert len(whole) >= times > batch.saved()


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
    if label == "K0":
        assert not batch.journal.exists() or not batch.jobs()
        assert not emulator.ledger.submits_seen
        known, sending = set[str](), set[str]()
    else:
        check_point(batch, label, times)
        known, sending = batch.task_ids(), batch.prompts("sending")
    batch.finish()

    assert code == KILLED
    assert known <= batch.task_ids()
    assert batch.prompts("uncertain") == sending
    batch.check(uncertain=len(sending))
    if label in {"K4", "K5"}:
        assert emulator.ledger.billed_total > batch.states()["succeeded"]


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
