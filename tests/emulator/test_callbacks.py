from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from itertools import pairwise
from operator import gt
from typing import TYPE_CHECKING

import pytest

from apixo_async.emulator import callbacks
from apixo_async.emulator.callbacks import (
    FORGED_URL,
    RETRY_DELAYS,
    CallbackSender,
    Delivery,
    damaged,
    deliveries,
)
from apixo_async.emulator.clock import Clock
from apixo_async.emulator.rules import VEO, Submission
from apixo_async.emulator.tasks import Task
from tests.filehost import until

if TYPE_CHECKING:
    from tests.emulator.conftest import Receiver, Start
    from tests.hand import Hand

HOOK = "https://a.example/hook/secret"
CLOCK = Clock(60, lambda: 0.0, 0.0, epoch_ms=0)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is slow because the machine is busy is not taken for silent."""
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 30.0)


def planned(*faults: str, url: str | None = HOOK, duration: float = 100) -> list[Delivery]:
    """Return what a task with *faults* gives rise to."""
    task = Task("t", Submission(VEO, {}, url), 10, duration, 0.2, frozenset(faults))
    return list(deliveries(task, CLOCK, ["https://a.example/v.mp4"]))


def test_one_callback_comes_when_the_task_ends() -> None:
    """It carries the envelope of a status answer and goes where the submit said."""
    [delivery] = planned()

    assert (delivery.due, delivery.url, delivery.kind) == (110, HOOK, "final")
    assert json.loads(delivery.body) == {
        "code": 200,
        "message": "success",
        "data": {
            "taskId": "t",
            "state": "success",
            "resultJson": '{"resultUrls":["https://a.example/v.mp4"]}',
            "createTime": 10_000,
            "completeTime": 110_000,
            "costTime": 100_000,
        },
    }


@pytest.mark.parametrize(
    ("faults", "kinds"),
    [
        (["callback_lost"], []),
        (["callback_doubled"], ["final", "doubled"]),
        (["callback_reordered"], ["final", "reordered"]),
        (["callback_forged"], ["final", "forged", "forged"]),
        (["callback_lost", "callback_forged"], ["forged", "forged"]),
    ],
    ids=str,
)
def test_faults_change_what_is_sent(faults: list[str], kinds: list[str]) -> None:
    """Nothing, the same again, something out of order, or somebody else's work."""
    assert [delivery.kind for delivery in planned(*faults)] == kinds


def test_polling_and_endless_tasks_have_no_callback() -> None:
    """Nobody is called who did not ask for it, or before there is something to say."""
    assert planned(url=None) == planned(duration=math.inf) == []


def test_forged_callbacks_come_first() -> None:
    """One has the right URL and a foreign result, the other a damaged URL, both at half time."""
    _, real, wrong = planned("callback_forged")

    assert real.due == wrong.due == 60
    assert (real.url, wrong.url) == (HOOK, damaged(HOOK))
    assert FORGED_URL in json.loads(real.body)["data"]["resultJson"]


def test_a_reordered_callback_goes_back_in_time() -> None:
    """After the final state comes a callback that says the task is being processed."""
    final, late = planned("callback_reordered")

    assert late.due > final.due
    assert json.loads(late.body)["data"]["state"] == "processing"


@pytest.mark.parametrize("url", ["https://a.example/x0", "https://a.example/x1"])
def test_a_damaged_url_differs_in_one_character(url: str) -> None:
    """It is as long as the right one and not the right one."""
    assert damaged(url) != url
    assert damaged(url)[:-1] == url[:-1]


async def test_a_receiver_is_called_once(start: Start, receiver: Receiver) -> None:
    """The body says what the status says, and the ledger that it was delivered."""
    caller = await start()
    task_id = await caller.accepted(top=receiver.top)
    [body] = await receiver.wait_for(1)

    assert body["data"] == (await caller.status(task_id)).data
    await caller.until(lambda ledger: ledger.callbacks["delivered"] > 0)
    await asyncio.sleep(0.05)
    assert caller.emulator.ledger.callbacks == {"sent": 1, "delivered": 1}
    assert len(receiver.got) == 1


async def test_a_failure_is_called_back_with_code_200(start: Start, receiver: Receiver) -> None:
    """Code 200 says that the message is in order, not the task."""
    caller = await start(faults={"content_violation": 1})
    await caller.submit(top=receiver.top)
    [body] = await receiver.wait_for(1)

    assert (body["code"], body["data"]["state"]) == (200, "failed")
    assert body["data"]["failCode"] == "CONTENT_VIOLATION"


@pytest.mark.parametrize("status", [204, 302, 404, 500])
async def test_anything_but_200_is_repeated(start: Start, receiver: Receiver, status: int) -> None:
    """Not even another 2xx counts; the repetition is the same message."""
    caller = await start()
    receiver.statuses = [status]
    await caller.submit(top=receiver.top)
    first, second = await receiver.wait_for(2)
    await caller.until(lambda ledger: ledger.callbacks["delivered"] > 0)

    assert first == second
    assert caller.emulator.ledger.callbacks == {"sent": 2, "retried": 1, "delivered": 1}


async def test_after_three_repetitions_a_callback_is_given_up(
    start: Start, receiver: Receiver
) -> None:
    """Four attempts, later and later; then only polling helps."""
    caller = await start()
    receiver.statuses = [500] * 10
    task_id = await caller.accepted(top=receiver.top)
    await caller.until(lambda ledger: ledger.callbacks["failed"] > 0)

    assert len(receiver.got) == 4
    pauses = [later - earlier for earlier, later in pairwise(receiver.times)]
    assert all(map(gt, pauses, [delay / 6_001 for delay in RETRY_DELAYS]))
    assert caller.emulator.ledger.callbacks == {"sent": 4, "retried": 3, "failed": 1}
    assert (await caller.status(task_id)).data["state"] == "success"


async def test_a_silent_receiver_is_tried_again(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer within the patience is as bad as a wrong one."""
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 0.2)
    caller = await start()
    receiver.delay = 60.0
    await caller.submit(top=receiver.top)
    await receiver.wait_for(2)

    assert caller.emulator.ledger.callbacks["retried"] >= 1


async def test_nobody_there_is_no_disaster(start: Start) -> None:
    """A port where nobody listens is retried and given up like any other failure."""
    caller = await start()
    top = {"request_type": "callback", "callback_url": "http://127.0.0.1:9/x"}
    await caller.submit(top=top)
    await caller.until(lambda ledger: ledger.callbacks["failed"] > 0)

    assert caller.emulator.ledger.callbacks == {"sent": 4, "retried": 3, "failed": 1}


async def test_a_lost_callback_never_comes(start: Start, receiver: Receiver) -> None:
    """The task ends all the same, and the ledger knows what was lost."""
    caller = await start(faults={"callback_lost": 1})
    await caller.finished(await caller.accepted(top=receiver.top))
    await asyncio.sleep(0.05)

    assert receiver.got == []
    assert caller.emulator.ledger.callbacks == {"lost": 1}


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        ("callback_doubled", ["success", "success"]),
        ("callback_reordered", ["success", "processing"]),
        ("callback_forged", ["success", "success", "success"]),
    ],
)
async def test_strange_callbacks_reach_the_receiver(
    start: Start, receiver: Receiver, fault: str, states: list[str]
) -> None:
    """What the fault promises really arrives, and the ledger counts it by name."""
    caller = await start(faults={fault: 1})
    await caller.submit(top=receiver.top)
    bodies = await receiver.wait_for(len(states))
    await caller.until(lambda ledger: ledger.callbacks["delivered"] > 0)

    assert [body["data"]["state"] for body in bodies] == states
    assert caller.emulator.ledger.callbacks["delivered"] == 1
    name = fault.removeprefix("callback_")
    await caller.until(lambda ledger: ledger.callbacks[name] == len(states) - 1)
    if fault == "callback_forged":
        assert {path for path, _ in receiver.got} == {"/hook/secret", "/hook/secre0"}


async def test_an_early_callback_precedes_the_answer(start: Start, receiver: Receiver) -> None:
    """The receiver knows the task's id and end before the one who submitted it does."""
    caller = await start(faults={"callback_early": 1}, speed=1, durations="60")
    task_id = await caller.accepted(top=receiver.top)

    [(_, body)] = receiver.got
    assert (body["data"]["taskId"], body["data"]["state"]) == (task_id, "success")
    assert (await caller.status(task_id)).data["state"] == "success"
    assert caller.emulator.ledger.callbacks == {"early": 1, "sent": 1, "delivered": 1}


async def test_a_reset_forgets_what_was_to_be_sent(
    start: Start, receiver: Receiver, hand: Hand
) -> None:
    """No callback of a forgotten task disturbs what comes after."""
    caller = await start()
    await caller.submit(top=receiver.top)
    caller.emulator.reset()
    hand.seconds += 1.0
    await asyncio.sleep(0.1)

    assert receiver.got == []


async def test_closing_drops_what_is_not_due(start: Start, receiver: Receiver) -> None:
    """An emulator closes at once, whatever it still had to send in a minute."""
    caller = await start(speed=1, durations="60")
    await caller.submit(top=receiver.top)
    async with asyncio.timeout(30):
        await caller.emulator.__aexit__(None, None, None)

    assert receiver.got == []


async def test_the_earliest_is_sent_first() -> None:
    """Something due sooner than all that waits wakes the worker up."""
    clock = Clock.start(1, asyncio.get_running_loop().time)
    sender, counts = CallbackSender(clock), Counter[str]()
    worker = asyncio.create_task(sender.run())
    sender.schedule(Delivery(600, "http://127.0.0.1:9/late", b"{}", "late"), counts)
    await asyncio.sleep(0.01)
    sender.schedule(Delivery(0.02, "http://127.0.0.1:9/soon", b"{}", "soon"), counts)
    await until(lambda: counts["soon"] > 0)
    worker.cancel()
    await asyncio.wait({worker})

    assert counts == {"sent": 1, "soon": 1}
