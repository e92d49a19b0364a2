"""A task that a broken answer names: it is asked about until the API says yes or no."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from apixo_async import PollSchedule, SubmitUncertainError, TextToVideo, UnansweredError
from apixo_async._wire import Reply
from tests.fakes import Answer, FakeApi, FakeTask, client_for, receiver, refusal
from tests.virtual import START, virtual

OCEAN = TextToVideo("a calm ocean")
UNAVAILABLE = refusal(503)


def cut(task_id: str) -> UnansweredError:
    """An answer that breaks off behind the id."""
    part = f'{{"code":200,"data":{{"taskId":"{task_id}"'
    return UnansweredError("it was closed", host="api.test", reason="reset", received=part)


def out_until(second: float, answer: Answer = UNAVAILABLE) -> Callable[[FakeTask], Answer]:
    """Status calls are answered so until then, and well from then on."""
    return lambda _: answer if now() < second else None


def now() -> float:
    """Seconds since the scenario began."""
    return asyncio.get_running_loop().time() - START


def damaged(**more: Any) -> FakeApi:  # noqa: ANN401  # as `FakeApi`
    """An API whose answers to submits break off behind the id."""
    api = FakeApi(on_submit=lambda *_: cut("task_1"), accept_anyway=True, duration=lambda _: 5_000)
    return attrs.evolve(api, **more)


calls_back = pytest.mark.parametrize("calls_back", [False, True], ids=["polling", "callbacks"])


def called_back(*, calls_back: bool) -> dict[str, Any]:
    """With a receiver, to which no callback comes."""
    return {"receiver": receiver(), "callbacks": lambda _: ()} if calls_back else {}


@calls_back
@pytest.mark.parametrize(
    "answer",
    [
        UNAVAILABLE,
        UnansweredError("no answer", host="api.test", reason="timeout"),
        refusal(429, retry_after="5"),
        Reply(200, b"{"),
    ],
    ids=["503", "no answer", "429", "garbage"],
)
@virtual
async def test_an_api_that_cannot_be_asked_is_asked_again(answer: Answer, calls_back: bool) -> None:
    """The id is in hand: the submit goes on until the API can say that it is the task."""
    api = damaged(on_status=out_until(300, answer), **called_back(calls_back=calls_back))
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        running = client.statistics().unfinished_tasks

    assert task.id == "task_1"
    assert 300 <= now() < 300 + 60 + 15  # a pause after 429, and the looks
    assert (len(api.submits), running) == (1, 1)


@virtual
async def test_a_candidate_that_is_denied_later_ends_the_submit() -> None:
    """Nobody will name another task: the error says that the API was asked."""
    api = damaged(accept_anyway=False)
    api.tasks["task_1"] = FakeTask("task_1", "of somebody else", 0.0, 0.0)
    api.on_status = lambda _: UNAVAILABLE if now() < 100 else refusal(404)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError, match="does not know") as caught:
            await client.submit(OCEAN)

    assert (caught.value.candidate_task_id, caught.value.candidate_denied) == ("task_1", True)
    assert 220 <= now() < 280


@virtual
async def test_a_candidate_that_is_denied_for_two_minutes_is_given_up() -> None:
    """One server of the API may be behind the others for a while."""
    api = damaged(accept_anyway=False)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert caught.value.candidate_denied
    assert 120 <= now() < 190


@pytest.mark.parametrize(
    "others",
    [UNAVAILABLE, refusal(429), Reply(404, b"<html>not here</html>"), refusal(403), refusal(422)],
    ids=["503", "429", "a page", "403", "422"],
)
@calls_back
@virtual
async def test_a_denial_among_other_answers_is_none(others: Answer, calls_back: bool) -> None:
    """Every answer of two minutes has to say so; an API that is unwell denies what it has."""
    answers = itertools.cycle([others, others, refusal(404)])
    api = damaged(
        on_status=lambda _: next(answers) if now() < 600 else None,
        **called_back(calls_back=calls_back),
    )
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert (len(api.submits), now() >= 600) == (1, True)


@calls_back
@virtual
async def test_a_candidate_that_is_unknown_at_first_is_found(calls_back: bool) -> None:
    """What the API denies of a task in its first minute is no verdict."""
    api = damaged(
        on_status=lambda _: refusal(404) if now() < 50 else None,
        **called_back(calls_back=calls_back),
    )
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert 50 <= now() < 70


@calls_back
@virtual
async def test_a_candidate_that_is_never_answered_for_is_not_denied(calls_back: bool) -> None:
    """After the deadline of the schedule the submit is uncertain, and the id still open."""
    api = damaged(on_status=lambda _: UNAVAILABLE, **called_back(calls_back=calls_back))
    async with client_for(api, schedule=PollSchedule(deadline=200)) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert (caught.value.candidate_task_id, caught.value.candidate_denied) == ("task_1", False)
    assert caught.value.open_candidate == "task_1"
    assert 200 <= now() < 230


@virtual
async def test_a_callback_is_still_waited_for_when_the_candidate_is_denied() -> None:
    """The task that it names later is found."""
    api = damaged(
        on_submit=lambda *_: cut("task_9"),
        receiver=receiver(),
        duration=lambda _: 300,
    )
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert 300 <= now() < 330


@virtual
async def test_a_callback_that_names_a_denied_candidate_has_it_asked_about_again() -> None:
    """The API may have known nothing of it yet."""
    api = damaged(receiver=receiver(), duration=lambda _: 300)
    answers = iter([UNAVAILABLE] * 4)
    api.on_status = lambda _: next(answers, refusal(404) if now() < 200 else None)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert 300 <= now() < 330


@virtual
async def test_asking_holds_no_post_and_no_closing() -> None:
    """A client that is closed meanwhile ends at once; the id is in the error."""
    api = damaged(on_status=lambda _: UNAVAILABLE)
    client = client_for(api)
    caller = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(100)
    in_flight, closing = client.statistics().submits_in_flight, now()
    await client.aclose()
    with pytest.raises(SubmitUncertainError) as caught:
        await caller

    assert (in_flight, now() - closing < 1) == (0, True)
    assert caught.value.open_candidate == "task_1"
