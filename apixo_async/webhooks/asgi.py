"""A `WebhookReceiver` as an ASGI application, for any server and framework that speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from apixo_async.webhooks.capabilities import Slip

if TYPE_CHECKING:
    from apixo_async.webhooks.reception import Reception

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """ASGI 3.0, HTTP only. All paths are the receiver's; it needs no startup."""

    def __init__(self, receiver: Reception) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        match scope["type"]:
            case "http":
                await self._answer(send, await self._handled(scope, receive))
            case "lifespan":
                await _lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"ASGI scope {other!r}")

    async def _handled(self, scope: Message, receive: Receive) -> HTTPStatus:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        admitted = self._receiver.admit(scope["method"], scope["path"], headers)
        if not isinstance(admitted, Slip):
            return admitted
        return await self._receiver.receive(admitted, _chunks(receive))

    async def _answer(self, send: Send, status: HTTPStatus) -> None:
        text = status.phrase.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
        ]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        if status is not HTTPStatus.OK:
            headers.append((b"connection", b"close"))  # what is left of a body is not wanted
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": text})


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    is_complete = False
    while not is_complete:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the sender left")
        yield message.get("body", b"")
        is_complete = not message.get("more_body", False)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
