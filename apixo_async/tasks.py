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
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"


TERMINAL: Final = frozenset({TaskState.SUCCESS, TaskState.FAILED})


@attrs.frozen(kw_only=True, slots=False)  # with slots, building one costs four times as much
class Task:
    """What one answer of the API said about a task.

    Only `success` and `failed` are terminal; every other string the API may send means "still
    running" and is kept in `state` as it came. Times are UTC and `None` where the API left them
    out. `raw` is the `data` object of the answer.
    """

    id: str
    model: str
    state: TaskState | str = TaskState.PENDING
    urls: tuple[str, ...] = ()
    fail_code: str | None = None
    fail_message: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    duration: float | None = None
    """Seconds of processing as the server counts them."""
    raw: Mapping[str, object] = attrs.field(factory=dict[str, object], repr=False, eq=False)

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
