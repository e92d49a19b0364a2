"""What a journal says about its batch, without taking possession of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async.batch.journal.entries import ENDED, JobState
from apixo_async.batch.journal.opening import (
    check_format,
    check_to_look,
    connect_to_look,
    read_meta,
    translating,
)
from apixo_async.batch.journal.overview import Standing, standing
from apixo_async.errors import JournalError

_GROUPS: Final = (
    "SELECT state, model, mode, count(*), sum(charges + (state = 'sending')),"
    " sum(state = 'succeeded' AND saved = 0) FROM jobs GROUP BY state, model, mode"
)
_STATES: Final = frozenset(state.value for state in JobState)


@attrs.frozen
class Group:
    """Jobs of one state, model and mode; `charges` are tasks that they made, or may have made."""

    state: str
    model: str
    mode: str | None
    jobs: int
    charges: int
    unsaved: int

    @property
    def kind(self) -> tuple[str, str | None]:
        """Model and mode."""
        return self.model, self.mode

    @property
    def is_to_pay(self) -> bool:
        """Whether they were paid, or may have been, or will be if a run goes on."""
        return bool(self.charges) or self.state == JobState.QUEUED


@attrs.frozen
class Noted:
    """What a batch was started with, and how its jobs stand, by the record."""

    options: Mapping[str, Any]
    groups: tuple[Group, ...]

    @property
    def counts(self) -> Mapping[Standing, int]:
        """Jobs by standing once no process owns the journal."""
        counted = Counter[Standing]()
        for group in self.groups:
            counted[standing(JobState(group.state), is_owned=False)] += group.jobs
        return {one: counted[one] for one in Standing}

    def left(self, *, saves: bool) -> int:
        """Jobs that have not ended; with `saves` those, too, whose results are to be saved."""
        still_open = sum(group.jobs for group in self.groups if group.state not in ENDED)
        return still_open + saves * sum(group.unsaved for group in self.groups)


def read_noted(path: Path) -> Noted:
    """What the journal says of its batch as a whole; raises `JournalError` for what is none."""
    path = Path(os.path.realpath(path))
    check_to_look(path)
    with translating(path), closing(connect_to_look(path)) as database:
        check_format(database, path)
        options = json.loads(read_meta(database, "options") or "{}")
        groups = tuple(Group(*row) for row in database.execute(_GROUPS))
    for group in groups:
        if group.state not in _STATES:
            raise JournalError(
                f"{path} has jobs in the unknown state {group.state!r}: it was written by a newer "
                "apixo-async; upgrade"
            )
    return Noted(options, groups)
