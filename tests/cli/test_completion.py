"""Completion: what a shell is told, and bash really completing."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from apixo_async.batch.journal import schema
from apixo_async.cli import completing
from apixo_async.cli.app import apixo
from apixo_async.cli.completing import is_journal
from apixo_async.cli.completion import SHELLS
from tests.batch.journal.jobs import fill, opened
from tests.cli.conftest import run

ROOT = str(Path(completing.__file__).parents[2])
"""Where the package is that these tests are about, whatever else is installed."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a journal, a directory, and a file that is none."""

    async def make() -> None:
        async with opened(tmp_path / "run.db") as journal:
            await fill(journal)

    asyncio.run(make())
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").touch()
    (tmp_path / "prompts.jsonl").write_text("{}")
    return tmp_path


def ask(words: str, place: Path, shell: str = "bash") -> list[str]:
    """What a shell is told to complete the last of these words with, by a process of its own."""
    typed = words.split(" ")
    number = str(len(typed) - 1)
    code = (
        "import sys; from apixo_async.cli import main\n"
        "try: main()\n"
        "finally: print(*{'aiohttp', 'rich.console', 'cattrs'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": ROOT,
            "COMP_WORDS": words,
            "COMP_CWORD": typed[-1] if shell == "fish" else number,
            "_APIXO_COMPLETE": f"{shell}_complete",
        },
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "", "it has to be quick"
    return done.stdout.strip().splitlines()


def told(words: str) -> list[str]:
    """The same within this process."""
    *typed, incomplete = words.split(" ")[1:]
    bash = BashComplete(apixo, {}, "apixo", "_APIXO_COMPLETE")
    return [f"{one.type},{one.value}" for one in bash.get_completions(typed, incomplete)]


@pytest.mark.parametrize(
    ("words", "items"),
    [
        ("apixo res", ["plain,resume"]),
        ("apixo show ", ["plain,run.db", "plain,videos/"]),
        ("apixo show ru", ["plain,run.db"]),
        ("apixo show ./ru", ["plain,./run.db"]),
        ("apixo show vid", ["file,vid"]),
        ("apixo show videos/", ["file,videos/"]),
        ("apixo batch prompts.jsonl --journal r", ["plain,run.db"]),
        ("apixo batch ", ["file,"]),
        ("apixo batch prompts.jsonl --save-to v", ["dir,v"]),
        ("apixo batch x --uncertain ", ["plain,keep", "plain,resubmit"]),
        ("apixo batch x --schedule l", ["plain,learned"]),
        ("apixo generate x --mode f", ["plain,fast"]),
        ("apixo wait t1 --model v", ["plain,veo-3-1", "plain,veo-3-1-extend"]),
        ("apixo settle run.db un", ["plain,uncertain"]),
        ("apixo settle run.db suc", []),
        ("apixo settle prompts.jsonl un", []),
        ("apixo settle nowhere.db un", []),
        ("apixo completion z", ["plain,zsh"]),
        ("apixo show run.db --fol", ["plain,--follow"]),
    ],
)
def test_what_is_offered(
    words: str, items: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, options, values, journals by what is in them, keys that can be settled."""
    monkeypatch.chdir(place)

    assert told(words) == items


@pytest.mark.parametrize(
    ("words", "items"),
    [
        ("apixo settle run.db un", ["plain,uncertain"]),
        (
            "apixo batch p.jsonl --price fast=1 --max-cost 5 --retry-code X --journal r",
            ["plain,run.db"],
        ),
    ],
)
def test_what_bash_is_told(words: str, items: list[str], place: Path) -> None:
    """By a process that imports neither the network nor what draws, whatever stands before."""
    assert ask(words, place) == items


@pytest.mark.parametrize(
    ("shell", "items"),
    [
        ("zsh", ["plain", "resume", "Go on with a batch from its journal."]),
        ("fish", ["plain,resume\tGo on with a batch from its journal."]),
    ],
)
def test_other_shells_are_told_what_it_does_as_well(
    shell: str, items: list[str], place: Path
) -> None:
    """They show it beside the name."""
    assert ask("apixo res", place, shell) == items


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_this_program(shell: str) -> None:
    """Each shell has one, and the one that runs is known without being named."""
    script = run("completion", shell).stdout

    assert f"_APIXO_COMPLETE={shell}_complete" in script
    assert run("completion", env={"SHELL": f"/bin/{shell}"}).stdout == script


def test_a_shell_without_completion_is_told_which_have() -> None:
    """Instead of a script that it cannot read."""
    result = run("completion", env={"SHELL": "/bin/dash"})

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: completion for dash is not known",
        "  name one of bash, zsh, fish: apixo completion bash",
    ]


def test_a_journal_is_known_by_its_first_bytes(place: Path) -> None:
    """By the number that every one of them has; what cannot be read is none."""
    assert schema.APPLICATION_ID.to_bytes(4) == completing._ID
    assert is_journal(str(place / "run.db"))
    for name in ("prompts.jsonl", "videos", "missing"):
        assert not is_journal(str(place / name))


def test_a_journal_that_is_damaged_completes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody wants an error while typing."""
    data = (place / "run.db").read_bytes()
    (place / "run.db").write_bytes(data[:100] + b"\0" * (len(data) - 100))

    monkeypatch.chdir(place)

    assert told("apixo settle run.db un") == []


def test_completing_changes_no_journal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only reads, and leaves nothing beside it."""
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    monkeypatch.chdir(place)
    assert told("apixo settle run.db un") == ["plain,uncertain"]

    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_bash_completes(place: Path) -> None:
    """A real bash on a terminal, with the script that is printed, as one would type it."""
    (place / "bin").mkdir()
    program = place / "bin" / "apixo"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m apixo_async.cli "$@"\n')
    program.chmod(0o755)
    paths = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "TERM": "dumb", "PS1": "> ", "PYTHONPATH": ROOT}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=place,
        start_new_session=True,
    ) as bash:
        os.close(theirs)
        try:
            enter(ours, 'eval "$(apixo completion bash)"; echo re""ady\n', "\nready")
            shown = enter(ours, "apixo sett\t", "apixo settle ")
            shown += enter(ours, "ru\tunc\t", "run.db uncertain ")
            shown += enter(ours, "--aba\t", "--abandon ")
        finally:
            bash.kill()
            os.close(ours)

    assert "error" not in shown


def enter(terminal: int, keys: str, until: str) -> str:
    """Types keys and waits for what is shown then."""
    os.write(terminal, keys.encode())
    shown, end = "", time.monotonic() + 30
    while until not in re.sub(r"[\a\r]|\x1b\[[0-9;?]*[A-Za-z]", "", shown):
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], shown
        shown += os.read(terminal, 4_096).decode()
    return shown
