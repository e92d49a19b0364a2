"""The ASGI application without a server: what it does with each kind of scope."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from apixo_async import WebhookReceiver
from apixo_async.webhooks import Slip

SECRET = "a secret of these tests alone"
Message = MutableMapping[str, Any]


class Server:
    """Calls the application, and gives and takes messages."""

    def __init__(self, *messages: Message) -> None:
        self.receiver = WebhookReceiver("https://example.com/apixo", secret=SECRET)
        self.app = self.receiver.asgi_app()
        self.messages = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def call(self, scope: Message) -> list[Message]:
        """What it sends for this scope."""
        await self.app(scope, self.receive, self.send)
        return self.sent


async def test_a_websocket_is_closed_before_it_is_open() -> None:
    """There is nothing to talk about; the message that it connects is taken first."""
    server = Server({"type": "websocket.connect"})

    assert await server.call({"type": "websocket"}) == [{"type": "websocket.close", "code": 1000}]
    assert not server.messages


async def test_it_starts_and_stops_with_its_server() -> None:
    """Both are confirmed, and the second ends the call."""
    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, {"type": "more"})

    assert await server.call({"type": "lifespan"}) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]
    assert server.messages == [{"type": "more"}]


async def test_a_scope_of_another_time_is_refused() -> None:
    """As ASGI asks for, so that a server knows that it is not supported."""
    with pytest.raises(NotImplementedError, match="ASGI scope 'webtransport'"):
        await Server().call({"type": "webtransport"})


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"body": b'{"data": {}}'}], 200),
        ([{"body": b'{"da', "more_body": True}, {"body": b'ta": {}}', "more_body": False}], 200),
        ([{"body": b'{"data": {}}', "more_body": True}, {"more_body": False}], 200),
        ([{}], 400),
        ([{"body": b"{", "more_body": True}, {"type": "http.disconnect"}], 400),
    ],
    ids=["at once", "in pieces", "an empty piece", "nothing", "left half way"],
)
async def test_a_body_is_put_together(messages: list[Message], status: int) -> None:
    """Whatever may be left out of a message is."""
    server = Server(*({"type": "http.request", **message} for message in messages))
    path = server.receiver.url(Slip("job", 1)).removeprefix("https://example.com")
    headers = [(b"Content-Type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}

    start, body = await server.call(scope)

    assert (start["type"], start["status"]) == ("http.response.start", status)
    sent = dict(start["headers"])
    assert sent[b"content-type"] == b"text/plain; charset=utf-8"
    assert sent[b"content-length"] == str(len(body["body"])).encode()
    assert (b"connection" in sent) is (status != 200)
    assert (body["type"], body["body"]) == (
        "http.response.body",
        b"OK" if status == 200 else b"Bad Request",
    )
