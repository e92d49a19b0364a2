"""Every error this library raises on purpose, in one tree.

    ApixoError
    ├── InvalidRequestError      (also ValueError)    the request breaks rules; nothing was sent
    ├── InvalidSettingError      (also ValueError)    a setting is out of its range
    ├── ClientUsageError         (also RuntimeError)  closed client, other event loop
    ├── TransportError
    │   ├── NotSentError                              surely never reached the API: safe to repeat
    │   └── UnansweredError                           may have reached the API
    ├── APIError                                      the API answered with an error
    │   ├── BadRequestError
    │   ├── InsufficientCreditsError
    │   ├── AuthenticationError
    │   ├── NotFoundError
    │   ├── RateLimitedError
    │   └── ServerError
    ├── UnexpectedAnswerError                         an answer that no document describes
    ├── SubmitUncertainError                          a task may have been created and billed
    ├── TaskFailedError
    │   ├── ContentViolationError
    │   └── InvalidImageURLError
    ├── TaskTimeoutError         (also TimeoutError)  we stopped waiting; the task goes on
    ├── DownloadError
    └── JournalError

All are built from plain values, survive pickling, and are never chained to an aiohttp error, whose
repr holds the API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apixo_async.tasks import Task


def _restore(cls: type[ApixoError], args: tuple[object, ...], state: dict[str, Any]) -> ApixoError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


class ApixoError(Exception):
    """The base of every error raised on purpose by this library.

    `task_id` is the task that the error concerns, where one is known.
    """

    task_id: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt by calling the class with `args`, which fails for keyword-only
        # fields; this way every subclass survives pickling and copying without code of its own.
        return _restore, (type(self), self.args, dict(self.__dict__))


class InvalidRequestError(ApixoError, ValueError):
    """A request breaks documented rules; nothing was sent.

    `problems` lists every broken rule as (field, rule), so that one round of fixing is enough.
    """

    def __init__(self, subject: str, problems: Sequence[tuple[str, str]]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        listed = "; ".join(f"{field}: {rule}" for field, rule in self.problems)
        super().__init__(f"{subject} is not valid: {listed}")


class InvalidSettingError(ApixoError, ValueError):
    """A setting of the client, its limits or its schedule is out of range."""


class ClientUsageError(ApixoError, RuntimeError):
    """The client was used after it was closed, or from another event loop than its own."""


class TransportError(ApixoError):
    """A call failed below HTTP. `reason` is a short stable word, `host` what was called."""

    def __init__(self, message: str, *, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(message)


class NotSentError(TransportError):
    """The request surely never left: no byte of it was handed to a connection.

    `reason` is one of `dns`, `refused`, `unreachable`, `tls`, `connect_timeout`, `timeout`,
    `resources`, `reset`, `other`.
    Repeating is safe; `is_retryable` is false for `tls`, where trying again cannot help.
    """

    @property
    def is_retryable(self) -> bool:
        """Whether trying again may help."""
        return self.reason != "tls"


class UnansweredError(TransportError):
    """The request was handed to a connection and no complete answer came back.

    The API may have acted on it. `received` holds what arrived of the answer (at most 2 kB) and
    `received_bytes` how much that was; `task_ids` are all the ids seen anywhere in it.
    """

    def __init__(
        self,
        message: str,
        *,
        host: str,
        reason: str,
        received: str = "",
        received_bytes: int | None = None,
        task_ids: tuple[str, ...] = (),
    ) -> None:
        self.received = received
        self.received_bytes = _size(received) if received_bytes is None else received_bytes
        self.task_ids = task_ids
        super().__init__(message, host=host, reason=reason)


class APIError(ApixoError):
    """The API answered with an error.

    `http_status` and `code` (of the envelope) are both kept, because the API is known to send
    errors inside HTTP 200; either may be `None`. `data` is the envelope's `data`, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: int | None = None,
        data: object = None,
    ) -> None:
        self.message = message
        self.http_status = http_status
        self.code = code
        self.data = data
        super().__init__(message)

    def __str__(self) -> str:
        if self.code is None and self.http_status is None:
            return self.message
        place = f"HTTP {self.http_status}" if self.http_status is not None else "no HTTP status"
        return f"{self.message} ({place}, code {self.code})"


class BadRequestError(APIError):
    """The API refused the request itself: invalid parameters, forbidden, too large."""


class InsufficientCreditsError(APIError):
    """The balance of this key does not suffice. Top up; nothing was billed for this request."""


class AuthenticationError(APIError):
    """The key is missing, wrong or lacks permission."""


class NotFoundError(APIError):
    """The API does not know this model or task id."""


class RateLimitedError(APIError):
    """Too many requests or too many unfinished tasks; `retry_after` in seconds, if the API said."""

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: int | None = None,
        data: object = None,
        retry_after: float | None = None,
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, http_status=http_status, code=code, data=data)


class ServerError(APIError):
    """The API or a gateway before it failed. After a submit the task may exist all the same."""


class UnexpectedAnswerError(ApixoError):
    """An answer that no document describes; `excerpt` shows its beginning with the key removed.

    `task` is set when the answer concerned a known task: its id is never lost.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        excerpt: str = "",
        task: Task | None = None,
    ) -> None:
        self.http_status = http_status
        self.excerpt = excerpt
        self.task = task
        super().__init__(f"{message}: {excerpt!r}" if excerpt else message)


class SubmitUncertainError(ApixoError):
    """Nobody can say whether this submit created a task; it may be running and billed.

    It is never repeated automatically, because the API knows no idempotency key. `reason` says
    what happened. `phase` says how far it came: `sent` (it left, nothing came back), `answering`
    (the answer was cut), `answer` (a whole answer that makes no sense), `crash` (the process
    ended) or `callback` (it was not sent again, because a callback told of an earlier submit).
    `received` is what came of the answer, shortened, and `received_bytes` how much that was.
    `candidate_task_id` is an id seen in a broken answer, not confirmed; with `candidate_denied`
    the API was asked about it and does not know it, without it nobody can say.
    """

    def __init__(
        self,
        *,
        model: str,
        reason: str,
        phase: str = "answer",
        received: str = "",
        received_bytes: int | None = None,
        candidate_task_id: str | None = None,
        candidate_denied: bool = False,
        http_status: int | None = None,
    ) -> None:
        self.model = model
        self.reason = reason
        self.phase = phase
        self.received = received
        self.received_bytes = _size(received) if received_bytes is None else received_bytes
        self.candidate_task_id = candidate_task_id
        self.candidate_denied = candidate_denied
        self.http_status = http_status
        seen = f"; it may be task {candidate_task_id}" if candidate_task_id else ""
        if seen and candidate_denied:
            seen += ", which the API does not know"
        super().__init__(
            f"it is unknown whether this {model} submit was accepted ({reason}){seen}; "
            "it was not sent again, because it may be running and billed"
        )

    @property
    def open_candidate(self) -> str | None:
        """The candidate, unless the API has denied it: it may still turn out to be the task."""
        return None if self.candidate_denied else self.candidate_task_id


class TaskFailedError(ApixoError):
    """The task ended as `failed`; `fail_code` and `fail_message` say why."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.task_id = task.id
        self.fail_code = task.fail_code
        self.fail_message = task.fail_message
        detail = ": ".join(part for part in (task.fail_code, task.fail_message) if part)
        super().__init__(f"task {task.id} failed: {detail or 'no reason given'}")


class ContentViolationError(TaskFailedError):
    """The prompt or its result was judged to violate content policy: change the prompt."""


class InvalidImageURLError(TaskFailedError):
    """An image URL could not be read by the API: it must be public."""


class TaskTimeoutError(ApixoError, TimeoutError):
    """We stopped waiting; the task goes on, is billed, and can be waited for again by its id."""

    def __init__(self, task: Task, *, waited: float) -> None:
        self.task = task
        self.task_id = task.id
        self.waited = waited
        super().__init__(
            f"task {task.id} was still {task.state} after {waited:.0f} s of waiting; "
            "it goes on: wait for it again by its id, do not submit it again"
        )


class DownloadError(ApixoError):
    """A result could not be saved. The task is done and paid; only repeat the download.

    `reason` is a short stable word, `url` has its query string removed.
    """

    def __init__(
        self, message: str, *, url: str, reason: str, http_status: int | None = None
    ) -> None:
        self.url = url
        self.reason = reason
        self.http_status = http_status
        super().__init__(message)


class JournalError(ApixoError):
    """The journal cannot be read or written as it must be."""
