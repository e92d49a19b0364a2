"""What you get: snapshots of a task on the server."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

RESULT_LIFETIME: Final = timedelta(days=15)
"""How long result URLs live: "Result URLs are valid for 15 days" (Veo 3.1 page, tips)."""


class TaskState(enum.StrEnum):
    """The documented states (Veo 3.1 page, status fields). A state equals its string."""

    PENDING = "pending"
    """Accepted, and not begun yet."""
    PROCESSING = "processing"
    """It is being made."""
    SUCCESS = "success"
    """It has ended, and its result is there."""
    FAILED = "failed"
    """It has ended without a result; `fail_code` and `fail_message` say why."""


TERMINAL: Final = frozenset({TaskState.SUCCESS, TaskState.FAILED})


@attrs.frozen(kw_only=True, slots=False)  # with slots, building one costs four times as much
class Task:
    """What one answer of the API said about a task (Veo 3.1 page, status fields).

    A snapshot: it does not change when the task does. Everything but `id` and `model` may be
    missing from an answer.
    """

    id: str
    """The API's name of the task. There is no way to list tasks, so keep it."""
    model: str
    """The model that the task was submitted with; a status call must name the same."""
    state: TaskState | str = TaskState.PENDING
    """Only `success` and `failed` are terminal. Every other string that the API may send means
    "still running" and is kept as it came."""
    urls: tuple[str, ...] = ()
    """Where the results are; empty before `success`. "Result URLs are valid for 15 days" (Veo 3.1
    page, tips)."""
    fail_code: str | None = None
    """Why it failed, in a word such as `CONTENT_VIOLATION`; `None` unless it has failed."""
    fail_message: str | None = None
    """Why it failed, in a sentence; `None` unless it has failed."""
    created_at: datetime | None = None
    """When it was created, in UTC; `None` where the API left it out."""
    completed_at: datetime | None = None
    """When it ended, in UTC; `None` while it runs, and where the API left it out."""
    duration: float | None = None
    """Seconds of processing as the server counts them; `None` where it does not say."""
    raw: Mapping[str, object] = attrs.field(factory=dict[str, object], repr=False, eq=False)
    """The `data` object of the answer, as it came."""

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended on the server."""
        return self.state in TERMINAL

    @property
    def has_succeeded(self) -> bool:
        """Whether the task has ended with a result."""
        return self.state == TaskState.SUCCESS

    @property
    def expires_at(self) -> datetime | None:
        """When the result URLs stop working, an estimate: 15 days after completion."""
        if self.completed_at is None:
            return None
        try:
            return self.completed_at + RESULT_LIFETIME
        except OverflowError:  # a broken stamp in the calendar's last days
            return None


def utc_from_milliseconds(stamp: float) -> datetime | None:
    """The API's Unix milliseconds as a UTC time; `None` for stamps outside the calendar."""
    try:
        return datetime.fromtimestamp(stamp / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None
