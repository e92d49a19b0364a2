"""When the store is told what is held, and how many slots are asked for."""

import pytest

from apixo_async.limits.keeping import next_report, wanted_slots


@pytest.mark.parametrize(
    ("is_lost", "is_urgent", "is_useful", "expected"),
    [
        (False, False, False, 40.0),
        (False, False, True, 1.0),
        (False, True, False, 0.2),
        (False, True, True, 0.2),
        (True, False, False, 1.0),
        (True, True, True, 1.0),
    ],
)
def test_the_store_is_told_as_often_as_it_is_of_use(
    is_lost: bool, is_urgent: bool, is_useful: bool, expected: float
) -> None:
    """Rarely, or every second while slots change hands; a store that is away is not hurried."""
    when = next_report(
        1_000.0, lease=120.0, is_lost=is_lost, is_urgent=is_urgent, is_useful=is_useful
    )

    assert when == 1_000.0 + expected


def test_a_short_lease_is_renewed_in_time() -> None:
    """Three times before it would end, whatever else is or is not going on."""
    kinds = [(lost, useful) for lost in (False, True) for useful in (False, True)]
    moments = {
        next_report(0.0, lease=1.5, is_lost=lost, is_urgent=False, is_useful=useful)
        for lost, useful in kinds
    }

    assert moments == {0.5}


@pytest.mark.parametrize(
    ("held", "waiting", "begun", "found_cap", "expected"),
    [
        (0, 0, 0, 1_000, 0),
        (0, 1, 0, 1_000, 1),
        (7, 3, 0, 1_000, 10),
        (7, 0, 7, 1_000, 7),
        (7, 1, 7, 1_000, 22),
        (7, 3, 0, 8, 8),
        (7, 3, 9, 5, 7),
    ],
    ids=["idle", "one comes", "some wait", "all served", "more will come", "cap", "above the cap"],
)
def test_slots_are_asked_for_by_those_who_wait(
    held: int, waiting: int, begun: int, found_cap: int, expected: int
) -> None:
    """And for those who come after them, where they come one by one; never more than is of use."""
    assert expected == wanted_slots(held=held, waiting=waiting, begun=begun, found_cap=found_cap)
