"""What came of a POST that was not plainly accepted: one pure answer."""

from __future__ import annotations

import math

import attrs

from apixo_async._wire import Reply, task_ids_in
from apixo_async.client.doubts import answer_of
from apixo_async.client.submission import Answer
from apixo_async.errors import ApixoError, UnansweredError
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

    An answer that holds a task id is no refusal, whatever else it says: nor if it holds several,
    of which none is a candidate, or only the beginning of one.
    """
    answer = answer_of(reply, failure)
    found, cut = task_ids_in(answer.text)
    if isinstance(failure, UnansweredError):
        found = failure.task_ids or found  # `received` is only the beginning of what came
    source = getattr(request, "task_id", None)  # an extension's own, quoted in a refusal
    seen = [task_id for task_id in found if task_id != source]
    is_told = bool(seen) or (cut is not None and not (source or "").startswith(cut))
    candidate = seen[0] if len(seen) == 1 else named
    is_uncertain = is_told or candidate is not None
    verdict = SubmitVerdict.UNCERTAIN if is_uncertain else submit_verdict(failure)
    return Judgement(verdict, answer, candidate)


def is_denied(*, is_there: bool | None, age: float = math.inf, span: float = math.inf) -> bool:
    """Whether the API denies a task; not if it could not be asked, for which `None` stands.

    Nor if its submit is `age` seconds old, and that is so little that the task may be unknown yet,
    nor before every answer of `span` seconds has denied it: one of its servers may be behind.
    """
    return is_there is False and age >= NEW_TASK_GRACE and span >= NOT_FOUND_SPAN
