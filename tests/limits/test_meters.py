import pytest

from apixo_async.limits.meters import RecentRate, RequestMeter


@pytest.mark.parametrize(
    ("now", "expected"),
    [(100.0, 3), (159.0, 3), (159.5, 3), (160.0, 1), (160.9, 1), (161.0, 0), (1_000.0, 0)],
)
def test_the_meter_forgets_after_a_minute(now: float, expected: int) -> None:
    """Requests count for 60 s, to the second, without another request to push them out."""
    meter = RequestMeter()
    for moment in (100.0, 100.9, 101.0):
        meter.count(moment)

    assert expected == meter.last_minute(now)
    assert meter.total == 3


def test_the_meter_stays_small() -> None:
    """A million requests over a day take no more memory than a few minutes of them."""
    meter = RequestMeter()
    for number in range(100_000):
        meter.count(number * 0.864)

    assert meter.total == 100_000
    assert len(meter._seconds) == 180
    assert meter.last_minute(86_400.0) == pytest.approx(69, abs=2)
    assert meter.last(180, 86_400.0) == pytest.approx(208, abs=2)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(6, 130.0), (5, 161.0), (4, 171.0), (3, 171.0), (2, 181.0), (1, 181.0)],
)
def test_there_is_room_when_enough_is_a_minute_old(limit: int, expected: float) -> None:
    """With five requests of the last minute, room for a sixth is now, or when the oldest leave."""
    meter = RequestMeter()
    for moment in (20.0, 100.2, 110.0, 110.5, 120.3, 120.4):
        meter.count(moment)

    assert meter.room_at(limit, 130.0) == expected


def test_a_recent_rate_is_right_after_a_while_and_fades() -> None:
    """Two events a second are seen as such after a minute, and half of them 10 s after the last."""
    rate = RecentRate()
    for number in range(120):
        rate.count(number / 2)

    assert rate.per_second(59.75) == pytest.approx(2.0, rel=0.05)
    assert rate.per_second(70.1) == pytest.approx(1.0, rel=0.05)
    assert rate.per_second(1_000.0) == pytest.approx(0.0, abs=1e-9)


def test_nothing_has_no_rate() -> None:
    """Before the first event the rate is nought at any time."""
    assert RecentRate().per_second(12_345.0) == 0
    assert RecentRate().per_second(0.0) == 0


@pytest.mark.parametrize(
    ("events", "since", "now", "expected"),
    [
        (10, 100.0, 105.0, [2, 2, 2, 2, 2]),
        (3, 100.0, 105.0, [0, 1, 0, 1, 1]),
        (7, 105.2, 105.9, [0, 0, 0, 0, 7]),
        (0, 100.0, 105.0, [0, 0, 0, 0, 0]),
        (360, -900.0, 105.0, [2, 2, 2, 2, 2]),
    ],
    ids=["evenly", "few", "at once", "none", "longer than is remembered"],
)
def test_what_came_between_two_looks_is_spread_over_the_time(
    events: int, since: float, now: float, expected: list[int]
) -> None:
    """Second by second, and none is lost in rounding."""
    meter = RequestMeter()
    meter.spread(events, since, now)

    last = [meter.last(seconds, int(now)) for seconds in range(6)]
    assert [last[n] - last[n - 1] for n in (5, 4, 3, 2, 1)] == expected
    assert meter.total == events
