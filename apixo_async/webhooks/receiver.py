"""`WebhookReceiver`: a place for callbacks to come in, and where it can be mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apixo_async.webhooks.reception import Reception

if TYPE_CHECKING:
    from aiohttp import web

    from apixo_async.webhooks.asgi import AsgiApp
    from apixo_async.webhooks.serving import Start


class WebhookReceiver(Reception):
    """Receives the callbacks of an `ApixoClient(webhook=receiver)` (webhooks page).

    Mount it with `aiohttp_app()` or `asgi_app()`, or let it `serve()` by itself; it must be up
    before the first submit. Whoever mounts it behind a proxy may strip or keep any prefix of the
    path: only its last part counts.

    A callback is a hint and nothing more: of its body only `taskId` and `state` are read, and what
    became of a task is always asked of the API itself. It is answered 200 (no other status will
    do, webhooks page) when what it says is on disk, if there is a journal, and before anything is
    done about it. Several clients may share a receiver, also from other event loops.

    Args:
        public_url: Where APIXO reaches the place that it is mounted at: public and HTTPS (plain
            HTTP is for an emulator on your own machine). Each submit gets a URL of its own below
            it, `<public_url>/<job>.<attempt>.<mac>`.
        secret: Signs these URLs; at least 16 bytes. Of several, the newest comes first and all are
            accepted. It must be the same after a restart, or callbacks of tasks that were
            submitted before look forged.
        inbox: A file for callbacks that no client or batch here has asked for; other processes of
            this machine may share it. Then one of them, with a server, may receive, and others,
            with a client and the same secret, submit. Processes of several machines share a
            `PostgresInbox`, or what else is a `SharedOrphans`. `None` keeps them in memory. In
            any case they are kept for a day.
        keeps_orphans: If false, such callbacks are answered 503 instead, so that they come again.

    Attributes:
        public_url: As it was given, without a slash at its end.

    Raises:
        InvalidSettingError: The URL or the secret cannot be one, or the inbox cannot be used.
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
        TLS is the business of the proxy in front of it.

        Args:
            host: The address to listen on; the default is for a proxy on this machine.
            port: The port; 0 takes any free one, which `server.port` tells.

        Raises:
            InvalidSettingError: On starting: the port cannot be had.
        """
        from apixo_async.webhooks.serving import Start  # noqa: PLC0415  # as above

        return Start(self, host, port)
