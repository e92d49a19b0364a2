"""`apixo export`: a receipt for every job of a journal, for other programs and for the books."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from apixo_async.cli import exits, journals
from apixo_async.cli.faults import Fault
from apixo_async.cli.helping import Verb
from apixo_async.cli.text import counted

if TYPE_CHECKING:
    from apixo_async.batch.journal.reading import JournalReader

Write = Callable[[str], object]

AT_ONCE: Final = 100
"""Receipts that are printed together."""
_ERRORS: Final = "backslashreplace"
"""Half characters, which no UTF-8 can hold, are written as their numbers."""


@click.command(
    cls=Verb,
    short_help="Write a receipt for every job.",
    example="apixo export run.db --format csv --output receipts.csv",
    then=(("apixo show RUN.DB", "the same summed up"),),
)
@journals.argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="JSON, one object a line, or a table.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write into this file; default is standard output.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.option("--prompts", is_flag=True, help="Write the prompts, too, not only their hashes.")
def export(
    *,
    journal: Path,
    form: Literal["jsonl", "csv"],
    output: Path | None,
    overwrite: bool,
    prompts: bool,
) -> None:
    """Write a receipt for every job of JOURNAL, in the order of its input.

    Each has the key, hashes, model, state, task id, times, attempts, charges, URLs, and the saved
    files with size and sha256. Works while another process writes the journal; what is written is
    the journal of one moment. FILE appears when it is complete.
    """
    with journals.reading(journal) as reader:
        lines = _lines(reader, form, prompts=prompts)
        if output is None:
            _print(lines)
            return
        with _replacing(output, overwrite=overwrite) as write:
            number = _copy(lines, write)
    jobs = number - (form == "csv")
    click.echo(f"{counted(jobs, 'receipt')} in {output}", err=True)


def _lines(reader: JournalReader, form: str, *, prompts: bool) -> Iterator[str]:
    from apixo_async.cli.receipts import csv_rows, fields, json_lines, receipt

    is_owned = reader.owner is not None
    receipts: Iterator[dict[str, Any]] = (
        receipt(entry, files, is_owned=is_owned, prompts=prompts)
        for entry, files in reader.with_files()
    )
    if form == "csv":
        return csv_rows(receipts, fields(prompts=prompts))
    return json_lines(receipts)


def _print(lines: Iterator[str]) -> None:
    """As UTF-8 whatever the terminal says: what is exported is for programs."""
    while chunk := list(islice(lines, AT_ONCE)):
        click.echo("".join(chunk).encode("utf-8", _ERRORS), nl=False)


def _copy(lines: Iterator[str], write: Write) -> int:
    number = 0
    for number, line in enumerate(lines, 1):  # noqa: B007  # the last one is the count
        write(line)
    return number


@contextmanager
def _replacing(path: Path, *, overwrite: bool) -> Generator[Write]:
    """A file that gets its name when all is on disk, and is gone if something went wrong."""
    there = Fault(
        f"{path} is there already; nothing was written",
        advice="take another name, or --overwrite",
        code=exits.USAGE,
    )
    if path.exists() and not overwrite:
        raise there
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    except OSError as error:
        why = error.strerror or error
        advice = "name another file with --output"
        raise Fault(f"cannot write {path}: {why}", advice=advice, code=exits.USAGE) from None
    try:
        with open(descriptor, "w", encoding="utf-8", errors=_ERRORS, newline="") as file:  # noqa: PTH123  # a descriptor
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(name, path)  # noqa: PTH105  # as below
        else:
            _name_if_free(name, path)
    except FileExistsError:
        raise there from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108  # as below


def _name_if_free(name: str, path: Path) -> None:
    """Names the file unless the name was taken meanwhile: `FileExistsError`."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without second names
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(name, path)  # noqa: PTH105  # as in `os.link`
