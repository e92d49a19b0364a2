"""Where what happens to jobs is kept, as far as one who carries them out has to know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from apixo_async.batch import events
from apixo_async.batch.journal import Entry
from apixo_async.downloads import SavedFile


class Record(Protocol):
    """A journal of one process, or a ledger of many."""

    @property
    def name(self) -> str | None:
        """What callback URLs call it; `None` where it takes none."""
        ...

    def record(
        self, number: int, event: events.JobEvent, *, keep_trying: bool = False
    ) -> asyncio.Future[Entry]:
        """Writes what happened to a job, in the order of the calls for it; done once it is kept.

        With `keep_trying` it is tried until it is written. Else the future raises `JournalError`
        where it cannot be, and `NotAdmittedError` for a submit that another process has begun.
        """
        ...

    def has_task(self, task_id: str) -> bool:
        """Whether a job is known to have this task, or to have had it."""
        ...

    def files(self, number: int, *, named: bool = True) -> Sequence[SavedFile]:
        """The files of a job; with `named` false, those that were about to get their name."""
        ...
