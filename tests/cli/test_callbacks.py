"""Callbacks on the command line: `--webhook-url` and what belongs to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import JobState, JournalReader, read_noted
from apixo_async.cli.callbacks import NO_NOTES, in_force
from apixo_async.cli.faults import Fault
from apixo_async.cli.options import WebhookOptions
from apixo_async.emulator import callbacks
from apixo_async.testing import EmulatorThread
from apixo_async.webhooks import reception
from tests.batch.journal.jobs import ACCEPTED, SENDING, job, opened
from tests.cli.conftest import Start, json_lines, run, wait_for
from tests.ports import kept_port

URL, PORT = "https://example.com/cb", 8443
ALL = "0.0.0.0"  # noqa: S104  # nobody listens
SECRET = "a secret of these tests alone"
SLOW = ("--first-poll", "60", "--poll-every", "30")
"""A schedule by which nothing would ever be seen to end."""


def options(
    url: str | None = None, port: int | None = None, host: str | None = None
) -> WebhookOptions:
    """What was said."""
    return WebhookOptions(webhook_url=url, webhook_port=port, webhook_host=host)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where callbacks are received, however long that takes."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", 30.0)
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 30.0)
    with kept_port() as port:
        yield port


def webhook(port: int) -> tuple[str, ...]:
    """The options for callbacks without a proxy."""
    return "--webhook-url", f"http://127.0.0.1:{port}/cb", "--webhook-port", str(port)


# What counts


@pytest.mark.parametrize("noted", [None, {}, dict(NO_NOTES)])
def test_without_an_address_there_are_none(noted: dict[str, object] | None) -> None:
    """Nothing is received unless somebody asked for it."""
    assert in_force(options(), noted, {}) is None


def test_what_was_said_is_noted_and_in_force_again() -> None:
    """With the same secret, so that callbacks of the first process find the second."""
    first = in_force(options(URL, PORT), None, {})
    assert first is not None
    again = in_force(options(), first.notes(), {})

    assert again == first
    assert (first.url, first.host, first.port) == (URL, "127.0.0.1", PORT)
    assert len(first.secrets[0]) >= 32


def test_what_is_said_now_comes_before_what_was_noted() -> None:
    """Each part by itself."""
    noted = {"webhook_url": "https://old.example", "webhook_port": 1, "webhook_host": ALL}
    found = in_force(options(url=URL), {**noted, "webhook_secret": SECRET}, {})

    assert found is not None
    assert (found.url, found.port, found.host, found.secrets) == (URL, 1, ALL, (SECRET,))


def test_none_forgets_what_was_noted() -> None:
    """The batch goes on by asking."""
    noted = {"webhook_url": URL, "webhook_port": PORT, "webhook_secret": SECRET}

    assert in_force(options(url="none"), noted, {}) is None


def test_a_secret_is_never_forgotten() -> None:
    """Callbacks of earlier runs find a later one, though it received nothing in between."""
    noted = {**NO_NOTES, "webhook_secret": SECRET}
    later = in_force(options(URL, PORT), noted, {})
    with_another = in_force(options(URL, PORT), noted, {"APIXO_WEBHOOK_SECRET": SECRET + "!"})

    assert "webhook_secret" not in NO_NOTES
    assert later is not None
    assert with_another is not None
    assert later.secrets == (SECRET,)
    assert with_another.secrets == (SECRET + "!", SECRET)


def test_a_secret_of_the_environment_is_not_noted() -> None:
    """It is where it belongs already."""
    found = in_force(options(URL, PORT), None, {"APIXO_WEBHOOK_SECRET": SECRET})

    assert found is not None
    assert found.secrets == (SECRET,)
    assert "webhook_secret" not in found.notes()
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (options(url=URL), "needs --webhook-port"),
        (options(port=PORT), "are for --webhook-url"),
        (options(host=ALL), "are for --webhook-url"),
    ],
)
def test_half_of_it_is_refused(given: WebhookOptions, words: str) -> None:
    """With a word on what is missing."""
    with pytest.raises(Fault, match=words):
        in_force(given, None, {})


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("http://example.com", SECRET, "--webhook-url must be HTTPS"),
        ("example.com", SECRET, "--webhook-url must be https://"),
        (URL, "short", "APIXO_WEBHOOK_SECRET must be"),
    ],
)
def test_what_cannot_work_is_refused_by_its_option(url: str, secret: str, words: str) -> None:
    """Before anything is sent."""
    found = in_force(options(url, PORT), None, {"APIXO_WEBHOOK_SECRET": secret})
    assert found is not None
    with pytest.raises(Fault, match=words):
        found.receiver(has_journal=True)


# Whole commands


@pytest.mark.apixo_emulator(speed=50.0, durations="5")
def test_a_batch_is_told_by_callbacks(
    apixo_emulator: EmulatorThread, prompts: Path, port: int
) -> None:
    """No schedule would have seen an end within the test."""
    result = run("batch", prompts, *SLOW, *webhook(port), "--json")

    assert result.exit_code == 0, result.output
    assert json_lines(result.stdout)[-1]["summary"]["succeeded"] == 4
    # Its thread may be behind, and a ledger is a copy.
    wait_for(lambda: apixo_emulator.ledger.callbacks["delivered"] == 4)
    assert apixo_emulator.ledger.requests.total() <= 8


@pytest.mark.apixo_emulator(speed=50.0, durations="5", faults={"submit_cut_after": 1.0})
def test_lost_answers_leave_no_doubt(
    apixo_emulator: EmulatorThread, prompts: Path, port: int
) -> None:
    """Every answer to a submit is lost, and every job succeeds."""
    result = run("batch", prompts, *SLOW, *webhook(port), "--json")

    assert result.exit_code == 0, result.output
    assert json_lines(result.stdout)[-1]["summary"]["succeeded"] == 4
    assert not apixo_emulator.ledger.billed_twice


@pytest.mark.apixo_emulator(speed=50.0, durations="5")
def test_a_port_that_is_taken_is_named(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path
) -> None:
    """And nothing is sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("batch", prompts, *SLOW, *webhook(port))

    assert result.exit_code == 2
    assert f"port {port}: " in result.output
    assert apixo_emulator.ledger.billed_total == 0


def under_way(db: Path) -> int:
    """How many jobs are not recorded as sent."""
    with JournalReader(db) as reader:
        states = reader.overview().states
    return states.get(JobState.QUEUED, 0) + states.get(JobState.SENDING, 0)


@pytest.mark.apixo_emulator(speed=30.0, durations="100", faults={"submit_cut_after": 0.5})
def test_a_killed_batch_is_resumed_with_its_receiver(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path, port: int, start: Start
) -> None:
    """Kill -9, then `apixo resume RUN.DB` alone: what was in doubt is found by its callback."""
    db = tmp_path / "run.db"
    process = start("batch", prompts, *SLOW, *webhook(port), "--journal", db)
    wait_for(lambda: apixo_emulator.ledger.billed_total == 4)
    wait_for(lambda: not under_way(db))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = run("resume", db, "--json")

    assert result.exit_code == 0, result.output
    assert json_lines(result.stdout)[-1]["summary"]["succeeded"] == 4
    assert "as noted in" in result.stderr
    assert not apixo_emulator.ledger.billed_twice


@pytest.mark.apixo_emulator(speed=50.0, durations="5")
def test_the_secret_is_in_no_output(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path, port: int
) -> None:
    """The journal keeps it, and nobody shows it."""
    db = tmp_path / "run.db"
    batch = run("batch", prompts, *SLOW, *webhook(port), "--journal", db, "-vv")
    secret = str(read_noted(db).options["webhook_secret"])
    shown = [run("show", db), run("show", db, "--json"), run("export", db), run("resume", db)]

    assert apixo_emulator.ledger.billed_total == 4
    assert len(secret) >= 32
    assert not any(secret in result.output for result in [batch, *shown])


def test_a_second_task_of_a_job_is_shown(tmp_path: Path) -> None:
    """By `apixo show`, for people and for programs, with what to do about it."""
    db = tmp_path / "run.db"
    asyncio.run(doubled_job(db))
    text, found = run("show", db), json.loads(run("show", db, "--json").stdout)

    assert "k: task t1; callbacks or broken answers name t2, too" in text.stdout
    assert "each may be billed" in text.stdout
    assert found["doubled"] == 1
    assert found["doubled_jobs"] == [
        {"key": "k", "task_id": "t1", "other_task_ids": ["t2"], "open_attempt": None}
    ]


async def doubled_job(db: Path) -> None:
    """A job whose URL was called with another task than the one that answered."""
    async with opened(db) as journal:
        entry = journal.enqueue(job())
        for event in (SENDING, ACCEPTED, events.CalledBack(key="k", attempt=1, task_id="t2")):
            await journal.record(entry.number, event)
