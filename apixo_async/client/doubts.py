"""What is known of a submit of which nobody can say whether it made a task."""

from __future__ import annotations

from apixo_async._wire import Reply, excerpt
from apixo_async.client.submission import Answer, Submission
from apixo_async.errors import (
    APIError,
    ApixoError,
    SubmitUncertainError,
    UnansweredError,
)


def doubt_of(
    submission: Submission,
    reason: str,
    failure: ApixoError | None = None,
    answer: str = "",
    candidate: str | None = None,
) -> SubmitUncertainError:
    """The error that says what was sent, what came back, and how far that came."""
    received = answer.encode("utf-8", "replace")
    is_cut = failure is None or isinstance(failure, UnansweredError)
    return SubmitUncertainError(
        model=submission.request.model,
        reason=reason,
        phase="answer" if not is_cut else "answering" if received else "sent",
        received=excerpt(received),
        received_bytes=_size(failure, received),
        candidate_task_id=candidate,
        http_status=failure.http_status if isinstance(failure, APIError) else None,
    )


def denied(doubt: SubmitUncertainError) -> SubmitUncertainError:
    """The same doubt, now that its candidate is known not to be the task."""
    return SubmitUncertainError(
        model=doubt.model,
        reason=doubt.reason,
        phase=doubt.phase,
        received=doubt.received,
        received_bytes=doubt.received_bytes,
        candidate_task_id=doubt.candidate_task_id,
        candidate_denied=True,
        http_status=doubt.http_status,
    )


def _size(failure: ApixoError | None, received: bytes) -> int:
    """Bytes of the answer that arrived; what is left of a long one was shortened."""
    return failure.received_bytes if isinstance(failure, UnansweredError) else len(received)


def answer_of(reply: Reply | None, failure: ApixoError | None = None) -> Answer:
    """The answer, or what came of one that broke off."""
    if reply is not None:
        return Answer(reply.body.decode("utf-8", "replace"), reply.sent_at)
    return Answer(failure.received if isinstance(failure, UnansweredError) else "")
