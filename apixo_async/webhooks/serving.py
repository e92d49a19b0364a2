"""An HTTP server that does nothing but receive callbacks, for scripts and the command line."""

from __future__ import annotations

import errno
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from apixo_async.errors import ClientUsageError, InvalidSettingError
from apixo_async.webhooks.aiohttp_app import application

if TYPE_CHECKING:
    from apixo_async.webhooks.receiver import WebhookReceiver

_GRACE = 2.0
"""Seconds that callbacks in flight have for their end when it is closed."""


class Serving:
    """A server for one receiver; see `WebhookReceiver.serve`.

    Raises `InvalidSettingError` when it starts if the port cannot be had.
    """

    def __init__(self, receiver: WebhookReceiver, host: str, port: int) -> None:
        self._receiver = receiver
        self._host = host
        self.port = port
        """The port it listens on, once it has started."""
        self._runner: web.AppRunner | None = None

    async def start(self) -> Self:
        """Listens from now on."""
        if self._runner is not None:
            raise ClientUsageError("this server was started before; call serve() again")
        # Not logged: who reads the paths can make callbacks.
        runner = web.AppRunner(
            application(self._receiver), access_log=None, shutdown_timeout=_GRACE
        )
        self._runner = runner
        await runner.setup()
        site = web.TCPSite(runner, self._host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self.aclose()
            taken = "; is another process using it?" * (error.errno == errno.EADDRINUSE)
            why = error.strerror or error
            raise InvalidSettingError(
                f"cannot receive callbacks on {self._host} port {self.port}: {why}{taken}"
            ) from None
        self.port = runner.addresses[0][1]
        return self

    async def aclose(self) -> None:
        """Stops listening; callbacks in flight are still answered."""
        if self._runner is not None:
            await self._runner.cleanup()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Serving {self._receiver!r} on {self._host} port {self.port}>"
