"""May this be repeated? Pure answers; the only rules by which the library sends anything again."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

from apixo_async._timing import full_jitter
from apixo_async.errors import (
    ApixoError,
    AuthenticationError,
    BadRequestError,
    ClientUsageError,
    ContentViolationError,
    InsufficientCreditsError,
    JournalError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    TaskFailedError,
)

NOT_SENT_BASE: Final = 0.5
NOT_SENT_CAP: Final = 20.0

NEW_TASK_GRACE: Final = 60.0
"""A task this young may be unknown to the server that answers."""
NOT_FOUND_STRIKES: Final = 3
NOT_FOUND_SPAN: Final = 120.0
"""An older one is given up when this many answers in a row, over this time, deny it."""
REFUSED_SPAN: Final = 60.0
"""A key that worked and is refused for this long has been revoked."""

UNCERTAIN_REPEATS: Final = 2
"""How often one run submits a job again whose answers get lost, where the user asked for that."""


class SubmitVerdict(enum.Enum):
    """What a failed submit means."""

    NOT_SENT = enum.auto()
    """Surely never reached the API: repeat after a delay."""
    THROTTLED = enum.auto()
    """Answered 429: repeat when the gate opens again."""
    REJECTED = enum.auto()
    """Refused; no task exists: final."""
    UNCERTAIN = enum.auto()
    """A task may exist: never repeated by us."""


def submit_verdict(error: ApixoError) -> SubmitVerdict:
    """What may be done after this error of a submit; everything not known to be safe is uncertain.

    HTTP 5xx is uncertain, because a gateway may answer after it passed the request on; so are
    408, 409 and unknown codes.
    """
    match error:
        case NotSentError():
            return SubmitVerdict.NOT_SENT
        case RateLimitedError():
            return SubmitVerdict.THROTTLED
        case (
            BadRequestError()
            | AuthenticationError()
            | InsufficientCreditsError()
            | NotFoundError()
            | ClientUsageError()
        ):
            return SubmitVerdict.REJECTED
        case _:
            return SubmitVerdict.UNCERTAIN


def resubmit_delay(failures: int, *, unit: float) -> float:
    """Seconds before a submit that was not sent is tried again, after `failures` of them."""
    return full_jitter(unit, base=NOT_SENT_BASE, cap=NOT_SENT_CAP, attempt=failures)


def is_look_fatal(
    error: ApixoError, *, key_worked: bool, in_a_row: int, span: float, age: float | None
) -> bool:
    """Whether a failed status call ends the wait; nearly none does, they wait for the next look.

    `in_a_row` counts this error's kind without another answer in between and `span` is the time
    they cover. A refused key is fatal at once if it never worked, otherwise after a minute. An
    unknown task is fatal when it is no longer new and is denied again and again.
    """
    match error:
        case ClientUsageError():
            return True
        case AuthenticationError():
            return not key_worked or span >= REFUSED_SPAN
        case NotFoundError() | BadRequestError():
            is_new = age is not None and age < NEW_TASK_GRACE
            return not is_new and in_a_row >= NOT_FOUND_STRIKES and span >= NOT_FOUND_SPAN
        case _:
            return False


def stops_batch(error: ApixoError) -> bool:
    """Whether every further submit would fail alike: key, money, host or journal are not there."""
    fatal = (
        AuthenticationError,
        InsufficientCreditsError,
        NotSentError,
        ClientUsageError,
        JournalError,
    )
    return isinstance(error, fatal)


def may_generate_again(
    error: ApixoError | None, *, codes: Collection[str], done: int, times: int
) -> bool:
    """Whether a failed task may be paid for once more, which only its user can allow.

    `codes` are the fail codes that were named for this, `done` the repeats so far, of at most
    `times`. A content violation is never tried again: the same prompt would be refused again.
    """
    if not isinstance(error, TaskFailedError) or isinstance(error, ContentViolationError):
        return False
    return error.fail_code in codes and done < times


def may_submit_in_doubt(*, policy: str, done: int, named: bool) -> bool:
    """Whether a job may be sent once more whose submit may have made a task.

    Only by the policy `resubmit`, `done` times at most in one run, and not while it is `named`:
    when a callback or its broken answer has told of a task that the API has not denied.
    """
    return policy == "resubmit" and done < UNCERTAIN_REPEATS and not named
