"""The simulations among the benchmarks, as anyone runs them, but small."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests import services

ROOT = Path(__file__).parents[1]
# The benchmarks are no part of what is installed, so that tests find them by their place only.
with mock.patch.object(sys, "path", [*sys.path, str(ROOT)]):
    programs: Any = importlib.import_module("benchmarks._replicas_postgres").programs


def run(name: str, file: Path, *options: str) -> tuple[int, Any]:
    """The exit code of a benchmark and the figures that it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_documented_schedule_stays_near_the_bound_and_within_the_limits(tmp_path: Path) -> None:
    """Nothing beats the bound; 300 jobs on 1,000 slots end within the longest of them and 20 %."""
    code, rows = run("makespan", tmp_path / "rows.json", "--jobs", "300", "--only", "documented")

    assert code == 0
    assert [row["mix"] for row in rows] == ["one hump", "two modes", "stragglers"]
    assert all(1 < row["over_bound"] < 1.2 for row in rows)
    assert all(row["measured"]["jobs"] == 300 for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_of_a_short_task_needs_at_least_two_requests(tmp_path: Path) -> None:
    """A submit and a look; none is refused."""
    options = ("--jobs", "300", "--only", "5 s + 1 s")

    code, rows = run("short_tasks", tmp_path / "rows.json", *options)

    assert code == 0
    assert all(2 <= row["measured"]["requests_per_job"] < 3 for row in rows)
    assert not any(row["measured"]["refused"] for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clients_that_know_the_limits_of_a_small_account_meet_no_429(tmp_path: Path) -> None:
    """They finish most of what the slots allow, and never more."""
    _, stories = run("small_account", tmp_path / "stories.json")
    knowing = [story for story in stories if story["client"].startswith("set ")]

    minutes = [minute for story in knowing for minute in story["minutes"]]
    assert len(minutes) == 80
    assert not any(minute["refused"] for minute in minutes)
    assert all(minute["jobs"] <= minute["jobs_allowed"] for minute in minutes)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    """Of 500 jobs with faults each has an outcome; nothing is left open, nothing billed twice."""
    options = ("--jobs", "500", "--slots", "50", "--speed", "40")

    code, figures = run("soak", tmp_path / "figures.json", *options)

    assert code == 0
    assert sum(figures["outcomes"].values()) == 500
    assert figures["outcomes"]["succeeded"] > 250
    assert sum(figures["ledger"]["faults"].values()) > 25
    assert figures["asyncio_complaints"] == figures["differences"] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_replicas_hold_together_in_small(tmp_path: Path) -> None:
    """All six cases, each with one fault: nothing is paid twice, lost or stuck, no limit broken."""
    if programs() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no initdb: install PostgreSQL")
    with services.redis_prefix():  # a clear word if there is no Redis
        code, rows = run("replicas", tmp_path / "rows.json", "--quick", "--redis", services.REDIS)

    assert code == 0
    assert [row["case"] for row in rows] == [1, 2, 3, 4, 5, 6, 6]
    assert not any(row["complaints"] for row in rows)
    assert [row["figures"]["jobs"] for row in rows[:5]] == [60, 50, 50, 50, 50]
