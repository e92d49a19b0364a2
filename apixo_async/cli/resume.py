"""`apixo resume`: going on with a journal alone."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.options import Guards, Options, guards, save_to, shared


@click.command(short_help="Go on with a batch from its journal.")
@click.argument("journal", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@save_to
@guards
@shared(waiting=True, emulator=True)
def resume(
    *,
    journal: Path,
    save_to: Path | None,
    guards: Guards,
    options: Options,
) -> None:
    """Go on with the batch of JOURNAL, whatever ended it.

    Running tasks are waited for again, finished videos whose files are missing are downloaded, and
    only what surely was never sent is submitted. Everything is done as the batch was started, save
    for what is said here.
    """
    from apixo_async.batch.journal import read_options
    from apixo_async.batch.spending import Prices
    from apixo_async.cli.connecting import connected, ready_directory
    from apixo_async.cli.running import BatchPlan, BatchSession

    noted, open_jobs = read_options(journal)
    if noted.get("is_emulated") and options.base_url is None and not options.emulator:
        raise Fault(
            "this batch ran against a private emulator, which is gone with all its tasks",
            advice="say where its API is now: --base-url, or --emulator for a new one",
            code=exits.USAGE,
        )
    options = with_noted(options, noted)
    kept = noted.get("save_to")
    plan = BatchPlan(
        journal=journal,
        save_to=save_to or (None if kept is None else Path(kept)),
        prices=guards.prices or Prices(noted.get("prices") or {}),
        max_cost=_money(noted.get("max_cost")) if guards.max_cost is None else guards.max_cost,
        uncertain=guards.uncertain or noted.get("uncertain") or "keep",
        retry_codes=guards.retry_codes or tuple(noted.get("retry_codes") or ()),
        retries=guards.retries or noted.get("retries") or 1,
    )
    if plan.save_to is not None:
        ready_directory(plan.save_to)
    with connected(options) as connection:
        session = BatchSession(
            None, open_jobs, connection, plan, as_json=options.as_json, given=options
        )
        code = session.run()
    sys.exit(code)


def with_noted(options: Options, noted: dict[str, Any]) -> Options:
    """The options, those that were left out as the batch was started with."""
    names = (
        "requests_per_minute",
        "concurrent_tasks",
        "first_poll",
        "poll_every",
        "deadline",
        *(() if options.emulator else ("base_url",)),
    )
    changes = {
        name: noted[name]
        for name in names
        if getattr(options, name) is None and noted.get(name) is not None
    }
    return attrs.evolve(options, **changes)


def _money(text: object) -> Decimal | None:
    return None if text is None else Decimal(str(text))
