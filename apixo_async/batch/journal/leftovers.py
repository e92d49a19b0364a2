"""What is to be done about a job that a run finds in its journal: pure answers."""

from __future__ import annotations

from typing import Final

from apixo_async.batch import events
from apixo_async.batch.journal import history
from apixo_async.batch.journal.entries import Entry, JobState

_NAMED: Final = frozenset(history.NAMED)
CRASHED: Final = "crash"
"""The phase of a submit that was on its way when its process ended."""


def doubt_after_crash(entry: Entry) -> events.Uncertain | None:
    """What is to be recorded of a job that no process works on; `None` for most."""
    if entry.state is not JobState.SENDING:
        return None
    reason = "the process ended while this submit was on its way"
    return events.Uncertain(key=entry.key, reason=reason, phase=CRASHED)


def is_to_submit(entry: Entry) -> bool:
    """Whether a submit is what this job needs."""
    return entry.state is JobState.QUEUED


def may_be_called_back(entry: Entry) -> bool:
    """Whether a callback has told, or may tell, which task the job's last submit has made."""
    why = entry.why()
    return bool(why.get("calls_back") or _NAMED & why.keys())


def open_candidate(entry: Entry) -> str | None:
    """What the broken answer to an uncertain submit named, unless the API has denied it."""
    if entry.state is not JobState.UNCERTAIN:
        return None
    why = entry.why()
    candidate: str | None = why.get("candidate_task_id")
    return None if why.get("candidate_denied") else candidate


def is_to_submit_again(entry: Entry, *, policy: str) -> bool:
    """Whether a job that is in doubt, and that no callback is waited for, is sent once more.

    Only by the policy `resubmit`, and not if a callback or its broken answer has named a task that
    nobody has denied.
    """
    is_named = bool(_NAMED & entry.why().keys()) or open_candidate(entry) is not None
    return entry.state is JobState.UNCERTAIN and policy == "resubmit" and not is_named
