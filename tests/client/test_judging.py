"""What an answer that is no plain acceptance comes to, as a table."""

import json

import pytest

from apixo_async import (
    ApixoError,
    ExtendVideo,
    Request,
    SubmitUncertainError,
    TextToVideo,
    UnansweredError,
)
from apixo_async._wire import Reply, read_task_id, unwrap
from apixo_async.client.judging import judge
from apixo_async.retries import SubmitVerdict
from tests.fakes import FakeApi, client_for
from tests.virtual import virtual

OCEAN = TextToVideo("a calm ocean")
MORE = ExtendVideo("more of it", task_id="task_1")


def failure_of(reply: Reply) -> ApixoError:
    """What such an answer is to a submit."""
    with pytest.raises(ApixoError) as caught:
        read_task_id(unwrap(reply))
    return caught.value


@pytest.mark.parametrize("status", [400, 402, 429, 500])
@pytest.mark.parametrize(
    ("value", "candidate"),
    [
        ('"task_9"', "task_9"),
        ("71", "71"),
        (r'"t\/1"', "t/1"),
        (r'"\u0074ask_9"', "task_9"),
        ('"a"},"more":{"taskId":"b"', None),
    ],
    ids=["text", "number", "escaped slash", "escaped letter", "two ids"],
)
def test_an_answer_with_an_id_is_no_refusal(status: int, value: str, candidate: str | None) -> None:
    """However the id is written: the task may be paid for, so nothing is sent again."""
    body = f'{{"code":{status},"message":"no","data":{{"taskId":{value}}}}}'.encode()
    reply = Reply(status, body)

    judged = judge(OCEAN, failure_of(reply), reply, named=None)

    assert (judged.verdict, judged.candidate) == (SubmitVerdict.UNCERTAIN, candidate)


@pytest.mark.parametrize(
    ("request_", "tail", "expected"),
    [
        (OCEAN, '"taskId":"task_', SubmitVerdict.UNCERTAIN),
        (OCEAN, '"taskId":7', SubmitVerdict.UNCERTAIN),
        (OCEAN, '"taskId":nul', SubmitVerdict.REJECTED),
        (MORE, '"taskId":"task_', SubmitVerdict.REJECTED),
        (MORE, '"taskId":"task_1"}', SubmitVerdict.REJECTED),
        (MORE, '"taskId":"task_1"},{"taskId":"task_2"}', SubmitVerdict.UNCERTAIN),
    ],
    ids=["part", "digits", "null", "part of the source", "the source", "source and new"],
)
def test_the_beginning_of_an_id_is_no_refusal_either(
    request_: Request, tail: str, expected: SubmitVerdict
) -> None:
    """It proves that a task was told of, unless it is an extension's own source, quoted."""
    reply = Reply(400, b"{" + tail.encode())

    assert judge(request_, failure_of(reply), reply, named=None).verdict is expected


def test_an_id_behind_what_is_kept_of_a_cut_answer_counts() -> None:
    """The transport looked at all that came; what is kept for people is only its beginning."""
    failure = UnansweredError("cut", host="h", reason="reset", received="{", task_ids=("far",))

    assert judge(OCEAN, failure, None, named=None).candidate == "far"


@pytest.mark.parametrize("value", [71, "t/1"])
@virtual
async def test_a_429_that_names_a_task_is_not_sent_again(value: object) -> None:
    """The API does not know it here, so that it stays a doubt after one POST."""
    body = json.dumps({"code": 429, "data": {"taskId": value}}).replace("/", "\\/").encode()
    posts = []

    def answer(*args: object) -> Reply:
        posts.append(args)
        return Reply(429, body)

    api = FakeApi(on_submit=answer)
    async with client_for(api) as client:
        with pytest.raises(SubmitUncertainError) as caught:
            await client.submit(OCEAN)

    assert (len(posts), caught.value.candidate_task_id) == (1, str(value))
