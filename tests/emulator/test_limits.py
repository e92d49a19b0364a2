from hypothesis import given
from hypothesis import strategies as st

from apixo_async.emulator.limits import WINDOW, RequestWindow


def test_the_window_slides() -> None:
    """A request counts for a minute from its own arrival, not until a minute's end."""
    window = RequestWindow(2)

    answers = [window.arrive(now) for now in (0, 50, 59.9, 60, 110.1)]

    assert answers == [True, True, False, False, False]
    assert window.arrive(200)


def test_refused_requests_count_as_well() -> None:
    """Who keeps knocking stays locked out; who waits a minute gets in."""
    window = RequestWindow(1)

    assert [window.arrive(now) for now in (0, 30, 60, 90)] == [True, False, False, False]
    assert window.arrive(90 + WINDOW)


def test_the_peak_is_kept() -> None:
    """The fullest window of all is remembered when it has passed."""
    window = RequestWindow(10)
    for now in (0, 1, 2, 100):
        window.arrive(now)

    assert window.peak == 3


@given(st.lists(st.floats(0, 300), max_size=60).map(sorted), st.integers(1, 20))
def test_the_window_agrees_with_counting_anew(times: list[float], limit: int) -> None:
    """Each answer is the one that counting all arrivals of the last minute would give."""
    window = RequestWindow(limit)
    for index, now in enumerate(times):
        count = sum(then > now - WINDOW for then in times[: index + 1])

        assert window.arrive(now) == (count <= limit)
