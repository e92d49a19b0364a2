"""When an outage is said to be over."""

from collections.abc import Sequence

import pytest

from apixo_async import (
    ApixoError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    ServerError,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async.client.outages import Outages

GAP = 5.0
GONE = NotSentError("gone", host="api.test", reason="refused")


def is_over(failures: Sequence[ApixoError], *, answered: float = 0.0, hung: int = 0) -> bool:
    """Whether an answer 10 s later ends an outage, after these failures since `answered`."""
    outages = Outages()
    outages.answered(now=answered, gap=GAP, hung=lambda: 0)
    for error in failures:
        outages.failed(error, now=9.0)
    return outages.answered(now=10.0, gap=GAP, hung=lambda: hung)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(GONE, True, id="not sent"),
        pytest.param(UnansweredError("cut", host="h", reason="reset"), True, id="unanswered"),
        pytest.param(ServerError("down", http_status=503, code=503), True, id="503"),
        pytest.param(UnexpectedAnswerError("a page"), True, id="page"),
        pytest.param(NotFoundError("unknown", http_status=404, code=404), False, id="404"),
        pytest.param(RateLimitedError("wait", http_status=429, code=429), False, id="429"),
    ],
)
def test_an_outage_is_what_is_no_answer_of_the_api(error: ApixoError, expected: bool) -> None:
    """A refusal says that the API is there."""
    assert is_over([error] * 2) is expected


@pytest.mark.parametrize(
    ("failures", "answered", "hung", "expected"),
    [
        pytest.param(0, 0.0, 0, False, id="nothing failed"),
        pytest.param(1, 0.0, 0, False, id="one failed"),
        pytest.param(2, 0.0, 0, True, id="two failed"),
        pytest.param(1, 0.0, 1, True, id="one failed, one hangs"),
        pytest.param(0, 0.0, 2, True, id="two hang"),
        pytest.param(9, 6.0, 9, False, id="others were answered meanwhile"),
    ],
)
def test_an_outage_is_over_when_the_first_look_after_it_is_answered(
    failures: int, answered: float, hung: int, expected: bool
) -> None:
    """Two looks at least have failed or hang, and for a whole interval none was answered."""
    assert is_over([GONE] * failures, answered=answered, hung=hung) is expected


def test_an_outage_ends_once() -> None:
    """The second answer after it is nothing new."""
    outages = Outages()
    outages.failed(GONE, now=1.0)
    outages.failed(GONE, now=2.0)

    assert outages.answered(now=10.0, gap=GAP, hung=lambda: 0)
    assert not outages.answered(now=20.0, gap=GAP, hung=lambda: 0)
