"""What the commands about a journal share: its path, a look into it, naming the next command."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apixo_async._commands import command_line, file_word
from apixo_async.cli import exits
from apixo_async.cli.completing import journal_files
from apixo_async.cli.faults import Fault
from apixo_async.errors import InvalidSettingError, JournalError

if TYPE_CHECKING:
    from apixo_async.batch.journal.noted import Noted
    from apixo_async.batch.journal.reading import JournalReader


def _no_directory(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    # Also an empty name, which is that of the current directory.
    if path is not None and (not path.name or os.path.isdir(path)):  # noqa: PTH112  # never raises
        raise Fault(
            f"{path} is a directory, not a journal",
            advice="name a file in it, such as run.db",
            code=exits.USAGE,
        )
    return path


argument = click.argument(
    "journal",
    type=click.Path(path_type=Path),
    callback=_no_directory,
    shell_complete=journal_files,
)
"""Gives the command `journal`, a path that may be missing."""
option = click.option(
    "--journal",
    type=click.Path(path_type=Path),
    callback=_no_directory,
    metavar="RUN.DB",
    shell_complete=journal_files,
    help="Keep a record there, with which everything can go on after anything.",
)
"""The same as an option, `None` where it is not given."""


@contextmanager
def refusing() -> Generator[None]:
    """A journal that cannot be used is wrong input: nothing was sent, and nothing was changed."""
    try:
        yield
    except JournalError as error:
        # Most say themselves what to do; a question says only what may be wrong.
        is_said = ";" in str(error) and not str(error).endswith("?")
        name = "" if is_said else "; name a journal that apixo batch made"
        advice = f"nothing was sent or changed{name}"
        raise Fault(str(error), advice=advice, code=exits.USAGE) from None


@contextmanager
def reading(path: Path) -> Generator[JournalReader]:
    """The journal to look at. Raises `Fault` if it cannot be read, also while it is."""
    from apixo_async.batch.journal.reading import JournalReader

    with refusing(), JournalReader(path) as reader:
        yield reader


def noted_in(path: Path | None) -> Noted | None:
    """What is noted in the journal of a batch that begins or goes on; `None` where there is none.

    Raises `Fault` where none can be made, and `JournalError` for what is no journal.
    """
    from apixo_async.batch.journal import read_noted

    if path is None:
        return None
    if os.path.lexists(path):
        return read_noted(path)
    if not path.parent.is_dir():
        raise Fault(
            f"cannot make journal {path}: there is no directory {path.parent}",
            advice="nothing was sent; make the directory, or take another name",
            code=exits.USAGE,
        )
    return None


def said_again(base_url: object, *, is_emulated: bool) -> tuple[str, ...]:
    """`--base-url` for a command that goes on, where a batch asked another API than the usual one.

    A private emulator is gone, so nothing leads back to it.
    """
    from apixo_async.client.settings import resolve_base_url

    if not isinstance(base_url, str) or is_emulated:
        return ()
    try:
        is_usual = resolve_base_url(base_url) == resolve_base_url(None)
    except InvalidSettingError:  # a journal may hold anything
        return ()
    return () if is_usual else ("--base-url", base_url)


def command(verb: str, journal: Path, *arguments: str, options: Sequence[str] = ()) -> str:
    """A command line about a journal, to be copied: `apixo resume run.db`."""
    return command_line(verb, file_word(journal), *arguments, options=options)
