"""`BatchRunner`: thousands of generations through one client, one failure being one outcome."""

from __future__ import annotations

import contextlib
from collections.abc import (
    AsyncIterable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from os import PathLike
from pathlib import Path
from typing import Literal

from apixo_async._narrow import as_number, as_sequence, shown
from apixo_async._places import Place, read_place
from apixo_async.batch.events import Event
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import BatchReport, Job, Outcome
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.source import Source, as_job
from apixo_async.batch.spending import Money, Prices, usd
from apixo_async.batch.stream import OutcomeStream
from apixo_async.client import ApixoClient
from apixo_async.errors import (
    ClientUsageError,
    InvalidRequestError,
    InvalidSettingError,
)
from apixo_async.polling import LearnedSchedule, PollSchedule
from apixo_async.veo import Request


class BatchRunner:
    """Runs requests through a client, within its limits, and gathers what becomes of them.

    One failed video is one outcome, and stops nothing else. A runner can be used for one batch
    after another, not for two at once.

    Args:
        client: Does the work. Several runners may share it, and so may calls of your own.
        journal: A file that keeps what happened, whatever happens to this process: the same
            requests with the same journal go on where they stopped, and nothing is paid for twice.
            One process uses it at a time. `None` keeps nothing.
        save_to: A directory for the videos, named by job key; it is made if it is missing. Or as
            text the URL of a storage that fsspec knows (`s3://bucket/prefix`, see docs/saving.md);
            `None` leaves them at their URLs.
        uncertain: What becomes of submits whose answer was lost: `keep` states them as outcomes,
            `resubmit` sends them again, which may pay twice, but not while a task was named that
            the API has not denied.
        max_cost: A hard cap in US dollars on what may be submitted, uncertain submits included; the
            first job that does not fit stops the batch. `None` is no cap.
        prices: US dollars for one generation, by name (see `Prices`); `max_cost` needs them.
        retry_codes: Fail codes whose tasks are generated, and paid for, once more; never a content
            violation.
        retries: How many times that may happen to one job.
        notes: JSON that is kept in the journal beside the base URL and `save_to`, for whoever
            resumes.
        schedule: When to look; `None` is a `LearnedSchedule` that begins with the numbers of the
            client's.
        deadline: Seconds for one task from its acceptance, above 0; `None` is the schedule's.
        on_event: Called with every event (see `apixo_async.batch.events`) on the event loop. Keep
            it short. Its errors are logged and change nothing; `SystemExit` and its like, from
            there or from the input, end the batch as leaving it early does, and are raised once
            POSTs in flight are answered.

    Attributes:
        report: What the last `run()` or `resume()` gathered, also when it raised.

    Raises:
        InvalidSettingError: A setting is out of its range; the message names it. Whether anything
            can be saved to `save_to` is tried as a run begins, before anything is sent.
    """

    def __init__(
        self,
        client: ApixoClient,
        *,
        journal: str | PathLike[str] | None = None,
        save_to: str | PathLike[str] | None = None,
        uncertain: Literal["keep", "resubmit"] = "keep",
        max_cost: Money | None = None,
        prices: Prices | Mapping[str, Money] | None = None,
        retry_codes: Collection[str] = (),
        retries: int = 1,
        notes: Mapping[str, object] | None = None,
        schedule: PollSchedule | None = None,
        deadline: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        plan = schedule or LearnedSchedule.beginning_as(client.engine.schedule)
        if deadline is not None and not as_number(deadline) > 0:
            given = f"got {shown(deadline)}; None means the schedule's"
            raise InvalidSettingError(f"deadline must be above 0 seconds, {given}")
        if uncertain not in ("keep", "resubmit"):
            msg = f"uncertain must be 'keep' or 'resubmit', got {shown(uncertain)}"
            raise InvalidSettingError(msg)
        self._client = client
        self._settings = RunSettings(
            schedule=plan,
            deadline=plan.deadline if deadline is None else deadline,
            # Where it is must not change with the working directory of whoever resumes.
            save_to=None if save_to is None else _fixed(read_place(save_to)),
            on_event=on_event,
            journal=None if journal is None else Path(journal),
            uncertain=uncertain,
            prices=prices if isinstance(prices, Prices) else Prices(prices or {}),
            max_cost=None if max_cost is None else usd(max_cost, name="max_cost"),
            retry_codes=frozenset(retry_codes),
            retries=retries,
            notes=notes or {},
        )
        self._stream: OutcomeStream | None = None
        self.report = BatchReport(())

    async def run(self, requests: Source) -> BatchReport:
        """Runs all requests and returns every outcome in input order.

        The same request twice is two jobs and is paid twice. A `Job` with a key that was there
        before, and with the same request, is the same job: it is run once and has one outcome. With
        another request it is an error of the input.

        A wrong key, an empty balance or a vanished host stop the batch: what is running is still
        awaited and the report's `stopped` says why. An error raised by `requests` itself, or an
        item that is no request, is raised here after everything running was awaited; the outcomes
        are in `report` then. Cancelling lets POSTs in flight be answered first; `report` then has
        an outcome for every task that was accepted, `timed_out` for those that go on.

        Args:
            requests: Requests, or jobs (`Job`), in an iterable or an async iterable; it is pulled
                lazily. The next item of an iterable is taken when a slot is free. An async iterable
                is asked before there is a slot, so that it may wait, or use the same client,
                without holding one; it is at most one item ahead. A list is checked as a whole
                before anything is sent.

        Raises:
            TypeError: An item is no request.
            InvalidRequestError: A key stands for two different requests.
            InvalidSettingError: Nothing can be saved to `save_to`; nothing was sent.
            ClientUsageError: The runner is running another batch, or the client is closed.
            JournalError: The journal is in use, damaged, or cannot be written.
        """
        return await self._gather(self.stream(requests))

    async def resume(self) -> BatchReport:
        """Goes on with the journal alone; returns the outcomes of all that was not ended.

        Running tasks are waited for again, files that are missing are downloaded, and only what
        surely was never sent is submitted. Uncertain jobs are outcomes again.

        Raises:
            InvalidSettingError: Nothing can be saved to `save_to`; nothing was sent.
            ClientUsageError: There is no journal, or the runner is running another batch.
            JournalError: The journal is missing, in use, damaged, or cannot be written.
        """
        return await self._gather(self.stream_resumed())

    async def _gather(self, outcomes: OutcomeStream) -> BatchReport:
        gathered: list[Outcome] = []
        try:
            async with outcomes:
                async for outcome in outcomes:
                    gathered.append(outcome)  # noqa: PERF401  # what came before an error is kept
        finally:
            if outcomes.was_begun:
                gathered += outcomes.left
                gathered.sort(key=lambda outcome: outcome.index)
                self.report = BatchReport(tuple(gathered), outcomes.stopped, outcomes.stop_error)
        return self.report

    def stream(self, requests: Source) -> OutcomeStream:
        """Outcomes in the order of completion, in flat memory, for `async with` and `async for`.

        Leaving the block early stops submitting, lets POSTs in flight be answered, and stops
        waiting for the rest; their tasks go on at the server and the log names their ids.

        Args:
            requests: As in `run()`.

        Raises:
            TypeError: `requests` is no iterable, or a list that holds something that is no request.
            InvalidRequestError: In a list, a key stands for two different requests.
        """
        _check_source(requests)
        return OutcomeStream(self._client, requests, self._settings, begin=self._begin)

    def stream_resumed(self) -> OutcomeStream:
        """The outcomes of `resume()` as they come, in flat memory.

        Raises:
            ClientUsageError: There is no journal.
        """
        if self._settings.journal is None:
            msg = "there is nothing to resume without a journal: BatchRunner(..., journal=...)"
            raise ClientUsageError(msg)
        return OutcomeStream(self._client, None, self._settings, begin=self._begin)

    def _begin(self, stream: OutcomeStream) -> None:
        if self._stream is not None and self._stream.is_running:
            msg = "this runner is running a batch; wait for its end, or make another BatchRunner"
            raise ClientUsageError(msg)
        self._stream = stream

    def stop(self) -> None:
        """Takes no more requests; what is running is still awaited. For signal handlers."""
        if self._stream is not None:
            self._stream.stop()


def _fixed(place: Place) -> Place:
    return place if isinstance(place, str) else place.absolute()


def _check_source(requests: object) -> None:
    """Refuses what cannot be a source; a list is checked to its end before anything is sent."""
    items = as_sequence(requests)
    if isinstance(requests, (str, bytes)) or not isinstance(requests, (Iterable, AsyncIterable)):
        msg = f"expected an iterable of requests or Jobs, got {type(requests).__name__}"
        raise TypeError(msg)
    if items is not None:
        _check_all(items)


def _check_all(items: Sequence[object]) -> None:
    """Types, and keys that were given; cheap, because it holds up the event loop."""
    by_key: dict[str, Request] = {}
    for index, item in enumerate(items):
        try:
            job = as_job(item)
        except TypeError as error:
            msg = f"requests[{index}]: {error}"
            raise TypeError(msg) from None
        if job.key is not None and by_key.setdefault(job.key, job.request) != job.request:
            _refuse_key(index, job, job.key, by_key[job.key])


def _refuse_key(index: int, job: Job, key: str, first: Request) -> None:
    """Raises what the run would raise, if both requests differ also as they are sent."""
    with contextlib.closing(KeyIndex()) as keys:
        try:
            keys.claim(Job(first, key=key))
            keys.claim(job)
        except InvalidRequestError as error:
            raise InvalidRequestError(
                f"requests[{index}], {error.subject}", error.problems
            ) from None
