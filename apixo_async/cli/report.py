"""`apixo report`: the page about a batch, to open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from apixo_async.cli import exits, journals
from apixo_async.cli.faults import Fault
from apixo_async.cli.guards import price
from apixo_async.cli.helping import Verb

if TYPE_CHECKING:
    from apixo_async.batch.spending import Prices


@click.command(
    cls=Verb,
    short_help="Write a page with the videos and the course of a batch.",
    example="apixo report run.db -o report/",
    then=(
        ("apixo show JOURNAL", "the same facts in the terminal"),
        ("apixo settle --help", "what to do about jobs that are uncertain"),
    ),
)
@journals.argument
@price
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="report",
    show_default=True,
    metavar="DIR",
    help="The directory for the page; an earlier report there is replaced.",
)
def report(*, journal: Path, prices: Prices, output: Path) -> None:
    """Write a page about the batch of JOURNAL: its videos, its course, its problems.

    The page opens from disk and asks no network. Works while another process writes the journal,
    and shows that moment. Without --price the prices count that the batch was started with. Prints
    the path of the page.
    """
    try:
        from apixo_async.batch.report import write_report
    except ModuleNotFoundError as error:
        advice = "pip install 'apixo-async[report]'"
        raise Fault(f"a report needs {error.name}", advice=advice, code=exits.USAGE) from None
    from apixo_async.errors import InvalidSettingError

    try:
        with journals.refusing():
            click.echo(write_report(journal, output, prices=prices))
    except InvalidSettingError as error:
        advice = "name another directory with -o"
        raise Fault(str(error), advice=advice, code=exits.USAGE) from None
