"""One job as the journal knows it, and the values of its columns."""

from __future__ import annotations

import enum
import json
import operator
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from apixo_async import errors
from apixo_async._narrow import NESTING_MAX, as_mapping, is_nested_too_deeply
from apixo_async._wire import (
    encode,
    fingerprint,
    read_task,
    request_from_row,
    request_input,
    task_failure,
)
from apixo_async.batch.journal.schema import JOB_COLUMNS, checksum
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus
from apixo_async.errors import (
    APIError,
    ApixoError,
    InvalidRequestError,
    JournalError,
    SubmitUncertainError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task
from apixo_async.veo import ModelRequest, Request


class JobState(enum.StrEnum):
    """Where a job stands. The first four are open: a run has something to do, or to say."""

    QUEUED = "queued"
    """Surely no task exists; it may be submitted."""
    SENDING = "sending"
    """Its POST is about to leave or on its way. Found after a crash it is uncertain."""
    ACCEPTED = "accepted"
    """Its task exists, is billed, and was not yet seen to end."""
    UNCERTAIN = "uncertain"
    """Nobody can say whether a task exists; only a decision or evidence ends this."""
    SUCCEEDED = "succeeded"
    """The task ended with a result."""
    FAILED = "failed"
    """The task failed, or ended without a usable result."""
    REJECTED = "rejected"
    """The API refused the request; no task exists."""
    ABANDONED = "abandoned"
    """It was uncertain, and somebody decided to leave it at that."""


ENDED: Final = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.REJECTED, JobState.ABANDONED}
)


@attrs.frozen(kw_only=True)
class Entry:
    """A row of `jobs`; `request`, `metadata`, `task` and `note` are JSON texts."""

    number: int
    key: str
    state: JobState
    model: str
    mode: str | None
    fingerprint: str
    request: str
    metadata: str
    attempts: int = 0
    charges: int = 0
    repeats: int = 0
    queued_at: str
    sending_at: str | None = None
    accepted_at: str | None = None
    ended_at: str | None = None
    task_id: str | None = None
    task: str | None = None
    note: str | None = None
    saved: int = 0

    @classmethod
    def new(cls, number: int, job: Job, *, at: datetime) -> Entry:
        """A queued job; its key must be set. Raises `InvalidRequestError` for odd metadata."""
        request = job.request
        asked: dict[str, Any] = {"model": request.model, "input": request_input(request)}
        if request.provider is not None:
            asked["provider"] = request.provider
        return cls(
            number=number,
            key=job.key or "",
            state=JobState.QUEUED,
            model=request.model,
            mode=request.mode,
            fingerprint=fingerprint(request),
            request=encode(asked).decode(),
            metadata=_metadata_text(job),
            queued_at=stamp(at),
        )

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Entry:
        """From the columns of a row and its checksum; `JournalError` if they do not agree."""
        if checksum(row[:-1]) != row[-1]:
            raise JournalError(f"job {row[0]!r} ({row[1]!r}) is damaged: its checksum is wrong")
        fields = dict(zip(JOB_COLUMNS, row, strict=False))
        try:
            fields["state"] = _STATES[fields["state"]]
        except KeyError:
            raise JournalError(
                f"job {row[1]!r} has the unknown state {fields['state']!r}: this journal was "
                "written by a newer apixo-async; upgrade"
            ) from None
        return cls(**fields)

    def row(self) -> tuple[Any, ...]:
        """The columns of its row, checksum included."""
        values = self.values()
        return (*values, checksum(values))

    def values(self) -> tuple[Any, ...]:
        """The columns without the checksum."""
        number, key, state, *others = _COLUMNS_OF(self)
        return (number, key, state.value, *others)

    def changed(self, changes: Mapping[str, Any]) -> Entry:
        """The entry with other values in some columns."""
        fields = dict(zip(JOB_COLUMNS, _COLUMNS_OF(self), strict=True))
        return Entry(**{**fields, **changes})

    # Back to values

    def job(self) -> Job:
        """The job as it was asked for."""
        return Job(self.asked(), key=self.key, metadata=json.loads(self.metadata))

    def asked(self) -> Request:
        """The request; a `ModelRequest` that sends the same where its own class is not clear."""
        fields = json.loads(self.request)
        row = {**fields["input"], "model": fields["model"], "provider": fields.get("provider")}
        try:
            request = request_from_row(row)
            if fingerprint(request) == self.fingerprint:
                return request
        except InvalidRequestError:
            pass
        return ModelRequest(fields["model"], fields["input"], provider=fields.get("provider"))

    def snapshot(self) -> Task | None:
        """The task as it was seen last, `None` before there is one."""
        if self.task_id is None:
            return None
        if self.task is None:
            return Task(id=self.task_id, model=self.model)
        return task_from_text(self.task, task_id=self.task_id, model=self.model)

    @property
    def age(self) -> float:
        """Seconds since its task was accepted by the wall clock, never below 0; 0 if it was not."""
        return _since(self.accepted_at)

    @property
    def doubt_age(self) -> float:
        """Seconds since the POST that nobody knows the answer of."""
        return _since(self.sending_at)

    def why(self) -> Mapping[str, Any]:
        """What is known of the reason for its state."""
        return {} if self.note is None else json.loads(self.note)

    def outcome(self, index: int) -> Outcome:
        """How it ended, or that it did not."""
        status, task = _STATUS[self.state], self.snapshot()
        error: ApixoError | None = None
        if status is not OutcomeStatus.SUCCEEDED:
            error = _error_of(self.state, self.why(), self.model, task)
        return Outcome(job=self.job(), index=index, status=status, task=task, error=error)


_COLUMNS_OF: Final = operator.attrgetter(*JOB_COLUMNS)
_STATES: Final[Mapping[str, JobState]] = {state.value: state for state in JobState}
_STATUS: Final[Mapping[JobState, OutcomeStatus]] = {
    JobState.QUEUED: OutcomeStatus.NOT_STARTED,
    JobState.SENDING: OutcomeStatus.UNCERTAIN,
    JobState.ACCEPTED: OutcomeStatus.TIMED_OUT,
    JobState.UNCERTAIN: OutcomeStatus.UNCERTAIN,
    JobState.SUCCEEDED: OutcomeStatus.SUCCEEDED,
    JobState.FAILED: OutcomeStatus.FAILED,
    JobState.REJECTED: OutcomeStatus.FAILED,
    JobState.ABANDONED: OutcomeStatus.FAILED,
}


def _error_of(state: JobState, why: Mapping[str, Any], model: str, task: Task | None) -> ApixoError:
    message = str(why.get("reason") or f"the job is {state}")
    if state in {JobState.UNCERTAIN, JobState.SENDING}:
        return SubmitUncertainError(
            model=model,
            reason=message,
            phase=str(why.get("phase") or "answer"),
            received=str(why.get("received") or ""),
            received_bytes=why.get("received_bytes"),
            candidate_task_id=why.get("candidate_task_id"),
            candidate_denied=bool(why.get("candidate_denied")),
        )
    if state is JobState.REJECTED:
        kind = getattr(errors, str(why.get("error")), APIError)
        is_api_error = isinstance(kind, type) and issubclass(kind, APIError)
        return (kind if is_api_error else APIError)(
            message, http_status=why.get("http_status"), code=why.get("code")
        )
    if state is JobState.FAILED and task is not None:
        if task.is_terminal and not task.has_succeeded:
            return task_failure(task)
        return UnexpectedAnswerError(message, task=task)
    return ApixoError(message)


# Texts of columns


def stamp(at: datetime) -> str:
    """A time as the journal writes it: UTC, to the millisecond, as SQLite's functions read it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _since(text: str | None) -> float:
    if text is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds())


# Made once: `json.dumps` would make a new one for each text.
_PLAIN: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
_ESCAPED: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


def text_of(value: object) -> str:
    """JSON for a column, in the characters that people wrote."""
    text = _PLAIN(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which no UTF-8 can hold
        return _ESCAPED(value)
    return text


def _metadata_text(job: Job) -> str:
    try:
        metadata = dict(job.metadata)
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        text.encode()
        if not is_nested_too_deeply(metadata):
            return text
        why = f"more than {NESTING_MAX} lists and objects are in each other"
    except (TypeError, ValueError, RecursionError) as error:
        why = str(error)
    rule = f"must be JSON, because a journal keeps it: {why}"
    raise InvalidRequestError(f"job {job.key!r}", [("metadata", rule)])


def task_text(task: Task) -> str | None:
    """What the API last said of a task, as it came."""
    return text_of(dict(task.raw)) if task.raw else None


def task_from_text(text: str, *, task_id: str, model: str) -> Task:
    """The snapshot that an answer of the API gives."""
    try:
        return read_task(as_mapping(json.loads(text)), model=model, task_id=task_id)
    except (ValueError, UnexpectedAnswerError):
        return Task(id=task_id, model=model)
