"""Values of an overview: where a job stands, percentiles, what is added up."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.overview import Durations, Kind, Overview, Standing, standing

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def kind(**changes: Any) -> Kind:  # noqa: ANN401  # its fields
    """Ten jobs of which nine were charged."""
    fields = {"model": "veo-3-1", "mode": "fast", "jobs": 10, "charges": 9, "price": None}
    return Kind(**{**fields, "durations": None, **changes})


def overview(**changes: Any) -> Overview:  # noqa: ANN401  # its fields
    """One job in every state, and nobody who owns the journal."""
    fields = {
        "at": NOW,
        "owner": None,
        "has_crashed": False,
        "states": dict.fromkeys(JobState, 1),
        "submits": 0,
        "retries": 0,
        "unsaved": 0,
        "expiring_count": 0,
        "expired_count": 0,
        "recent_rate": 0.0,
        "overall_rate": None,
        **dict.fromkeys(("kinds", "failures", "doubts", "expiring", "expired"), ()),
    }
    return Overview(**{**fields, **changes})


@pytest.mark.parametrize("is_owned", [True, False])
@pytest.mark.parametrize("state", JobState)
def test_every_state_stands_somewhere(state: JobState, is_owned: bool) -> None:
    """Only a submit on its way depends on whether its process lives."""
    other = standing(state, is_owned=not is_owned)

    assert (standing(state, is_owned=is_owned) == other) == (state is not JobState.SENDING)


@pytest.mark.parametrize(
    ("owner", "running", "uncertain"), [(None, 1, 2), ("process 1 on here", 2, 1)]
)
def test_the_sum_adds_up(owner: str | None, running: int, uncertain: int) -> None:
    """Every job is one of succeeded, failed, running, uncertain and not started."""
    seen = overview(owner=owner)

    assert seen.counts == {
        Standing.SUCCEEDED: 1,
        Standing.FAILED: 3,
        Standing.RUNNING: running,
        Standing.UNCERTAIN: uncertain,
        Standing.NOT_STARTED: 1,
    }
    assert sum(seen.counts.values()) == seen.total == len(JobState)


@pytest.mark.parametrize(
    ("states", "has_work"),
    [
        ({JobState.QUEUED: 1}, True),
        ({JobState.ACCEPTED: 1}, True),
        ({JobState.UNCERTAIN: 5, JobState.SENDING: 1, JobState.SUCCEEDED: 1}, False),
        ({}, False),
    ],
)
def test_doubts_alone_are_no_work_for_a_run(states: dict[JobState, int], has_work: bool) -> None:
    """A run submits what is queued and waits for what runs; doubts need a person."""
    assert overview(states=states).has_work is has_work


@pytest.mark.parametrize(
    ("seconds", "p50", "p95", "p99"),
    [
        ([7.0], 7.0, 7.0, 7.0),
        ([1.0, 2.0], 1.0, 2.0, 2.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0, 3.0),
        ([float(n) for n in range(1, 101)], 50.0, 95.0, 99.0),
        ([float(n) for n in range(1, 1_001)], 500.0, 950.0, 990.0),
        ([0.0, 0.0], 0.0, 0.0, 0.0),
    ],
)
def test_percentiles_are_times_that_occurred(
    seconds: list[float], p50: float, p95: float, p99: float
) -> None:
    """By nearest rank: the smallest time that so many of a hundred do not exceed."""
    assert Durations.of(seconds) == Durations(count=len(seconds), p50=p50, p95=p95, p99=p99)


def test_no_times_have_no_percentiles() -> None:
    """Nothing is made up before a job has ended."""
    assert Durations.of([]) is None


def test_costs_count_every_charge() -> None:
    """Failed and uncertain ones, too, because no document says that they are free."""
    fast = kind(price=Decimal("0.2"))
    slow = kind(mode="quality", charges=2, price=Decimal("1.5"))
    seen = overview(kinds=(fast, slow))

    assert fast.cost == Decimal("1.8")
    assert seen.charges == 11
    assert seen.known_cost == Decimal("4.8")
    assert seen.missing_prices == ()


def test_a_missing_price_is_named() -> None:
    """What is known is added up, what is not is named as an option takes it."""
    other = kind(model="other", mode=None)
    unsent = kind(mode="quality", charges=0)
    seen = overview(kinds=(kind(price=Decimal(1)), other, unsent))

    assert other.cost is None
    assert unsent.cost == 0
    assert seen.known_cost == 9
    assert seen.missing_prices == ("other",)


@pytest.mark.parametrize(
    ("cap", "next_price", "is_capped"),
    [
        (None, Decimal(1), False),
        (Decimal(1), None, False),
        (Decimal("9.9"), Decimal(1), True),
        (Decimal(10), Decimal(1), False),
        (Decimal("10.1"), Decimal(1), False),
    ],
    ids=["no cap", "no price", "more than the cap", "just the cap", "less than the cap"],
)
def test_a_cap_is_for_what_was_paid_and_the_next_job(
    cap: Decimal | None, next_price: Decimal | None, is_capped: bool
) -> None:
    """Nine dollars are spent, and the next one costs another."""
    seen = overview(kinds=(kind(price=Decimal(1)),), max_cost=cap, next_price=next_price)

    assert seen.is_capped is is_capped


@pytest.mark.parametrize(
    ("save_to", "unsaved", "expired", "has_work"),
    [(None, 2, 0, False), ("videos", 2, 0, True), ("videos", 2, 1, True), ("videos", 2, 2, False)],
)
def test_results_that_can_still_be_saved_are_work(
    save_to: str | None, unsaved: int, expired: int, has_work: bool
) -> None:
    """If they are to be saved at all, and their URLs work."""
    seen = overview(states={}, save_to=save_to, unsaved=unsaved, expired_count=expired)

    assert seen.has_work is has_work


def test_what_is_not_told_is_nothing() -> None:
    """No job with two tasks, no try that made none, no cap, and no next job."""
    seen = overview()

    assert (seen.doubled_count, seen.doubled, seen.not_sent) == (0, (), 0)
    assert (seen.max_cost, seen.next_kind, seen.next_price, seen.save_to) == (None,) * 4
