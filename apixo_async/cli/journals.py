"""What the commands about a journal share: opening it to read, and naming the next command."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.errors import JournalError

if TYPE_CHECKING:
    from apixo_async.batch.journal.reading import JournalReader

argument = click.argument("journal", type=click.Path(path_type=Path))
"""Gives the command `journal`, a path that may be missing."""


@contextmanager
def refusing() -> Generator[None]:
    """A journal that cannot be used is wrong input: nothing was sent, and nothing was changed."""
    try:
        yield
    except JournalError as error:
        raise Fault(str(error), code=exits.USAGE) from None


@contextmanager
def reading(path: Path) -> Generator[JournalReader]:
    """The journal to look at. Raises `Fault` if it cannot be read, also while it is."""
    from apixo_async.batch.journal.reading import JournalReader

    with refusing(), JournalReader(path) as reader:
        yield reader


def command(verb: str, journal: Path, *arguments: str) -> str:
    """A command line about a journal, to be copied: `apixo resume run.db`."""
    return shlex.join(["apixo", verb, str(journal), *arguments])
