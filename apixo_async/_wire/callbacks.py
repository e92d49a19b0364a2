"""What a callback says, as far as it is read: which task, and in which state it claims to be."""

from __future__ import annotations

from typing import Final

import attrs

from apixo_async._narrow import as_mapping
from apixo_async._wire.answers import read_task_id
from apixo_async._wire.envelope import parse_json
from apixo_async.errors import UnexpectedAnswerError
from apixo_async.tasks import TaskState

_STATE_MAX: Final = 64


@attrs.frozen
class Claim:
    """What somebody says about a task; never more than a hint. `None` where it is not said."""

    task_id: str | None
    state: str | None

    @property
    def may_be_end(self) -> bool:
        """Whether the task is said to have ended, or nothing is said against it."""
        return self.state is None or self.state in _ENDS


_ENDS: Final = frozenset({TaskState.SUCCESS.value, TaskState.FAILED.value})


def read_claim(body: bytes) -> Claim:
    """The claim in the body of a callback (webhook page: the envelope of a status answer).

    Its `code` is not read, since it is 200 for failures, too. Raises `ValueError` for what is no
    JSON object.
    """
    if (envelope := as_mapping(parse_json(body))) is None:
        raise ValueError("the body must be a JSON object")
    data = as_mapping(envelope.get("data"))
    fields = envelope if data is None else data
    state = fields.get("state")
    try:
        task_id = read_task_id(fields)
    except UnexpectedAnswerError:
        task_id = None
    is_state = isinstance(state, str) and 0 < len(state) <= _STATE_MAX and state.isprintable()
    return Claim(task_id, str(state) if is_state else None)
