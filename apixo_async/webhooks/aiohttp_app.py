"""A `WebhookReceiver` as an aiohttp application, to be mounted or served."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from apixo_async.webhooks.capabilities import Slip

if TYPE_CHECKING:
    from apixo_async.webhooks.reception import Reception


def application(receiver: Reception) -> web.Application:
    """All paths of the application are the receiver's."""

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        admitted = receiver.admit(request.method, request.path, headers)
        if isinstance(admitted, Slip):
            admitted = await receiver.receive(admitted, request.content.iter_any())
        if admitted is HTTPStatus.NOT_FOUND:
            raise web.HTTPNotFound  # as aiohttp itself answers where there is no route
        response = web.Response(status=admitted, text=admitted.phrase)
        if admitted is HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "POST"
        if admitted is not HTTPStatus.OK:
            response.force_close()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    return app
