"""One submit, at most once."""

import asyncio
import json
import logging

import attrs
import pytest

from apixo_async import (
    ApixoError,
    AuthenticationError,
    BadRequestError,
    ClientUsageError,
    ExtendVideo,
    InsufficientCreditsError,
    InvalidRequestError,
    Limits,
    NotSentError,
    PollSchedule,
    SubmitUncertainError,
    Task,
    TextToVideo,
    UnansweredError,
)
from apixo_async._wire import Reply
from tests.fakes import Answer, FakeApi, client_for, envelope, refusal, widen
from tests.virtual import virtual

OCEAN = TextToVideo("a calm ocean")


def not_sent(reason: str = "refused") -> NotSentError:
    """The request never left."""
    return NotSentError("cannot reach api.test", host="api.test", reason=reason)


def unanswered(received: str = "") -> UnansweredError:
    """The request left, the answer did not come whole."""
    return UnansweredError("cut", host="api.test", reason="reset", received=received)


@attrs.define
class Recorder:
    """Notes the steps of a submit."""

    steps: list[str] = attrs.field(factory=list)
    known: set[str] = attrs.field(factory=set)

    async def sending(self, attempt: int) -> None:
        self.steps.append(f"sending {attempt}")

    async def not_sent(self, attempt: int, error: ApixoError) -> None:
        self.steps.append(f"not sent {attempt}")

    async def accepted(self, task: Task, answer: object) -> None:
        self.steps.append(f"accepted {task.id}")

    async def rejected(self, error: ApixoError) -> None:
        self.steps.append(f"rejected {type(error).__name__}")

    async def uncertain(self, error: SubmitUncertainError) -> None:
        self.steps.append("uncertain")

    async def denied(self, error: SubmitUncertainError) -> None:
        self.steps.append(f"denied {error.candidate_task_id}")

    async def held(self, error: SubmitUncertainError) -> None:
        self.steps.append("held")

    async def identified(self, task: Task) -> None:
        self.steps.append(f"identified {task.id}")

    def cut(self, error: SubmitUncertainError) -> None:
        self.steps.append("cut")

    def is_known(self, task_id: str) -> bool:
        return task_id in self.known


@virtual
async def test_submit_returns_the_pending_task() -> None:
    """A submit sends one POST and returns a snapshot with the id and the model."""
    api = FakeApi()
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task == Task(id="task_1", model="veo-3-1", state="pending")
    assert api.billed == ["a calm ocean"]


AMBIGUOUS = {
    "cut": unanswered(),
    "500": refusal(500),
    "503": refusal(503),
    "504 page": Reply(504, b"<html><body>Gateway Timeout</body></html>"),
    "500 in 200": envelope(None, code=500),
    "408": refusal(408),
    "409": refusal(409),
    "unknown code": envelope(None, code=999),
    "redirect": Reply(307, b""),
    "no task id": envelope({}),
    "null data": envelope(None),
    "empty id": envelope({"taskId": ""}),
    "html in 200": Reply(200, b"<html>welcome</html>"),
    "empty body": Reply(200, b""),
}


@pytest.mark.parametrize("answer", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not accepted"])
@virtual
async def test_an_ambiguous_answer_is_never_sent_again(
    answer: Reply | Exception, accepted: bool
) -> None:
    """Whatever cannot be read as acceptance or refusal ends as uncertain after one POST."""
    api = FakeApi(on_submit=lambda *_: answer, accept_anyway=accepted)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)
        held = client.statistics().gate.tasks

    assert len(api.submits) == 1
    assert caught.value.model == "veo-3-1"
    assert held == 1, "its task may be running, so its slot stays taken"


@virtual
async def test_an_uncertain_submit_gives_its_slot_back_after_the_stated_time() -> None:
    """The slot of an uncertain submit is free again after five usual durations, 600 s."""
    api = FakeApi(on_submit=lambda *_: unanswered())
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError):
            await client.submit(OCEAN)
        await asyncio.sleep(599)
        before = client.statistics().gate.tasks
        await asyncio.sleep(2)
        after = client.statistics().gate.tasks

    assert PollSchedule().uncertain_hold == 600
    assert (before, after) == (1, 0)


REFUSALS = {
    "400": (refusal(400, "prompt too long"), BadRequestError),
    "400 in 200": (envelope(None, code=400, message="bad"), BadRequestError),
    "no credits": (refusal(400, "Insufficient credits"), InsufficientCreditsError),
    "402": (refusal(402), InsufficientCreditsError),
    "401": (refusal(401), AuthenticationError),
    "401 in 200": (envelope(None, code=401), AuthenticationError),
}


@pytest.mark.parametrize(("answer", "error"), REFUSALS.values(), ids=REFUSALS.keys())
@virtual
async def test_a_refusal_is_final_and_frees_the_slot(
    answer: Reply, error: type[ApixoError]
) -> None:
    """A refusal is raised as its typed error after one POST, and the slot is free at once."""
    api = FakeApi(on_submit=lambda *_: answer)
    async with client_for(api) as client:
        with pytest.raises(error):
            await client.submit(OCEAN)
        held = client.statistics().gate.tasks

    assert len(api.submits) == 1
    assert held == 0


@virtual
async def test_what_was_not_sent_is_sent_again() -> None:
    """Submits that never left are repeated with growing pauses until one gets through."""
    api = FakeApi(on_submit=lambda number, _: not_sent() if number < 4 else None)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert len(api.submits) == 4


@virtual
async def test_a_first_submit_waits_until_what_prepares_it_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process without a free file descriptor cannot import; that is over when one is free."""
    left = [OSError(24, "Too many open files")] * 2

    def prepare() -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr("apixo_async.client.submission.prepare", prepare)
    api, steps = FakeApi(), Recorder()
    async with client_for(api) as client:
        lease = await client.engine.lease()
        task = await client.engine.submit(OCEAN, lease=lease, observer=steps)

    assert task.id == "task_1"
    assert steps.steps == ["sending 3", "accepted task_1"]


@virtual
async def test_an_unreachable_host_is_named_after_a_while() -> None:
    """A host that stays out of reach is given up after 15 s with an error that names it."""
    api = FakeApi(on_submit=lambda *_: not_sent())
    async with client_for(api) as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises(NotSentError, match=r"api\.test"):
            await client.submit(OCEAN)
        took = asyncio.get_running_loop().time() - started
        held = client.statistics().gate.tasks

    assert 15 <= took < 17
    assert held == 0


@virtual
async def test_a_certificate_that_is_not_trusted_is_not_tried_again() -> None:
    """A TLS failure is raised after one attempt, because repeating cannot help."""
    api = FakeApi(on_submit=lambda *_: not_sent("tls"))
    async with client_for(api) as client:
        with pytest.raises(NotSentError):
            await client.submit(OCEAN)

    assert len(api.submits) == 1


@virtual
async def test_a_429_is_waited_out() -> None:
    """A submit answered 429 is repeated after the time that the server asks for."""
    slow_down = refusal(429, "slow down", retry_after="7")
    api = FakeApi(on_submit=lambda number, _: slow_down if number == 1 else None)
    async with client_for(api) as client:
        await client.submit(OCEAN)

    first, second = api.submits
    assert 7 <= second - first <= 7.8


@virtual
async def test_a_task_id_in_a_cut_answer_is_confirmed_and_kept() -> None:
    """A whole task id in a broken answer is looked up; if the API knows it, it is the task."""
    cut = unanswered('{"code":200,"message":"success","data":{"taskId":"task_1"')
    api = FakeApi(on_submit=lambda *_: cut, accept_anyway=True)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert len(api.submits) == 1


@virtual
async def test_a_task_id_that_nobody_knows_stays_a_candidate() -> None:
    """An id from a broken answer that the API denies is kept on the error, and nothing is sent."""
    cut = unanswered('{"code":200,"data":{"taskId":"task_77"')
    api = FakeApi(on_submit=lambda *_: cut)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert caught.value.candidate_task_id == "task_77"
    assert len(api.submits) == 1


@virtual
async def test_a_cancelled_caller_does_not_lose_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """A caller cancelled with its POST on the way leaves at once; id and slot are kept."""
    api = FakeApi(latency=2.0)
    async with client_for(api) as client:
        with caplog.at_level(logging.WARNING, "apixo_async"):
            caller = asyncio.create_task(client.submit(OCEAN))
            await asyncio.sleep(0.5)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            in_flight = client.statistics().submits_in_flight
            await asyncio.sleep(5)
        statistics = client.statistics()

    assert in_flight == 1
    assert statistics.unfinished_tasks == 1
    assert "task_1" in caplog.text


@virtual
async def test_a_caller_cancelled_before_its_post_leaves_nothing_behind() -> None:
    """A caller cancelled while it waits for its turn sends nothing and gives its slot back."""
    api = FakeApi(latency=10.0)
    async with client_for(api, limits=Limits(concurrent_submits=1)) as client:
        first = asyncio.create_task(client.submit(OCEAN))
        await asyncio.sleep(1)
        second = asyncio.create_task(client.submit(OCEAN))
        await asyncio.sleep(1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await first
        held = client.statistics().gate.tasks

    assert len(api.submits) == 1
    assert held == 1


@virtual
async def test_cancelling_at_every_step_never_loses_a_slot_or_a_task() -> None:
    """Cancelled after any number of loop steps, a submit ends with a slot per task and no more."""
    for steps in range(1, 60):
        api = FakeApi(latency=0.0)
        async with client_for(api) as client:
            caller = asyncio.create_task(client.submit(OCEAN))
            for _ in range(steps):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            await asyncio.sleep(1)
            statistics = client.statistics()

        assert statistics.gate.tasks == statistics.unfinished_tasks == len(api.tasks)
        assert len(api.submits) <= 1


@virtual
async def test_closing_lets_posts_in_flight_be_answered() -> None:
    """`aclose` waits for the answers of POSTs on their way, then closes the network."""
    api = FakeApi(latency=20.0)
    client = client_for(api)
    caller = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(1)
    await client.aclose()

    assert (await caller).id == "task_1"
    assert api.is_closed


@virtual
async def test_a_closed_client_says_so() -> None:
    """Every verb of a closed client raises an error that says what to do, and sends nothing."""
    api = FakeApi()
    client = client_for(api)
    await client.aclose()
    await client.aclose()

    for call in (client.submit(OCEAN), client.status("task_1"), client.balance()):
        with pytest.raises(ClientUsageError, match="open a new one"):
            await call
    assert not api.requests


@virtual
async def test_posts_in_flight_are_bounded() -> None:
    """Of many submits at once, no more POSTs are on their way than `concurrent_submits`."""
    flying, peak = 0, 0

    class Counting(FakeApi):
        async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
            nonlocal flying, peak
            flying += 1
            peak = max(peak, flying)
            try:
                return await super().send(method, path, body=body)
            finally:
                flying -= 1

    api = Counting(latency=1.0)
    async with client_for(api, limits=Limits(concurrent_submits=5)) as client:
        await asyncio.gather(*(client.submit(OCEAN) for _ in range(50)))

    assert peak == 5
    assert len(api.tasks) == 50


@virtual
async def test_the_observer_sees_each_step_in_time() -> None:
    """An observer is told before the bytes leave and before the task is shown, try by try."""
    answers: list[Answer] = [not_sent(), refusal(429), None]
    api = FakeApi(on_submit=lambda number, _: answers[number - 1])
    seen = Recorder()
    async with client_for(api) as client:
        lease = await client.engine.lease()
        await client.engine.submit(OCEAN, lease=lease, observer=seen)

    expected = ["sending 1", "not sent 1", "sending 2", "not sent 2", "sending 3"]
    assert [*expected, "accepted task_1"] == seen.steps


@virtual
async def test_an_observer_that_cannot_record_stops_the_post() -> None:
    """When the record before the POST cannot be made, nothing is sent and the slot is free."""

    class Full(Recorder):
        async def sending(self, attempt: int) -> None:
            raise OSError(28, "No space left on device")

    api = FakeApi()
    async with client_for(api) as client:
        lease = await client.engine.lease()
        with pytest.raises(OSError, match="No space"):
            await client.engine.submit(OCEAN, lease=lease, observer=Full())
        held = client.statistics().gate.tasks

    assert not api.requests
    assert held == 0


@virtual
async def test_what_is_no_request_is_refused_before_anything_happens() -> None:
    """Submitting something else is a TypeError that names what can be submitted."""
    api = FakeApi()
    async with client_for(api) as client:
        with pytest.raises(TypeError, match="TextToVideo"):
            await client.submit("a calm ocean")  # type: ignore[arg-type]  # the mistake under test
        with pytest.raises(InvalidRequestError, match="callback_url"):
            await client.submit(OCEAN, callback_url="ftp://example.com")

    assert not api.requests


@virtual
async def test_a_callback_url_is_passed_on() -> None:
    """With `callback_url` the submit asks for a callback, as the page's example does."""
    api = FakeApi()
    async with client_for(api) as client:
        await client.submit(OCEAN, callback_url="https://your-server.com/callback")

    (body,) = api.bodies
    assert body["request_type"] == "callback"
    assert body["callback_url"] == "https://your-server.com/callback"


@virtual
async def test_one_id_is_never_taken_for_two_tasks() -> None:
    """A submit answered with the id of another task of ours is uncertain, running or ended."""
    api = FakeApi(on_submit=lambda *_: envelope({"taskId": "task_1"}), accept_anyway=True)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        with pytest.raises(SubmitUncertainError, match="another task"):
            await client.submit(OCEAN)
        await client.wait(task)
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert "task_1" in caught.value.reason
    assert caught.value.candidate_task_id is None, "it is another job's video"


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 503])
@pytest.mark.parametrize("code", [200, 400, 401, 429, 500])
@virtual
async def test_an_answer_with_a_task_id_is_no_refusal(status: int, code: int) -> None:
    """However an answer contradicts itself, a task id in it is confirmed and kept."""
    body = {"code": code, "message": "?", "data": {"taskId": "task_1"}}
    answer = Reply(status, json.dumps(body).encode())
    api = FakeApi(on_submit=lambda *_: answer, accept_anyway=True)
    async with client_for(api) as client:
        task = await client.submit(OCEAN)

    assert task.id == "task_1"
    assert len(api.submits) == 1


@virtual
async def test_a_refused_extension_may_quote_its_source() -> None:
    """The source's id in the refusal of an extension is not taken for a new task."""
    body = {"code": 400, "message": "expired", "data": {"taskId": "task_0"}}
    api = FakeApi(on_submit=lambda *_: Reply(400, json.dumps(body).encode()))
    async with client_for(api) as client:
        with pytest.raises(BadRequestError):
            await client.submit(ExtendVideo("on and on", task_id="task_0"))


@virtual
async def test_a_confirmed_task_keeps_its_slot() -> None:
    """A task saved from a broken answer holds its slot until it ends, however long that takes."""
    cut = unanswered('{"code":200,"data":{"taskId":"task_1"')
    api = FakeApi(
        duration=lambda _: 1500.0,
        on_submit=lambda number, _: cut if number == 1 else None,
        accept_anyway=True,
    )
    async with client_for(api, limits=Limits(concurrent_tasks=1)) as client:
        await asyncio.gather(client.generate(OCEAN), client.generate(TextToVideo("second")))

    assert api.peak_unfinished == 1


@virtual
async def test_closing_sends_nothing_new() -> None:
    """Submits that wait for their turn when the client closes are not sent, and say so."""
    api = FakeApi(latency=10.0)
    client = client_for(api, limits=Limits(concurrent_submits=2))
    widen(client.engine.gate)
    waiting = [asyncio.create_task(client.generate(OCEAN)) for _ in range(30)]
    await asyncio.sleep(1)
    await client.aclose()
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert len(api.submits) == 2
    assert all(isinstance(end, ClientUsageError) for end in ends)


@pytest.mark.parametrize("trouble", ["429", "slot"])
@virtual
async def test_closing_leaves_nobody_waiting(trouble: str) -> None:
    """Whoever waits for a slot or out a pause when the client closes is told at once."""
    pause = refusal(429, retry_after="100")
    api = FakeApi(on_submit=lambda *_: pause if trouble == "429" else unanswered())
    client = client_for(api, limits=Limits(concurrent_tasks=1))
    waiting = [asyncio.create_task(client.submit(OCEAN)) for _ in range(3)]
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    await client.aclose()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert asyncio.get_running_loop().time() - started < 0.1


@virtual
async def test_no_moment_of_cancellation_hides_a_task_id(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled after any number of loop steps, a task that was accepted is named in the log."""
    for steps in range(1, 80):
        caplog.clear()
        api = FakeApi(latency=0.0)
        async with client_for(api) as client:
            caller = asyncio.create_task(client.generate(OCEAN))
            for _ in range(steps):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            await asyncio.sleep(1)

        assert all(task_id in caplog.text for task_id in api.tasks), steps


@virtual
async def test_a_refused_post_of_a_cancelled_caller_frees_its_slot() -> None:
    """When the caller is gone and the API refuses, nothing runs and the slot is free."""
    api = FakeApi(latency=2.0, on_submit=lambda *_: refusal(400))
    async with client_for(api) as client:
        caller = asyncio.create_task(client.submit(OCEAN))
        await asyncio.sleep(0.5)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await asyncio.sleep(5)
        held = client.statistics().gate.tasks

    assert held == 0
