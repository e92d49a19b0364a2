"""What a shell is told to complete: journals by what is in them, and the keys of their jobs.

This runs at every press of Tab, so it reads little and never fails. It opens journals itself:
what reads them properly also imports the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

FILES_MAX: Final = 2_000
"""Names of a directory that are looked at."""
KEYS_MAX: Final = 200
"""Keys that are offered."""
_MAGIC: Final = b"SQLite format 3\0"
_ID_AT: Final = 68
"""Where the header of an SQLite file holds the id of its application."""
_ID: Final = b"APX1"
_TIMEOUT: Final = 0.2

Complete: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]"


def journal_files(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Journals, and directories that may hold some; any file where there is no journal."""
    from click.shell_completion import CompletionItem

    journals, directories = list[str](), list[str]()
    for name, path in _entries(incomplete):
        if os.path.isdir(path):  # noqa: PTH112  # never raises
            directories.append(name + os.sep)
        elif is_journal(path):
            journals.append(name)
    if not journals:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in sorted(journals) + sorted(directories)]


def _entries(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names as they would be typed, with their paths, that go on with what is typed."""
    head, start = os.path.split(incomplete)
    directory = os.path.expanduser(head) or os.curdir  # noqa: PTH111  # only `~` is to be read
    try:
        with os.scandir(directory) as found:
            for entry in islice(found, FILES_MAX):
                is_hidden = entry.name.startswith(".") and not start.startswith(".")
                if entry.name.startswith(start) and not is_hidden and entry.name.isprintable():
                    yield os.path.join(head, entry.name), entry.path  # noqa: PTH118  # as typed
    except OSError:
        return


def is_journal(path: str) -> bool:
    """Whether this file looks like one of our journals, by its first bytes."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113  # a pipe would be waited for
            return False
        with Path(path).open("rb") as file:
            header = file.read(_ID_AT + len(_ID))
    except OSError:
        return False
    return header.startswith(_MAGIC) and header[_ID_AT:] == _ID


def job_keys(*states: str) -> Complete:
    """Completes the keys of jobs in these states of the journal that stands before."""

    def complete(
        ctx: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        journal = ctx.params.get("journal")
        if journal is None or not is_journal(str(journal)):
            return []
        found = _keys(Path(journal), states, incomplete)
        return [CompletionItem(key, help=state) for key, state in found if key.isprintable()]

    return complete


def _keys(journal: Path, states: tuple[str, ...], start: str) -> list[tuple[str, str]]:
    import sqlite3

    marks = ", ".join("?" * len(states))
    query = (
        f"SELECT key, state FROM jobs WHERE state IN ({marks})"  # noqa: S608  # question marks
        " AND substr(key, 1, ?) = ? ORDER BY number LIMIT ?"
    )
    try:
        # SQLite makes files beside one with a log, unless it is told that nobody writes: while
        # somebody does, there is a log.
        has_log = journal.with_name(f"{journal.name}-wal").exists()
        where = f"{journal.resolve().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
        with closing(sqlite3.connect(where, uri=True, timeout=_TIMEOUT)) as database:
            return database.execute(query, (*states, len(start), start, KEYS_MAX)).fetchall()
    except (OSError, ValueError, sqlite3.Error):
        return []


def directories(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Completes a directory; a URL is nobody's to guess."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def words(*names: str) -> Complete:
    """Completes one of these words, which are not the only ones allowed."""

    def complete(
        _: click.Context, __: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete
