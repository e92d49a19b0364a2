import re

import attrs
import pytest

from apixo_async.errors import InvalidSettingError
from apixo_async.limits import Limits


def test_the_defaults_are_the_documented_limits() -> None:
    """10,000 requests a minute and 1,000 tasks, as the page says; the rest is our choice."""
    assert attrs.asdict(Limits()) == {
        "requests_per_minute": 10_000,
        "concurrent_tasks": 1_000,
        "concurrent_submits": 32,
        "poll_share": None,
    }


def test_limits_are_given_by_name() -> None:
    """Two bare numbers would be mistaken for each other."""
    with pytest.raises(TypeError):
        Limits(60, 10)  # type: ignore[call-arg]  # that is the point


def len_of(value: int) -> str:
    """A name for a number that may be too long for one."""
    return f"{value.bit_length()} bits"


COUNTS = ["requests_per_minute", "concurrent_tasks", "concurrent_submits"]
WRONG_COUNTS: list[object] = [0, -1, 1.0, "10", None, True]
WRONG_SHARES: list[object] = [0, -0.1, 1.01, float("nan"), float("inf"), "0.6", True]


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", WRONG_COUNTS, ids=repr)
def test_a_count_is_a_whole_number_from_one(field: str, value: object) -> None:
    """Anything else cannot be built; the error names field, rule and value."""
    message = re.escape(f"{field} must be a whole number of at least 1, got {value!r}")
    with pytest.raises(InvalidSettingError, match=f"^{message}$"):
        Limits(**{field: value})  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("value", WRONG_SHARES, ids=repr)
def test_a_share_lies_between_0_and_1(value: object) -> None:
    """A share of nothing would stop all looks, one above 1 would promise what is not there."""
    message = re.escape(f"poll_share must be above 0 and at most 1, got {value!r}")
    with pytest.raises(InvalidSettingError, match=f"^{message}$"):
        Limits(poll_share=value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [10**9 + 1, 10**400, 10**5_000], ids=len_of)
def test_a_count_can_be_reckoned_with(field: str, value: int) -> None:
    """A number that no plan has is a mistake, and one that is too large for a float breaks sums."""
    with pytest.raises(InvalidSettingError, match=f"^{field} must be at most 1,000,000,000, got "):
        Limits(**{field: value})


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [1, 10**9])
def test_every_plan_fits(field: str, value: int) -> None:
    """The smallest and the largest plan can be written down."""
    assert getattr(Limits(**{field: value}), field) == value


@pytest.mark.parametrize("share", [1, 1.0, 0.001, None])
def test_polls_may_have_all_or_nearly_nothing_or_what_their_schedule_asks_for(
    share: float | None,
) -> None:
    """The ends of the range belong to it, as a whole number as well; `None` leaves it open."""
    assert share == Limits(poll_share=share).poll_share
