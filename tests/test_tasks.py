import pickle
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.tasks import RESULT_LIFETIME, TERMINAL, Task, TaskState, utc_from_milliseconds

DONE = datetime(2026, 1, 9, 13, 35, 30, 929_000, tzinfo=UTC)


def task(state: str, **fields: object) -> Task:
    """A task in some state."""
    return Task(id="t", model="veo-3-1", state=state, **fields)  # type: ignore[arg-type]  # any field


def test_the_states_are_the_documented_ones() -> None:
    """The enum has the four states of the page, and nothing that only the wild has shown."""
    assert [str(state) for state in TaskState] == ["pending", "processing", "success", "failed"]


@pytest.mark.parametrize(
    ("state", "terminal", "succeeded"),
    [
        ("pending", False, False),
        ("processing", False, False),
        ("success", True, True),
        ("failed", True, False),
        ("processing_r2", False, False),
        ("succeeded", False, False),
        ("fail", False, False),
        ("SUCCESS", False, False),
        ("cancelled", False, False),
        ("", False, False),
    ],
)
def test_only_success_and_failed_are_terminal(state: str, terminal: bool, succeeded: bool) -> None:
    """Every other string, also one that sounds final, means that the task still runs."""
    assert terminal == task(state).is_terminal
    assert succeeded == task(state).has_succeeded


@pytest.mark.parametrize("state", TaskState)
def test_a_state_and_its_string_are_the_same(state: TaskState) -> None:
    """A task that holds the plain string equals one that holds the enum's member."""
    assert task(state) == task(str(state))
    assert (state in TERMINAL) == (str(state) in TERMINAL)


def test_a_new_task_is_pending_and_empty() -> None:
    """What is known after a submit is the id and the model."""
    new = Task(id="t", model="veo-3-1")

    assert attrs.asdict(new) == {
        "id": "t",
        "model": "veo-3-1",
        "state": "pending",
        "urls": (),
        "fail_code": None,
        "fail_message": None,
        "created_at": None,
        "completed_at": None,
        "duration": None,
        "raw": {},
    }


def test_results_live_15_days() -> None:
    """The estimate is 15 days from completion, as the page says."""
    expected = datetime(2026, 1, 24, 13, 35, 30, 929_000, tzinfo=UTC)

    assert timedelta(days=15) == RESULT_LIFETIME
    assert expected == task("success", completed_at=DONE).expires_at


def test_without_completion_nothing_expires() -> None:
    """A task that never said when it ended has no estimate."""
    assert task("success").expires_at is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_completion_has_an_estimate_or_none(completed: datetime) -> None:
    """No time that fits into a task makes the estimate raise, not even the calendar's last."""
    expires = task("success", completed_at=completed).expires_at

    assert expires is None or expires - completed == timedelta(days=15)


def test_the_end_of_the_calendar_has_no_estimate() -> None:
    """A stamp in the year 9999, as broken answers hold, is shown, and expires nowhere."""
    last = utc_from_milliseconds(253_402_300_799_000)

    assert last == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert task("success", completed_at=last).expires_at is None


def test_a_task_is_a_value() -> None:
    """It cannot be changed, and survives pickling with everything it holds."""
    done = task("success", urls=("https://r2.apixo.ai/video.mp4",), completed_at=DONE, raw={"a": 1})
    twin = pickle.loads(pickle.dumps(done))  # noqa: S301  # our own bytes

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        done.state = "failed"  # type: ignore[misc]
    assert twin == done
    assert twin.raw == {"a": 1}


def test_raw_neither_counts_nor_shows() -> None:
    """Two snapshots that say the same are equal; a prompt echoed in `raw` stays out of logs."""
    first, second = task("success", raw={"a": 1}), task("success", raw={"b": "secret prompt"})

    assert first == second
    assert "secret prompt" not in repr(second)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_767_965_610_929, datetime(2026, 1, 9, 13, 33, 30, 929_000, tzinfo=UTC)),
        (1_767_965_730_929, DONE),
        (1_767_965_730_929.0, DONE),
        (1e18, None),
        (float("inf"), None),
        (float("nan"), None),
        (-1e18, None),
    ],
    ids=["epoch", "created", "completed", "float", "too late", "infinite", "nan", "too early"],
)
def test_stamps_are_milliseconds(stamp: float, expected: datetime | None) -> None:
    """The API's stamps are milliseconds in UTC; what lies outside the calendar is no time."""
    assert expected == utc_from_milliseconds(stamp)


@given(st.floats() | st.integers())
def test_no_stamp_raises(stamp: float) -> None:
    """Whatever number comes, the answer is a UTC time or nothing."""
    moment = utc_from_milliseconds(stamp)

    assert moment is None or moment.tzinfo is UTC
