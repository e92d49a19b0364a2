"""The `data` of successful answers to typed values (Veo 3.1 page, response and status fields)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from apixo_async._narrow import as_mapping, as_sequence
from apixo_async._wire.envelope import parse_json
from apixo_async._wire.text import excerpt
from apixo_async.errors import (
    ContentViolationError,
    InvalidImageURLError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task, TaskState, utc_from_milliseconds

MILLISECONDS: Final = 1000
TASK_ID_MAX: Final = 512


def _id(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _shown(value)


def _state(value: object, _: object) -> TaskState | str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"data.state must be a non-empty string, got {type(value).__name__}")
    return _STATES.get(value, value)


def _text(value: object, _: object) -> str | None:
    return None if value is None else excerpt(str(value).encode("utf-8", "replace"))


def _number(value: object) -> float | None:
    """A number, also in a string; anything else counts as missing: times are for display only."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None


def _time(value: object, _: object) -> datetime | None:
    stamp = value if type(value) is int else _number(value)
    return None if stamp is None else utc_from_milliseconds(stamp)


def _seconds(value: object, _: object) -> float | None:
    milliseconds = _number(value)
    return None if milliseconds is None else milliseconds / MILLISECONDS


def _urls(value: object, _: object) -> tuple[str, ...]:
    return result_urls(value)


def _as_it_is(value: object, _: object) -> object:
    return value


_STATES: Final[Mapping[str, TaskState]] = {state.value: state for state in TaskState}


def _task_reader() -> Callable[[Mapping[str, Any]], Task]:
    """Structures `data` of a status answer as a task; everything but `state` may be missing."""
    converter = Converter(detailed_validation=False, forbid_extra_keys=False)
    names = {
        "id": override(rename="taskId", struct_hook=_id),
        "model": override(struct_hook=_as_it_is),
        "state": override(struct_hook=_state),
        "urls": override(rename="resultJson", struct_hook=_urls),
        "fail_code": override(rename="failCode", struct_hook=_text),
        "fail_message": override(rename="failMsg", struct_hook=_text),
        "created_at": override(rename="createTime", struct_hook=_time),
        "completed_at": override(rename="completeTime", struct_hook=_time),
        "duration": override(rename="costTime", struct_hook=_seconds),
        "raw": override(struct_hook=_as_it_is),
    }
    # The stubs take the overrides for options of the function itself.
    structure = make_dict_structure_fn(Task, converter, **names)  # type: ignore[arg-type]
    return cast("Callable[[Mapping[str, Any]], Task]", structure)


# Called as it is: the converter would look it up by type each time.
_READ: Final = _task_reader()


def read_task_id(data: object) -> str:
    """The id of an accepted submit; `UnexpectedAnswerError` where there is none to rely on."""
    value = (as_mapping(data) or {}).get("taskId")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= TASK_ID_MAX and _is_plain(value):
        return value
    raise UnexpectedAnswerError(
        "the submit was answered without a usable taskId", excerpt=_shown(data)
    )


def _is_plain(value: str) -> bool:
    return value.isprintable() and not any(map(str.isspace, value))


def _shown(data: object) -> str:
    try:
        text = repr(data)
    except RecursionError:
        text = f"a deeply nested {type(data).__name__}"
    return excerpt(text.encode("utf-8", "replace"))


def read_task(data: object, *, model: str, task_id: str) -> Task:
    """A snapshot from a status answer about the task that was asked for."""
    fields = as_mapping(data)
    if fields is None:
        raise UnexpectedAnswerError("the status has no data", excerpt=_shown(data))
    known: dict[Any, Any] = {"taskId": "", "state": None, **fields, "model": model, "raw": fields}
    try:
        task = _READ(known)
    except ValueError as error:
        problem = str(error)
    else:
        if task.id in {"", task_id}:
            return _completed(task, task_id)
        problem = f"asked for task {task_id}, answered for {task.id}"
    raise UnexpectedAnswerError(problem, excerpt=_shown(data))


def _completed(task: Task, task_id: str) -> Task:
    """The task with what its own answer left out, and without what its state excludes."""
    changes: dict[str, Any] = {}
    if not task.id:
        changes["id"] = task_id
    if task.duration is None and task.created_at is not None and task.completed_at is not None:
        # Real answers leave `costTime` out; the span between the stamps is the same.
        span = (task.completed_at - task.created_at).total_seconds()
        changes["duration"] = max(0.0, span)
    if task.urls and task.state != TaskState.SUCCESS:
        changes["urls"] = ()
    if task.fail_code is not None and task.state != TaskState.FAILED:
        changes["fail_code"] = None
    if task.fail_message is not None and task.state != TaskState.FAILED:
        changes["fail_message"] = None
    return attrs.evolve(task, **changes) if changes else task


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
