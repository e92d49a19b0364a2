"""`apixo batch`: a file of jobs, checked as a whole, then run at full speed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from apixo_async.cli.opening import check, opened
from apixo_async.cli.options import Options, max_jobs, save_to, shared


@click.command(short_help="Generate the videos of a whole file.")
@click.argument("file", type=click.Path(allow_dash=True))
@save_to
@max_jobs
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

    with opened(file, max_jobs) as jobs:
        check(jobs)
        if save_to is not None:
            ready_directory(save_to)
        with connected(options) as connection:
            session = BatchSession(jobs, connection, save_to=save_to, as_json=options.as_json)
            code = session.run()
    sys.exit(code)
