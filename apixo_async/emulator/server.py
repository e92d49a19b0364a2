"""The emulator as an object: its lifetime, and what Python can ask of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import attrs
from aiohttp import web

from apixo_async.emulator.callbacks import CallbackSender
from apixo_async.emulator.clock import Clock
from apixo_async.emulator.routes import Routes
from apixo_async.emulator.service import Service
from apixo_async.emulator.settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from apixo_async.emulator.ledger import Ledger

_SHUTDOWN = 0.1
"""Real seconds an unfinished answer gets when the emulator closes."""

_BACKLOG = 1024
"""Connections that may wait to be let in: a client may open as many at once."""

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - compared only


def _show(routes: Routes | None) -> str:
    return routes.service.base_url if routes else "not open"


@attrs.define(eq=False)
class Emulator:
    """A stand-in for APIXO; open from ``async with`` to its end. It is opened once.

    Raises:
        RuntimeError: It is asked for its address or its tasks before it is opened.
        OSError: On entering: the port cannot be had.
    """

    settings: EmulatorSettings = attrs.field(factory=EmulatorSettings)
    """What it is started with."""
    _routes: Routes | None = attrs.field(default=None, init=False, repr=_show)
    _closing: AsyncExitStack = attrs.field(factory=AsyncExitStack, init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Open the port and start answering."""
        settings = self.settings
        clock = Clock.start(settings.speed, asyncio.get_running_loop().time)
        async with AsyncExitStack() as closing:
            # Closed in the opposite order: nobody comes in any more when the callbacks stop.
            sender = CallbackSender(clock)
            worker = asyncio.create_task(sender.run())
            closing.push_async_callback(_end, worker)
            server = web.Server(self._handle, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN)
            await runner.setup()
            closing.push_async_callback(runner.cleanup)
            # Ready before the port is: with a fixed one, somebody may be waiting at the door.
            host = _ANY_ADDRESS.get(settings.host, settings.host)
            service = Service.open(settings, clock, f"http://{host}:{settings.port}")
            self._routes = Routes(settings, service, sender)
            await web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG).start()
            service.base_url = f"http://{host}:{runner.addresses[0][1]}"
            self._closing = closing.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the port and drop callbacks that were not due yet."""
        await self._closing.aclose()

    @property
    def base_url(self) -> str:
        """Where it listens, without a path: ``http://127.0.0.1:43117``."""
        return self._opened.service.base_url

    @property
    def api_key(self) -> str:
        """The only key that is accepted."""
        return self.settings.api_key

    @property
    def ledger(self) -> Ledger:
        """What happened so far, brought up to date by this very access; new after a reset."""
        ledger = self._opened.service.ledger
        ledger.refresh()
        return ledger

    def bound(self) -> dict[str, Any]:
        """Return the shortest possible time beside the one that was needed, both in seconds."""
        return self._opened.service.bound()

    def tasks(self) -> list[dict[str, object]]:
        """Return every task in order of acceptance, as ``/emulator/tasks`` shows them."""
        return self._opened.tasks()

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace all rates. Tasks keep what they have.

        Args:
            faults: Rates from 0 to 1 by the names in `FAULTS`.

        Raises:
            ValueError: There is no such fault, or a rate is no number from 0 to 1.
        """
        self._opened.set_faults(faults)

    def reset(self) -> None:
        """Forget all tasks, counts and pending callbacks; faults are as the settings say again."""
        self._opened.reset()

    @property
    def _opened(self) -> Routes:
        if self._routes is None:
            raise RuntimeError("the emulator is not open: use it with 'async with'")
        return self._routes

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._opened.handle(request)


async def _end(worker: asyncio.Task[None]) -> None:
    """Stop *worker*, and let be heard what had stopped it before."""
    worker.cancel()
    await asyncio.wait({worker})
    if not worker.cancelled() and (problem := worker.exception()):
        raise problem


async def serve(
    settings: EmulatorSettings, *, on_ready: Callable[[Emulator], None] | None = None
) -> None:
    """Run an emulator until cancelled.

    Args:
        settings: What it is started with.
        on_ready: Gets the emulator once it can be reached; ``None`` tells nobody.

    Raises:
        OSError: The port cannot be had.
    """
    async with Emulator(settings) as emulator:
        if on_ready is not None:
            on_ready(emulator)
        await asyncio.Event().wait()
