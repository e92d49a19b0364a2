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

    Without a `key` it is a hash of the request and the number of its occurrence in the input, so
    that the same input always gives the same keys. Two jobs with the same key and the same request
    are one job, which is run and paid once. `metadata` is carried along untouched.
    """

    request: Request
    key: str | None = attrs.field(default=None, kw_only=True, validator=_check_key)
    metadata: Mapping[str, object] = attrs.field(
        factory=dict[str, object], kw_only=True, hash=False
    )


class OutcomeStatus(enum.StrEnum):
    """How a job ended, as far as anyone can say."""

    SUCCEEDED = "succeeded"
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
    """How one job ended. `index` is its place in the input, from 0.

    `error` is set unless the status is `succeeded`; a success whose files could not be saved has
    the `DownloadError` there, because the video itself is done and its URLs work for 15 days;
    `files` then has those that were saved.
    """

    job: Job
    index: int
    status: OutcomeStatus
    task: Task | None = None
    error: ApixoError | None = None
    files: tuple[SavedFile, ...] = ()

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
    """All outcomes of a run in input order. `stopped` says why a batch ended early, if it did."""

    outcomes: tuple[Outcome, ...]
    stopped: StopReason | None = None
    stop_error: BaseException | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all finished videos, in input order."""
        return tuple(url for outcome in self.outcomes for url in outcome.urls)

    @property
    def counts(self) -> Mapping[OutcomeStatus, int]:
        """How many jobs ended in each status."""
        counted = Counter(outcome.status for outcome in self.outcomes)
        return {status: counted[status] for status in OutcomeStatus}
