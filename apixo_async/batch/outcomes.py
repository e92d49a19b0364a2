"""What goes into a batch and what comes out: jobs, outcomes, the report."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs

from apixo_async._narrow import shown
from apixo_async.downloads import SavedFile
from apixo_async.errors import ApixoError, InvalidRequestError
from apixo_async.tasks import Task
from apixo_async.veo import Request

KEY_MAX: Final = 200


def _check_key(_: object, __: object, key: str | None) -> None:
    given: object = key  # the annotation is the caller's promise, which may be broken
    is_good = isinstance(given, str) and 1 <= len(given) <= KEY_MAX and given.isprintable()
    if given is not None and not is_good:
        rule = f"must be printable text of 1 to {KEY_MAX} characters, got {shown(given)}"
        raise InvalidRequestError("Job", [("key", rule)])


@attrs.frozen
class Job:
    """A request with a name. The key makes the job: its files and records are named by it.

    Two jobs with the same key and the same request are one job, which is run and paid once.

    Raises:
        InvalidRequestError: The key cannot be one.
    """

    request: Request
    """What to generate."""
    key: str | None = attrs.field(default=None, kw_only=True, validator=_check_key)
    """Its name: printable text of 1 to 200 characters. `None` makes one of a hash of the request
    and the number of its occurrence in the input, so that the same input always gives the same
    keys."""
    metadata: Mapping[str, object] = attrs.field(
        factory=dict[str, object], kw_only=True, hash=False
    )
    """Carried along untouched to the outcome. With a journal it must be JSON."""


class OutcomeStatus(enum.StrEnum):
    """How a job ended, as far as anyone can say."""

    SUCCEEDED = "succeeded"
    """The task ended with a result."""
    FAILED = "failed"
    """The task failed, or the API refused the request; `error` says which."""
    UNCERTAIN = "uncertain"
    """A task may exist and be billed; nobody can say. Never submitted again by itself."""
    TIMED_OUT = "timed_out"
    """The task was still running when we stopped waiting; it can be waited for again by its id."""
    NOT_STARTED = "not_started"
    """Surely no task exists: the batch stopped before this job was sent."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How one job ended."""

    job: Job
    """The job, with its key."""
    index: int
    """Its place in the input, counted from 0."""
    status: OutcomeStatus
    """How it ended, as far as anyone can say."""
    task: Task | None = None
    """The last snapshot of its task; `None` where there is none, or none is known."""
    error: ApixoError | None = None
    """What went wrong. A success has one only if its files could not be saved, a `DownloadError`:
    the video itself is done, and its URLs work for 15 days."""
    files: tuple[SavedFile, ...] = ()
    """The files that were saved."""

    @property
    def key(self) -> str:
        """The job's key; in outcomes it is always set."""
        return self.job.key or ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The result URLs, empty unless the job succeeded."""
        return () if self.task is None else self.task.urls


class StopReason(enum.StrEnum):
    """Why a batch stopped before the end of its input."""

    KEY = "key"
    """The key was refused."""
    BALANCE = "balance"
    """The balance is empty."""
    UNREACHABLE = "unreachable"
    """The host could not be reached."""
    BUDGET = "budget"
    """The next job would cost more than is left of `max_cost`."""
    DOUBT = "doubt"
    """Too many submits in a row got no usable answer; each of them may be billed."""
    JOURNAL = "journal"
    """The journal cannot be written, so nothing may be sent."""
    REQUESTED = "requested"
    """Somebody called `stop()`."""
    INPUT = "input"
    """The input raised an error or held something that is no request."""


@attrs.frozen
class BatchReport:
    """All outcomes of a run."""

    outcomes: tuple[Outcome, ...]
    """Every outcome, in input order."""
    stopped: StopReason | None = None
    """Why the batch ended early; `None` if it did not."""
    stop_error: BaseException | None = None
    """The error behind `stopped`, if there is one."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all finished videos, in input order."""
        return tuple(url for outcome in self.outcomes for url in outcome.urls)

    @property
    def counts(self) -> Mapping[OutcomeStatus, int]:
        """How many jobs ended in each status."""
        counted = Counter(outcome.status for outcome in self.outcomes)
        return {status: counted[status] for status in OutcomeStatus}
