"""`WebhookReceiver`: a place for callbacks to come in, and where it can be mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apixo_async.webhooks.reception import Reception

if TYPE_CHECKING:
    from aiohttp import web

    from apixo_async.webhooks.asgi import AsgiApp
    from apixo_async.webhooks.serving import Start


class WebhookReceiver(Reception):
    """Receives the callbacks of an `ApixoClient(webhook=receiver)`.

    `public_url` is where APIXO reaches the place it is mounted at: public and HTTPS (plain HTTP is
    for an emulator on your own machine). Each submit gets a URL of its own below it,
    `<public_url>/<job>.<attempt>.<mac>`. `secret` signs them, at least 16 bytes; of several, the
    newest comes first and all are accepted. It must be the same after a restart, or callbacks of
    tasks that were submitted before look forged.

    Mount it with `aiohttp_app()` or `asgi_app()`, or let it `serve()` by itself; it must be up
    before the first submit. Whoever mounts it behind a proxy may strip or keep any prefix of the
    path: only its last part counts.

    A callback is a hint and nothing more: of its body only `taskId` and `state` are read, and what
    became of a task is always asked of the API itself. It is answered 200 (no other status will
    do, webhook page) when what it says is on disk, if there is a journal, and before anything is
    done about it. Those that no client or batch here has asked for are kept for a day: in memory,
    or in the file `inbox`, which other processes of this machine may share. Then one of them, with
    a server, may receive, and others, with a client and the same secret, submit. Without
    `keeps_orphans` they are answered 503 instead, so that they come again.

    Several clients may share a receiver, also from other event loops. Raises
    `InvalidSettingError`.
    """

    def aiohttp_app(self) -> web.Application:
        """For `app.add_subapp("/prefix/", receiver.aiohttp_app())`."""
        from apixo_async.webhooks.aiohttp_app import application  # noqa: PLC0415  # slow to import

        return application(self)

    def asgi_app(self) -> AsgiApp:
        """For `app.mount("/prefix", receiver.asgi_app())` in FastAPI, Starlette and the like."""
        from apixo_async.webhooks.asgi import AsgiApp  # noqa: PLC0415  # as above

        return AsgiApp(self)

    def serve(self, host: str = "127.0.0.1", port: int = 8080) -> Start:
        """An HTTP server of its own, for scripts: `async with receiver.serve(port=8080):`.

        `server = await receiver.serve(...)` starts it, too; then `await server.aclose()` ends it.
        Port 0 takes any free one, which `server.port` tells. TLS is the business of the proxy in
        front of it. Starting raises `InvalidSettingError` if the port cannot be had.
        """
        from apixo_async.webhooks.serving import Start  # noqa: PLC0415  # as above

        return Start(self, host, port)
