"""A client that is called back: what it knows at once, finds again, and never believes."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pytest

from apixo_async import (
    ApixoClient,
    Limits,
    NotSentError,
    PollSchedule,
    SubmitUncertainError,
    Task,
    TextToVideo,
    UnansweredError,
)
from apixo_async._wire import Claim
from apixo_async.client import Ticket
from apixo_async.client.reading import Reader
from apixo_async.webhooks import Callback, Slip
from tests.fakes import Answer, FakeApi, FakeTask, client_for, receiver, refusal
from tests.virtual import virtual

FOX = TextToVideo("a fox")
CUT = UnansweredError("the connection was closed", host="api.test", reason="reset")
OK = HTTPStatus.OK


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


def lost(*_: object) -> Answer:
    """The answer to a submit gets lost."""
    return CUT


# What ends is known at once


@virtual
async def test_the_end_of_a_task_is_known_when_it_is_called_back() -> None:
    """Two requests for a video: its submit, and the one look that the callback asks for."""
    api = FakeApi(receiver=receiver())
    async with client_for(api) as client:
        began = now()
        task = await client.generate(FOX)

    assert task.has_succeeded
    assert task.urls == ("https://files.test/task_1.mp4",), "by the API's answer"
    assert now() - began == pytest.approx(120.4, abs=0.1)
    assert (len(api.submits), api.called) == (1, [OK])
    assert api.statuses <= 2, "at 90 s nothing was known yet of how long tasks take"


@virtual
async def test_a_submit_asks_to_be_called_back() -> None:
    """`request_type` is that of callbacks, and the URL one of the receiver's."""
    api = FakeApi(receiver=receiver())
    async with client_for(api) as client:
        await client.submit(FOX)

    assert api.bodies[0]["request_type"] == "callback"
    assert api.bodies[0]["callback_url"].startswith("https://receiver.test/apixo/")


@virtual
async def test_a_url_of_the_callers_own_is_left_alone() -> None:
    """Who receives by himself is not interfered with."""
    api = FakeApi(receiver=receiver(), callbacks=lambda _: ())
    async with client_for(api) as client:
        await client.submit(FOX, callback_url="https://elsewhere.test/x")

    assert api.bodies[0]["callback_url"] == "https://elsewhere.test/x"


@virtual
async def test_a_lost_callback_costs_one_look_more() -> None:
    """The safety net looks every 45 s or so, from the documented first look on."""
    api = FakeApi(receiver=receiver(), callbacks=lambda _: ())
    async with client_for(api) as client:
        began = now()
        await client.generate(FOX)

    assert now() - began < 120 + 55
    assert api.statuses == 2


@virtual
async def test_two_callbacks_are_one() -> None:
    """What comes again says nothing new."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 30, callbacks=lambda _: (0.3, 0.3, 7))
    async with client_for(api) as client:
        await client.generate(FOX)
        await asyncio.sleep(10)

    assert api.statuses == 1
    assert api.called == [OK, OK, OK]


@virtual
async def test_a_stage_is_no_end() -> None:
    """Some models call back for each stage; nobody looks for that."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 60)
    async with client_for(api) as client:
        task = await client.submit(FOX)
        for second in (5, 10, 15):
            stage = {"taskId": task.id, "state": "first"}
            api.call_in(second, api.bodies[0]["callback_url"], stage)
        await client.wait(task)

    assert api.statuses == 1
    assert len(api.called) == 4


@virtual
async def test_a_callback_that_comes_too_early_is_looked_into_twice() -> None:
    """Whoever has found a URL in a log can make us look, at once and after 5 s, nothing more."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 80)
    async with client_for(api) as client:
        task = await client.submit(FOX)
        for second in (10, 11, 12):
            api.call_in(second, api.bodies[0]["callback_url"], {"taskId": task.id})
        ended = await client.wait(task)

    assert ended.has_succeeded
    assert api.statuses == 3


@virtual
async def test_an_outage_at_that_moment_costs_seconds() -> None:
    """A look that a callback asked for and that failed is made again soon."""

    def on_status(task: FakeTask) -> Answer:
        return refusal(503) if task.looks == 1 else None

    api = FakeApi(receiver=receiver(), duration=lambda _: 30, on_status=on_status)
    async with client_for(api) as client:
        began = now()
        await client.generate(FOX)

    assert now() - began < 30 + 15


@virtual
async def test_a_status_that_lags_behind_costs_seconds() -> None:
    """The callback comes before the API says so itself; one more look finds it."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 30, callbacks=lambda _: (-1.0,))
    async with client_for(api) as client:
        began = now()
        await client.generate(FOX)

    assert now() - began < 40


@virtual
async def test_a_slot_is_free_when_nobody_waits_for_its_task() -> None:
    """The next submit gets it although nobody has called `wait`."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 30)
    async with client_for(api, limits=Limits(concurrent_tasks=1)) as client:
        await client.submit(FOX)
        began = now()
        await client.submit(FOX)
        took = now() - began

    assert took < 30 + 6
    assert api.peak_unfinished == 1


@virtual
async def test_a_thousand_callbacks_at_once_stay_within_the_rate() -> None:
    """Each is answered, and the looks wait for their turn at the gate."""
    api = FakeApi(receiver=receiver(), duration=lambda number: 300 - number / 1000)
    async with client_for(api, limits=Limits(requests_per_minute=1200)) as client:
        tasks = await asyncio.gather(*(client.generate(FOX) for _ in range(1000)))

    assert all(task.has_succeeded for task in tasks)
    assert set(api.called) == {OK}
    busiest = max(
        sum(start <= at < start + 60 for at in api.requests) for start in api.requests[::50]
    )
    assert busiest <= 1200


@virtual
async def test_clients_share_a_receiver() -> None:
    """Each is told of its own tasks, and hears no more once it is closed."""
    shared = receiver()
    one, other = FakeApi(receiver=shared), FakeApi(receiver=shared, duration=lambda _: 60)
    async with client_for(one) as first:
        async with client_for(other) as second:
            await asyncio.gather(first.generate(FOX), second.generate(FOX))
        other.call_in(1, other.bodies[0]["callback_url"], {"taskId": "task_1"})
        await asyncio.sleep(2)

    assert other.called == [OK, OK]
    assert shared.statistics().orphans == 1


# A submit whose answer was lost


@virtual
async def test_a_lost_answer_is_made_up_for_by_the_callback() -> None:
    """The task is found, is waited for, and nothing is paid for twice."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        task = await client.generate(FOX)

        assert task.id == "task_1"
        assert client.statistics().gate.tasks == 0
    assert api.billed == ["a fox"]


@virtual
async def test_without_a_callback_it_is_uncertain_in_the_end() -> None:
    """After the deadline of the schedule, since no task runs longer."""
    api = FakeApi(receiver=receiver(), on_submit=lost)
    async with client_for(api, schedule=PollSchedule(deadline=900)) as client:
        began = now()
        with pytest.raises(SubmitUncertainError):
            await client.generate(FOX)

    assert now() - began == pytest.approx(900, abs=5)


@virtual
async def test_a_hanging_answer_is_not_waited_for() -> None:
    """A task that has ended already is known by its callback before its submit times out."""
    hanging = asyncio.Event()

    class Hanging(FakeApi):
        async def send(self, method: str, path: str, *, body: bytes | None = None) -> Any:  # noqa: ANN401
            reply = await super().send(method, path, body=body)
            if method == "POST":
                await hanging.wait()
            return reply

    api = Hanging(receiver=receiver(), duration=lambda _: 5)
    async with client_for(api) as client:
        began = now()
        task = await client.submit(FOX)

    assert task.id == "task_1"
    assert now() - began < 10
    assert api.statuses == 1  # what was confirmed is not asked about again: it might be denied


@virtual
async def test_an_answer_is_waited_for_while_the_api_denies_what_the_callback_names() -> None:
    """A server that lags behind, and an answer later than the callback: that is the one to know."""

    class Slow(FakeApi):
        async def send(self, method: str, path: str, *, body: bytes | None = None) -> Any:  # noqa: ANN401
            reply = await super().send(method, path, body=body)
            if method == "POST":
                await asyncio.sleep(20)
            return reply

    api = Slow(receiver=receiver(), duration=lambda _: 1, on_status=lambda _: refusal(404, "none"))
    async with client_for(api) as client:
        began = now()
        task = await client.submit(FOX)

    assert task.id == "task_1"
    assert now() - began == pytest.approx(20, abs=1)


@virtual
async def test_what_goes_wrong_with_a_look_says_nothing_of_the_submit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A submit that was sent must not be taken for one that was not, and be paid for again."""

    async def knows(*_: object, **__: object) -> bool:
        raise NotSentError("a look was not sent", host="api.test", reason="refused")

    class Slow(FakeApi):
        async def send(self, method: str, path: str, *, body: bytes | None = None) -> Any:  # noqa: ANN401
            reply = await super().send(method, path, body=body)
            if method == "POST":
                await asyncio.sleep(20)
            return reply

    monkeypatch.setattr(Reader, "knows", knows)
    api = Slow(receiver=receiver(), duration=lambda _: 1)
    async with client_for(api) as client:
        task = await client.submit(FOX)

    assert task.id == "task_1"
    assert api.billed == ["a fox"]


@virtual
async def test_a_callback_before_the_answer_does_no_harm() -> None:
    """The answer follows within the moment that it is given."""
    api = FakeApi(
        receiver=receiver(), duration=lambda _: 0.0, latency=1.0, callbacks=lambda _: (0,)
    )
    async with client_for(api) as client:
        began = now()
        task = await client.generate(FOX)

    assert task.id == "task_1"
    assert now() - began < 3
    assert api.statuses == 1


@virtual
async def test_an_id_that_the_api_does_not_know_is_not_believed() -> None:
    """A forged callback with a good URL names a task; only what the API confirms is ours."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        generating = asyncio.ensure_future(client.generate(FOX))
        await asyncio.sleep(1)
        api.call_in(1, api.bodies[0]["callback_url"], {"taskId": "forged"})
        task = await generating

    assert task.id == "task_1"


@virtual
async def test_a_task_of_another_submit_is_not_believed() -> None:
    """One task is never taken for the video of two jobs."""

    def on_submit(number: int, _: Mapping[str, Any]) -> Answer:
        return None if number == 1 else CUT

    api = FakeApi(receiver=receiver(), on_submit=on_submit, accept_anyway=True)
    async with client_for(api) as client:
        known = await client.submit(FOX)
        generating = asyncio.ensure_future(client.generate(FOX))
        await asyncio.sleep(1)
        api.call_in(1, api.bodies[1]["callback_url"], {"taskId": known.id})
        task = await generating

    assert task.id == "task_2"


@virtual
async def test_an_outage_does_not_make_a_true_id_false() -> None:
    """The API is asked until it answers."""

    def on_status(task: FakeTask) -> Answer:
        return refusal(503) if task.looks <= 20 else None

    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True, on_status=on_status)
    async with client_for(api) as client:
        task = await client.generate(FOX)

    assert task.id == "task_1"


@virtual
async def test_a_closing_client_does_not_wait_for_callbacks() -> None:
    """What is uncertain then is said to be."""
    api = FakeApi(receiver=receiver(), on_submit=lost)
    client = client_for(api)
    submitting = asyncio.ensure_future(client.submit(FOX))
    await asyncio.sleep(5)
    await client.aclose()

    with pytest.raises(SubmitUncertainError):
        await submitting


@virtual
async def test_a_cancelled_wait_for_a_callback_leaves_nothing_behind() -> None:
    """The slot is kept for the time that a task would take, and then free."""
    api = FakeApi(receiver=receiver(), on_submit=lost)
    async with client_for(api) as client:
        submitting = asyncio.ensure_future(client.submit(FOX))
        await asyncio.sleep(5)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        held = client.statistics().gate.tasks
        await asyncio.sleep(700)

        assert (held, client.statistics().gate.tasks) == (1, 0)


def test_a_receiver_is_checked_when_it_is_passed() -> None:
    """The URL alone is no receiver."""
    with pytest.raises(ValueError, match="webhook must be a WebhookReceiver, got str"):
        ApixoClient("key", webhook="https://example.com")  # type: ignore[arg-type]


@virtual
async def test_whoever_leaves_a_doubt_is_told_its_task_by_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller's timeout ends its wait; the id that comes later is not lost silently."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await client.generate(FOX)
        assert "is in doubt" in caplog.text
        await asyncio.sleep(100)

    assert "task task_1 is that of a submit that nobody waits for any more" in caplog.text


@virtual
async def test_a_second_task_of_a_submit_is_told_by_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a journal nothing else can keep it."""
    api = FakeApi(receiver=receiver())
    async with client_for(api) as client:
        task = await client.submit(FOX)
        await api.call(api.bodies[0]["callback_url"], b'{"data": {"taskId": "another"}}')
        await client.wait(task)

    assert "names task another beside task_1" in caplog.text


@virtual
async def test_one_task_is_not_found_twice() -> None:
    """Two lost submits whose URLs both name it: one of them waits on for its own."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        both = [asyncio.ensure_future(client.generate(FOX)) for _ in range(2)]
        await asyncio.sleep(1)
        for body in api.bodies:
            api.call_in(1, body["callback_url"], {"taskId": "task_1"})
        found = await asyncio.gather(*both)

    assert {task.id for task in found} == {"task_1", "task_2"}


@virtual
async def test_a_submit_that_was_refused_and_accepted_is_not_sent_again() -> None:
    """A callback that comes while the 429 is waited out proves that it was accepted."""
    api = FakeApi(
        receiver=receiver(),
        on_submit=lambda number, _: refusal(429, retry_after="30") if number == 1 else None,
        accept_anyway=True,
        duration=lambda _: 10,
    )
    async with client_for(api) as client:
        task = await client.generate(FOX)

    assert task.id == "task_1"
    assert (len(api.submits), len(api.billed)) == (1, 1)


@virtual
async def test_what_a_callback_names_counts_while_it_is_being_recorded() -> None:
    """A submit that would leave meanwhile does not; what could not be recorded comes again."""
    kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def record(_: object) -> None:
        await kept

    ticket = Ticket("job", lambda _: "", attempts=2, record=record)
    keeping = asyncio.ensure_future(ticket.keep(Callback(Slip("job", 1), Claim("t1", "success"))))
    await asyncio.sleep(0)
    meanwhile = ticket.named(of_any=True)
    kept.set_exception(OSError("full"))
    await asyncio.gather(keeping, return_exceptions=True)

    assert meanwhile == "t1"
    assert ticket.named(of_any=True) is None


@virtual
async def test_a_callback_of_what_the_api_denies_leaves_a_doubt() -> None:
    """Whoever has the URL of a submit says so, and nobody pays on one word against the other."""
    api = FakeApi(
        receiver=receiver(),
        on_submit=lambda *_: refusal(429, retry_after="30"),
        accept_anyway=False,
    )
    async with client_for(api, schedule=PollSchedule(deadline=300)) as client:
        submitting = asyncio.ensure_future(client.submit(FOX))
        await asyncio.sleep(1)
        api.call_in(0.0, api.bodies[0]["callback_url"], {"taskId": "forged"})
        with pytest.raises(SubmitUncertainError, match="named a task of an earlier"):
            await submitting

    assert len(api.submits) == 1


@virtual
async def test_forged_ids_do_not_crowd_out_the_true_one() -> None:
    """What the API has denied makes room."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        generating = asyncio.ensure_future(client.generate(FOX))
        await asyncio.sleep(1)
        for number in range(40):
            api.call_in(number, api.bodies[0]["callback_url"], {"taskId": f"forged{number}"})
        task = await generating

    assert task.id == "task_1"


@virtual
async def test_a_url_that_was_called_too_often_still_finds_the_task() -> None:
    """One forged id after the other, each denied before the next: then the true one."""
    api = FakeApi(receiver=receiver(), duration=lambda _: 500, on_submit=lost, accept_anyway=True)
    async with client_for(api) as client:
        generating = asyncio.ensure_future(client.generate(FOX))
        await asyncio.sleep(1)
        for number in range(20):
            api.call_in(20 * number, api.bodies[0]["callback_url"], {"taskId": f"forged{number}"})
        task = await generating

    assert task.id == "task_1"


@virtual
async def test_nothing_is_left_of_submits_that_never_left() -> None:
    """Cancelled in line, or refused: nobody listens for them any more."""
    api = FakeApi(receiver=receiver(), on_submit=lambda *_: refusal(400))
    async with client_for(api, limits=Limits(requests_per_minute=60)) as client:
        waiting = [asyncio.ensure_future(client.submit(FOX)) for _ in range(100)]
        await asyncio.sleep(3)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(1)

        assert client.engine.callbacks is not None
        assert not client.engine.callbacks._tickets


@virtual
async def test_what_is_logged_names_no_url(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the log cannot call back."""
    api = FakeApi(receiver=receiver(), on_submit=lost, accept_anyway=True)
    with caplog.at_level(logging.DEBUG, logger="apixo_async"):
        async with client_for(api) as client:
            await client.generate(FOX)

    token = api.bodies[0]["callback_url"].rpartition("/")[2]
    assert token.rpartition(".")[2] not in caplog.text


def test_a_task_says_nothing_of_callbacks() -> None:
    """How it became known is not part of what it is."""
    assert "callback" not in repr(Task(id="t", model="m")).lower()
