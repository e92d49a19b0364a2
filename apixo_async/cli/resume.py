"""`apixo resume`: going on with a journal alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import click

from apixo_async._commands import command_line, file_word
from apixo_async._places import Place
from apixo_async.cli import destinations, exits, gone, journals
from apixo_async.cli.faults import Fault
from apixo_async.cli.guards import Guards, guards
from apixo_async.cli.helping import Verb
from apixo_async.cli.options import (
    Options,
    WebhookOptions,
    save_to,
    shared,
    webhook,
)


@click.command(
    cls=Verb,
    short_help="Go on with a batch from its journal.",
    example="apixo resume run.db --save-to videos/",
    then=(
        ("apixo show RUN.DB", "how the batch stands"),
        ("apixo settle RUN.DB KEY", "decide about what is uncertain"),
    ),
)
@journals.argument
@save_to
@guards
@webhook
@shared(waiting=True, emulator=True)
def resume(
    *,
    journal: Path,
    save_to: Place | None,
    guards: Guards,
    webhook: WebhookOptions,
    options: Options,
) -> None:
    """Go on with the batch of JOURNAL, whatever ended it.

    Running tasks are waited for again, finished videos whose files are missing are downloaded, and
    only what surely was never sent is submitted. Everything is done as the batch was started, save
    for what is said here; that is noted for later, but for --uncertain, which is for this run.
    """
    from apixo_async.batch.journal import read_noted
    from apixo_async.cli import callbacks
    from apixo_async.cli.connecting import connected
    from apixo_async.cli.policies import BatchPlan, charged, in_force
    from apixo_async.cli.running import BatchSession

    noted = read_noted(journal)
    if noted.options.get("is_emulated") and options.base_url is None and not options.emulator:
        raise Fault(
            "this batch ran against a private emulator, which is gone with all its tasks",
            advice="say where its API is now: --base-url, or --emulator for a new one",
            code=exits.USAGE,
        )
    again = options.again
    options = with_noted(options, noted.options, journal)
    policies = in_force(guards, noted, is_resumed=True)
    receiving = callbacks.in_force(webhook, noted.options)
    policies.warn_of_names(guards.prices, {group.kind for group in noted.groups})
    policies.check_prices({group.kind for group in noted.groups if group.is_to_pay})
    plan = BatchPlan(
        journal=journal,
        save_to=destinations.in_force(save_to, noted.options, journal),
        policies=policies,
        callbacks=receiving,
        charged=charged(noted),
        again=again,
    )
    if plan.save_to is not None:
        destinations.ready(plan.save_to)
    with connected(options) as connection:
        policies.tell_noted(journal)
        callbacks.tell_noted(webhook, receiving, journal)
        for warning in gone.warnings(noted, options, journal):
            click.echo(f"warning: {warning}", err=True)
        expected = noted.left(saves=plan.save_to is not None)
        session = BatchSession(
            None, expected, connection, plan, as_json=options.as_json, given=options
        )
        code = session.run()
    sys.exit(code)


def with_noted(options: Options, noted: Mapping[str, Any], journal: Path) -> Options:
    """The options, those that were left out as the batch was started with.

    Raises `Fault` if that would send the key where only the journal says.
    """
    names = (
        "requests_per_minute",
        "concurrent_tasks",
        "first_poll",
        "poll_every",
        "schedule",
        "poll_share",
        "deadline",
        *(() if options.emulator else ("base_url",)),
    )
    changes = {
        name: noted[name]
        for name in names
        if getattr(options, name) is None and noted.get(name) is not None
    }
    url = changes.get("base_url")
    if url is not None and not _is_known(url):
        again = command_line("resume", file_word(journal), options=("--base-url", url))
        raise Fault(
            f"by {journal}, this batch ran against {url}; nothing was sent",
            advice=f"if your key may go there: {again}",
            code=exits.USAGE,
        )
    return attrs.evolve(options, **changes)


def _is_known(url: str) -> bool:
    """Whether the key would go there without the journal, or it stays on this machine.

    A journal may come from somebody else, and name a host that only waits for keys.
    """
    from apixo_async.client.settings import resolve_base_url

    try:
        host = urlsplit(resolve_base_url(url)).hostname or ""
        return (
            resolve_base_url(url) == resolve_base_url(None)
            or host == "localhost"
            or ip_address(host).is_loopback
        )
    except ValueError:  # no URL, or a name instead of an address
        return False
