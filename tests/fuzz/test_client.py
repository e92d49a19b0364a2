from __future__ import annotations

import json
from collections.abc import Mapping

import attrs
from hypothesis import strategies as st

from apixo_async import ApixoClient, PollSchedule, TextToVideo
from apixo_async._wire import Reply
from apixo_async.errors import (
    ApixoError,
    AuthenticationError,
    SubmitUncertainError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task
from tests.fakes import BASE_URL, KEY
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import scripts, spoilt
from tests.fuzz.test_answers import BALANCE, ENDED, REFUSED, SUBMITTED, mostly_good
from tests.virtual import run_virtual

VALID: Mapping[str, dict[str, object]] = {
    "generateTask": SUBMITTED,
    "statusTask": ENDED,
    "apikeys": BALANCE,
}


@attrs.define
class StrangeApi:
    """Answers the first call in its own way, and then as it should."""

    status: int
    script: bytes
    valid: dict[str, object] | None
    posts: int = 0
    calls: int = 0

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """The transport's one method."""
        self.posts += method == "POST"
        self.calls += 1
        usual = VALID[path.split("/")[1]]
        if self.calls == 1:
            return Reply(self.status, spoilt(self.valid or usual, self.script), "1")
        return Reply(200, json.dumps(usual).encode())

    async def aclose(self) -> None:
        """There is nothing to close."""


def client_of(api: StrangeApi) -> ApixoClient:
    """A client with the documented schedule whose answers come at once."""
    return ApixoClient(KEY, base_url=BASE_URL, transport=api, schedule=PollSchedule())


async def submitted(api: StrangeApi) -> Task | ApixoError:
    """What a caller gets of a submit."""
    async with client_of(api) as client:
        try:
            return await client.submit(TextToVideo("a fox"))
        except ApixoError as error:
            return error


@fuzzed(mostly_good, scripts, st.sampled_from([None, REFUSED, ENDED]), slow=400, quick=50)
def test_a_submit_with_a_strange_answer(
    status: int, script: bytes, valid: dict[str, object] | None
) -> None:
    """It is a task or an error of ours, and sent again after a 429 alone."""
    api = StrangeApi(status, script, valid)
    result = run_virtual(submitted(api))

    if isinstance(result, Task):
        assert result.id
    if isinstance(result, SubmitUncertainError):
        assert api.posts == 1
    assert api.posts <= 2


async def read(api: StrangeApi) -> None:
    """All that reads, each beginning with the strange answer."""
    async with client_of(api) as client:
        for call in (client.balance(), client.status("t1", model="veo-3-1")):
            api.calls = 0
            try:
                await call
            except ApixoError as error:
                assert str(error)
        api.calls = 0
        try:
            task = await client.wait("t1", model="veo-3-1")
        except AuthenticationError:  # a code that was spoilt so; the key has not worked yet
            assert api.calls == 1
            return
        except (TaskFailedError, UnexpectedAnswerError) as error:
            assert error.task is not None
            task = error.task
            assert not task.urls
        assert task.is_terminal


@fuzzed(mostly_good.filter(lambda status: status != 401), scripts, slow=400, quick=50)
def test_a_look_with_a_strange_answer(status: int, script: bytes) -> None:
    """It is told, and ends no wait: the next look finds the video."""
    run_virtual(read(StrangeApi(status, script, None)))
