"""The product's own decisions, as the model asks for them; a planted bug replaces one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import attrs

from apixo_async import TextToVideo, retries
from apixo_async._wire import Reply, read_task_id, task_failure, unwrap
from apixo_async.batch import events
from apixo_async.batch.journal import Entry, history, leftovers
from apixo_async.batch.outcomes import Job
from apixo_async.batch.spending import Budget, Prices
from apixo_async.client import judging
from apixo_async.errors import ApixoError, NotSentError, UnansweredError
from apixo_async.tasks import Task
from tests.model.world import Budgets

REQUEST: Final = TextToVideo("a fox", mode="fast")
KEY: Final = "k"
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
FAIL_CODE: Final = "E1"
FORGED: Final = "forged"
NEW: Final = Entry.new(1, Job(REQUEST, key=KEY), at=AT)

# Answers, by name; `{}` is the id of the task


@attrs.frozen
class Answer:
    """`tells` is what anyone who reads it knows: `task`, `none`, or nothing at all."""

    status: int = 200
    body: str = ""
    error: Callable[[], ApixoError] | None = None
    tells: str = ""


def _unanswered() -> ApixoError:
    return UnansweredError("no answer came", host="api.test", reason="timeout")


def _unsent() -> ApixoError:
    return NotSentError("no connection", host="api.test", reason="refused")


ANSWERS: Final[Mapping[str, Answer]] = {
    "plain": Answer(
        body='{"code": 200, "message": "success", "data": {"taskId": "%s"}}', tells="task"
    ),
    "damaged": Answer(
        body='{"code": 200, "message": "success", "data": {"taskId": "%s"', tells="id"
    ),
    "5xx": Answer(502, "<html>Bad Gateway</html>"),
    "429": Answer(429, '{"code": 429, "message": "slow down", "data": null}', tells="none"),
    "400": Answer(400, '{"code": 400, "message": "no", "data": null}', tells="none"),
    "none": Answer(error=_unanswered),
    "unsent": Answer(error=_unsent, tells="none"),
}


@attrs.frozen
class Reading:
    """An answer as the product's wire reads it: an id, or an error."""

    answer: Answer
    task_id: str | None
    failure: ApixoError
    reply: Reply | None


@functools.cache
def reading(name: str) -> Reading:
    """What is read of an answer; `name` is that of the answer and, after a colon, of the task."""
    kind, _, task_id = name.partition(":")
    answer = ANSWERS[kind]
    reply = None
    try:
        if answer.error is not None:
            raise answer.error()
        body = answer.body % task_id if "%s" in answer.body else answer.body
        reply = Reply(answer.status, body.encode())
        return Reading(answer, read_task_id(unwrap(reply)), ApixoError(), reply)
    except ApixoError as error:
        return Reading(answer, None, error, reply)


# Rules

after: Final = functools.lru_cache(None)(history.after)


def generate_again(*, done: int, times: int) -> bool:
    """Whether a failed task may be paid for once more."""
    task = Task(id="t", model=REQUEST.model, state="failed", fail_code=FAIL_CODE)
    return retries.may_generate_again(task_failure(task), codes=[FAIL_CODE], done=done, times=times)


@functools.cache
def fits(*, cap: int | None, charges: int) -> bool:
    """Whether one more generation of one dollar fits under the cap, after so many."""
    return Budget(cap, Prices({"fast": 1}), spent=charges).fits(REQUEST)


@attrs.frozen
class Rules:
    """Decisions that the product takes in pure functions, and facts of the order of its steps."""

    after: Callable[[Entry, events.JobEvent], Entry] = after
    judge: Callable[..., judging.Judgement] = judging.judge
    doubt_after_crash: Callable[[Entry], events.Uncertain | None] = leftovers.doubt_after_crash
    is_to_submit: Callable[[Entry], bool] = leftovers.is_to_submit
    may_be_called_back: Callable[[Entry], bool] = leftovers.may_be_called_back
    open_candidate: Callable[[Entry], str | None] = leftovers.open_candidate
    is_to_submit_again: Callable[..., bool] = leftovers.is_to_submit_again
    is_denied: Callable[..., bool] = judging.is_denied
    may_submit_in_doubt: Callable[..., bool] = retries.may_submit_in_doubt
    may_generate_again: Callable[..., bool] = generate_again
    is_unheard_of: Callable[..., bool] = history.is_unheard_of
    repeats: Callable[[Entry], int] = lambda entry: entry.repeats
    charges: Callable[[Entry], int] = lambda entry: entry.charges
    # What the product does in this order, and each planted bug in another
    records_sending: bool = True
    """A submit is on record before it leaves."""
    syncs_sending: bool = True
    """That record is on disk, not only handed to the system."""
    shows_late: bool = True
    """Nobody is shown an id before it is on disk."""
    acks_late: bool = True
    """A callback is answered when what it tells is on disk."""
    hears_late: bool = True
    """A callback that comes after the verdict is recorded, too."""
    holds: bool = True
    """Nothing leaves for a job of which a callback has named a task."""
    asks: bool = True
    """An id that was not plainly answered is asked about before it is taken for true."""
    resends: frozenset[str] = frozenset()
    """Answers after which the same submit is sent again: none."""


@attrs.frozen
class Model:
    """One variant: what the user has asked for, what may go wrong, and by which rules."""

    budgets: Budgets
    policy: Literal["keep", "resubmit"] = "keep"
    retries: int = 0
    cap: int | None = None
    rules: Rules = attrs.field(factory=Rules)

    @property
    def callbacks(self) -> bool:
        """Whether submits ask to be called back."""
        return bool(self.budgets.calls or self.budgets.forgeries)
