"""What charts are drawn of: counted right, and few whatever the batch was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apixo_async.batch.journal import Traffic
from apixo_async.batch.report.figures import (
    PLACES,
    Point,
    binned,
    ended_over_time,
    nice_step,
    over_time,
    percentile,
)
from apixo_async.batch.report.wording import lasting, moment

BEGAN = datetime(2026, 1, 9, tzinfo=UTC)
ZERO = BEGAN.timestamp()


def sample(seconds: float, running: int) -> Traffic:
    """A sample with so many running tasks."""
    at = BEGAN + timedelta(seconds=seconds)
    return Traffic(at=at, running=running, task_cap=10, requests=0, request_limit=60)


def running(*samples: Traffic) -> list[Point]:
    """Running tasks over time, in seconds since the begin."""
    points = over_time(samples, lambda one: (one.running, one.task_cap))
    return [Point(one.at - ZERO, one.until - ZERO, one.value, one.bound) for one in points]


@pytest.mark.parametrize(
    ("span", "step"), [(40, 1), (41, 2), (100, 2.5), (0.4, 0.01), (0, 1.0), (7_000, 200)]
)
def test_steps_are_round(span: float, step: float) -> None:
    """The smallest round width that forty of cover the span with."""
    assert nice_step(span, 40) == pytest.approx(step)


def test_bins_count_what_lies_in_them() -> None:
    """From their start, included, to their end; what lies beyond all is left out."""
    bins = binned([0, 0.5, 1, 2.99, 3, -1], start=0, step=1, number=3)

    assert [(one.start, one.end, one.count) for one in bins] == [(0, 1, 2), (1, 2, 1), (2, 3, 1)]


def test_percentiles_are_of_the_nearest_rank() -> None:
    """As `apixo show` has them."""
    values = [float(number) for number in range(1, 101)]

    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 50) == 7


def test_sums_begin_at_the_begin_and_end_with_all() -> None:
    """However many ended when, in whatever order they come."""
    sums = ended_over_time([30.0, 10.0, 10.0], [20.0], (10.0, 30.0))

    assert len(sums) == PLACES + 1
    assert (sums[0].at, sums[0].succeeded, sums[0].failed) == (10.0, 2, 0)
    assert (sums[PLACES // 2].succeeded, sums[PLACES // 2].failed) == (2, 1)
    assert sums[-1].at == pytest.approx(30.0)
    assert sums[-1].succeeded == 3


def test_few_samples_are_shown_as_they_are() -> None:
    """Each until the next one."""
    found = running(sample(0, 1), sample(1, 5), sample(2, 3))

    assert [(one.at, one.until, one.value) for one in found] == [(0, 1, 1), (1, 2, 5), (2, 2, 3)]


def test_many_samples_are_put_together_without_losing_a_peak() -> None:
    """A limit that was passed for a moment is seen in a day."""
    samples = [sample(number, 99 if number == 50_001 else 5) for number in range(86_400)]

    found = running(*samples)

    assert len(found) <= PLACES + 1
    assert max(one.value or 0 for one in found) == 99


def test_a_night_without_a_run_stays_a_gap() -> None:
    """Nothing is drawn from one run to the next; samples that only are rare are no gap."""
    found = running(*(sample(number, 5) for number in (0, 1, 2, 30_000, 30_001)))

    assert [one.value for one in found if one.at == 2] == [None]
    assert not running()
    rare = [sample(number**2, 5) for number in range(200)]
    assert None not in {one.value for one in running(*rare)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (3_840, "1 h 4 min"),
        (270_000, "3 d 3 h"),
    ],
)
def test_spans_are_told_in_two_units(seconds: float, text: str) -> None:
    """The two largest, and nothing between them is left out."""
    assert lasting(seconds) == text


def test_moments_are_utc() -> None:
    """Also those that nobody knows."""
    assert moment(BEGAN) == moment(ZERO) == "2026-01-09 00:00:00 UTC"
    assert moment(None) == "an unknown time"
