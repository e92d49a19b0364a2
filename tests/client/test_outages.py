"""When an outage is said to be over."""

import asyncio
from collections.abc import Sequence

import pytest

from apixo_async import (
    ApixoError,
    NotFoundError,
    NotSentError,
    PollSchedule,
    RateLimitedError,
    ServerError,
    TextToVideo,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async.client.outages import Outages
from tests.fakes import FakeApi, client_for
from tests.virtual import virtual

GAP = 5.0
OCEAN = TextToVideo("a calm ocean")
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


@virtual
async def test_two_ends_of_an_outage_in_a_row_call_everybody_back_once() -> None:
    """Whoever is being called back at that moment is left to it."""
    api = FakeApi()
    async with client_for(api) as client:
        asked = [asyncio.create_task(client.generate(OCEAN)) for _ in range(5)]
        await asyncio.sleep(100)
        watcher, now = client.engine._watcher, asyncio.get_running_loop().time()
        for watch in watcher._steps:
            watch.failures = 1
        for _ in range(4):
            watcher._call_back_to_work(now, GAP)
            await asyncio.sleep(0)
        tasks = await asyncio.gather(*asked)

    assert all(task.urls for task in tasks)


@virtual
async def test_an_answer_that_takes_longer_than_the_interval_is_waited_for() -> None:
    """A short interval makes no slow API an outage: no look that would be answered is cut."""
    api = FakeApi(latency=3.0, duration=lambda _: 20.0)
    schedule = PollSchedule(first=1.0, interval=0.5)
    async with client_for(api, schedule=schedule) as client:
        tasks = await asyncio.gather(*(client.generate(OCEAN) for _ in range(20)))

    assert all(task.urls for task in tasks)
    assert api.answered == api.statuses
