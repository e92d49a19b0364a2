"""The one logger of the package, and the one vocabulary of its records' fields.

Every record has `apixo_event`, a name that stays when the sentence is reworded, and of the other
fields those that it is about. docs/logging.md has all messages; tests/test_logs.py holds every call
of the package to both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

LOGGER: Final = logging.getLogger("apixo_async")

PREFIX: Final = "apixo_"
"""Before every field, so that it collides with nobody's, and with no attribute of a record."""


def fields(
    event: str,
    *,
    task_id: str | None = None,
    other_task_id: str | None = None,
    task_ids: Sequence[str] | None = None,
    model: str | None = None,
    key: str | None = None,
    submit: str | None = None,
    attempt: int | None = None,
    state: str | None = None,
    error: BaseException | None = None,
    host: str | None = None,
    path: object = None,
    count: int | None = None,
    seconds: float | None = None,
    only_submits: bool | None = None,
    limit: str | None = None,
    value: int | None = None,
    configured: int | None = None,
    hook: str | None = None,
) -> dict[str, object]:
    """The `extra` of one record; what is `None` is left out.

    `key` is that of a batch's job, `submit` the name of a submit in the URL of its callback. Of an
    `error` the record gets its class and, if an answer of the API is behind it, `http_status` and
    `code`. Never a prompt, a URL of a result, or the API key.
    """
    given: dict[str, object] = {
        "event": event,
        "task_id": task_id,
        "other_task_id": other_task_id,
        "task_ids": None if task_ids is None else list(task_ids),
        "model": model,
        "key": key,
        "submit": submit,
        "attempt": attempt,
        "state": state,
        "error": None if error is None else type(error).__name__,
        "http_status": getattr(error, "http_status", None),
        "code": getattr(error, "code", None),
        "host": host,
        "path": None if path is None else str(path),
        "count": count,
        "seconds": seconds,
        "only_submits": only_submits,
        "limit": limit,
        "value": value,
        "configured": configured,
        "hook": hook,
    }
    return {PREFIX + name: told for name, told in given.items() if told is not None}


class _Unheard(logging.NullHandler):
    """Silent as a library's handler is, but for what must not get lost where nobody listens.

    In a program that has set up no logging, a task that is billed may be named in a record alone,
    and a hook of the user's that fails nowhere else. Those go where Python sends such records.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Lets Python's last resort write it, if no other handler will get it."""
        names_task = hasattr(record, "apixo_task_id") or hasattr(record, "apixo_task_ids")
        is_grave = record.levelno >= (logging.WARNING if names_task else logging.ERROR)
        if is_grave and logging.lastResort is not None and not self._is_heard():
            return bool(logging.lastResort.handle(record))
        return False

    def _is_heard(self) -> bool:
        if any(handler is not self for handler in LOGGER.handlers):
            return True
        return LOGGER.propagate and LOGGER.parent is not None and LOGGER.parent.hasHandlers()


LOGGER.addHandler(_Unheard())
