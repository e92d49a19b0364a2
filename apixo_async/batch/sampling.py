"""What the client does over time, noted in the journal of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from apixo_async.batch.journal import Journal, Traffic, until_next_sample
from apixo_async.errors import JournalError
from apixo_async.limits import GateStatistics


class Sampler:
    """Takes a sample when a run begins, then often, later rarely, and at its end.

    It is no task but a timer, so that it can neither hold up the end of a run nor be cancelled.
    """

    def __init__(self, journal: Journal, statistics: Callable[[], GateStatistics]) -> None:
        self._journal = journal
        self._statistics = statistics
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The run begins."""
        self._began = asyncio.get_running_loop().time()
        self._take()

    def stop(self) -> None:
        """The run ends, or never began; twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._note()

    def _take(self) -> None:
        self._note()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(until_next_sample(loop.time() - self._began), self._take)

    def _note(self) -> None:
        now = self._statistics()
        sample = Traffic(
            at=datetime.now(UTC),
            running=now.tasks,
            task_cap=now.tasks_cap,
            requests=now.requests_last_minute,
            request_limit=now.requests_cap,
        )
        with suppress(JournalError):  # closed or forked: then there is nothing to be told any more
            self._journal.note_traffic(sample)
