"""Commands to be copied: a shell reads of them what was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from apixo_async._commands import command_line, file_word
from apixo_async.cli import faults, journals

NAMES = [
    "run.db",
    "my run.db",
    "$(id).db",
    "it's.db",
    "a\nb.db",
    "a\x1b[2J.db",
    "tilde~.db",
    "é.db",
]


@pytest.mark.parametrize("name", NAMES, ids=map(ascii, NAMES))
def test_a_shell_reads_the_name_that_was_meant(name: str) -> None:
    """Whatever a path holds, and nothing in it steers the terminal."""
    line = journals.command("resume", Path(name))
    read = subprocess.run(
        ["bash", "-c", f'set -- {line}; printf %s "$3"'], capture_output=True, check=True
    )

    assert os.fsdecode(read.stdout) == name
    assert line.isprintable()


def test_bytes_that_are_no_text_are_named_as_bytes() -> None:
    """A name may be older than UTF-8."""
    assert command_line("show", os.fsdecode(b"a\xff.db")) == "apixo show $'a\\xff.db'"


def test_a_journal_with_a_dash_is_no_option() -> None:
    """Its directory is named, which works in every place."""
    assert journals.command("show", Path("-x.db")) == "apixo show ./-x.db"
    assert file_word(Path("x-.db")) == "x-.db"


def test_a_key_or_id_with_a_dash_comes_last() -> None:
    """Behind the mark that ends options."""
    assert (
        journals.command("settle", Path("run.db"), "-k", options=("--resubmit",))
        == "apixo settle --resubmit -- run.db -k"
    )
    assert faults.command("wait", "-t", "other") == "apixo wait --model other -- -t"


def test_usual_commands_are_plain() -> None:
    """The model of most tasks is not named, and options come last."""
    assert faults.command("wait", "t1", "veo-3-1") == "apixo wait t1"
    assert faults.command("wait", "t1", "other") == "apixo wait t1 --model other"
