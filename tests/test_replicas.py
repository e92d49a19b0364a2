"""What `benchmarks.replicas` says of a run: the judge is judged with ledgers that never were."""

import importlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import pytest

from apixo_async import Job, TextToVideo
from apixo_async.batch.journal import Entry, JobState

# The benchmarks are no part of what is installed, so that tests find them by their place only.
with mock.patch.object(sys, "path", [*sys.path, str(Path(__file__).parents[1])]):
    judging: Any = importlib.import_module("benchmarks._replicas_judge")
    watch: Any = importlib.import_module("benchmarks._replicas_watch")


def entry(key: str, state: JobState, task_id: str | None = None) -> Entry:
    """A job as the ledger has it."""
    queued = Entry.new(1, Job(TextToVideo(key), key=key), at=datetime(2026, 1, 1, tzinfo=UTC))
    return attrs.evolve(queued, state=state, task_id=task_id)


def judged(
    entries: Sequence[Entry], *billed: tuple[str, str]
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What is doubled, lost and stuck, the emulator having billed these prompts as these tasks."""
    tasks = [{"prompt": prompt, "id": task} for prompt, task in billed]
    found = judging.judge(entries, tasks)
    return found.doubled, found.lost, found.stuck


@pytest.mark.parametrize(
    ("entries", "billed"),
    [
        pytest.param([entry("a", JobState.SUCCEEDED, "t1")], [("a", "t1")], id="its task"),
        pytest.param([entry("a", JobState.UNCERTAIN)], [("a", "t1")], id="uncertain, billed"),
        pytest.param([entry("a", JobState.UNCERTAIN)], [], id="uncertain, not billed"),
        pytest.param([entry("a", JobState.REJECTED)], [], id="never accepted"),
    ],
)
def test_what_emulator_and_ledger_agree_on_is_fine(
    entries: list[Entry], billed: list[tuple[str, str]]
) -> None:
    """Every billed task is its job's, or the job is stated uncertain."""
    assert judged(entries, *billed) == ([], [], [])


def test_a_prompt_that_was_billed_twice_is_doubled() -> None:
    """The second task is nobody's, too."""
    doubled, lost, _ = judged([entry("a", JobState.SUCCEEDED, "t1")], ("a", "t1"), ("a", "t2"))

    assert doubled == ["a as t1, t2"]
    assert len(lost) == 1


@pytest.mark.parametrize(
    ("entries", "billed"),
    [
        pytest.param([entry("a", JobState.REJECTED)], [("a", "t1")], id="said to be refused"),
        pytest.param([entry("a", JobState.SUCCEEDED, "t2")], [("a", "t1")], id="another task"),
        pytest.param([entry("a", JobState.SUCCEEDED, "t2")], [], id="a task that never was"),
        pytest.param([], [("a", "t1")], id="no job"),
    ],
)
def test_a_billed_task_that_is_not_its_jobs_is_lost(
    entries: list[Entry], billed: list[tuple[str, str]]
) -> None:
    """So is a task that is recorded and was never billed."""
    doubled, lost, stuck = judged(entries, *billed)

    assert (doubled, stuck) == ([], [])
    assert lost


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.SENDING, JobState.ACCEPTED])
def test_a_job_that_has_not_ended_is_stuck(state: JobState) -> None:
    """Nobody carries it any more when the judge looks."""
    assert judged([entry("a", state)])[2] == [f"a is {state}"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://postgres@127.0.0.1:5432/test", "postgresql://postgres@127.0.0.1:5432/x"),
        ("postgresql://u:p@host/a?sslmode=require", "postgresql://u:p@host/x?sslmode=require"),
        ("postgres://host", "postgresql://host/x"),
    ],
)
def test_another_database_of_a_server_has_the_same_url_otherwise(url: str, expected: str) -> None:
    """Host, user, password and options stay."""
    assert watch.with_database(url, "x") == expected
