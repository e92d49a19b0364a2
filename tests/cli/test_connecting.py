from __future__ import annotations

import asyncio
import pickle
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async import Job, LearnedSchedule, PollSchedule, Task, TextToVideo
from apixo_async.batch.journal import Journal
from apixo_async.cli.connecting import connected
from apixo_async.cli.options import Options
from apixo_async.client.engine import Engine
from apixo_async.limits import Gate
from apixo_async.testing import EmulatorThread
from tests.cli.conftest import FAST, run

CANARY = "apx_CANARY_0123456789"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file with the key of the test's emulator that only its owner can read."""
    path = tmp_path / "key"
    path.write_text("test-key\n")
    path.chmod(0o600)
    return path


def test_a_missing_key_is_named_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key every command says which variable to set and exits with 2."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)

    for arguments in (["balance"], ["generate", "a"], ["status", "t"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "APIXO_API_KEY" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "takes"),
    [(["balance"], False), (["status", "t"], False), (["generate", "a"], True)],
)
def test_an_emulator_is_offered_only_where_there_can_be_one(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], takes: bool
) -> None:
    """Who has no key is not sent to an option that the command refuses."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)

    assert ("--emulator" in run(*arguments).stderr) is takes


def test_a_bad_address_names_the_help_of_its_own_command() -> None:
    """Not that of another one."""
    result = run("balance", "--base-url", "ftp://x")

    assert result.exit_code == 2
    assert "apixo balance --help" in result.stderr


@pytest.mark.writes_key("files", reason="a file with the key is the input")
def test_the_key_can_come_from_a_private_file(
    apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, key_file: Path
) -> None:
    """A key file wins over the environment."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_wrong")

    assert run("balance", "--api-key-file", key_file).exit_code == 0


@pytest.mark.writes_key("files", reason="a file with the key is the input")
def test_a_key_file_that_others_can_read_is_refused(
    apixo_emulator: EmulatorThread, key_file: Path
) -> None:
    """The refusal says which command makes the file private, and nothing is sent."""
    key_file.chmod(0o640)

    result = run("balance", "--api-key-file", key_file)

    assert result.exit_code == 2
    assert f"chmod 600 {key_file}" in result.stderr
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_refused(key_file: Path, content: bytes) -> None:
    """An empty or unreadable key file ends with 2."""
    key_file.write_bytes(content)

    assert run("balance", "--api-key-file", key_file).exit_code == 2


@pytest.mark.writes_key("output", reason="an address is shown as it was typed")
@pytest.mark.writes_key("files", reason="a file with the key is the input")
def test_what_connects_can_be_dumped(key_file: Path) -> None:
    """A connection that is taken apart for a log or a crash report has the key masked."""
    key_file.write_text(f"{CANARY}\n")

    with connected(Options(api_key_file=key_file)) as connection:
        shown = repr(connection) + repr(attrs.asdict(connection))
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(connection)

    assert CANARY not in shown
    assert "***" in shown


@pytest.mark.apixo_emulator(
    api_key=CANARY, speed=50, durations="5", faults={"submit_502_html_after": 0.5}
)
@pytest.mark.writes_key("errors", reason="the key is put into the base URL, which variables hold")
def test_the_key_is_never_shown(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No output of any command holds the key, not even with the fullest log."""
    save = ("--save-to", tmp_path / "videos")
    outputs = [
        run("batch", prompts, *FAST, *save, "--json", "-vv").output,
        run("generate", "a", *FAST, "-vv").output,
        run("balance", "-vv").output,
        run("status", "unknown", "-vv").output,
        run("balance", "--base-url", f"http://{CANARY}@127.0.0.1").output,
    ]
    monkeypatch.setenv("APIXO_API_KEY", f"{CANARY}\N{BULLET}")
    outputs.append(run("balance", "-vv").output)

    assert apixo_emulator.ledger.billed_total >= 4
    assert all(outputs)
    assert CANARY not in "".join(outputs[:4])
    assert CANARY not in outputs[5]


@pytest.mark.apixo_emulator
def test_a_refused_key_exits_with_4(
    apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the API refuses ends with 4 and says which variable to check."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_wrong")

    for arguments in (["balance"], ["generate", "a"], ["status", "t"]):
        result = run(*arguments)
        assert result.exit_code == 4
        assert "APIXO_API_KEY" in result.stderr


def test_a_bad_address_is_wrong_usage(apixo_emulator: EmulatorThread) -> None:
    """A base URL that is none ends with 2 and is named."""
    result = run("balance", "--base-url", "ftp://x.example")

    assert result.exit_code == 2
    assert "ftp://x.example" in result.stderr


def test_an_unreachable_host_is_named(apixo_emulator: EmulatorThread) -> None:
    """When nothing listens there, the message names the host."""
    result = run("balance", "--base-url", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot reach 127.0.0.1:1")
    assert "--base-url" in result.stderr


def test_an_emulator_has_its_own_address(prompts: Path) -> None:
    """`--emulator` beside `--base-url` is refused."""
    result = run("batch", prompts, "--emulator", "--base-url", "http://127.0.0.1:1")

    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_an_unknown_fault_is_refused_before_anything_starts(prompts: Path) -> None:
    """The name of a fault that does not exist ends with 2 and tells where the names are."""
    result = run("batch", prompts, "--emulator", "--emulator-fault", "gremlins=0.5")

    assert result.exit_code == 2
    assert "gremlins" in result.stderr
    assert "--list-faults" in result.stderr


def schedules_used(monkeypatch: pytest.MonkeyPatch) -> list[PollSchedule]:
    """The schedule of every wait from now on."""
    used: list[PollSchedule] = []
    waiting = Engine.wait

    def wait(self: Engine, task: Task, **how: Any) -> Coroutine[Any, Any, Task]:  # noqa: ANN401  # as it came
        used.append(how["schedule"])
        return waiting(self, task, **how)

    monkeypatch.setattr(Engine, "wait", wait)
    return used


@pytest.mark.parametrize("options", [(), ("--schedule", "learned")], ids=["by itself", "by name"])
def test_what_a_batch_learns_keeps_to_the_emulators_clock(
    monkeypatch: pytest.MonkeyPatch, prompts: Path, options: tuple[str, ...]
) -> None:
    """At 200 times the speed, all times of the schedule are a two-hundredth."""
    used = schedules_used(monkeypatch)

    result = run("batch", prompts, "--emulator", "--emulator-speed", "200", *options)

    assert result.exit_code == 0, result.stderr
    assert used
    for schedule in used:
        assert isinstance(schedule, LearnedSchedule)
        assert (schedule.interval, schedule.shortest) == (5 / 200, 1 / 200)


@pytest.mark.apixo_emulator(speed=1_000)
def test_the_share_of_looks_is_set_and_noted(
    apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, prompts: Path
) -> None:
    """`--poll-share` reaches the client, and a resumed batch goes by it without saying it again."""
    journal = prompts.parent / "run.db"
    shares: list[float | None] = []
    budget = Gate.poll_budget

    def note(self: Gate, share: float) -> float:
        shares.append(self.limits.poll_share)
        return budget(self, share)

    monkeypatch.setattr(Gate, "poll_budget", note)
    began = run("batch", prompts, "--journal", journal, "--poll-share", "0.25", *FAST)
    first = set(shares)
    shares.clear()
    make_queued(journal)
    resumed = run("resume", journal, *FAST)

    assert (began.exit_code, resumed.exit_code) == (0, 0), began.stderr + resumed.stderr
    assert (first, set(shares)) == ({0.25}, {0.25})


@pytest.mark.parametrize(
    ("asked", "learns"),
    [
        (("batch",), True),
        (("batch", "--schedule", "learned"), True),
        (("batch", "--schedule", "documented"), False),
        (("resume",), True),
        (("resume", "--schedule", "documented"), False),
        (("generate",), False),
        (("generate", "--schedule", "learned"), True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.apixo_emulator(speed=1_000)
def test_the_schedule_is_chosen_by_name(
    apixo_emulator: EmulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    prompts: Path,
    asked: tuple[str, ...],
    learns: bool,
) -> None:
    """A batch learns unless it is told not to, a single call only if it is; numbers are kept."""
    journal = prompts.parent / "run.db"
    command, *options = asked
    arguments: dict[str, list[str | Path]] = {
        "batch": [prompts],
        "resume": [journal],
        "generate": ["a prompt"],
    }
    if command == "resume":
        make_queued(journal)
    used = schedules_used(monkeypatch)

    result = run(command, *arguments[command], *FAST, *options)

    assert result.exit_code == 0, result.stderr
    assert {isinstance(schedule, LearnedSchedule) for schedule in used} == {learns}
    assert {(schedule.first, schedule.interval) for schedule in used} == {(0.02, 0.05)}


def make_queued(path: Path) -> None:
    """A journal with one job that was never sent."""

    async def make() -> None:
        journal = await Journal.open(path)
        await journal.enqueue_all([Job(TextToVideo("late"), key="late")])
        await journal.aclose()

    asyncio.run(make())
