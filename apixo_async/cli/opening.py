"""The input file of a command: opened, checked as a whole, and everything wrong with it named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.text import counted, printable

if TYPE_CHECKING:
    from apixo_async.batch.inputs import JobFile, Problem


def opened(file: str, max_jobs: int | None) -> JobFile:
    """The jobs of a file, or of standard input for `-`; close it. Raises `Fault` if unreadable."""
    from apixo_async.batch.inputs import JobFile

    try:
        if file == "-":
            return JobFile.from_stream(sys.stdin.buffer, limit=max_jobs)
        return JobFile(file, limit=max_jobs)
    except OSError as error:
        raise unreadable(file, error) from None


def unreadable(file: str, error: OSError) -> Fault:
    """The fault of a file that cannot be read."""
    return Fault(
        f"cannot read {file}: {error.strerror or error}",
        advice="nothing was sent; name a file that can be read, or - for standard input",
        code=exits.USAGE,
    )


def check(jobs: JobFile) -> set[tuple[str, str | None]]:
    """Reads the whole input and names all that is wrong; raises `Fault` if anything is.

    Returns what is asked for: models with their modes.
    """
    kinds: set[tuple[str, str | None]] = set()
    try:
        refuse(jobs.name, _problems(jobs, kinds))
    except OSError as error:
        raise unreadable(jobs.name, error) from None
    return kinds


def _problems(jobs: JobFile, kinds: set[tuple[str, str | None]]) -> Iterator[Problem]:
    number = 0
    for line in jobs.lines():
        yield from line.problems
        if line.job is not None and (jobs.limit is None or number < jobs.limit):
            number += 1
            kinds.add((line.job.request.model, line.job.request.mode))


def refuse(name: str, problems: Iterable[Problem]) -> None:
    """Names every problem as `file:line: field: rule` on stderr; raises `Fault` if there is one."""
    found = 0
    for problem in problems:
        found += 1
        click.echo(printable(problem.shown(name)), err=True)
    if found:
        raise Fault(
            f"{counted(found, 'problem')} in {name}; nothing was sent",
            advice="mend the lines that are named; apixo plan FILE checks them without sending",
            code=exits.USAGE,
        )
