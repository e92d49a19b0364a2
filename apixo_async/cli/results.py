"""Tasks and outcomes as JSON objects and as lines; what failed, grouped by why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from apixo_async import errors
from apixo_async.batch.outcomes import Outcome, OutcomeStatus
from apixo_async.cli.faults import advice_for, command
from apixo_async.downloads import SavedFile
from apixo_async.tasks import Task

KEYS_SHOWN: Final = 5
ID_FROM: Final = 80
"""Columns of a terminal from which on a line has room for a task id."""
GROUPS_MAX: Final = 20
OTHER_REASONS: Final = "other reasons"


def task_as_json(task: Task) -> dict[str, Any]:
    """A task as `--json` prints it."""
    return {
        "task_id": task.id,
        "model": task.model,
        "state": str(task.state),
        "urls": list(task.urls),
        "fail_code": task.fail_code,
        "fail_message": task.fail_message,
        "duration": task.duration,
        "created_at": _iso(task.created_at),
        "completed_at": _iso(task.completed_at),
    }


def file_as_json(file: SavedFile) -> dict[str, Any]:
    """A saved file as `--json` prints it."""
    return {"path": str(file), "size": file.size, "sha256": file.sha256}


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as `--json` prints it; every field is always there."""
    task = outcome.task
    return {
        "key": outcome.key,
        "status": str(outcome.status),
        "task_id": None if task is None else task.id,
        "model": outcome.job.request.model,
        "mode": outcome.job.request.mode,
        "urls": list(outcome.urls),
        "files": [file_as_json(file) for file in outcome.files],
        "error": None if outcome.error is None else error_as_json(outcome.error),
        "duration": None if task is None else task.duration,
        "created_at": None if task is None else _iso(task.created_at),
        "completed_at": None if task is None else _iso(task.completed_at),
        "metadata": dict(outcome.job.metadata),
    }


def error_as_json(error: errors.ApixoError) -> dict[str, Any]:
    """An error as `--json` prints it: its class, its text, and why in a word where there is one."""
    word = next(
        (getattr(error, name) for name in ("fail_code", "code", "reason") if hasattr(error, name)),
        None,
    )
    return {"type": type(error).__name__, "message": str(error), "reason": word}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def is_saved(outcome: Outcome) -> bool:
    """Whether nothing is missing: a success can still lack its files."""
    return outcome.status is OutcomeStatus.SUCCEEDED and outcome.error is None


def reason_of(outcome: Outcome) -> str:
    """Why it went wrong, in words that equal failures share: no ids, no URLs."""
    match outcome.error:
        case errors.TaskFailedError(fail_code=code, fail_message=message):
            return ": ".join(part for part in (code, message) if part) or "no reason given"
        case errors.TaskTimeoutError():
            return "still running when we stopped waiting"
        case errors.DownloadError(reason=reason):
            return f"finished, but not saved ({reason.replace('_', ' ')})"
        case errors.SubmitUncertainError(reason=reason):
            return reason
        case errors.UnexpectedAnswerError():
            return "no usable result URL"
        case error:
            return "no reason given" if error is None else f"{type(error).__name__}: {error}"


def outcome_advice(error: errors.ApixoError | None) -> str:
    """What to do about the error of one job of a batch, without its id."""
    if isinstance(error, errors.TaskTimeoutError):
        return "its task goes on and is billed; the next run waits for it again"
    return "" if error is None else advice_for(error).text


def failure_line(outcome: Outcome, again: Sequence[str] = (), *, width: int | None = None) -> str:
    """One failure as a line, with the way back to what is paid for, or else what to do.

    `again` are options that a command which goes on has to say again. In a terminal of little
    `width` the id of a task that has failed is left out: the journal and `--json` have it.
    """
    task = outcome.task
    line = f"{outcome.status.replace('_', ' ')}: {outcome.key}: {reason_of(outcome)}"
    if isinstance(outcome.error, errors.SubmitUncertainError) and outcome.error.candidate_task_id:
        unknown = ", which the API does not know" if outcome.error.candidate_denied else ""
        return f"{line}; it may be task {outcome.error.candidate_task_id}{unknown}"
    if task is None:
        return line
    if outcome.status is OutcomeStatus.TIMED_OUT:
        return f"{line}; go on with: {command('wait', task.id, task.model, *again)}"
    if outcome.status is OutcomeStatus.SUCCEEDED:
        again = command("download", task.id, task.model, *again)
        return f"not saved: {outcome.key}: {outcome.error}; again with: {again}"
    return line if width is not None and width < ID_FROM else f"{line} (task {task.id})"


@attrs.define
class Group:
    """Outcomes that share status and reason: how many, the keys of the first few, what to do."""

    count: int = 0
    keys: list[str] = attrs.field(factory=list[str])
    advice: str = ""


class Failures:
    """What went wrong, by status and reason, in bounded memory."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, outcome: Outcome) -> None:
        """Takes in an outcome that is no full success."""
        status = "not saved" if outcome.status is OutcomeStatus.SUCCEEDED else outcome.status
        name = (status.replace("_", " "), reason_of(outcome))
        if name not in self._groups and len(self._groups) >= GROUPS_MAX:
            name = (name[0], OTHER_REASONS)
        advice = "" if name[1] == OTHER_REASONS else outcome_advice(outcome.error)
        group = self._groups.setdefault(name, Group(advice=advice))
        group.count += 1
        if len(group.keys) < KEYS_SHOWN:
            group.keys.append(outcome.key)

    @property
    def groups(self) -> Mapping[tuple[str, str], Group]:
        """By (status, reason), the most frequent first."""
        return dict(sorted(self._groups.items(), key=lambda item: -item[1].count))
