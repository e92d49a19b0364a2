from __future__ import annotations

import pytest

from apixo_async.emulator import FAULTS
from apixo_async.testing import EmulatorThread
from tests.cli.conftest import json_lines, run


def test_all_faults_are_listed() -> None:
    """`--list-faults` shows every name with its meaning, as text and as JSON."""
    lines = run("emulator", "--list-faults").stdout.splitlines()

    assert [line.split(maxsplit=1) for line in lines] == [[*item] for item in FAULTS.items()]
    assert json_lines(run("emulator", "--list-faults", "--json").stdout) == [dict(FAULTS)]


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--speed", "0", "speed"),
        ("--durations", "weekly", "durations"),
        ("--fault", "gremlins=1", "gremlins"),
        ("--port", "70000", "port"),
    ],
)
def test_bad_settings_are_wrong_usage(option: str, value: str, word: str) -> None:
    """A setting out of its range ends with 2 and is named."""
    result = run("emulator", option, value)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert word in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("emulator", "--fault"), ("generate", "a", "--emulator", "--emulator-fault")],
)
def test_an_unknown_fault_is_answered_with_the_nearest(arguments: tuple[str, ...]) -> None:
    """And with the option that lists them all."""
    result = run(*arguments, "failed_tsk=1")

    assert result.exit_code == 2
    assert "no fault called 'failed_tsk'; did you mean 'failed_task'" in result.stderr
    assert "apixo emulator --list-faults" in result.stderr


def test_a_port_that_is_taken_is_named(apixo_emulator: EmulatorThread) -> None:
    """Without a free port there is one line that names it, and code 1."""
    port = apixo_emulator.base_url.rsplit(":", 1)[1]

    result = run("emulator", "--port", port)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}")
