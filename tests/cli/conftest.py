"""Ways to run `apixo`: inside the test, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner, Result

from apixo_async.cli.app import apixo
from tests.hand import Hand, move_by_hand

FAST = ("--first-poll", "0.02", "--poll-every", "0.05")
"""A schedule for emulators whose tasks take a tenth of a second."""

Started: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[..., Started]


def run(*arguments: str | Path, **more: Any) -> Result:  # noqa: ANN401  # those of CliRunner
    """Runs a command inside this process; an unexpected error is raised here."""
    return CliRunner(catch_exceptions=False).invoke(apixo, [*map(str, arguments)], **more)


def json_lines(text: str) -> list[Any]:
    """The objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Returns once the condition holds; fails the test if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `apixo` as a process with pipes; what still runs is killed at the end."""
    started: list[Started] = []

    def begin(*arguments: str | Path, **more: Any) -> Started:  # noqa: ANN401  # those of Popen
        command = [sys.executable, "-m", "apixo_async.cli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, **{**pipes, **more}))
        return started[-1]

    yield begin
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Moves the clocks of emulators of this process, `apixo_emulator` if it is asked for later."""
    return move_by_hand(monkeypatch)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A file of four jobs with the keys a to d."""
    path = tmp_path / "prompts.jsonl"
    rows = [{"key": key, "prompt": f"prompt {key}", "metadata": {"of": key}} for key in "abcd"]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
