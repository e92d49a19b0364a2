"""Whether another submit of a batch may leave, and which are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from apixo_async.batch.outcomes import StopReason
from apixo_async.errors import ApixoError


class NotAdmittedError(ApixoError):
    """The batch had stopped before this job was sent."""

    def __init__(self) -> None:
        super().__init__("the batch had stopped before this job was sent")


class Admission:
    """Open until the batch stops; a stop is final and keeps its first reason."""

    def __init__(self, on_stop: Callable[[StopReason, BaseException | None], None]) -> None:
        self._on_stop = on_stop
        self._is_closed = False
        self._sending = 0
        self._none_sending = asyncio.Event()
        self._none_sending.set()
        self.stopped: StopReason | None = None
        self.error: BaseException | None = None

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """No more items are taken and no more submits sent; what is running goes on."""
        if self.stopped is None:
            self.stopped, self.error = reason, error
            self._on_stop(reason, error)

    def close(self) -> None:
        """Nothing more is sent, whatever the reason to stop was."""
        self._is_closed = True

    def begin(self) -> None:
        """A POST is about to leave; raises `NotAdmittedError` once the batch has stopped.

        A broken input only ends the input: what was taken from it before is still sent.
        """
        if self._is_closed or self.stopped not in {None, StopReason.INPUT}:
            raise NotAdmittedError
        self._sending += 1
        self._none_sending.clear()

    def end(self) -> None:
        """A POST is answered and recorded."""
        self._sending -= 1
        if self._sending == 0:
            self._none_sending.set()

    async def wait_none_sending(self) -> None:
        """Waits until every POST that left is answered and recorded."""
        await self._none_sending.wait()
