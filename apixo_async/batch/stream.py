"""`OutcomeStream`: the outcomes of one run as they come, and what opens and closes around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apixo_async.batch.journal import Journal
from apixo_async.batch.outcomes import Outcome, StopReason
from apixo_async.batch.running import Run
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.source import Source
from apixo_async.client import ApixoClient
from apixo_async.errors import ClientUsageError


class OutcomeStream:
    """The outcomes of one run as they come; `BatchRunner.stream()` makes one.

    Enter it with `async with`, then take outcomes with `async for`. It is used once.

    Raises:
        ClientUsageError: It was entered twice, or not at all, or its runner runs another batch.
        InvalidSettingError: On entering: nothing can be saved to `save_to`; nothing was sent.
        JournalError: On entering: the journal is in use, damaged, or cannot be written.
    """

    def __init__(
        self,
        client: ApixoClient,
        source: Source | None,
        settings: RunSettings,
        *,
        begin: Callable[[OutcomeStream], None],
    ) -> None:
        self._client = client
        self._source = source
        self._settings = settings
        self._begin = begin
        self._run: Run | None = None
        self._journal: Journal | None = None
        self._is_over = False
        self._is_interrupt_told = False

    @property
    def was_begun(self) -> bool:
        """Whether the block was entered."""
        return self._run is not None

    @property
    def is_running(self) -> bool:
        """Whether the block was entered and there may be more outcomes."""
        return self.was_begun and not self._is_over

    @property
    def left(self) -> Sequence[Outcome]:
        """After the block: outcomes that nobody took, and those of tasks that were given up."""
        return () if self._run is None else tuple(self._run.left)

    @property
    def stopped(self) -> StopReason | None:
        """Why the batch takes no more requests before the end of its input, if so."""
        return None if self._run is None else self._run.admission.stopped

    @property
    def stop_error(self) -> BaseException | None:
        """The error behind `stopped`, if there is one."""
        return None if self._run is None else self._run.admission.error

    def stop(self) -> None:
        """Takes no more requests; what is running is still awaited."""
        if self._run is not None:
            self._run.admission.stop(StopReason.REQUESTED)

    async def __aenter__(self) -> Self:
        if self._run is not None:
            msg = "this stream was used before; call stream() again"
            raise ClientUsageError(msg)
        self._client.engine.open()
        if self._settings.save_to is not None:
            await self._client.saver.destination(self._settings.save_to).check()
        self._begin(self)
        if self._settings.journal is not None:
            self._journal = await self._opened(self._settings.journal)
        try:
            self._run = Run(self._client, self._source, self._settings, journal=self._journal)
        except BaseException:  # the input may refuse to be gone through
            if self._journal is not None:
                await asyncio.shield(self._outliving(self._journal.aclose()))
            raise
        self._run.start()
        return self

    async def _opened(self, path: Path) -> Journal:
        journal = await Journal.open(path, must_exist=self._source is None)
        try:
            save_to = self._settings.save_to
            await journal.set_options(
                {
                    "base_url": self._client.base_url,
                    **({} if save_to is None else {"save_to": str(save_to)}),
                    **self._settings.notes,
                }
            )
            if self._client.engine.callbacks is not None:
                await journal.give_name()
        except (Exception, asyncio.CancelledError):  # not when our loop is gone
            await asyncio.shield(self._outliving(journal.aclose()))
            raise
        return journal

    def _outliving(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """The work as a task that goes on when we are cancelled; the client waits for it then."""
        task = asyncio.create_task(work)
        self._client.engine.outlives(task)
        return task

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if self._run is None:
            msg = "use the stream as `async with runner.stream(requests) as outcomes`"
            raise ClientUsageError(msg)
        outcome = None if self._is_over else await self._run.outcomes.get()
        if self._run.interrupt is None and outcome is not None:
            return outcome
        if outcome is not None:
            self._run.left.append(outcome)
        self._is_over = True
        # Whoever else waits for an outcome learns the end, too.
        self._run.tell_end()
        if self._run.interrupt is not None:
            self._is_interrupt_told = True
            raise self._run.interrupt
        if self._run.bug is not None:
            raise self._run.bug
        if self.stopped is StopReason.INPUT and self.stop_error is not None:
            raise self.stop_error
        raise StopAsyncIteration

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._run is None:
            return
        try:
            await self._run.aclose()
        finally:
            self._is_over = True
            self._run.tell_end()
            if self._journal is not None:
                await self._closed(self._journal, self._run)
        if self._run.interrupt is not None and not self._is_interrupt_told:
            raise self._run.interrupt  # it came when nobody read any more

    async def _closed(self, journal: Journal, run: Run) -> None:
        """Closes the journal once no POST is on its way, in a task that outlives our caller.

        Cancelled a second time, the caller leaves at once; answers that still come are recorded,
        and the client waits for that when it is closed.
        """
        closing = self._outliving(_close_when_answered(journal, run))
        if not run.admission.is_sending:
            await asyncio.shield(closing)


async def _close_when_answered(journal: Journal, run: Run) -> None:
    try:
        await run.admission.wait_none_sending()
    finally:
        await journal.aclose()
