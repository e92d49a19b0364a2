from __future__ import annotations

import json
from pathlib import Path

import pytest

from apixo_async.batch import carrying
from apixo_async.testing import EmulatorThread
from tests.cli.conftest import FAST, json_lines, run

QUICK = {"speed": 50.0, "durations": "5"}


@pytest.mark.apixo_emulator(**QUICK)
def test_a_batch_prints_urls_with_their_keys(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """Without a directory each line of output is a key and a URL; totals go to stderr."""
    result = run("batch", prompts, *FAST)

    found = dict(line.split("\t") for line in result.stdout.splitlines())
    assert result.exit_code == 0
    assert sorted(found) == ["a", "b", "c", "d"]
    assert all(url.startswith(apixo_emulator.base_url) for url in found.values())
    assert "\n4 jobs = 4 succeeded + 0 failed + 0 uncertain + 0 timed out" in result.stderr


@pytest.mark.apixo_emulator(**QUICK)
def test_a_batch_saves_videos_under_their_keys(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path
) -> None:
    """Every file is named by its job's key and can be played."""
    videos = tmp_path / "deep" / "videos"

    result = run("batch", prompts, *FAST, "--save-to", videos)

    assert result.exit_code == 0
    assert sorted(path.name for path in videos.iterdir()) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert all(path.read_bytes()[4:8] == b"ftyp" for path in videos.iterdir())
    assert f"4 files in {videos}" in result.stdout


@pytest.mark.apixo_emulator(**QUICK)
def test_json_has_a_line_for_each_job_and_a_summary(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path
) -> None:
    """Programs get every outcome as it comes, with all fields, and totals that add up."""
    result = run("batch", prompts, *FAST, "--json", "--save-to", tmp_path)

    *outcomes, last = json_lines(result.stdout)
    by_key = {outcome["key"]: outcome for outcome in outcomes}
    tasks = {task["id"] for task in apixo_emulator.tasks()}
    assert sorted(by_key) == ["a", "b", "c", "d"]
    assert {outcome["task_id"] for outcome in outcomes} == tasks
    one = by_key["b"]
    names = (
        "completed_at created_at duration error files key metadata mode model status task_id urls"
    )
    assert sorted(one) == names.split()
    assert one["metadata"] == {"of": "b"}
    assert one["files"][0]["size"] == (tmp_path / "b.mp4").stat().st_size
    summary = last["summary"]
    parts = ("succeeded", "failed", "uncertain", "timed_out", "not_started", "still_running")
    assert sum(summary[part] for part in parts) == summary["jobs"] == 4
    assert summary["exit_code"] == result.exit_code == 0


@pytest.mark.apixo_emulator(**QUICK, faults={"content_violation": 1})
def test_failures_are_grouped_by_reason(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """Each failure has a line when it happens, and the end says how often which reason came."""
    result = run("batch", prompts, *FAST)

    assert result.exit_code == 1
    lines, end = result.stderr.split("failed: 4 x CONTENT_VIOLATION")
    assert lines.count("failed: ") == 4
    assert "failed: " not in end


@pytest.mark.apixo_emulator(**QUICK, faults={"submit_500_after": 1})
def test_uncertain_jobs_exit_with_3(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """Uncertain jobs are reported with what to do, and none is sent twice."""
    result = run("batch", prompts, *FAST)

    assert result.exit_code == 3
    assert "+ 4 uncertain +" in result.stderr
    assert "not sent again" in result.stderr
    assert apixo_emulator.ledger.billed_twice == []


@pytest.mark.apixo_emulator(**QUICK, faults={"never_ending": 1})
def test_timed_out_tasks_can_be_waited_for_again(
    apixo_emulator: EmulatorThread, prompts: Path
) -> None:
    """Each task that took too long is named with the command that goes on waiting."""
    result = run("batch", prompts, *FAST, "--deadline", "0.3")

    assert result.exit_code == 1
    for task in apixo_emulator.tasks():
        assert f"apixo wait {task['id']}" in result.stderr


@pytest.mark.apixo_emulator(**QUICK, result_lifetime=0.001)
def test_videos_that_could_not_be_saved_count_as_trouble(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path
) -> None:
    """Done but not saved exits with 1 and tells how to download again; nothing is paid again."""
    result = run("batch", prompts, *FAST, "--save-to", tmp_path / "videos")

    assert result.exit_code == 1
    assert "not saved: 4 x finished, but not saved (gone)" in result.stdout
    assert result.stderr.count("apixo download ") == 4
    assert apixo_emulator.ledger.billed_total == 4


def test_a_refused_key_stops_the_batch(
    apixo_emulator: EmulatorThread, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key ends with 4 at once: no job is started and none is lost."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_wrong")

    result = run("batch", prompts, *FAST)

    assert result.exit_code == 4
    assert "+ 4 not started," in result.stderr
    assert "APIXO_API_KEY" in result.stderr


@pytest.mark.apixo_emulator(**QUICK, balance=0.5)
def test_an_empty_balance_stops_the_batch(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """When the money is gone the batch ends with 4 and says so."""
    result = run("batch", prompts, *FAST, "--concurrent-tasks", "1")

    assert result.exit_code == 4
    assert "stopped early because the balance is empty" in result.stderr


def test_an_unreachable_host_stops_the_batch(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that cannot be reached is named, and all jobs count as not started."""
    monkeypatch.setenv("APIXO_API_KEY", "test-key")
    monkeypatch.setattr(carrying, "PATIENCE_AT_START", 0.01)

    result = run("batch", prompts, "--base-url", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "cannot reach 127.0.0.1:1" in result.stderr
    assert "+ 4 not started," in result.stderr


def test_a_bad_file_is_reported_in_full_and_nothing_is_sent(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """Every problem has a line `file:line: field: rule`; good lines are not sent either."""
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "good"}\n{"prompt": "", "mode": "slow"}\n{\n')

    result = run("batch", path)

    assert result.exit_code == 2
    *found, _ = result.stderr.splitlines()
    assert [line.rsplit(":", 1)[0] for line in found[:2]] == [
        f"{path}:2: prompt",
        f"{path}:2: mode",
    ]
    assert found[2].startswith(f"{path}:3: is not JSON")
    assert "3 problems" in result.stderr
    assert apixo_emulator.ledger.requests_total == 0


def test_a_missing_key_is_told_before_anything_is_sent(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch without a key ends with 2."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)

    result = run("batch", prompts)

    assert result.exit_code == 2
    assert "APIXO_API_KEY" in result.stderr


@pytest.mark.apixo_emulator(**QUICK)
def test_max_jobs_takes_the_first(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """Only so many jobs are run, from the top of the file."""
    result = run("batch", prompts, *FAST, "--max-jobs", "2")

    assert result.exit_code == 0
    assert sorted(apixo_emulator.ledger.billed) == ["prompt a", "prompt b"]


@pytest.mark.parametrize("given", ['{"prompt": "one"}\n{"prompt": "two"}\n', "one\n\ntwo\n"])
@pytest.mark.apixo_emulator(**QUICK)
def test_a_batch_can_come_from_standard_input(apixo_emulator: EmulatorThread, given: str) -> None:
    """`-` reads JSONL or plain prompts from standard input."""
    result = run("batch", "-", *FAST, input=given)

    assert result.exit_code == 0
    assert sorted(apixo_emulator.ledger.billed) == ["one", "two"]


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that is not there, or none, ends with 2 and one line."""
    result = run("batch", tmp_path / name)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: cannot read {tmp_path / name}")


def test_a_directory_that_cannot_be_made_is_told_before_anything_is_sent(
    apixo_emulator: EmulatorThread, prompts: Path
) -> None:
    """Nothing is paid for when the videos could not be saved."""
    result = run("batch", prompts, "--save-to", prompts / "videos")

    assert result.exit_code == 2
    assert "cannot save to" in result.stderr
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.apixo_emulator(**QUICK)
def test_keys_and_messages_cannot_steer_the_terminal(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """A key with an escape sequence is refused, and shown harmlessly."""
    path = tmp_path / "evil.jsonl"
    path.write_text(json.dumps({"prompt": "a", "\x1b[2J": 1}) + "\n")

    result = run("batch", path)

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_a_journal_that_is_none_is_refused_before_anything_is_sent(
    prompts: Path, tmp_path: Path
) -> None:
    """The exit code is that of wrong usage, and the file stays as it is."""
    foreign = tmp_path / "notes.txt"
    foreign.write_text("notes of mine")
    environment = {"APIXO_API_KEY": "apx_CANARY_test"}
    given = ("--journal", foreign, "--base-url", "http://127.0.0.1:9")

    result = run("batch", prompts, *given, env=environment)

    assert result.exit_code == 2
    assert "is not a journal" in result.stderr
    assert "nothing was sent" in result.stderr
    assert foreign.read_text() == "notes of mine"


def test_a_cap_needs_the_price_of_every_job(prompts: Path) -> None:
    """It is told before anything is sent which price is missing."""
    result = run("batch", prompts, "--max-cost", "1", "--price", "fast=0.2", "--emulator")

    assert result.exit_code == 2
    assert "quality" in result.stderr
