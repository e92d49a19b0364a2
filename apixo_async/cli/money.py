"""What a batch has cost so far, from tasks that were made, or may have been, and prices."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import attrs

from apixo_async.batch.spending import Prices, times, total
from apixo_async.cli.eta import Kind


@attrs.frozen
class Cost:
    """US dollars, estimated: failed and uncertain tasks are taken to cost as much as others."""

    known: Decimal
    """For all tasks that have a price."""
    cap: Decimal | None = None
    """The most that may be spent; `None` for no cap."""
    is_whole: bool = True
    """Whether every task has a price."""


def cost_of(charges: Mapping[Kind, int], prices: Prices, cap: Decimal | None) -> Cost | None:
    """The cost of so many tasks of each kind; `None` where nobody gave a price."""
    if not prices:
        return None
    priced = [(prices.of_kind(*kind), number) for kind, number in charges.items() if number > 0]
    known = total(times(price, number) for price, number in priced if price is not None)
    return Cost(known, cap, is_whole=all(price is not None for price, _ in priced))
