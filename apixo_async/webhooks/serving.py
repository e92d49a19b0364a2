"""An HTTP server that does nothing but receive callbacks, for scripts and the command line."""

from __future__ import annotations

import errno
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from apixo_async.errors import InvalidSettingError
from apixo_async.webhooks.aiohttp_app import application

if TYPE_CHECKING:
    from apixo_async.webhooks.reception import Reception

_GRACE: Final = 2.0
"""Seconds for callbacks in flight when it is closed, and for what is left of refused bodies."""


BACKLOG: Final = 1024
"""Connections that may wait to be accepted; one too many waits a second before it tries again."""


class Serving:
    """A server that listens for one receiver, on `port`, until `aclose`."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    async def aclose(self) -> None:
        """Stops listening; callbacks in flight are still answered."""
        await self._runner.cleanup()

    def __repr__(self) -> str:
        return f"<Serving callbacks on port {self.port}>"


class Start:
    """What `WebhookReceiver.serve` returns: to be awaited, or entered and left."""

    def __init__(self, receiver: Reception, host: str, port: int) -> None:
        self._receiver = receiver
        self._host = host
        self._port = port
        self._serving: Serving | None = None

    async def _start(self) -> Serving:
        # Not logged: who reads the paths can make callbacks.
        runner = web.AppRunner(
            application(self._receiver),
            access_log=None,
            shutdown_timeout=_GRACE,
            lingering_time=_GRACE,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=BACKLOG).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            taken = "; is another process using it?" * is_taken
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise InvalidSettingError(
                f"cannot receive callbacks on {self._host} port {self._port}: {why}{taken}"
            ) from None
        return Serving(runner, runner.addresses[0][1])

    def __await__(self) -> Generator[Any, None, Serving]:
        return self._start().__await__()

    async def __aenter__(self) -> Serving:
        self._serving = await self._start()
        return self._serving

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._serving is not None:
            await self._serving.aclose()
