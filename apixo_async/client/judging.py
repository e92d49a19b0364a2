"""What came of a POST that was not plainly accepted: one pure answer."""

from __future__ import annotations

import math

import attrs

from apixo_async._wire import Reply, candidate_task_id
from apixo_async.client.doubts import answer_of
from apixo_async.client.submission import Answer
from apixo_async.errors import ApixoError
from apixo_async.retries import NEW_TASK_GRACE, NOT_FOUND_SPAN, SubmitVerdict, submit_verdict
from apixo_async.veo import Request


@attrs.frozen
class Judgement:
    """`answer` is what arrived; `candidate` may be the id of the task that was made."""

    verdict: SubmitVerdict
    answer: Answer
    candidate: str | None


def judge(
    request: Request, failure: ApixoError, reply: Reply | None, *, named: str | None
) -> Judgement:
    """What a submit that ended in `failure` came to; `named` is a task that a callback told of.

    An answer that holds a task id is no refusal, whatever else it says.
    """
    answer = answer_of(reply, failure)
    candidate = candidate_task_id(answer.text)
    if candidate == getattr(request, "task_id", None):
        candidate = None  # an extension's own source, quoted in a refusal
    candidate = candidate or named
    verdict = submit_verdict(failure) if candidate is None else SubmitVerdict.UNCERTAIN
    return Judgement(verdict, answer, candidate)


def is_denied(*, is_there: bool | None, age: float = math.inf, span: float = math.inf) -> bool:
    """Whether the API denies a task; not if it could not be asked, for which `None` stands.

    Nor if its submit is `age` seconds old, and that is so little that the task may be unknown yet,
    nor before every answer of `span` seconds has denied it: one of its servers may be behind.
    """
    return is_there is False and age >= NEW_TASK_GRACE and span >= NOT_FOUND_SPAN
