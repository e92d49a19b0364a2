"""The `data` of successful answers to typed values (Veo 3.1 page, response and status fields)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
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


@attrs.frozen
class _TaskData:
    """`data` of a status answer. Everything but `state` may be missing."""

    state: str
    task_id: str | None = None
    result: Any = None
    fail_code: str | None = None
    fail_message: str | None = None
    created: float | None = None
    completed: float | None = None
    cost: float | None = None


def _state(value: object, _: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a non-empty string")
    return value


def _text(value: object, _: object) -> str | None:
    return None if value is None else excerpt(str(value).encode("utf-8", "replace"))


def _number(value: object, _: object) -> float | None:
    """A number, also in a string; anything else counts as missing: times are for display only."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=False)
    names = {
        "task_id": override(rename="taskId", struct_hook=_text),
        "state": override(struct_hook=_state),
        "result": override(rename="resultJson", struct_hook=lambda value, _: value),
        "fail_code": override(rename="failCode", struct_hook=_text),
        "fail_message": override(rename="failMsg", struct_hook=_text),
        "created": override(rename="createTime", struct_hook=_number),
        "completed": override(rename="completeTime", struct_hook=_number),
        "cost": override(rename="costTime", struct_hook=_number),
    }
    hook = make_dict_structure_fn(_TaskData, converter, **names)  # type: ignore[arg-type]
    converter.register_structure_hook(_TaskData, hook)
    return converter


_CONVERTER: Final = _converter()


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
    try:
        answer = _CONVERTER.structure(fields, _TaskData)
    except BaseValidationError as error:
        problems = "; ".join(transform_error(error, path="data"))
    else:
        if answer.task_id in {None, task_id}:
            return _task(answer, fields, model=model, task_id=task_id)
        problems = f"asked for task {task_id}, answered for {answer.task_id}"
    raise UnexpectedAnswerError(problems, excerpt=_shown(data))


_STATES: Final[Mapping[str, TaskState]] = {state.value: state for state in TaskState}


def _task(answer: _TaskData, fields: Mapping[object, object], *, model: str, task_id: str) -> Task:
    state = _STATES.get(answer.state, answer.state)
    succeeded, failed = state == TaskState.SUCCESS, state == TaskState.FAILED
    return Task(
        id=task_id,
        model=model,
        state=state,
        urls=result_urls(answer.result) if succeeded else (),
        fail_code=answer.fail_code if failed else None,
        fail_message=answer.fail_message if failed else None,
        created_at=_time(answer.created),
        completed_at=_time(answer.completed),
        duration=_duration(answer),
        raw={str(name): value for name, value in fields.items()},
    )


def _time(stamp: float | None) -> datetime | None:
    return None if stamp is None else utc_from_milliseconds(stamp)


def _duration(answer: _TaskData) -> float | None:
    """`costTime`, or the span between the two stamps: real answers leave `costTime` out."""
    if answer.cost is not None:
        return answer.cost / MILLISECONDS
    if answer.created is None or answer.completed is None:
        return None
    return max(0.0, answer.completed - answer.created) / MILLISECONDS


def result_urls(result: object) -> tuple[str, ...]:
    """The URLs in a `resultJson`: a JSON string by the documents, seen as an object in the wild.

    Empty when there is nothing usable; the caller decides what a success without URLs means.
    """
    if isinstance(result, str):
        try:
            result = parse_json(result)
        except ValueError:
            return ()
    # Names are stripped: the page's own example has spaces inside its quotation marks.
    fields = {str(name).strip(): value for name, value in (as_mapping(result) or {}).items()}
    urls = fields.get("resultUrls")
    found = map(_url_in, [urls] if isinstance(urls, str) else as_sequence(urls) or ())
    return tuple(url.strip() for url in found if url is not None and url.strip())


# Audio models are reported to answer with objects instead of plain strings.
_URL_FIELDS: Final = ("url", "video_url", "audio_url", "image_url", "download_url")


def _url_in(item: object) -> str | None:
    if not isinstance(item, str) and (fields := as_mapping(item)) is not None:
        named = (fields.get(name) for name in _URL_FIELDS)
        item = next((value for value in named if isinstance(value, str)), None)
    return item if isinstance(item, str) else None


def read_balance(data: object) -> float:
    """The USD left on this key; `data` is a bare number here, not an object."""
    number = _number(data, float)
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
