"""What a runner was told, as one value for its runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

import attrs

from apixo_async._places import Place
from apixo_async.batch.spending import Prices
from apixo_async.batch.story import Publish
from apixo_async.polling import PollSchedule


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a runner was told, for its runs; see `BatchRunner`."""

    schedule: PollSchedule
    deadline: float
    save_to: Place | None
    on_event: Publish | None
    journal: Path | None = None
    uncertain: Literal["keep", "resubmit"] = "keep"
    prices: Prices = attrs.field(factory=lambda: Prices({}))
    max_cost: Decimal | None = None
    retry_codes: Collection[str] = ()
    retries: int = 1
    notes: Mapping[str, object] = attrs.field(factory=dict[str, object])
