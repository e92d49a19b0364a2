import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.emulator.bound import list_schedule

durations_ = st.lists(st.integers(1, 100), max_size=50)
slots_ = st.integers(1, 10)


@pytest.mark.parametrize(
    ("durations", "slots", "end"),
    [
        pytest.param([], 3, 0, id="nothing"),
        pytest.param([5], 1, 5, id="one"),
        pytest.param([5, 5, 5], 3, 5, id="side-by-side"),
        pytest.param([5, 5, 5], 1, 15, id="one-after-another"),
        pytest.param([1, 9, 1, 1], 2, 9, id="short-ones-pass-a-long-one"),
        pytest.param([1, 1, 1, 9], 2, 10, id="order-is-kept"),
        pytest.param([5, math.inf, 5], 1, 10, id="endless-is-left-out"),
    ],
)
def test_jobs_start_on_the_slot_that_is_free_first(
    durations: list[float], slots: int, end: float
) -> None:
    """The end is that of list scheduling in the order given."""
    assert list_schedule(durations, slots) == end


@given(durations_, slots_)
def test_no_schedule_beats_the_work_or_the_longest_job(durations: list[int], slots: int) -> None:
    """The bound lies between the ideal and Graham's guarantee of less than twice that."""
    ideal = max([sum(durations) / slots, *durations], default=0)

    assert ideal <= list_schedule(durations, slots) <= 2 * ideal
