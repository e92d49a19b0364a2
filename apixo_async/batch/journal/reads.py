"""What is asked of a journal: short queries on a connection of their own."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async._places import place_of
from apixo_async.batch.journal.entries import ENDED, Entry, JobState
from apixo_async.batch.journal.history import PAST_TASKS
from apixo_async.batch.journal.opening import ADVICE, connect, translating
from apixo_async.batch.journal.schema import JOB_COLUMNS
from apixo_async.batch.journal.verifying import is_whole
from apixo_async.downloads import SavedFile
from apixo_async.errors import JournalError

CHUNK: Final = 256
"""Jobs that are read at a time."""

SELECT: Final = f"SELECT {', '.join(JOB_COLUMNS)}, checksum FROM jobs"
_IN_ORDER: Final = " AND number > ? AND (? = 0 OR number < ?) ORDER BY number LIMIT ?"
# SQLite uses a partial index only where its very condition is part of the query.
_OPEN: Final = (
    f"{SELECT} WHERE state = ? AND state IN ('queued', 'sending', 'accepted', 'uncertain')"
)
_UNSAVED: Final = f"{SELECT} WHERE state = 'succeeded' AND saved = 0"
_FILES: Final = (
    "SELECT job, path, size, sha256, is_named, checksum FROM files"
    " WHERE job = ? AND is_named = ? ORDER BY path"
)


@attrs.define
class Spent:
    """How many submits of one kind made a task, or may have made one."""

    model: str
    mode: str | None
    charges: int


class Reads:
    """Sees what was committed; every error is a `JournalError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = connect(path, mode="ro")

    def close(self) -> None:
        """Ends the connection."""
        self._database.close()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with translating(self._path):
            return self._database.execute(query, values).fetchall()

    def _entries(self, query: str, *values: object) -> list[Entry]:
        return [Entry.of_row(row) for row in self._rows(query, *values)]

    def find(self, key: str) -> Entry | None:
        """The job with this key."""
        found = self._entries(f"{SELECT} WHERE key = ?", key)
        return found[0] if found else None

    def numbered(self, number: int) -> Entry | None:
        """The job with this number."""
        found = self._entries(f"{SELECT} WHERE number = ?", number)
        return found[0] if found else None

    def in_state(self, state: JobState, *, after: int, before: int) -> list[Entry]:
        """The next few jobs in an open state; `before` 0 is no bound."""
        return self._entries(_OPEN + _IN_ORDER, state.value, after, before, before, CHUNK)

    def in_states(self, states: tuple[JobState, ...], *, after: int, before: int) -> list[Entry]:
        """The next few jobs in any of these states, which are looked for among all jobs."""
        marks = ", ".join("?" * len(states))
        query = f"{SELECT} WHERE state IN ({marks}) {_IN_ORDER}"
        values = [state.value for state in states]
        return self._entries(query, *values, after, before, before, CHUNK)

    def unsaved(self, *, after: int) -> list[Entry]:
        """The next few succeeded jobs that have files to be saved."""
        return self._entries(_UNSAVED + _IN_ORDER, after, 0, 0, CHUNK)

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state."""
        rows = self._rows("SELECT state, count(*) FROM jobs GROUP BY state")
        return Counter({JobState(state): number for state, number in rows})

    def spent(self) -> list[Spent]:
        """Submits that cost something, or may have."""
        rows = self._rows(
            "SELECT model, mode, sum(charges + (state = 'sending')) FROM jobs"
            " WHERE charges > 0 OR state = 'sending' GROUP BY model, mode"
        )
        return [Spent(*row) for row in rows]

    def has_task(self, task_id: str) -> bool:
        """Whether a job has this task."""
        return bool(self._rows("SELECT 1 FROM jobs WHERE task_id = ? LIMIT 1", task_id))

    def past_tasks(self) -> set[str]:
        """Tasks of jobs that were submitted again since."""
        rows = self._rows("SELECT note FROM jobs WHERE note LIKE ?", f'%"{PAST_TASKS}"%')
        return {task_id for (note,) in rows for task_id in json.loads(note).get(PAST_TASKS, ())}

    def files(self, number: int, *, named: bool) -> list[SavedFile]:
        """The files of a job that have their name, or that were about to get it."""
        rows = self._rows(_FILES, number, int(named))
        for row in rows:
            if not is_whole(row, path_at=1):
                raise JournalError(f"{self._path} is damaged: a file of job {number}; {ADVICE}")
        return [
            SavedFile(place_of(os.fsdecode(path)), size, sha256)
            for _, path, size, sha256, *_ in rows
        ]


def are_open(states: tuple[JobState, ...]) -> bool:
    """Whether all these states are open, so that an index knows their jobs."""
    return not ENDED.intersection(states)
