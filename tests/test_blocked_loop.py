"""Code that blocks the event loop makes all timers late; that is not taken for silence."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Job,
    Limits,
    OutcomeStatus,
    PollSchedule,
    SubmitUncertainError,
    TextToVideo,
    Timeouts,
)
from apixo_async._transport import patience as patience_module
from apixo_async._transport.patience import GRACE, patience
from apixo_async.batch import events
from apixo_async.emulator import EmulatorSettings
from apixo_async.testing import EmulatorThread
from tests import faults
from tests.fakes import FakeApi, client_for, widen
from tests.faults import Act, FaultServer, Seen, reply
from tests.virtual import VirtualLoop, virtual

OCEAN = TextToVideo("a calm ocean", mode="fast")
ACCEPTED = b'{"code":200,"message":"success","data":{"taskId":"t-1"}}'
SPEED = 240
SUBMIT = 1.5
BLOCKED = 2.0


class ThreadedServer(FaultServer):
    """Tells another thread when its first request has arrived."""

    def __init__(self, act: Act) -> None:
        super().__init__(act)
        self.arrived = threading.Event()
        self.has_answered = threading.Event()

    def note(self, seen: Seen) -> None:
        super().note(seen)
        self.arrived.set()


@contextmanager
def served(act: Act) -> Iterator[ThreadedServer]:
    """A server that goes on while the loop of the test is blocked."""
    server = ThreadedServer(act)
    loop = asyncio.new_event_loop()
    up, down = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server:
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()


@pytest.fixture
def generous(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come may be read for as long as a busy machine takes."""
    monkeypatch.setattr(patience_module, "GRACE", 30.0)


async def blocked_submit(server: ThreadedServer, *, is_answered: bool) -> str:
    """The id of a task whose submit was on its way when the loop was blocked for too long.

    If it `is_answered`, the loop is blocked until the answer is on its way as well.
    """
    client = ApixoClient("key", base_url=server.url, timeout=Timeouts(submit=SUBMIT))
    async with client:
        submit = asyncio.create_task(client.submit(OCEAN))
        await asyncio.to_thread(server.arrived.wait, 10)
        time.sleep(BLOCKED)  # noqa: ASYNC251  # somebody's callback does just that
        assert not is_answered or server.has_answered.wait(30)
        return (await submit).id


@pytest.mark.usefixtures("generous")
@pytest.mark.parametrize("padding", [0, 900_000], ids=["at once", "in many pieces"])
async def test_an_answer_that_came_while_the_loop_was_blocked_is_read(padding: int) -> None:
    """The submit's time is over when its timer can run at last, and its answer is here."""

    async def slowly(peer: faults.Peer) -> None:
        await peer.request()
        await asyncio.sleep(SUBMIT / 4)
        sending = asyncio.create_task(peer.send(reply(ACCEPTED + b" " * padding)))
        await asyncio.sleep(0)  # the first bytes leave
        server.has_answered.set()
        await sending
        await peer.stay()

    with served(slowly) as server:
        assert await blocked_submit(server, is_answered=True) == "t-1"

        assert server.methods == ["POST"]


async def test_silence_is_told_though_the_loop_was_blocked() -> None:
    """A server that says nothing gets a second more, once, and is asked nothing again."""
    with served(faults.silent) as server:
        with pytest.raises(SubmitUncertainError, match="timed out"):
            await blocked_submit(server, is_answered=False)

        assert server.methods == ["POST"]


def hold_up(seconds: float) -> None:
    """Moves the virtual clock while nothing else can run, as a blocking call does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._clock.now += seconds


async def time_until_over(seconds: float) -> float:
    """How long it takes until a wait without an answer is given up."""
    begin = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with patience(seconds):
            await asyncio.sleep(1_000)
    return asyncio.get_running_loop().time() - begin


@virtual
async def test_a_submit_gets_a_second_more_only_if_its_timer_was_late() -> None:
    """A loop that runs ends it to the moment; a blocked one when it has run for a second."""
    loop = asyncio.get_running_loop()
    assert await time_until_over(60) == pytest.approx(60, abs=0.01)

    loop.call_later(59, hold_up, 30)
    assert await time_until_over(60) == pytest.approx(89 + GRACE, abs=0.01)

    loop.call_later(59, hold_up, 30)
    loop.call_later(89 + GRACE / 2, hold_up, 30)
    assert await time_until_over(60) == pytest.approx(119 + 1.5 * GRACE, abs=0.01)


@virtual
async def test_a_submit_whose_answer_is_read_in_that_second_is_not_over() -> None:
    """However long the loop was blocked."""
    async with patience(60):
        hold_up(300)
        await asyncio.sleep(GRACE / 2)


@pytest.mark.parametrize("kind", [events.Queued, events.Sending, events.Accepted, events.Succeeded])
@virtual
async def test_a_callback_that_blocks_for_half_a_minute_costs_time_only(
    kind: type[events.Event],
) -> None:
    """At each step of each job: all succeed, are paid once, and nothing is refused."""
    api = FakeApi(duration=lambda number: 90.0 + number)
    prompts = [TextToVideo(f"prompt {n}") for n in range(20)]

    def on_event(event: events.Event) -> None:
        if isinstance(event, kind):
            hold_up(30)

    async with client_for(api, limits=Limits(concurrent_tasks=10)) as client:
        report = await BatchRunner(client, on_event=on_event).run(prompts)

    assert report.counts[OutcomeStatus.SUCCEEDED] == 20
    assert sorted(api.billed) == sorted(request.prompt for request in prompts)
    assert api.peak_unfinished <= 10


@pytest.mark.usefixtures("generous")
async def test_a_batch_whose_callback_blocks_again_and_again_is_paid_once(tmp_path: Path) -> None:
    """Longer than a submit may take, with many on their way: none is in doubt, none sent twice."""
    with EmulatorThread(
        EmulatorSettings(speed=SPEED, seed=7, latency="uniform:0.05:0.3")
    ) as emulator:
        jobs = [Job(TextToVideo(f"prompt {n}", mode="fast"), key=f"k{n}") for n in range(12)]

        accepted = itertools.count()

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.Accepted) and next(accepted) in {0, 3}:
                time.sleep(BLOCKED)

        client = ApixoClient(
            emulator.api_key,
            base_url=emulator.base_url,
            schedule=PollSchedule(first=90 / SPEED, interval=5 / SPEED, deadline=30),
            limits=Limits(requests_per_minute=10_000 * SPEED),
            timeout=Timeouts(submit=SUBMIT),
        )
        async with client:
            widen(client.engine.gate)
            journal = tmp_path / "run.db"
            report = await BatchRunner(client, journal=journal, on_event=on_event).run(jobs)

        assert report.counts[OutcomeStatus.SUCCEEDED] == len(jobs)
        assert emulator.ledger.billed_total == len(jobs)
        assert not emulator.ledger.billed_twice
