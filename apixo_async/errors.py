"""Every error this library raises on purpose.

They are one tree::

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
        └── StoreError

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

    All are built from plain values and survive pickling; none holds the API key.

    Attributes:
        task_id: The task that the error concerns, where one is known.
    """

    task_id: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt by calling the class with `args`, which fails for keyword-only
        # fields; this way every subclass survives pickling and copying without code of its own.
        return _restore, (type(self), self.args, dict(self.__dict__))


class InvalidRequestError(ApixoError, ValueError):
    """A request breaks documented rules; nothing was sent. Mend the fields in `problems`.

    Attributes:
        subject: What is not valid: the class of the request, or a place in the input.
        problems: Every broken rule as (field, rule), so that one round of fixing is enough.
    """

    def __init__(self, subject: str, problems: Sequence[tuple[str, str]]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        listed = "; ".join(f"{field}: {rule}" for field, rule in self.problems)
        super().__init__(f"{subject} is not valid: {listed}")


class InvalidSettingError(ApixoError, ValueError):
    """A setting of the client, its limits or its schedule is out of range.

    The message names the setting and the rule. Nothing was sent.
    """


class ClientUsageError(ApixoError, RuntimeError):
    """The client was used after it was closed, or from another event loop than its own.

    Open one client for each event loop, and use it within its `async with`.
    """


class TransportError(ApixoError):
    """A call failed below HTTP: the base of `NotSentError` and `UnansweredError`.

    Attributes:
        host: What was called.
        reason: Why it failed, in a short stable word.
    """

    def __init__(self, message: str, *, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(message)


class NotSentError(TransportError):
    """The request surely never left: no byte of it was handed to a connection.

    Check the network and the base URL. Repeating is safe.

    Attributes:
        host: What was called.
        reason: One of `dns`, `refused`, `unreachable`, `tls`, `netrc`, `connect_timeout`,
            `timeout`, `resources`, `reset`, `other`.
    """

    @property
    def is_retryable(self) -> bool:
        """Whether trying again may help: not where TLS failed, or a .netrc is in the way."""
        return self.reason not in {"tls", "netrc"}


class UnansweredError(TransportError):
    """The request was handed to a connection and no complete answer came back.

    The API may have acted on it. Status and balance calls may be repeated freely; a submit that
    ends so is a `SubmitUncertainError`.

    Attributes:
        host: What was called.
        reason: Why it failed, in a short stable word.
        received: What arrived of the answer, the first 2,000 characters at most.
        received_bytes: How many bytes arrived.
        task_ids: All the task ids seen anywhere in what arrived.
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
    """The API answered with an error: the base of six others, and any other code.

    Status and code are both kept, because the API is known to send errors inside HTTP 200.

    Attributes:
        message: What the API said.
        http_status: The status of the answer; `None` where it had none, as in a callback.
        code: The code in the envelope (Veo 3.1 page, error codes); `None` where it had none.
        data: The envelope's `data`, if any.
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
    """The API refused the request itself: invalid parameters, forbidden, too large.

    "400: Invalid parameters or request error" (Veo 3.1 page, error codes); 403, 405, 413, 414, 415
    and 422 as well. Mend the request; sending it again cannot help. Fields as in `APIError`.
    """


class InsufficientCreditsError(APIError):
    """The balance of this key does not suffice. Top up; nothing was billed for this request.

    402 (errors page), or 400 with the message "Insufficient credits" (Veo 3.1 page, response).
    Fields as in `APIError`.
    """


class AuthenticationError(APIError):
    """The key is missing, wrong or lacks permission. Check `APIXO_API_KEY`.

    "401: Invalid or missing API Key" (Veo 3.1 page, error codes). Also raised before anything is
    sent, if there is no key. Fields as in `APIError`.
    """


class NotFoundError(APIError):
    """The API does not know this model or task id: 404 (errors page).

    The model must be the one that the task was submitted with. Fields as in `APIError`.
    """


class RateLimitedError(APIError):
    """Too many requests, or too many unfinished tasks: "429: Rate limit exceeded".

    (Veo 3.1 page, error codes.) Submits and waits sit it out; a status or balance call of yours
    raises it. Other fields as in `APIError`.

    Attributes:
        retry_after: Seconds to wait, if the API said so; otherwise `None`.
    """

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
    """The API or a gateway before it failed: 5xx (errors page). Repeat the call later.

    After a submit the task may exist all the same, so that one is a `SubmitUncertainError`. Fields
    as in `APIError`.
    """


class UnexpectedAnswerError(ApixoError):
    """An answer that no document describes, or a success that never shows a URL.

    Attributes:
        http_status: The status of the answer, if it had one.
        excerpt: The beginning of the answer, with the key removed.
        task: The task that the answer was about, where one is known: its id is never lost.
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

    It is never repeated automatically, because the API knows no idempotency key. Do not just submit
    again: look at your account's history, and at the candidate unless it is denied.

    Attributes:
        model: The model of the request.
        reason: What happened.
        phase: How far it came: `sent` (it left, nothing came back), `answering` (the answer was
            cut), `answer` (a whole answer that makes no sense), `crash` (the process ended) or
            `callback` (not sent again, because a callback told of an earlier submit's task).
        received: What came of the answer, the first 2,000 characters at most.
        received_bytes: How many bytes came of the answer.
        candidate_task_id: An id seen in a broken answer and not confirmed, or `None`.
        candidate_denied: Whether the API was asked about that id and does not know it. If not, it
            could not be asked, and nobody can say.
        http_status: The status of the answer, if there was one.
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
    """The task ended as `failed` (Veo 3.1 page, fail codes).

    Whether it was billed, no document says. Nothing generates it again by itself.

    Attributes:
        task: The last snapshot of the task.
        fail_code: Why, in a word such as `GENERATION_FAILED`; `None` if the API gave none.
        fail_message: Why, in a sentence; `None` if the API gave none.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.task_id = task.id
        self.fail_code = task.fail_code
        self.fail_message = task.fail_message
        detail = ": ".join(part for part in (task.fail_code, task.fail_message) if part)
        super().__init__(f"task {task.id} failed: {detail or 'no reason given'}")


class ContentViolationError(TaskFailedError):
    """The prompt or its result was judged to violate content policy: change the prompt.

    `CONTENT_VIOLATION` (Veo 3.1 page, fail codes) and its like. Fields as in `TaskFailedError`.
    """


class InvalidImageURLError(TaskFailedError):
    """An image URL could not be read by the API: make it public.

    `INVALID_IMAGE_URL` (Veo 3.1 page, fail codes). Fields as in `TaskFailedError`.
    """


class TaskTimeoutError(ApixoError, TimeoutError):
    """We stopped waiting; the task goes on and is billed.

    Wait for it again: `await client.wait(error.task)`. Do not submit it again.

    Attributes:
        task: The last snapshot of the task.
        waited: Seconds that the wait took.
    """

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

    Attributes:
        url: What was downloaded, without its query string.
        reason: Why it failed, in a short stable word; the guide to errors lists them.
        http_status: The status of the answer, if there was one.
    """

    def __init__(
        self, message: str, *, url: str, reason: str, http_status: int | None = None
    ) -> None:
        self.url = url
        self.reason = reason
        self.http_status = http_status
        super().__init__(message)


class JournalError(ApixoError):
    """The journal cannot be read or written as it must be. The message says what to do.

    It is in use by another process, damaged, of another version, or cannot be written.
    """


class StoreError(JournalError):
    """What several processes share, in PostgreSQL, Redis or a file, cannot be read or written.

    Nothing is sent while that is so. The message says what was tried.
    """
