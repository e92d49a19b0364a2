from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import strategies as st

from apixo_async import WebhookReceiver
from apixo_async.webhooks import Callback, Slip
from apixo_async.webhooks.bodies import BODY_MAX
from tests.fakes import receiver
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import LONG, Choices, damaged, scripts, spoilt

SLIP = Slip("a_job_1", 7)
GOOD = receiver().url(SLIP)
ENDED: dict[str, object] = {
    "code": 200,
    "message": "success",
    "data": {"taskId": "t1", "state": "success", "resultJson": "{}", "failCode": ""},
}
ANSWERS = {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}
REFUSALS = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}

methods = st.just("POST") | st.sampled_from(["GET", "post", "", "POST "]) | st.text(max_size=5)
names = st.sampled_from(["content-type", "content-length", "content-encoding", "x"])
values = st.sampled_from(
    [
        "application/json",
        "APPLICATION/JSON; charset=utf-16",
        "text/plain",
        "identity",
        "gzip",
        "-1",
        "0",
        "65536",
        "65537",
        "9" * 5_000,
        "\u0669" * 5_000,
        "\u00b2",
        ";",
        "",
    ]
) | st.text(max_size=6)
headers = st.dictionaries(names, values, max_size=3)


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    """One event loop for all examples: a new one for each would cost more than they do."""
    with asyncio.Runner() as Loop.runner:
        yield


class Loop:
    """Runs coroutines of examples, one after the other."""

    runner: asyncio.Runner


def path_of(script: bytes) -> str:
    """The path of a callback's URL with something done to it."""
    choices = Choices(script)
    text = damaged(GOOD.encode(), choices).decode("utf-8", choices.of(["replace", "ignore"]))
    return choices.of(["", "/", "/x/", "//", "?a=/"]) + text


async def taken(receiving: WebhookReceiver, slip: Slip, body: bytes) -> HTTPStatus:
    """What a callback is answered; all that is heard of it is what it claims."""
    heard: list[Callback] = []

    async def listen(callback: Callback) -> bool:
        heard.append(callback)
        return True

    receiving.connect(listen)
    status = await receiving.take(slip, body)
    receiving.disconnect(listen)
    assert len(heard) == (status is HTTPStatus.OK)
    for callback in heard:
        assert callback.slip == slip
        checked(callback.claim.task_id, 512, body)
        checked(callback.claim.state, 64, body)
    return status


def checked(text: str | None, most: int, body: bytes) -> None:
    """What is taken from a callback is a short printable word."""
    assert text is None or (0 < len(text) <= most and text.isprintable())


@fuzzed(methods, scripts.map(path_of) | st.text(max_size=150), headers, slow=2_500)
def test_a_request_is_let_in_or_refused(method: str, path: str, given: Mapping[str, str]) -> None:
    """Only the last part of its path says whom it is for, and only a URL of ours is let in."""
    admitted = receiver().admit(method, path, given)

    last = path.rpartition("/")[2]
    assert method == "POST" or not isinstance(admitted, Slip)
    assert admitted == SLIP or admitted in REFUSALS
    assert (admitted is HTTPStatus.NOT_FOUND) == (last != GOOD.rpartition("/")[2])


@fuzzed(
    scripts.map(partial(spoilt, ENDED)) | st.binary(max_size=60),
    slow=4_500,
    examples=[(b'{"taskId":"\xed\xa0\x80"}',), (b'{"a":' * 300 + b"1" + b"}" * 300,)],
)
def test_a_body_is_taken_or_refused(body: bytes) -> None:
    """Whatever it holds it is answered, and nothing but an id and a state is taken from it."""
    assert Loop.runner.run(taken(receiver(), SLIP, body)) in ANSWERS


@fuzzed(scripts, slow=800)
def test_only_id_and_state_are_read(script: bytes) -> None:
    """The same id and state among whatever else are the same claim."""
    other = json.loads(spoilt({"x": {"failCode": "e", "resultJson": "{}"}}, b"")) | {
        "resultJson": script.decode("latin-1"),
        "callback_url": script.hex(),
    }
    body = json.dumps({"code": len(script), "data": {**other, "taskId": "t1", "state": "failed"}})
    receiving = receiver()
    Loop.runner.run(receiving.take(SLIP, body.encode()))
    (kept,) = Loop.runner.run(receiving.orphans_of(SLIP.job))

    assert (kept.claim.task_id, kept.claim.state) == ("t1", "failed")


# The same through ASGI


Message = MutableMapping[str, Any]

chunks = st.sampled_from([b"", b"{", b"}", b'{"taskId":"t1"}', b"x" * LONG, b"\xff", b"{}"])
messages = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("http.request")},
        optional={"body": chunks, "more_body": st.booleans()},
    )
    | st.just({"type": "http.disconnect"}),
    max_size=6,
)
raw_headers = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Type", b"content-length", b"Content-Encoding", b"\xff", b""]),
        st.sampled_from([b"application/json", b"65537", b"gzip", b"\xff\x00", b"9" * 5_000, b""]),
    ),
    max_size=3,
)


async def sent(scope: Message, received: list[Message]) -> list[Message]:
    """What the application sends for a request of these messages and then the end of it."""
    answers: list[Message] = []
    coming = iter([*received, {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        answers.append(message)

    await receiver().asgi_app()(scope, receive, send)
    return answers


@fuzzed(
    methods,
    scripts.map(path_of) | st.just(GOOD) | st.text(max_size=20),
    raw_headers,
    messages,
    slow=1_500,
)
def test_an_asgi_request_is_answered_once(
    method: str, path: str, given: list[tuple[bytes, bytes]], received: list[Message]
) -> None:
    """Every request has one answer, whose head and body belong together."""
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    start, body = Loop.runner.run(sent(scope, received))

    assert HTTPStatus(start["status"]) in ANSWERS | REFUSALS
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    size = sum(len(message.get("body", b"")) for message in received)
    assert start["status"] != HTTPStatus.OK or size <= BODY_MAX


@fuzzed(st.binary(max_size=30), st.integers(0, 2**70), slow=3_000)
def test_no_url_is_guessed(mac: bytes, attempt: int) -> None:
    """A token of the right form is refused unless its MAC is that of its job and attempt."""
    token = f"{SLIP.job}.{attempt}.{mac.hex()[:26]}"

    assert receiver().admit("POST", token, {}) is HTTPStatus.NOT_FOUND
