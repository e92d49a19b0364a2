"""The board of a batch that another process runs: an overview of its journal as figures. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from apixo_async._wire import task_failure
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal.overview import Failure, Overview, Standing
from apixo_async.batch.journal.tally import seconds_of
from apixo_async.batch.spending import Prices
from apixo_async.cli.eta import ENOUGH, Kind, Left, time_left
from apixo_async.cli.faults import advice_for
from apixo_async.cli.figures import Figures
from apixo_async.cli.money import Cost
from apixo_async.cli.reasons import Reason
from apixo_async.errors import SubmitUncertainError
from apixo_async.limits.settings import CONCURRENT_TASKS
from apixo_async.tasks import Task, TaskState

ADVICE_REFUSED: Final = "mend the request; the reason says what the API did not like"
ADVICE_DOUBT: Final = advice_for(SubmitUncertainError(model="", reason="")).text


@attrs.frozen
class Times:
    """How long tasks took, and since when others run; `began` is the first submit of all."""

    ended: Mapping[Kind, list[float]]
    accepted: Mapping[Kind, list[datetime]]
    queued: Mapping[Kind, int]
    began: datetime | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Times:
        """From one pass over a journal; of each kind the last that have ended count."""
        ended: dict[Kind, deque[Entry]] = {}
        accepted: dict[Kind, list[datetime]] = {}
        queued: dict[Kind, int] = {}
        first: str | None = None
        for entry in entries:
            kind = entry.model, entry.mode
            if entry.sending_at is not None and (first is None or entry.sending_at < first):
                first = entry.sending_at
            if entry.state is JobState.QUEUED:
                queued[kind] = queued.get(kind, 0) + 1
            elif entry.state is JobState.ACCEPTED and entry.accepted_at is not None:
                accepted.setdefault(kind, []).append(datetime.fromisoformat(entry.accepted_at))
            elif entry.state in {JobState.SUCCEEDED, JobState.FAILED}:
                ended.setdefault(kind, deque(maxlen=ENOUGH)).append(entry)
        began = None if first is None else datetime.fromisoformat(first)
        # Reading what was answered takes long, so only those are asked that count.
        lived = {
            kind: [seconds for seconds in map(_lived, last) if seconds is not None]
            for kind, last in ended.items()
        }
        return cls(lived, accepted, queued, began)

    def left(self, now: datetime, *, slots: int) -> Left:
        """How long it takes until all have ended, with so many tasks at a time at most."""
        running = {
            kind: [(now - at).total_seconds() for at in times]
            for kind, times in self.accepted.items()
        }
        return time_left(running=running, queued=self.queued, ended=self.ended, slots=slots)


def _lived(entry: Entry) -> float | None:
    """Seconds by our clock, and no time in which nobody looked: an emulator's may go faster."""
    told = seconds_of(entry)
    if told is None or entry.accepted_at is None or entry.ended_at is None:
        return told
    seen = datetime.fromisoformat(entry.ended_at) - datetime.fromisoformat(entry.accepted_at)
    return min(told, max(0.0, seen.total_seconds()))


def task_cap(noted: Mapping[str, Any]) -> int:
    """How many tasks may run at a time, as the batch was started."""
    return int(noted.get("concurrent_tasks") or CONCURRENT_TASKS)


def figures_of(
    overview: Overview, times: Times, prices: Prices, *, now: datetime, cap: int
) -> Figures:
    """The numbers of an overview, `times` at `now`; the same that the batch itself shows."""
    counts, saves = overview.counts, overview.save_to is not None
    saving = overview.unsaved - overview.expired_count if saves else 0
    succeeded = counts[Standing.SUCCEEDED] - saving
    failed, uncertain = counts[Standing.FAILED], counts[Standing.UNCERTAIN]
    left = times.left(now, slots=_slots(counts, cap))
    cost = Cost(overview.known_cost, overview.max_cost, is_whole=not overview.missing_prices)
    return Figures(
        total=overview.total,
        done=succeeded + failed + uncertain,
        running=counts[Standing.RUNNING],
        queued=counts[Standing.NOT_STARTED],
        saving=saving,
        succeeded=succeeded,
        failed=failed,
        uncertain=uncertain,
        eta=left.seconds,
        late=left.late,
        per_minute=overview.recent_rate,
        saves=saves,
        cost=cost if prices else None,
        reasons=tuple(_reasons(overview)),
    )


def _slots(counts: Mapping[Standing, int], cap: int) -> int:
    # Where jobs wait although slots are free, something else holds them up: as many go on.
    running = counts[Standing.RUNNING]
    return max(1, min(cap, running) if counts[Standing.NOT_STARTED] else running)


def _reasons(overview: Overview) -> Iterator[Reason]:
    doubts = overview.counts[Standing.UNCERTAIN]
    if doubts:
        first = overview.doubts[0]
        yield Reason("uncertain", doubts, first.reason, ADVICE_DOUBT, first.key)
    for failure in overview.failures:
        why = ": ".join(part for part in (failure.code, failure.reason) if part)
        yield Reason(
            str(failure.state),
            failure.count,
            why,
            failure_advice(failure),
            failure.keys[-1] if failure.keys else "",
        )


def failure_advice(failure: Failure) -> str:
    """What to do about jobs that ended so."""
    if failure.state is JobState.REJECTED:
        return ADVICE_REFUSED
    if failure.state is not JobState.FAILED:
        return ""
    task = Task(
        id="",
        model="",
        state=TaskState.FAILED,
        fail_code=failure.code,
        fail_message=failure.reason,
    )
    return advice_for(task_failure(task)).text
