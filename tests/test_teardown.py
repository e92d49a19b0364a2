"""A close that is cancelled cuts the POSTs on their way: what is said of each of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    ClientUsageError,
    SubmitUncertainError,
    TextToVideo,
)
from apixo_async.batch.journal import Journal
from tests.cancellation.journals import LoopWriter, on_the_loop, told
from tests.cancellation.scenes import SPLIT, Api, check_gate
from tests.cancellation.stepping import Stage, play
from tests.fakes import client_for
from tests.virtual import virtual

OCEAN = TextToVideo("a calm ocean")


async def cancel_twice(running: asyncio.Task[Any]) -> None:
    """As somebody who does not wait for the order that the first time begins."""
    for _ in range(2):
        await asyncio.sleep(0.01)
        running.cancel()
    await asyncio.wait([running])


async def close_in_a_hurry(client: ApixoClient) -> None:
    """Closes, and is cancelled."""
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()


@virtual
async def test_whoever_waits_for_a_post_that_is_cut_is_told_so() -> None:
    """Nobody cancelled the caller, so it gets the doubt and no `CancelledError`."""
    client = client_for(Api(latency=10.0))
    caller = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(2)
    await close_in_a_hurry(client)

    with pytest.raises(SubmitUncertainError, match="cut before it was answered"):
        await caller
    check_gate(client, running=0)


@virtual
async def test_a_post_that_is_cut_before_it_left_is_no_doubt() -> None:
    """Its caller learns that the client was closed and nothing was sent."""
    api = Api()
    client = client_for(api)
    caller = asyncio.create_task(client.submit(OCEAN))
    while not client.engine.submits_in_flight:  # noqa: ASYNC110  # a step of the loop has no event
        await asyncio.sleep(0)
    (post,) = client.engine.submitter.posts
    post.cancel()

    with pytest.raises(ClientUsageError, match="nothing was sent"):
        await caller
    await client.aclose()
    assert not api.requests
    check_gate(client, running=0)


@virtual
async def test_an_id_that_is_being_confirmed_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """It was seen in an answer that broke off: the error and the log say which."""
    client = client_for(Api(latency=10.0, first=(SPLIT,)))
    caller = asyncio.create_task(client.submit(OCEAN))
    await asyncio.sleep(12)
    await close_in_a_hurry(client)

    with pytest.raises(SubmitUncertainError) as caught:
        await caller
    assert caught.value.candidate_task_id == "task_1"


def test_a_job_that_was_about_to_be_sent_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its POST is cut while the disk writes that it leaves; the journal is given back."""
    monkeypatch.setattr(LoopWriter, "seconds", 1.0)
    journal = tmp_path / "run.db"

    async def scene(stage: Stage) -> None:
        api = Api()
        client = client_for(api)
        running = asyncio.create_task(BatchRunner(client, journal=journal).run([OCEAN]))
        while not client.engine.submits_in_flight:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.1)
        await cancel_twice(running)
        await close_in_a_hurry(client)
        await asyncio.sleep(10)
        assert not api.requests

    with on_the_loop():
        play(scene, ())
    assert [state for state, _ in told(journal).values()] == ["queued"]


def test_a_journal_that_was_just_being_opened_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled twice while a slow disk takes the options: a closed client has let go of it."""
    monkeypatch.setattr(LoopWriter, "seconds", 1.0)
    journal = tmp_path / "run.db"

    async def scene(stage: Stage) -> None:
        client = client_for(Api())
        running = asyncio.create_task(BatchRunner(client, journal=journal).run([OCEAN]))
        await asyncio.sleep(0.5)
        await cancel_twice(running)
        await client.aclose()

        await (await Journal.open(journal)).aclose()

    with on_the_loop():
        play(scene, ())
