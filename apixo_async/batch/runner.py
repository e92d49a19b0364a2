"""`BatchRunner`: thousands of generations through one client, one failure being one outcome."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from apixo_async._narrow import as_sequence
from apixo_async.batch.carrying import RunSettings
from apixo_async.batch.events import Event
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import BatchReport, Outcome, StopReason
from apixo_async.batch.running import Run, Source, as_job
from apixo_async.client import ApixoClient
from apixo_async.errors import ClientUsageError, InvalidRequestError, InvalidSettingError
from apixo_async.polling import PollSchedule


class BatchRunner:
    """Runs requests through `client`, within its limits, and gathers what becomes of them.

    `save_to` is a directory for the videos, named by job key; `None` leaves them at their URLs.
    `schedule` and `deadline` (seconds for one task from its acceptance) default to the client's.
    `on_event` is called with every event on the event loop; keep it short, its errors are logged
    and change nothing.

    A runner can be used for one batch after another, not for two at once.
    """

    def __init__(
        self,
        client: ApixoClient,
        *,
        save_to: str | PathLike[str] | None = None,
        schedule: PollSchedule | None = None,
        deadline: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        plan = schedule or client.engine.schedule
        if deadline is not None and not deadline > 0:
            msg = f"deadline must be above 0 seconds, got {deadline!r}; None means the schedule's"
            raise InvalidSettingError(msg)
        self._client = client
        self._settings = RunSettings(
            schedule=plan,
            deadline=plan.deadline if deadline is None else deadline,
            save_to=None if save_to is None else Path(save_to),
            on_event=on_event,
        )
        self._stream: OutcomeStream | None = None
        self.report = BatchReport(())
        """What the last `run` gathered, also when it raised."""

    async def run(self, requests: Source) -> BatchReport:
        """Runs all requests (or `Job`s) and returns every outcome in input order.

        `requests` may be an iterable or an async iterable; it is pulled lazily, the next item when
        a slot is free. A list is checked as a whole before anything is sent.

        A wrong key, an empty balance or a vanished host stop the batch: what is running is still
        awaited and the report's `stopped` says why. An error raised by `requests` itself, or an
        item that is no request, is raised here after everything running was awaited; the outcomes
        are in `report` then. Cancelling lets POSTs in flight be answered first.
        """
        gathered: list[Outcome] = []
        async with self.stream(requests) as outcomes:
            try:
                async for outcome in outcomes:
                    gathered.append(outcome)  # noqa: PERF401  # what came before an error is kept
            finally:
                gathered.sort(key=lambda outcome: outcome.index)
                self.report = BatchReport(tuple(gathered), outcomes.stopped, outcomes.stop_error)
        return self.report

    def stream(self, requests: Source) -> OutcomeStream:
        """Outcomes in the order of completion, in flat memory, for `async with` and `async for`.

        Leaving the block early stops submitting, lets POSTs in flight be answered, and stops
        waiting for the rest; their tasks go on at the server.
        """
        _check_source(requests)
        self._stream = OutcomeStream(self._client, requests, self._settings)
        return self._stream

    def stop(self) -> None:
        """Takes no more requests; what is running is still awaited. For signal handlers."""
        if self._stream is not None:
            self._stream.stop()


class OutcomeStream:
    """The outcomes of one run as they come; see `BatchRunner.stream`."""

    def __init__(self, client: ApixoClient, source: Source, settings: RunSettings) -> None:
        self._client = client
        self._source = source
        self._settings = settings
        self._run: Run | None = None
        self._is_over = False

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
        self._run = Run(self._client, self._source, self._settings)
        self._run.start()
        return self

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if self._run is None:
            msg = "use the stream as `async with runner.stream(requests) as outcomes`"
            raise ClientUsageError(msg)
        outcome = None if self._is_over else await self._run.outcomes.get()
        if outcome is not None:
            return outcome
        self._is_over = True
        if self.stopped is StopReason.INPUT and self.stop_error is not None:
            raise self.stop_error
        raise StopAsyncIteration

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._run is not None:
            await self._run.aclose()


def _check_source(requests: object) -> None:
    """Refuses what cannot be a source; a list is checked to its end before anything is sent."""
    items = as_sequence(requests)
    if isinstance(requests, (str, bytes)) or not isinstance(requests, (Iterable, AsyncIterable)):
        msg = f"expected an iterable of requests or Jobs, got {type(requests).__name__}"
        raise TypeError(msg)
    if items is not None:
        _check_all(items)


def _check_all(items: Sequence[object]) -> None:
    keys = KeyIndex()
    try:
        for index, item in enumerate(items):
            try:
                keys.claim(as_job(item))
            except InvalidRequestError as error:
                raise InvalidRequestError(
                    f"requests[{index}], {error.subject}", error.problems
                ) from None
            except TypeError as error:
                msg = f"requests[{index}]: {error}"
                raise TypeError(msg) from None
    finally:
        keys.close()
