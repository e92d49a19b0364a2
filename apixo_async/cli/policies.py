"""What bounds or allows spending: as it was said now, else as the journal has it noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import click

from apixo_async._places import Place
from apixo_async.batch import BatchRunner, events
from apixo_async.batch.journal import Noted
from apixo_async.batch.spending import MODES, VEO_MODELS, Prices, price_name
from apixo_async.cli import exits
from apixo_async.cli.callbacks import NO_NOTES, Callbacks
from apixo_async.cli.faults import Fault
from apixo_async.cli.guards import Guards
from apixo_async.cli.text import printable
from apixo_async.client import ApixoClient
from apixo_async.polling import PollSchedule

_NO_PRICE: Final = "nothing was sent; give the prices, or leave out --max-cost"
Kind = tuple[str, str | None]
"""A model and a mode: what prices go by."""


@attrs.frozen(kw_only=True)
class Policies:
    """What a run may spend, and on what, as `BatchRunner` takes it.

    `to_note` is what of `uncertain` later runs with this journal do alike.
    """

    prices: Prices = attrs.field(factory=Prices)
    max_cost: Decimal | None = None
    uncertain: Literal["keep", "resubmit"] = "keep"
    to_note: Literal["keep", "resubmit"] = "keep"
    retry_codes: tuple[str, ...] = ()
    retries: int = 1
    as_noted: tuple[str, ...] = ()
    """Options that are in force because they were noted, and were not said now."""

    def notes(self) -> Mapping[str, object]:
        """What the journal keeps for later runs."""
        return {
            "prices": {name: str(price) for name, price in self.prices.by_name.items()},
            "max_cost": None if self.max_cost is None else str(self.max_cost),
            "uncertain": self.to_note,
            "retry_codes": list(self.retry_codes),
            "retries": self.retries,
        }

    def check_prices(self, kinds: Iterable[Kind]) -> None:
        """Raises `Fault` naming every price that a cap needs for these kinds and has not got."""
        if self.max_cost is None:
            return
        missing = {price_name(*kind) for kind in kinds if self.prices.of_kind(*kind) is None}
        if missing:
            options = " ".join(f"--price {printable(name)}=USD" for name in sorted(missing))
            message = f"--max-cost needs the price of every job: give {options}"
            raise Fault(message, advice=_NO_PRICE, code=exits.USAGE)

    def warn_of_names(self, given: Prices, kinds: Iterable[Kind]) -> None:
        """Says on stderr which prices that were said now are for nothing that is asked for.

        Veo's own names are no mistakes: a list of prices may hold more than a file needs.
        """
        names = {name for model, mode in kinds for name in (price_name(model, mode), model)}
        for name in given.by_name:
            if name not in names | MODES | VEO_MODELS:
                fitting = ", ".join(map(printable, sorted(names))) or "none"
                click.echo(
                    f"warning: --price {printable(name)}=... is the price of no job here; "
                    f"names that are: {fitting}",
                    err=True,
                )

    def tell_noted(self, journal: Path | None) -> None:
        """Says on stderr what is in force although nobody said it now."""
        if journal is not None and self.as_noted:
            options = printable(", ".join(self.as_noted))
            click.echo(f"as noted in {printable(str(journal))}: {options}", err=True)


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What a batch is run with, beside the connection; as `BatchRunner` takes it."""

    journal: Path | None = None
    save_to: Place | None = None
    policies: Policies = attrs.field(factory=Policies)
    callbacks: Callbacks | None = None
    charged: Mapping[Kind, int] = attrs.field(factory=dict[Kind, int])
    """Tasks of earlier runs with this journal."""
    again: tuple[str, ...] = ()
    """Options of this run that a command which goes on has to say again."""

    def runner(
        self,
        client: ApixoClient,
        *,
        on_event: Callable[[events.Event], None],
        notes: Mapping[str, object],
        schedule: PollSchedule,
    ) -> BatchRunner:
        """The runner of this batch; `notes` are kept for `apixo resume`."""
        policies = self.policies
        callbacks = NO_NOTES if self.callbacks is None else self.callbacks.notes()
        return BatchRunner(
            client,
            journal=self.journal,
            save_to=self.save_to,
            uncertain=policies.uncertain,
            max_cost=policies.max_cost,
            prices=policies.prices,
            retry_codes=policies.retry_codes,
            retries=policies.retries,
            notes={**notes, **policies.notes(), **callbacks},
            on_event=on_event,
            schedule=schedule,
        )


def charged(noted: Noted | None) -> Mapping[Kind, int]:
    """Tasks that earlier runs made, or may have made, by kind."""
    tasks = Counter[Kind]()
    for group in () if noted is None else noted.groups:
        tasks[group.kind] += group.charges
    return tasks


def in_force(given: Guards, noted: Noted | None, *, is_resumed: bool) -> Policies:
    """The policies of a run: what was said now, and for what was not, what is noted.

    `uncertain` of a run that `is_resumed` counts for this run only.
    """
    past: Mapping[str, Any] = {} if noted is None else noted.options
    kept: Literal["keep", "resubmit"] = past.get("uncertain") or "keep"
    prices = Prices({**(past.get("prices") or {}), **given.prices.by_name})
    max_cost = _money(past.get("max_cost")) if given.max_cost is None else given.max_cost
    codes = given.retry_codes
    if codes is None:
        codes = tuple(past.get("retry_codes") or ())
    return Policies(
        prices=prices,
        max_cost=max_cost if max_cost is None or max_cost.is_finite() else None,
        uncertain=given.uncertain or kept,
        to_note=kept if is_resumed else given.uncertain or kept,
        retry_codes=codes,
        retries=given.retries or past.get("retries") or 1,
        as_noted=tuple(_as_noted(given, past)),
    )


def _as_noted(given: Guards, past: Mapping[str, Any]) -> Iterator[str]:
    if given.max_cost is None and past.get("max_cost") is not None:
        yield f"--max-cost {past['max_cost']}"
    prices: Mapping[str, object] = past.get("prices") or {}
    for name, price in prices.items():
        if name not in given.prices.by_name:
            yield f"--price {name}={price}"
    if given.uncertain is None and past.get("uncertain") == "resubmit":
        yield "--uncertain resubmit"
    codes = past.get("retry_codes") or ()
    if given.retry_codes is None:
        yield from (f"--retry-code {code}" for code in codes)
        if codes and given.retries is None:
            yield f"--retries {past.get('retries') or 1}"


def _money(text: object) -> Decimal | None:
    return None if text is None else Decimal(str(text))
