"""What a batch would be, before anything is paid: how many jobs, how long, what they cost.

Pure apart from reading the input file, which is walked once and never held.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, TypeVar

import attrs

from apixo_async._wire import fingerprint, request_input
from apixo_async.batch.inputs import JobFile, Problem
from apixo_async.batch.outcomes import Job
from apixo_async.batch.spending import VEO_MODELS, Budget, Money, Prices, price_name, times, total
from apixo_async.limits import Limits
from apixo_async.veo import Request

TASK_SECONDS: Final = 120.0
""" "average ~2 min" (Veo 3.1 page, tips), said of both modes alike; no document says how long other
models take."""
REQUESTS_PER_JOB: Final = 2
"""A submit and at least one look; further looks make way when the rate is short."""
DUPLICATES_SHOWN: Final = 10

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE asked (mark BLOB PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID;
BEGIN;
"""
"""One transaction without a way back: nothing here is kept, and rows are added much faster so."""

K = TypeVar("K")


@attrs.frozen(kw_only=True)
class Group:
    """Jobs of one kind. `type` is Veo's `generationType`; where there is none, the model."""

    model: str
    type: str
    mode: str | None
    jobs: int
    price: Decimal | None
    """US dollars for one; `None` if nobody said."""

    @property
    def cost(self) -> Decimal | None:
        """US dollars for all."""
        return None if self.price is None else times(self.price, self.jobs)


@attrs.frozen
class Duplicate:
    """A line that asks for the same thing as an earlier one; `first` is the first that did."""

    line: int
    first: int
    key: str


@attrs.frozen(kw_only=True)
class Plan:
    """What an input file asks for. With `problems` it cannot be run, and the rest is partial.

    `duplicates` are the first few of `duplicate_jobs` lines that ask for the same thing as an
    earlier line. Each of them is a job of its own and paid for: without a key, or with another
    one, the same request is meant twice.

    `seconds` is how long the batch may take, as `expected_seconds` has it. `affordable` is how many
    jobs from the top of the file `max_cost` (US dollars) pays for; it is `None` without a
    `max_cost`, and where a price is missing.
    """

    jobs: int
    groups: tuple[Group, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_jobs: int
    seconds: float
    max_cost: Decimal | None
    affordable: int | None
    problems: tuple[Problem, ...]

    @property
    def by_type(self) -> Mapping[str, int]:
        """Jobs by `generationType`, or by model where there is none."""
        return _summed((group.type, group.jobs) for group in self.groups)

    @property
    def by_mode(self) -> Mapping[str | None, int]:
        """Jobs by mode; `None` stands for those that have none."""
        return _summed((group.mode, group.jobs) for group in self.groups)

    @property
    def missing_prices(self) -> tuple[str, ...]:
        """The names to give a price for before the cost is known."""
        names = {price_name(group.model, group.mode) for group in self.groups if group.cost is None}
        return tuple(sorted(names))

    @property
    def known_cost(self) -> Decimal:
        """US dollars for the jobs whose price is known."""
        return total(group.cost for group in self.groups if group.cost is not None)

    @property
    def cost(self) -> Decimal | None:
        """US dollars for all jobs; `None` while a price is missing."""
        return None if self.missing_prices else self.known_cost

    @property
    def fits(self) -> bool | None:
        """Whether `max_cost` pays for all jobs; `None` if there is none, or nobody can say."""
        if self.max_cost is None:
            return None
        if self.known_cost > self.max_cost:
            return False  # whatever the missing prices are
        return None if self.missing_prices else True


def _summed(pairs: Iterable[tuple[K, int]]) -> Mapping[K, int]:
    sums = Counter[K]()
    for name, number in pairs:
        sums[name] += number
    return dict(sums)


def expected_seconds(jobs: int, limits: Limits) -> float:
    """How long so many jobs may take: a rule of thumb, in seconds.

    The last task takes `TASK_SECONDS`. Before it can begin, there are the waves of
    `concurrent_tasks` before its own, each as long as a task; or, if that is more, the time in
    which `requests_per_minute` lets all jobs make their `REQUESTS_PER_JOB`. Downloads and pauses
    that the API asks for come on top.
    """
    if not jobs:
        return 0.0
    earlier_waves = math.ceil(jobs / limits.concurrent_tasks) - 1
    requesting = jobs * REQUESTS_PER_JOB * 60 / limits.requests_per_minute
    return TASK_SECONDS + max(earlier_waves * TASK_SECONDS, requesting)


def make_plan(
    file: JobFile,
    *,
    limits: Limits | None = None,
    prices: Prices | None = None,
    max_cost: Money | None = None,
    duplicates_shown: int = DUPLICATES_SHOWN,
) -> Plan:
    """Walks the file once and tells what it asks for; nothing is sent.

    The file's own `limit` bounds the jobs that count; problems are looked for in all of it.
    `limits` default to the documented ones, `max_cost` is in US dollars. Memory grows with the
    kinds of jobs and with what is wrong, not with the number of jobs. Raises `InvalidSettingError`
    for a bad `max_cost`, and `OSError` if the file cannot be read.
    """
    survey = _Survey(Budget(max_cost, prices or Prices()), duplicates_shown)
    problems: list[Problem] = []
    with contextlib.closing(survey):
        for line in file.lines():
            problems += line.problems
            if line.job is not None and (file.limit is None or survey.jobs < file.limit):
                survey.take(line.job, line.number)
    groups = survey.groups()
    is_known = all(group.price is not None for group in groups)
    return Plan(
        jobs=survey.jobs,
        groups=groups,
        duplicates=tuple(survey.duplicates),
        duplicate_jobs=survey.duplicate_jobs,
        seconds=expected_seconds(survey.jobs, limits or Limits()),
        max_cost=survey.budget.max_cost,
        affordable=None if survey.budget.max_cost is None or not is_known else survey.affordable,
        problems=tuple(problems),
    )


class _Survey:
    """What is known of the jobs so far.

    The requests that were seen are in a nameless SQLite database, which moves to a temporary file
    when it grows.
    """

    def __init__(self, budget: Budget, duplicates_shown: int) -> None:
        self.budget = budget
        self.jobs = 0
        self.affordable = 0
        self.duplicate_jobs = 0
        self.duplicates: list[Duplicate] = []
        self._shown = duplicates_shown
        self._kinds = Counter[tuple[str, str, str | None]]()
        self._is_gone = False
        self._asked = sqlite3.connect("", isolation_level=None)
        self._asked.executescript(_SCHEMA)

    def take(self, job: Job, line: int) -> None:
        """Counts one more job, found in this line."""
        self.jobs += 1
        request = job.request
        self._kinds[request.model, _type_of(request), request.mode] += 1
        self._compare(job, line)
        # The first job that does not fit ends a batch, even if a later one would still fit.
        if not self._is_gone and self.budget.prices.of(request) is not None:
            self._is_gone = not self.budget.reserve(request)
            self.affordable += not self._is_gone

    def _compare(self, job: Job, line: int) -> None:
        # 128 bits, as bytes: what is smaller stays in memory longer.
        mark = bytes.fromhex(fingerprint(job.request)[:32])
        new = self._asked.execute(
            "INSERT INTO asked VALUES (?, ?) ON CONFLICT DO NOTHING", (mark, line)
        )
        if new.rowcount:
            return
        self.duplicate_jobs += 1
        if len(self.duplicates) < self._shown:
            (first,) = self._asked.execute(
                "SELECT line FROM asked WHERE mark = ?", (mark,)
            ).fetchone()
            self.duplicates.append(Duplicate(line, first, job.key or ""))

    def groups(self) -> tuple[Group, ...]:
        """The kinds of jobs by model, type and mode."""
        kinds = sorted(self._kinds.items(), key=lambda kind: (*kind[0][:2], kind[0][2] or ""))
        return tuple(
            Group(
                model=model,
                type=type_,
                mode=mode,
                jobs=jobs,
                price=self.budget.prices.of_kind(model, mode),
            )
            for (model, type_, mode), jobs in kinds
        )

    def close(self) -> None:
        """Frees the database."""
        self._asked.close()


def _type_of(request: Request) -> str:
    """Veo's name for this type of generation, else the model's."""
    if request.model not in VEO_MODELS:
        return request.model
    found = request_input(request).get("generationType")
    return found if isinstance(found, str) else request.model
