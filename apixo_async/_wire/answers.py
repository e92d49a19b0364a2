"""The `data` of successful answers to typed values (Veo 3.1 page, response and status fields)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from apixo_async._narrow import as_mapping, as_sequence
from apixo_async._wire.envelope import parse_json
from apixo_async._wire.text import excerpt, is_task_id
from apixo_async.errors import (
    ContentViolationError,
    InvalidImageURLError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task, TaskState, utc_from_milliseconds

MILLISECONDS: Final = 1000


_STATES: Final[Mapping[str, TaskState]] = {state.value: state for state in TaskState}


def _state(value: object) -> TaskState | str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"data.state must be a non-empty string, got {type(value).__name__}")
    return _STATES.get(value, value)


def _check_id(value: object, task_id: str) -> None:
    """An answer may leave its id out, or give it as a number."""
    if value == task_id or value is None:
        return
    given = value if isinstance(value, str) else _shown(value)
    if given not in {"", task_id}:
        raise ValueError(f"asked for task {task_id}, answered for {given!r}")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return excerpt(value.encode("utf-8", "replace")) if isinstance(value, str) else _shown(value)


def _number(value: object) -> float | None:
    """A number, also in a string; anything else counts as missing: times are for display only."""
    if type(value) not in _NUMBERS:
        return None
    try:
        number = float(cast("float | str", value))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None


_NUMBERS: Final = (int, float, str)  # compared by identity, so that a boolean is none


def _time(value: object) -> datetime | None:
    if value is None:  # as it is in nearly every answer about a task that still runs
        return None
    stamp = value if type(value) is int else _number(value)
    return None if stamp is None else utc_from_milliseconds(stamp)


def _duration(value: object, created: datetime | None, completed: datetime | None) -> float | None:
    """Seconds. Real answers leave `costTime` out; the span between the stamps is the same."""
    if value is not None and (milliseconds := _number(value)) is not None:
        return milliseconds / MILLISECONDS
    if created is None or completed is None:
        return None
    return max(0.0, (completed - created).total_seconds())


def read_task_id(data: object) -> str:
    """The id of an accepted submit; `UnexpectedAnswerError` where there is none to rely on."""
    value = (as_mapping(data) or {}).get("taskId")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and is_task_id(value):
        return value
    raise UnexpectedAnswerError(
        "the submit was answered without a usable taskId", excerpt=_shown(data)
    )


def _shown(data: object) -> str:
    try:
        text = repr(data)
    except RecursionError:
        text = f"a deeply nested {type(data).__name__}"
    return excerpt(text.encode("utf-8", "replace"))


def read_task(data: object, *, model: str, task_id: str) -> Task:
    """A snapshot from a status answer about the task that was asked for.

    Everything but `state` may be missing; what its state excludes is left out.
    """
    if (fields := as_mapping(data)) is None:
        raise UnexpectedAnswerError("the status has no data", excerpt=_shown(data))
    try:
        state = _state(fields.get("state"))
        _check_id(fields.get("taskId"), task_id)
    except ValueError as error:
        problem = str(error)
    else:
        return _snapshot(fields, state, model=model, task_id=task_id)
    raise UnexpectedAnswerError(problem, excerpt=_shown(data))


def _snapshot(
    fields: Mapping[Any, object], state: TaskState | str, *, model: str, task_id: str
) -> Task:
    # Read by hand: every look passes here, and a converter of cattrs takes twice the time.
    value = fields.get
    has_failed = state is TaskState.FAILED
    created, completed = _time(value("createTime")), _time(value("completeTime"))
    return Task(
        id=task_id,
        model=model,
        state=state,
        urls=result_urls(value("resultJson")) if state is TaskState.SUCCESS else (),
        fail_code=_text(value("failCode")) if has_failed else None,
        fail_message=_text(value("failMsg")) if has_failed else None,
        created_at=created,
        completed_at=completed,
        duration=_duration(value("costTime"), created, completed),
        raw=fields,
    )


def result_urls(result: object) -> tuple[str, ...]:
    """The URLs in a `resultJson`: a JSON string by the documents, seen as an object in the wild.

    Empty when there is nothing usable; the caller decides what a success without URLs means.
    """
    if isinstance(result, str):
        try:
            result = parse_json(result)
        except ValueError:
            return ()
    fields = as_mapping(result) or {}
    if (urls := fields.get("resultUrls")) is None:
        # The page's own example has spaces inside its quotation marks.
        urls = {str(name).strip(): value for name, value in fields.items()}.get("resultUrls")
    items = [urls] if isinstance(urls, str) else as_sequence(urls) or ()
    return tuple([url for item in items if (url := _url_in(item))])


# Audio models are reported to answer with objects instead of plain strings.
_URL_FIELDS: Final = ("url", "video_url", "audio_url", "image_url", "download_url")


def _url_in(item: object) -> str:
    if not isinstance(item, str):
        named = map((as_mapping(item) or {}).get, _URL_FIELDS)
        item = next((value for value in named if isinstance(value, str)), "")
    return item.strip()


def read_balance(data: object) -> float:
    """The USD left on this key; `data` is a bare number here, not an object."""
    number = _number(data)
    if number is None:
        raise UnexpectedAnswerError("the balance is not a number", excerpt=_shown(data))
    return number


# Two naming schemes coexist (model pages and errors page) and the set is open: known codes are
# listed, relatives are recognised by these words.
_CONTENT_WORDS: Final = ("content_violation", "sensitive", "nsfw", "prohibited")
_IMAGE_CODES: Final = frozenset({"invalid_image_url", "image_download_failed"})
_CREDIT_CODES: Final = frozenset({"insufficient_credits", "insufficientcredits"})


def task_failure(task: Task) -> TaskFailedError:
    """The typed error of a failed task."""
    code = (task.fail_code or "").lower()
    if any(word in code for word in _CONTENT_WORDS):
        return ContentViolationError(task)
    if code in _IMAGE_CODES:
        return InvalidImageURLError(task)
    return TaskFailedError(task)


def means_no_credits(fail_code: str | None) -> bool:
    """Whether a fail code says that the balance is empty, so that further submits are useless."""
    return (fail_code or "").lower() in _CREDIT_CODES
