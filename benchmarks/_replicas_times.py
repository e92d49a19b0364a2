"""Where the time of a run went, by the record and by the emulator: pure answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import quantiles
from typing import Any

import attrs

from apixo_async.batch.journal import Entry


@attrs.frozen(kw_only=True)
class Times:
    """Seconds: medians, and what 99 of 100 are below. All is of one machine, so of one clock."""

    ramp: float
    """From the first POST until every slot was taken once."""
    posted: tuple[float, float]
    """From the record of a POST to that of its answer."""
    noticed: tuple[float, float]
    """From the end of a task to the record of it."""
    taken: tuple[float, float]
    """From the record of an end to the POST of the job that takes the slot."""


def times(entries: Sequence[Entry], tasks: Iterable[Mapping[str, Any]], slots: int) -> Times:
    """Of jobs that have all ended, each by one task."""
    ends = {task["id"]: task["ends_at"] / 1e3 for task in tasks}
    sent = sorted(_at(entry.sending_at) for entry in entries)
    ended = sorted(_at(entry.ended_at) for entry in entries)
    again = sent[slots:]
    return Times(
        ramp=sent[min(slots, len(sent)) - 1] - sent[0],
        posted=spread(_at(entry.accepted_at) - _at(entry.sending_at) for entry in entries),
        noticed=spread(_at(entry.ended_at) - ends[entry.task_id] for entry in entries),
        # Whichever slot it is: the n-th that is taken again is the n-th that was free.
        taken=spread(then - free for free, then in zip(ended, again, strict=False)),
    )


def spread(values: Iterable[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    found = list(values)
    cuts = quantiles(found, n=100, method="inclusive") if len(found) > 1 else [*found, 0.0] * 99
    return round(cuts[49], 3), round(cuts[98], 3)


def _at(stamp: str | None) -> float:
    assert stamp is not None
    return datetime.fromisoformat(stamp).timestamp()
