"""Whether the store of shared limits answers, and what becomes of those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from apixo_async._logs import LOGGER, fields
from apixo_async.errors import StoreError

T = TypeVar("T")

ANSWER_SECONDS: Final = 3.0
"""A store that takes longer hangs: those in use answer in milliseconds."""
RETRY_SECONDS: Final = 1.0
"""A store that is away is asked again so often: nobody notices a second, and no server suffers."""
PATIENCE_SECONDS: Final = 60.0
"""For so long a submit waits for a store that is away: a restart or a failover is over by then, and
a caller who still waits wants to know why."""


class Contact:
    """Asks the store, which may fail and hang as it likes: no error of it gets out of here.

    That it is away is logged once, and that it is back. Who waits `patiently` meanwhile is told so
    after a minute.
    """

    def __init__(self) -> None:
        self._failing: dict[str, Exception] = {}
        self._waiting: dict[asyncio.Timeout, None] = {}

    @property
    def is_lost(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return bool(self._failing)

    async def ask(self, what: str, call: Coroutine[Any, Any, T], *, seconds: float) -> T | None:
        """The answer to `call`, one of those to `what`; `None` where none came within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                answer = await call
        except TimeoutError:
            self.failed(what, StoreError(f"the store did not answer within {seconds:g} s"))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is asked again
            self.failed(what, error)
        else:
            self.answered(what)
            return answer
        return None

    def failed(self, what: str, error: Exception) -> None:
        """The store is away, by this question."""
        was_lost = self.is_lost
        self._failing[what] = error
        if was_lost:
            return
        LOGGER.warning(
            "the store of shared limits is away, nothing is sent: %s",
            error,
            exc_info=None if isinstance(error, StoreError) else error,
            extra=fields("shared_limits_lost", error=error),
        )
        self._reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)

    def answered(self, what: str) -> None:
        """The store is back, by this question, or nobody asks it any more."""
        if self._failing.pop(what, None) is not None and not self.is_lost:
            LOGGER.warning("the store of shared limits is back", extra=fields("shared_limits_back"))
            self._reschedule(None)

    def _reschedule(self, when: float | None) -> None:
        for waiting in self._waiting:
            if not waiting.expired():
                waiting.reschedule(when)

    @asynccontextmanager
    async def patiently(self) -> AsyncGenerator[None]:
        """A wait that needs the store; raises `StoreError` when that was away for a minute of it.

        Nothing is sent within such a wait.
        """
        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                self._waiting[waiting] = None
                if self.is_lost:
                    waiting.reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
                yield
        except TimeoutError:
            reason = "".join(f": {error}" for error in list(self._failing.values())[:1])
            msg = (
                f"nothing was sent: the store of shared limits was away for {PATIENCE_SECONDS:g} s"
                f"{reason}"
            )
            raise StoreError(msg) from None
        finally:
            self._waiting.pop(waiting, None)
