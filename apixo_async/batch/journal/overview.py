"""What a journal says as a whole: frozen values, to be shown or compared."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, assert_never

import attrs

from apixo_async.batch.journal.entries import JobState
from apixo_async.batch.spending import price_name, times, total

WINDOW: Final = timedelta(minutes=5)
"""What "the last minutes" are."""
WARN_AFTER: Final = timedelta(days=12)
"""The age from which on results that are not all saved are warned about."""
LISTED: Final = 1_000
"""Jobs that an overview names, of each kind; all are counted."""


class Standing(enum.StrEnum):
    """Where a job stands for people; every job has exactly one."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Its task failed, the API refused it, or it was abandoned."""
    RUNNING = "running"
    """Its task is running at the API, or a living process is submitting it."""
    UNCERTAIN = "uncertain"
    """Nobody can say whether it has a task."""
    NOT_STARTED = "not_started"


def standing(state: JobState, *, is_owned: bool) -> Standing:
    """Where a job in this state stands; `is_owned` says whether a process owns the journal."""
    match state:
        case JobState.QUEUED:
            return Standing.NOT_STARTED
        case JobState.SENDING:
            return Standing.RUNNING if is_owned else Standing.UNCERTAIN
        case JobState.ACCEPTED:
            return Standing.RUNNING
        case JobState.UNCERTAIN:
            return Standing.UNCERTAIN
        case JobState.SUCCEEDED:
            return Standing.SUCCEEDED
        case JobState.FAILED | JobState.REJECTED | JobState.ABANDONED:
            return Standing.FAILED
        case _:  # pragma: no cover  # the checker knows
            assert_never(state)


@attrs.frozen(kw_only=True)
class Durations:
    """Seconds from acceptance to end, of each task as `tally.seconds_of` has it.

    Percentiles by nearest rank: the smallest time that at least p % of all do not exceed.
    """

    count: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Durations | None:
        """Their percentiles; `None` for no times at all."""
        ordered = sorted(seconds)
        if not ordered:
            return None
        p50, p95, p99 = (_nearest_rank(ordered, percent) for percent in (50, 95, 99))
        return cls(count=len(ordered), p50=p50, p95=p95, p99=p99)


def _nearest_rank(ordered: Sequence[float], percent: int) -> float:
    return ordered[math.ceil(percent * len(ordered) / 100) - 1]


@attrs.frozen(kw_only=True)
class Kind:
    """The jobs of one model and mode. `charges` are tasks that were made, or may have been."""

    model: str
    mode: str | None
    jobs: int
    charges: int
    price: Decimal | None
    """US dollars for one; `None` if nobody said."""
    durations: Durations | None

    @property
    def cost(self) -> Decimal | None:
        """An estimate in US dollars: failed and uncertain ones are taken to cost as much."""
        if not self.charges:
            return Decimal(0)
        return None if self.price is None else times(self.price, self.charges)


@attrs.frozen(kw_only=True)
class Failure:
    """Jobs that ended badly for the same reason. `code` is the API's, if it gave one."""

    state: JobState
    code: str | None
    reason: str
    count: int
    keys: tuple[str, ...] = ()
    """Of the first few."""


@attrs.frozen(kw_only=True)
class Doubt:
    """An uncertain job with everything that is known of its submit."""

    key: str
    sent_at: datetime | None
    phase: str
    reason: str
    received: str
    """What arrived of the answer, shortened."""
    received_bytes: int
    """How much arrived."""
    candidate_task_id: str | None
    attempts: int
    candidate_denied: bool = False
    """Whether the API was asked about it and does not know it."""


@attrs.frozen(kw_only=True)
class Doubled:
    """A job that something names tasks for beside its own; each of them may be billed."""

    key: str
    task_id: str | None
    others: tuple[str, ...]
    open_attempt: int | None = None
    """A later submit than the one that made its task, whose answer was lost."""


@attrs.frozen(kw_only=True)
class Expiry:
    """A success whose files are not all saved. `at` is when its URLs stop working."""

    key: str
    at: datetime


@attrs.frozen(kw_only=True)
class Overview:
    """A journal at one moment. `total` is the sum of its jobs by standing.

    `doubts`, `doubled`, `expiring` and `expired` name at most `LISTED` jobs each, the first of the
    journal.
    """

    at: datetime
    owner: str | None
    """The process that owns the journal, in words; `None` if none does."""
    has_crashed: bool
    """Whether the last owner ended without closing it."""
    states: Mapping[JobState, int]
    submits: int
    """POSTs that left, whatever was answered; but for those that were put off with a 429."""
    retries: int
    """Submits beyond the first of a job."""
    kinds: tuple[Kind, ...]
    failures: tuple[Failure, ...]
    """The most frequent first."""
    doubts: tuple[Doubt, ...]
    expiring_count: int
    expiring: tuple[Expiry, ...]
    expired_count: int
    expired: tuple[Expiry, ...]
    unsaved: int
    """Successes whose files are not all saved, by the record."""
    recent_rate: float
    """Jobs that ended, per minute, over the last `WINDOW`."""
    overall_rate: float | None
    """The same from the first submit to the last end; `None` before one has ended."""
    doubled_count: int = 0
    doubled: tuple[Doubled, ...] = ()
    """Jobs that more tasks may have been made for, by what callbacks and broken answers name."""
    not_sent: int = 0
    """Tries to submit that surely made no task: the POST did not leave, or was answered 429."""
    next_kind: tuple[str, str | None] | None = None
    """Model and mode of the first job that is not started; `None` if all are."""
    max_cost: Decimal | None = None
    """The cap in US dollars that is noted, if there is one."""
    save_to: str | None = None
    """Where results are saved, if that was asked for."""
    is_emulated: bool = False
    """Whether it ran against a private emulator, which ends with its process."""
    base_url: str | None = None
    """Where its API is, by the journal."""
    next_price: Decimal | None = None
    """What the first job that is not started costs; `None` if nobody said."""

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.states.values())

    @property
    def counts(self) -> Mapping[Standing, int]:
        """Jobs by standing; each is counted once."""
        counted = Counter[Standing]()
        for state, number in self.states.items():
            counted[standing(state, is_owned=self.owner is not None)] += number
        return {one: counted[one] for one in Standing}

    @property
    def charges(self) -> int:
        """Tasks that were made, or may have been."""
        return sum(kind.charges for kind in self.kinds)

    @property
    def known_cost(self) -> Decimal:
        """US dollars for all charges that have a price."""
        return total(kind.cost for kind in self.kinds if kind.cost is not None)

    @property
    def missing_prices(self) -> tuple[str, ...]:
        """Names that charges need a price for."""
        names = {price_name(k.model, k.mode) for k in self.kinds if k.cost is None}
        return tuple(sorted(names))

    @property
    def has_work(self) -> bool:
        """Whether a run would find something to submit, to wait for or to save."""
        counts = self.counts
        unsaved = 0 if self.save_to is None else self.unsaved - self.expired_count
        return bool(counts[Standing.NOT_STARTED] + counts[Standing.RUNNING] + unsaved)

    @property
    def is_capped(self) -> bool:
        """Whether the noted cap keeps the next job from being sent."""
        if self.max_cost is None or self.next_price is None:
            return False
        return total((self.known_cost, self.next_price)) > self.max_cost
