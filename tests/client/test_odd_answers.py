"""Answers, callbacks and clocks that make no sense: each costs time, or is stated."""

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Self

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Limits,
    SubmitUncertainError,
    TaskFailedError,
    TextToVideo,
)
from apixo_async._wire import Reply
from apixo_async.limits.buckets import bucket_size
from tests.fakes import FakeApi, FakeTask, client_for, envelope, receiver, refusal
from tests.limits.judges import worst_window
from tests.virtual import run_virtual, virtual

OCEAN = TextToVideo("a calm ocean")
WHOLE = b'{"code":200,"message":"success","data":{"taskId":"task_1"}}'


@virtual
async def test_a_submit_s_answer_cut_anywhere_is_a_task_or_a_doubt() -> None:
    """From the byte that ends the id on, the task is kept; before, nobody can say."""
    kept: list[int] = []
    for length in range(len(WHOLE)):
        api = FakeApi(on_submit=lambda *_, n=length: Reply(200, WHOLE[:n]), accept_anyway=True)
        async with client_for(api) as client:
            try:
                task = await client.submit(OCEAN)
            except SubmitUncertainError as error:
                assert error.received == WHOLE[:length].decode().strip()  # noqa: PT017
                assert error.received_bytes == length  # noqa: PT017
            else:
                assert task.id == "task_1"
                kept.append(length)
        assert len(api.submits) == 1

    assert kept == list(range(WHOLE.index(b'task_1"') + 7, len(WHOLE)))


USELESS: dict[str, object] = {
    "no data": None,
    "no id": {},
    "null": {"taskId": None},
    "empty": {"taskId": ""},
    "a list": {"taskId": ["task_1"]},
    "a truth": {"taskId": True},
    "10 kB": {"taskId": "x" * 10_000},
    "control characters": {"taskId": "task\x00_1"},
    "a line break": {"taskId": "task\n_1"},
    "data that is a text": "task_1",
}


@pytest.mark.parametrize("data", USELESS.values(), ids=USELESS.keys())
@virtual
async def test_an_acceptance_without_a_usable_id_is_a_doubt_with_the_answer(data: object) -> None:
    """What was answered is kept, up to 2,000 characters, and nothing is sent again."""
    answer = envelope(data)
    api = FakeApi(on_submit=lambda *_: answer, accept_anyway=True)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert caught.value.received == answer.body.decode()[:2_000]
    assert caught.value.received_bytes == len(answer.body)
    assert caught.value.phase == "answer"
    assert len(api.submits) == 1


@virtual
async def test_an_unknown_state_is_told_once_and_waited_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many tasks show it, each new word is one line in the log."""
    caplog.set_level(logging.INFO)
    words = ["queued", "cancelled", "queued", "expired"]
    api = FakeApi(
        on_status=lambda task: (
            envelope({"state": words[task.looks - 1]}) if task.looks <= 4 else None
        )
    )
    async with client_for(api) as client:
        tasks = await asyncio.gather(*(client.generate(OCEAN) for _ in range(3)))

    assert all(task.urls for task in tasks)
    told = [record.getMessage() for record in caplog.records if "unknown task" in record.msg]
    assert sorted(told) == [
        f"unknown task state {word!r} counts as running" for word in sorted(set(words))
    ]


@pytest.mark.parametrize("claim", ["success", "failed"])
@virtual
async def test_the_api_decides_whatever_a_callback_claims(claim: str) -> None:
    """A callback that says the opposite makes us look, and what is seen then counts."""
    api = FakeApi(
        receiver=receiver(),
        duration=lambda _: 30.0,
        callbacks=lambda _: (),
        failure=lambda _: "GENERATION_FAILED" if claim == "success" else None,
    )
    async with client_for(api) as client:
        task = await client.submit(OCEAN)
        url = api.bodies[0]["callback_url"]
        api.call_in(31.0, url, {"taskId": task.id, "state": claim})
        began = asyncio.get_running_loop().time()
        if claim == "success":
            with pytest.raises(TaskFailedError):
                await client.wait(task)
        else:
            assert (await client.wait(task)).urls
        took = asyncio.get_running_loop().time() - began

    assert took < 35, "the callback was heard"
    assert api.statuses == 1


# Outages and clocks


@virtual
async def test_an_outage_of_all_looks_is_left_without_a_herd() -> None:
    """300 tasks whose looks all fail for ten minutes are back within one pause of a minute."""
    ends: list[float] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    api = FakeApi(on_status=lambda _: refusal(503) if loop.time() < began + 700 else None)
    limits = Limits(requests_per_minute=1_200)

    async def generate(client: ApixoClient) -> None:
        await client.generate(OCEAN)
        ends.append(loop.time() - began)

    async with client_for(api, limits=limits) as client:
        client.engine._rng.seed(7)
        await asyncio.gather(*(generate(client) for _ in range(300)))

    after = [at for at in api.requests if at > began + 700]
    assert len(api.submits) == 300
    assert max(ends) < 700 + 66 + 1, "one pause of a minute, give or take a tenth"
    assert worst_window(api.requests, 60.0) <= 1_200
    size = bucket_size(1_200)
    assert worst_window(after, 1.0) <= size.burst + size.per_second, "as fast as the gate allows"


class Jumping(datetime):
    """A calendar that is a day ahead, a day behind, and so on."""

    calls = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        Jumping.calls += 1
        return super().now(tz) + timedelta(days=1 if Jumping.calls % 2 else -1)


def requests_of_a_batch(created: Callable[[int], int]) -> list[float]:
    """When they came; `created` makes the server's stamp for the nth look at a task."""

    def on_status(task: FakeTask) -> Reply | None:
        data = {"taskId": task.id, "state": "processing", "createTime": created(task.looks)}
        return envelope(data) if task.looks < 4 else None

    async def main() -> list[float]:
        api = FakeApi(
            on_submit=lambda number, _: refusal(429, retry_after="7") if number == 2 else None,
            on_status=on_status,
        )
        async with client_for(api) as client:
            client.engine._rng.seed(7)
            report = await BatchRunner(client).run([OCEAN] * 5)
        assert len(report.urls) == 5
        return api.requests

    return run_virtual(main())


def test_a_calendar_that_jumps_moves_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits and deadlines go by a clock that only runs; dates, ours and theirs, are for show."""
    undisturbed = requests_of_a_batch(lambda _: 1_767_965_610_000)
    for name, module in list(sys.modules.items()):
        if name.startswith("apixo_async.") and hasattr(module, "datetime"):
            monkeypatch.setattr(module, "datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: 86_400.0 * next(days))
    disturbed = requests_of_a_batch(lambda look: 86_400_000 * (20_000 if look % 2 else 1))

    assert Jumping.calls > 10
    assert disturbed == undisturbed


days = itertools.count(20_000, -1)
