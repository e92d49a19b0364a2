"""`apixo batch`: a file of jobs, checked as a whole, then run at full speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.options import Options, save_to, shared
from apixo_async.cli.text import counted, printable

if TYPE_CHECKING:
    from apixo_async.batch.inputs import JobFile


@click.command(short_help="Generate the videos of a whole file.")
@click.argument("file", type=click.Path(allow_dash=True))
@save_to
@click.option(
    "--max-jobs", type=click.IntRange(min=1), metavar="N", help="Take only the first N jobs."
)
@shared(waiting=True, emulator=True)
def batch(*, file: str, save_to: Path | None, max_jobs: int | None, options: Options) -> None:
    """Generate the videos of FILE, as many at a time as the account allows.

    FILE holds one JSON object a line (.jsonl), a table (.csv), or else one prompt a line; - is
    standard input. The whole file is checked first: if anything is wrong, all of it is named and
    nothing is sent.

    Ctrl-C stops submitting and says which tasks are still running; once more ends at once.
    """
    from apixo_async.cli.connecting import connected, ready_directory
    from apixo_async.cli.running import BatchSession

    with _opened(file, max_jobs) as jobs:
        _check(jobs)
        if save_to is not None:
            ready_directory(save_to)
        with connected(options) as connection:
            session = BatchSession(jobs, connection, save_to=save_to, as_json=options.as_json)
            code = session.run()
    sys.exit(code)


def _opened(file: str, max_jobs: int | None) -> JobFile:
    from apixo_async.batch.inputs import JobFile

    try:
        if file == "-":
            return JobFile.from_stream(sys.stdin.buffer, limit=max_jobs)
        return JobFile(file, limit=max_jobs)
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: str, error: OSError) -> Fault:
    return Fault(f"cannot read {file}: {error.strerror or error}", code=exits.USAGE)


def _check(jobs: JobFile) -> None:
    """Names all that is wrong with the input; raises `Fault` if there was anything."""
    found = 0
    try:
        for problem in jobs.problems():
            found += 1
            click.echo(printable(problem.shown(jobs.name)), err=True)
    except OSError as error:
        raise _unreadable(jobs.name, error) from None
    if found:
        raise Fault(
            f"{counted(found, 'problem')} in {jobs.name}; nothing was sent", code=exits.USAGE
        )
