"""Whether another submit of a batch may leave, which wait to, and which are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from apixo_async.batch.outcomes import StopReason
from apixo_async.errors import ApixoError


class NotAdmittedError(ApixoError):
    """The batch had stopped before this job was sent."""

    def __init__(self) -> None:
        super().__init__("the batch had stopped before this job was sent")


DOUBTS_MAX: Final = 64
"""Submits without a usable answer, beyond those that were accepted meanwhile, that stop a batch:
twice what may be in flight, so that one broken connection does not. Each may be billed, and each
asks for a decision."""

_ENDS_INPUT_ONLY: Final = frozenset({StopReason.INPUT, StopReason.BUDGET})


class TooManyDoubtsError(ApixoError):
    """The API takes submits and gives no usable answers."""

    def __init__(self) -> None:
        super().__init__(
            f"{DOUBTS_MAX} more submits got no usable answer than were accepted; each of them may "
            "be running and billed, so no more are sent until you have looked"
        )


class Admission:
    """Open until the batch stops; a stop is final and keeps its first reason.

    A broken input only ends the input: what was taken from it before is still sent. So does a
    spent budget: what was reserved before is still sent. After any other stop nothing more is
    sent, and those that wait to send are called back at once.
    """

    def __init__(self, on_stop: Callable[[StopReason, BaseException | None], None]) -> None:
        self._on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False
        self._waiting: dict[asyncio.Task[Any], None] = {}
        self._called_back: set[asyncio.Task[Any]] = set()
        self._sending = 0
        self._none_sending = asyncio.Event()
        self._none_sending.set()
        self._doubts = 0
        self.stopped: StopReason | None = None
        self.error: BaseException | None = None
        self.is_refusing = False
        """Whether nothing more may leave."""
        self.refusal: BaseException | None = None
        """The error that nothing more may leave for, if it is one."""

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """No more items are taken and no more submits sent; what is running goes on."""
        if reason not in _ENDS_INPUT_ONLY and not self.is_refusing:
            self.is_refusing, self.refusal = True, error
            self._call_back_soon()
        if self.stopped is None:
            self.stopped, self.error = reason, error
            self._on_stop(reason, error)

    def close(self) -> None:
        """Nothing more is sent, whatever the reason to stop was, and nobody is called back."""
        self.is_closed = self.is_refusing = True

    def _call_back_soon(self) -> None:
        # A POST that is made or ends at this moment is given the time to tell its job by itself.
        if self._loop is not None:
            self._loop.call_later(0, self._call_back)

    def _call_back(self) -> None:
        if self.is_closed:
            return
        for job in self._waiting:
            self._called_back.add(job)
            job.cancel()
        self._waiting.clear()

    # Jobs, each a task of asyncio

    def enter(self, job: asyncio.Task[Any]) -> None:
        """A job begins to wait for its submit; raises `NotAdmittedError` once that is in vain."""
        if self.is_refusing:
            raise NotAdmittedError
        self._loop = self._loop or asyncio.get_running_loop()
        self._waiting[job] = None

    def leave(self, job: asyncio.Task[Any]) -> None:
        """The submit of a job is over."""
        self._waiting.pop(job, None)
        self._called_back.discard(job)

    def has_called_back(self, job: asyncio.Task[Any]) -> bool:
        """Whether the job was cancelled by the stop, and by nothing else."""
        return job in self._called_back and job.cancelling() == 1 and not self.is_closed

    # Their POSTs

    def begin(self, job: asyncio.Task[Any]) -> None:
        """A POST is about to leave; raises `NotAdmittedError` if it must not."""
        self._waiting.pop(job, None)
        if self.is_refusing:
            raise NotAdmittedError
        self._sending += 1
        self._none_sending.clear()

    def end(self, job: asyncio.Task[Any], *, will_wait: bool) -> None:
        """A POST is answered and recorded; with `will_wait`, the job tries again."""
        if will_wait and not job.done():
            self._waiting[job] = None
            if self.is_refusing:
                self._call_back_soon()
        self._sending -= 1
        if self._sending == 0:
            self._none_sending.set()

    # Whether it goes well

    def note_accepted(self) -> None:
        """A submit was accepted."""
        self._doubts = max(0, self._doubts - 1)

    def note_doubt(self) -> None:
        """Nobody can say whether a submit was accepted; too many of them stop the batch."""
        self._doubts += 1
        if self._doubts >= DOUBTS_MAX:
            self.stop(StopReason.DOUBT, TooManyDoubtsError())

    @property
    def is_sending(self) -> bool:
        """Whether a POST is on its way, or its answer is not recorded yet."""
        return self._sending > 0

    async def wait_none_sending(self) -> None:
        """Waits until every POST that left is answered and recorded."""
        await self._none_sending.wait()
