"""`apixo plan`: what a file would cost and how long it would take; nothing is billed."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from apixo_async._places import Place
from apixo_async.cli import destinations
from apixo_async.cli.faults import KEY_VARIABLE, Fault
from apixo_async.cli.guards import max_cost, price
from apixo_async.cli.helping import Verb
from apixo_async.cli.opening import opened, refuse, unreadable
from apixo_async.cli.options import Options, max_jobs, save_to, shared
from apixo_async.errors import ApixoError

if TYPE_CHECKING:
    from apixo_async.batch.inputs import JobFile
    from apixo_async.batch.planning import Plan
    from apixo_async.batch.spending import Prices
    from apixo_async.cli.connecting import Connection
    from apixo_async.cli.planned import Balance
    from apixo_async.limits import Limits


@click.command(
    cls=Verb,
    short_help="Show what a file would cost, and how long it would take.",
    example="apixo plan prompts.jsonl --price fast=0.20 --max-cost 100",
    then=(
        ("apixo batch FILE --emulator", "a rehearsal without a key and without cost"),
        ("apixo batch FILE --journal RUN.DB", "generate them"),
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@price
@max_cost
@save_to
@max_jobs
@shared()
def plan(
    *,
    file: str,
    prices: Prices,
    max_cost: Decimal | None,
    save_to: Place | None,
    max_jobs: int | None,
    options: Options,
) -> None:
    """Show what FILE asks for, what it would cost, and how long it would take.

    FILE is what apixo batch takes; - is standard input. It is checked as a whole: if anything is
    wrong, all of it is named. Nothing is submitted and nothing is billed. The API tells no prices,
    so they have to be given. With a key, the balance is looked up, too; and with --save-to, whether
    anything could be saved there, which leaves nothing.
    """
    from apixo_async.cli.connecting import connected
    from apixo_async.cli.planned import Balance, plan_as_json, plan_lines
    from apixo_async.cli.policies import Policies

    if save_to is not None:
        destinations.check(save_to)
    with opened(file, max_jobs) as jobs, connected(options) as connection:
        limits = connection.account
        made = _made(jobs, limits=limits, prices=prices, max_cost=max_cost)
        balance = Balance() if made.problems else _balance(connection)
    if options.as_json:
        click.echo(json.dumps(plan_as_json(made, balance, name=jobs.name, save_to=save_to)))
    refuse(jobs.name, made.problems)
    Policies().warn_of_names(prices, {(group.model, group.mode) for group in made.groups})
    if not options.as_json:
        for line in plan_lines(made, limits, balance, name=jobs.name, save_to=save_to):
            click.echo(line)


def _made(jobs: JobFile, *, limits: Limits, prices: Prices, max_cost: Decimal | None) -> Plan:
    from apixo_async.batch.planning import make_plan

    try:
        return make_plan(jobs, limits=limits, prices=prices, max_cost=max_cost)
    except OSError as error:
        raise unreadable(jobs.name, error) from None


def _balance(connection: Connection) -> Balance:
    """What is left on the key if there is one; a plan is worth showing without it, too."""
    from apixo_async.cli.loop import run
    from apixo_async.cli.planned import Balance

    if connection.api_key is None and not os.environ.get(KEY_VARIABLE, "").strip():
        return Balance()
    client = connection.client()

    async def ask() -> float:
        async with client:
            return await client.balance()

    try:
        return Balance(usd=Decimal(str(run(ask()))))
    except ApixoError as error:
        fault = Fault.of(error)
        return Balance(error=f"{fault.message}; {fault.advice}")
