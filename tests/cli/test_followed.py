"""The board of another process: what its journal says, as the figures that it shows itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.overview import Doubt, Failure, Kind, Overview
from apixo_async.batch.journal.reading import JournalReader
from apixo_async.batch.spending import Prices
from apixo_async.cli.eta import ENOUGH
from apixo_async.cli.followed import Times, failure_advice, figures_of, task_cap
from apixo_async.cli.money import Cost
from apixo_async.cli.reasons import Reason
from tests.cli.test_show import BEGAN, NOTHING, NOW, make_day

PRICES = Prices({"fast": "0.20"})
FAST = ("veo-3-1", "fast")
NO_TIMES = Times({}, {}, {})
RUNNING = attrs.evolve(
    NOTHING,
    owner="process 7 on here",
    states={
        JobState.QUEUED: 5,
        JobState.SENDING: 1,
        JobState.ACCEPTED: 2,
        JobState.SUCCEEDED: 4,
        JobState.FAILED: 1,
    },
    recent_rate=2.5,
)


def figures(overview: Overview = RUNNING, times: Times = NO_TIMES, **more: Any) -> Any:  # noqa: ANN401  # its fields
    """The figures of an overview."""
    usual: dict[str, Any] = {"prices": Prices(), "now": NOW, "cap": 3}
    given = {**usual, **more}
    return figures_of(overview, times, given.pop("prices"), **given)


def test_jobs_are_counted_where_they_are() -> None:
    """Each in one place; a result that is not saved yet is being saved, where that was asked."""
    seen = figures()
    saving = figures(attrs.evolve(RUNNING, save_to="v", unsaved=3, expired_count=1))

    assert (seen.total, seen.done, seen.running, seen.queued, seen.saving) == (13, 5, 3, 5, 0)
    assert (seen.succeeded, seen.failed, seen.uncertain) == (4, 1, 0)
    assert (saving.done, saving.saving, saving.succeeded, saving.saves) == (3, 2, 2, True)
    assert seen.per_minute == 2.5


def test_costs_are_shown_where_there_are_prices() -> None:
    """Beside the cap that is noted."""
    kind = Kind(
        model="veo-3-1", mode="fast", jobs=9, charges=8, price=Decimal("0.20"), durations=None
    )
    overview = attrs.evolve(RUNNING, kinds=(kind,), max_cost=Decimal(5))

    assert figures(overview, prices=PRICES).cost == Cost(Decimal("1.60"), Decimal(5))
    assert figures(overview).cost is None


@pytest.mark.parametrize(
    ("queued", "cap", "eta"),
    [
        pytest.param(0, 3, 100.0, id="the youngest runs to its end"),
        pytest.param(3, 3, 220.0, id="then those that wait, in the slots that are used"),
        pytest.param(3, 2, 220.0, id="no more of them than are allowed"),
    ],
)
def test_the_time_left_goes_by_ages_in_the_journal(queued: int, cap: int, eta: float) -> None:
    """Three run, and all that have ended took two minutes."""
    times = Times(
        {FAST: [120.0] * ENOUGH},
        {FAST: [NOW - timedelta(seconds=age) for age in (20, 50, 90)]},
        {FAST: queued} if queued else {},
    )
    states = {JobState.QUEUED: queued, JobState.ACCEPTED: 3}
    seen = figures(attrs.evolve(RUNNING, states=states), times, cap=cap)

    assert seen.eta == pytest.approx(eta, abs=60)
    assert (queued > 0) == (seen.eta > 120)


async def test_times_are_read_in_one_pass(tmp_path: Path) -> None:
    """What has ended with how long it took, what waits, and when it all began."""
    await make_day(tmp_path / "run.db")
    with JournalReader(tmp_path / "run.db") as reader:
        times = Times.of(reader.entries())

    assert times.ended == {FAST: [60, 90, 120, 90]}
    assert times.queued == {FAST: 1}
    assert times.accepted == {}
    assert times.began == BEGAN


def test_what_went_wrong_comes_with_what_to_do() -> None:
    """Doubts first; as in the process itself."""
    failure = Failure(
        state=JobState.FAILED, code="CONTENT_VIOLATION", reason="no", count=2, keys=("a", "b")
    )
    doubt = Doubt(
        key="d",
        sent_at=None,
        phase="sent",
        reason="reset",
        received="",
        received_bytes=0,
        candidate_task_id=None,
        attempts=1,
    )
    states = {JobState.UNCERTAIN: 3, JobState.FAILED: 2}
    overview = attrs.evolve(RUNNING, states=states, failures=(failure,), doubts=(doubt,))
    first, second = figures(overview).reasons

    assert (first.status, first.count, first.last) == ("uncertain", 3, "d")
    assert "account's history" in first.advice
    assert second == Reason(
        "failed",
        2,
        "CONTENT_VIOLATION: no",
        "change the prompt: the same one would be refused again",
        "b",
    )


@pytest.mark.parametrize(
    ("state", "code", "advice"),
    [
        (JobState.FAILED, "INVALID_IMAGE_URL", "give an image URL that anybody can open"),
        (JobState.FAILED, None, "change the request, or send it again"),
        (JobState.REJECTED, "400", "mend the request"),
        (JobState.ABANDONED, None, ""),
    ],
)
def test_each_ending_has_its_advice(state: JobState, code: str | None, advice: str) -> None:
    """What was abandoned was a decision."""
    failure = Failure(state=state, code=code, reason="x", count=1)

    assert failure_advice(failure).startswith(advice)
    assert bool(failure_advice(failure)) == bool(advice)


def test_the_cap_is_the_one_that_is_noted() -> None:
    """Else the documented one."""
    assert task_cap({"concurrent_tasks": 7}) == 7
    assert task_cap({"concurrent_tasks": None}) == 1_000
