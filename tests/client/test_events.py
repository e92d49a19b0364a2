"""What a client tells its hook: every submit, task and request, each end once."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import attrs
import pytest

from apixo_async import (
    ApixoClient,
    ApixoError,
    BatchRunner,
    InvalidSettingError,
    Limits,
    NotSentError,
    PollSchedule,
    TaskTimeoutError,
    TextToVideo,
    UnansweredError,
    events,
)
from apixo_async.batch import events as batch_events
from apixo_async.client.telling import detection_delay
from apixo_async.events import ClientEvent
from apixo_async.tasks import Task, utc_from_milliseconds
from tests.fakes import BASE_URL, KEY, Answer, FakeApi, receiver, refusal
from tests.virtual import run_virtual, virtual

PROMPT = "a secret of the studio"
OCEAN = TextToVideo(PROMPT, mode="fast")
CUT = UnansweredError("cut", host="api.test", reason="reset")
UNREACHABLE = NotSentError("cannot reach api.test", host="api.test", reason="refused")
MODEL = OCEAN.model

ENDS_OF_SUBMITS = (events.Accepted, events.Rejected, events.Uncertain, events.NotStarted)
ENDS_OF_TASKS = (events.Succeeded, events.Failed, events.Released)


@attrs.define
class Heard:
    """A hook that keeps what it is told."""

    events: list[ClientEvent] = attrs.field(factory=list)

    def __call__(self, event: ClientEvent) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        """The kinds, in order."""
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[Any] | tuple[type[Any], ...]) -> list[Any]:
        """Those of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def client_telling(hook: Callable[[ClientEvent], object], api: FakeApi, **more: Any) -> ApixoClient:  # noqa: ANN401  # settings
    """A client whose network is the fake."""
    return ApixoClient(
        KEY, base_url=BASE_URL, transport=api, webhook=api.receiver, on_event=hook, **more
    )


@virtual
async def test_one_generation_from_its_slot_to_its_end() -> None:
    """All its events come in order, with the ids and numbers that lead from one to the other."""
    heard, api = Heard(), FakeApi(duration=lambda _: 93.0)
    async with client_telling(heard, api, schedule=PollSchedule(jitter=0)) as client:
        task = await client.generate(OCEAN)

    looks = heard.names()[4:-2]
    assert heard.names()[:4] == ["Opened", "Queued", "Requested", "Accepted"]
    assert looks == ["Requested"] * len(looks)
    assert heard.names()[-2:] == ["Succeeded", "Closed"]
    [queued], [accepted], [end] = map(heard.of, (events.Queued, events.Accepted, events.Succeeded))
    assert (queued.submit, queued.model, queued.mode, queued.key) == (1, MODEL, "fast", None)
    assert (accepted.submit, accepted.task_id, accepted.attempt) == (1, task.id, 1)
    assert end.task == task
    assert end.detection_delay == pytest.approx(end.age - 93.0, abs=0.1)


@virtual
async def test_a_request_is_told_with_all_that_is_known_of_it() -> None:
    """The verb, where it went, what came back, and how long it took and waited."""
    heard, api = Heard(), FakeApi(latency=0.5)
    async with client_telling(heard, api) as client:
        task = await client.submit(OCEAN)
        await client.status(task)
        await client.balance()

    submit, status, balance = heard.of(events.Requested)
    assert (submit.method, submit.call, submit.http_status) == ("POST", "submit", 200)
    assert (submit.submit, submit.attempt, submit.task_id) == (1, 1, task.id)
    assert submit.url == f"{BASE_URL}/api/v1/generateTask/{MODEL}"
    assert (status.method, status.call, status.task_id) == ("GET", "status", task.id)
    assert status.url == f"{BASE_URL}/api/v1/statusTask/{MODEL}?taskId={task.id}"
    assert (balance.call, balance.task_id, balance.model) == ("balance", None, None)
    assert all(one.error is None for one in (submit, status, balance))
    assert all(one.duration == pytest.approx(0.5, abs=0.01) for one in (submit, status, balance))


def refuse_first(answer: Answer, times: int = 1) -> Callable[[int, Mapping[str, Any]], Answer]:
    """The first submits get this answer."""
    return lambda number, _: answer if number <= times else None


@virtual
async def test_a_429_closes_the_gate_and_the_next_request_tells_how_long_it_waited() -> None:
    """The refusal is a request like others, the pause is told, and the wait is in the next one."""
    heard = Heard()
    api = FakeApi(on_submit=refuse_first(refusal(429, retry_after="7")))
    async with client_telling(heard, api) as client:
        await client.submit(OCEAN)

    first, second = heard.of(events.Requested)
    [paused] = heard.of(events.Paused)
    assert (first.http_status, first.error, first.attempt) == (429, "RateLimitedError", 1)
    assert paused.retry_after == 7
    assert paused.seconds >= 7
    assert (second.error, second.attempt) == (None, 2)
    assert second.waited == pytest.approx(paused.seconds, abs=0.1)


@virtual
async def test_a_limit_that_was_found_is_told() -> None:
    """An account of two tasks is noticed, and the client says so."""
    heard = Heard()

    def full(number: int, _: object) -> Answer:
        now = asyncio.get_running_loop().time()
        return refusal(429) if api.unfinished(now) >= 2 else None

    api = FakeApi(on_submit=full)
    async with client_telling(heard, api, limits=Limits(concurrent_tasks=8)) as client:
        await asyncio.gather(*(client.generate(OCEAN) for _ in range(6)))

    assert (2, 8) in [
        (one.value, one.configured) for one in heard.of(events.LimitFound) if one.limit == "tasks"
    ]


async def _left_early(client: ApixoClient, after: float) -> None:
    """Submits and leaves."""
    submit = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(after)
    submit.cancel()
    await asyncio.wait([submit])
    await asyncio.sleep(5)


SUBMITS: Mapping[str, tuple[Answer, float | None, str]] = {
    "accepted": (None, None, "Accepted"),
    "refused for good": (refusal(400), None, "Rejected"),
    "no balance": (refusal(402), None, "Rejected"),
    "answer lost": (CUT, None, "Uncertain"),
    "server error": (refusal(500), None, "Uncertain"),
    "unreachable": (UNREACHABLE, None, "NotStarted"),
    "left before it was sent": (refusal(429, retry_after="60"), 10.0, "NotStarted"),
    "left while it was sent": (None, 0.02, "Accepted"),
    "left, then lost": (CUT, 0.02, "Uncertain"),
    "left, then refused": (refusal(400), 0.02, "Rejected"),
    "left, then not sent": (UNREACHABLE, 0.02, "NotStarted"),
}


@pytest.mark.parametrize(("answer", "leaves", "end"), SUBMITS.values(), ids=SUBMITS.keys())
@pytest.mark.parametrize("is_called_back", [False, True], ids=["looks", "callbacks"])
@virtual
async def test_every_submit_ends_once(
    answer: Answer, leaves: float | None, end: str, is_called_back: bool
) -> None:
    """Whatever becomes of it and of its caller, one event says so."""
    heard = Heard()
    api = FakeApi(on_submit=lambda *_: answer, receiver=receiver() if is_called_back else None)
    async with client_telling(heard, api) as client:
        try:
            if leaves is None:
                await client.submit(OCEAN)
            else:
                await _left_early(client, leaves)
        except ApixoError:
            pass

    ends = [type(event).__name__ for event in heard.events if isinstance(event, ENDS_OF_SUBMITS)]
    assert ends == [end]
    assert heard.names().count("Queued") == 1
    assert len(heard.of(ENDS_OF_TASKS)) == int(end == "Accepted")


@virtual
async def test_a_submit_that_is_cut_is_uncertain() -> None:
    """A client that is torn down says of a POST on its way that nobody knows."""
    heard, api = Heard(), FakeApi(latency=10)
    client = client_telling(heard, api)
    submit = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(1)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(1)
    closing.cancel()
    await asyncio.wait([closing, submit])

    assert heard.names() == ["Opened", "Queued", "Requested", "Uncertain", "Closed"]
    assert heard.of(events.Requested)[0].error == "CancelledError"


@virtual
async def test_a_lost_submit_that_is_found_is_told_as_both() -> None:
    """First in doubt, then identified by its callback; its end is told as any other."""
    heard = Heard()
    api = FakeApi(on_submit=lambda *_: CUT, accept_anyway=True, receiver=receiver())
    async with client_telling(heard, api) as client:
        task = await client.submit(OCEAN)
        await client.wait(task)

    kinds = [name for name in heard.names() if name not in {"Requested", "CalledBack"}]
    assert kinds == ["Opened", "Queued", "Uncertain", "Identified", "Succeeded", "Closed"]
    assert heard.of(events.Identified)[0].submit == heard.of(events.Queued)[0].submit
    assert heard.of(events.CalledBack)[0].task_id == task.id


@virtual
async def test_a_task_that_failed_says_why() -> None:
    """The failed task is in the event, as the API described it."""
    heard, api = Heard(), FakeApi(failure=lambda _: "CONTENT_VIOLATION")
    async with client_telling(heard, api) as client:
        with pytest.raises(ApixoError):
            await client.generate(OCEAN)

    [failed] = heard.of(events.Failed)
    assert (failed.task.fail_code, failed.reason) == ("CONTENT_VIOLATION", "no")


@virtual
async def test_who_stops_waiting_ends_no_task() -> None:
    """A wait that times out is told; the task's end is told when it is seen."""
    heard, api = Heard(), FakeApi(duration=lambda _: 500.0)
    async with client_telling(heard, api) as client:
        task = await client.submit(OCEAN)
        with pytest.raises(TaskTimeoutError):
            await client.wait(task, timeout=100)
        before = heard.names().count("Succeeded")
        await client.wait(task)
        await client.wait(task)

    assert before == 0
    assert heard.of(events.TimedOut)[0].task.id == task.id
    assert heard.names().count("Succeeded") == 1


@pytest.mark.parametrize("reason", ["expired", "closed"])
@virtual
async def test_a_slot_that_is_given_up_is_told(reason: str) -> None:
    """Nobody saw the end of its task: the time of the slot is over, or the client's is."""
    heard, api = Heard(), FakeApi(duration=lambda _: 1e9)
    async with client_telling(heard, api) as client:
        task = await client.submit(OCEAN)
        if reason == "expired":
            await asyncio.sleep(3_700)

    [released] = heard.of(events.Released)
    assert (released.task_id, released.reason) == (task.id, reason)


@virtual
async def test_a_task_of_another_client_is_told_when_a_wait_sees_its_end() -> None:
    """It was not accepted here, so its age is not known."""
    heard, api = Heard(), FakeApi()
    async with ApixoClient(KEY, base_url=BASE_URL, transport=api) as other:
        task = await other.submit(OCEAN)
        async with client_telling(heard, api) as client:
            await client.wait(task.id)
            async for _ in client.watch(task.id):
                pass

    assert [one.age for one in heard.of(events.Succeeded)] == [None, None]


async def test_a_batch_names_its_jobs_and_adopts_its_tasks(tmp_path: Path) -> None:
    """Submits have the job's key; what an earlier run has submitted is told as adopted."""

    async def first() -> None:
        api.duration = lambda _: 1e9
        async with (
            ApixoClient(KEY, base_url=BASE_URL, transport=api) as client,
            BatchRunner(client, journal=tmp_path / "run.db").stream([OCEAN]),
        ):
            await asyncio.sleep(0.5)

    heard, api = Heard(), FakeApi(latency=0.001)
    await first()
    for task in api.tasks.values():
        task.ends_at = 0
    async with client_telling(heard, api, schedule=PollSchedule(first=0.01, interval=0.01)) as one:
        await BatchRunner(one, journal=tmp_path / "run.db").resume()
        api.duration = lambda _: 0
        await BatchRunner(one).run([OCEAN])

    assert [one.task_id for one in heard.of(events.Adopted)] == ["task_1"]
    assert len(heard.of(events.Succeeded)) == 2
    assert [bool(one.key) for one in heard.of(events.Queued)] == [True]


@pytest.mark.parametrize("error", [ValueError("of the hook"), asyncio.CancelledError()], ids=repr)
def test_a_hook_that_fails_changes_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The video is generated all the same, and the log has each failure."""

    def hook(_: ClientEvent) -> None:
        raise error

    async def main() -> Task:
        async with client_telling(hook, FakeApi()) as client:
            return await client.generate(OCEAN)

    task = run_virtual(main())

    assert task.has_succeeded
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {getattr(record, "apixo_event", None) for record in told} == {"hook_failed"}
    assert "Accepted" in {getattr(record, "apixo_hook", None) for record in told}


def test_a_hook_that_ends_the_program_tears_no_step() -> None:
    """`SystemExit` reaches whoever runs the loop, once the task that was told of is known."""
    heard = Heard()

    def hook(event: ClientEvent) -> None:
        heard(event)
        if isinstance(event, events.Accepted):
            raise SystemExit(3)

    async def main() -> None:
        async with client_telling(hook, FakeApi()) as client:
            await client.generate(OCEAN)

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())

    assert caught.value.code == 3
    assert [one.reason for one in heard.of(events.Released)] == ["closed"]


def test_a_hook_must_be_callable() -> None:
    """A list, say, is refused when the client is made."""
    heard: Any = []

    with pytest.raises(InvalidSettingError, match="on_event must be callable, got list"):
        client_telling(heard, FakeApi())


@virtual
async def test_no_event_holds_the_key_or_a_prompt() -> None:
    """What is told may be printed, logged and sent elsewhere."""
    heard = Heard()
    api = FakeApi(on_submit=refuse_first(refusal(429)))
    async with client_telling(heard, api) as client:
        await client.generate(OCEAN)
    told = repr(heard.events)

    assert KEY not in told
    assert PROMPT not in told


def _kinds(module: ModuleType) -> dict[str, type[Any]]:
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and attrs.has(kind)
        and not name.startswith("_")
        and kind.__module__ == module.__name__
    }


def test_names_that_batches_have_as_well_mean_the_same() -> None:
    """A field of an event has the type that it has in the batch's event of the same name.

    But for the key, which a single call has none of.
    """
    ours, theirs = _kinds(events), _kinds(batch_events)
    shared = ours.keys() & theirs.keys()

    assert shared >= {"Queued", "Accepted", "Rejected", "Uncertain", "Succeeded", "Failed"}
    for name in shared:
        here, there = get_type_hints(ours[name]), get_type_hints(theirs[name])
        same = (here.keys() & there.keys()) - {"key"}
        assert {field: here[field] for field in same} == {field: there[field] for field in same}


def test_every_kind_of_event_is_in_the_union() -> None:
    """Whoever matches over `ClientEvent` has seen all there are."""
    assert set(_kinds(events).values()) == set(get_args(ClientEvent))


@pytest.mark.parametrize(
    ("age", "ended", "delay"),
    [(95.0, 90_000, 5.0), (80.0, 90_000, 0.0), (None, 90_000, None), (95.0, None, None)],
)
def test_the_delay_is_what_the_server_did_not_work(
    age: float | None, ended: int | None, delay: float | None
) -> None:
    """By spans alone, never below 0, and `None` where one of them is not known."""
    task = Task(
        id="t",
        model=MODEL,
        created_at=utc_from_milliseconds(0),
        completed_at=None if ended is None else utc_from_milliseconds(ended),
    )

    assert detection_delay(task, age=age) == delay
