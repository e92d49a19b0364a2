"""`apixo batch`: a file of jobs, checked as a whole, then run at full speed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from apixo_async._places import Place
from apixo_async.cli import destinations, journals
from apixo_async.cli.guards import Guards, guards
from apixo_async.cli.helping import Verb
from apixo_async.cli.opening import check, opened
from apixo_async.cli.options import (
    Options,
    WebhookOptions,
    max_jobs,
    save_to,
    shared,
    webhook,
)


@click.command(
    cls=Verb,
    short_help="Generate the videos of a whole file.",
    example="apixo batch prompts.jsonl --journal run.db --save-to videos/",
    then=(
        ("apixo show RUN.DB --follow", "watch it from another window"),
        ("apixo resume RUN.DB", "go on after Ctrl-C or a crash"),
        ("apixo settle RUN.DB KEY", "decide about what is uncertain"),
        ("apixo export RUN.DB", "a receipt for every job"),
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@journals.option
@save_to
@max_jobs
@guards
@webhook
@shared(waiting=True, emulator=True)
def batch(
    *,
    file: str,
    journal: Path | None,
    save_to: Place | None,
    max_jobs: int | None,
    guards: Guards,
    webhook: WebhookOptions,
    options: Options,
) -> None:
    """Generate the videos of FILE, as many at a time as the account allows.

    FILE holds one JSON object a line (.jsonl), a table (.csv), or else one prompt a line; - is
    standard input. The whole file is checked first: if anything is wrong, all of it is named and
    nothing is sent.

    With --journal, the same command goes on where it was stopped or killed, and so does
    `apixo resume RUN.DB`; no video is paid for twice.

    Ctrl-C stops submitting, lets submits in flight be answered, and says how to go on; once more
    ends at once.
    """
    from apixo_async.cli import callbacks
    from apixo_async.cli.connecting import connected
    from apixo_async.cli.policies import BatchPlan, charged, in_force
    from apixo_async.cli.running import BatchSession

    noted = journals.noted_in(journal)
    policies = in_force(guards, noted, is_resumed=False)
    receiving = callbacks.in_force(webhook, None if noted is None else noted.options)
    with opened(file, max_jobs) as jobs:
        kinds = check(jobs)
        past = () if noted is None else noted.groups
        policies.warn_of_names(guards.prices, kinds | {group.kind for group in past})
        policies.check_prices(kinds | {group.kind for group in past if group.charges})
        if save_to is not None:
            destinations.ready(save_to)
        plan = BatchPlan(
            journal=journal,
            save_to=save_to,
            policies=policies,
            callbacks=receiving,
            charged=charged(noted),
            again=options.again,
        )
        with connected(options) as connection:
            policies.tell_noted(journal)
            callbacks.tell_noted(webhook, receiving, journal)
            session = BatchSession(
                jobs, len(jobs), connection, plan, as_json=options.as_json, given=options
            )
            code = session.run()
    sys.exit(code)
