"""What a failure means, and whether sending the same again may help: sentences for people."""

from __future__ import annotations

from typing import Final

from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch.journal import JobState
from apixo_async.errors import ContentViolationError, InvalidImageURLError, TaskFailedError
from apixo_async.tasks import Task, TaskState

_REFUSED: Final = {
    "401": "the key was refused",
    "402": "the balance was empty",
    "403": "the key may not do this",
    "404": "the API does not know the model, or the task to extend",
    "413": "the request was too large",
    "429": "too much was asked for at a time",
}


def meaning(state: JobState, code: str | None) -> str:
    """What a failure with this code means, and what helps; `code` is the API's, if it gave one."""
    match state:
        case JobState.REJECTED:
            why = _REFUSED.get(code or "", "the API did not accept the request as it is")
            return f"Refused: {why}. No task was made, so nothing was billed."
        case JobState.ABANDONED:
            return "It was uncertain, and somebody decided to leave it at that."
        case _ if code is None:
            return "The task ended without a result that can be used."
        case _:
            return _task_meaning(code)


def _task_meaning(code: str) -> str:
    if means_no_credits(code):
        return "The balance was empty. Top up, then send it again."
    failure = _failure(code)
    if isinstance(failure, ContentViolationError):
        return (
            "Prompt or result is against the content policy. Change the prompt; "
            "the same one would fail again."
        )
    if isinstance(failure, InvalidImageURLError):
        return "The API could not read an image. Make its URL public, then send it again."
    return "The API could not make the video. Sending it again may help, and is paid for again."


def may_help_again(state: JobState, code: str | None) -> bool:
    """Whether the same request may do better: one against the content policy would not."""
    if state is not JobState.FAILED or code is None:
        return True
    return not isinstance(_failure(code), ContentViolationError)


def _failure(code: str) -> TaskFailedError:
    return task_failure(Task(id="", model="", state=TaskState.FAILED, fail_code=code))
