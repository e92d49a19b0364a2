"""Rows of input files and messages, in the API's own field names, to requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from apixo_async._narrow import as_sequence, shown
from apixo_async._wire.requests import FRAMES, MAX_FRAMES, REFERENCE, TEXT
from apixo_async.errors import InvalidRequestError
from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)

_Builder: TypeAlias = Callable[[Mapping[str, Any]], Request]
_Misfits: TypeAlias = Callable[[Mapping[str, Any]], list[tuple[str, str]]]

ROW_FIELDS: Final = frozenset(
    {
        "prompt",
        "mode",
        "generationType",
        "aspect_ratio",
        "image_urls",
        "seed",
        "watermark",
        "provider",
        "taskId",
        "extra_input",
    }
)


_NEEDED: Final = frozenset({"prompt", "taskId"})

# What our classes call by another name than the API.
_API_NAMES: Final = {
    "first_frame": "image_urls[0]",
    "last_frame": "image_urls[1]",
    "task_id": "taskId",
}


def request_from_row(row: Mapping[str, Any]) -> Request:
    """A request from a mapping in the API's own field names, as input files and services send it.

    With `model` and `input` it is that model's request. `generationType` may be left out where the
    other fields leave no doubt: no images mean text, `taskId` means an extension. `None` counts as
    left out. Raises `InvalidRequestError` naming every broken rule.
    """
    given = {name: value for name, value in row.items() if value is not None}
    if "input" in given:
        return _model_request(given)
    if (model := given.pop("model", None)) not in (None, TextToVideo.model, ExtendVideo.model):
        rule = f"must be given for model {shown(model)}: its fields are the model's own"
        raise InvalidRequestError("row", [("input", rule)])
    unknown = [(name, "is not a field of this API") for name in sorted(set(given) - ROW_FIELDS)]
    kind, doubts = _kind(given, model)
    build, misfits = _KINDS[kind]
    problems = [*unknown, *doubts, *misfits(given)]
    try:
        request = build(given)
    except InvalidRequestError as error:
        own = [_own_problem(given, *problem) for problem in error.problems]
        raise InvalidRequestError("row", [*problems, *own]) from None
    if problems:
        raise InvalidRequestError("row", problems)
    return request


def _own_problem(given: Mapping[str, Any], field: str, rule: str) -> tuple[str, str]:
    """A broken rule by the API's name; our stand-in for what is missing is not told as given."""
    name = _API_NAMES.get(field, field)
    is_missing = name in _NEEDED and name not in given
    return name, "is missing" if is_missing else rule


def _model_request(given: Mapping[str, Any]) -> Request:
    unknown = sorted(set(given) - {"model", "input", "provider"})
    problems = [(name, "belongs inside `input`") for name in unknown]
    if "model" not in given:
        problems.append(("model", "must be given beside `input`"))
    try:
        request = ModelRequest(
            given.get("model", "missing"), given["input"], provider=given.get("provider")
        )
    except InvalidRequestError as error:
        raise InvalidRequestError("row", [*problems, *error.problems]) from None
    if problems:
        raise InvalidRequestError("row", problems)
    return request


def _kind(given: Mapping[str, Any], model: object) -> tuple[str, list[tuple[str, str]]]:
    """The kind of request, and why it is in doubt; the other fields are checked all the same."""
    if model == ExtendVideo.model or (model is None and "taskId" in given):
        return ExtendVideo.model, []
    by_images = _kind_by_images(given)
    if (kind := given.get("generationType")) is None:
        return by_images
    if kind in (TEXT, FRAMES, REFERENCE):
        return str(kind), []
    rule = f"must be one of {TEXT!r}, {FRAMES!r}, {REFERENCE!r}, got {shown(kind)}"
    return by_images[0], [("generationType", rule)]


def _kind_by_images(given: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    if not (urls := given.get("image_urls")):
        return TEXT, []
    if len(as_sequence(urls) or ()) > MAX_FRAMES:
        return REFERENCE, []
    if given.get("mode", "fast") != "fast" or given.get("aspect_ratio", "16:9") != "16:9":
        return FRAMES, []
    rule = f"must say {FRAMES!r} or {REFERENCE!r}: the other fields fit both"
    return FRAMES, [("generationType", rule)]


def _picked(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    common = ("seed", "watermark", "provider", "extra_input")
    return {name: given[name] for name in (*names, *common) if name in given}


def _text_row(given: Mapping[str, Any]) -> Request:
    return TextToVideo(given.get("prompt", ""), **_picked(given, "mode", "aspect_ratio"))


def _frames_row(given: Mapping[str, Any]) -> Request:
    frames: list[Any] = list(as_sequence(given.get("image_urls")) or ())
    # A wrong count is named by `_frames_problems`; the stand-in keeps the other rules checked.
    first = frames[0] if frames else "https://missing.invalid"
    last = frames[1] if len(frames) > 1 else None
    options = _picked(given, "mode", "aspect_ratio")
    return FramesToVideo(given.get("prompt", ""), first_frame=first, last_frame=last, **options)


def _reference_row(given: Mapping[str, Any]) -> Request:
    urls = given.get("image_urls", ())
    return ReferenceToVideo(given.get("prompt", ""), image_urls=urls, **_picked(given))


def _extend_row(given: Mapping[str, Any]) -> Request:
    task_id = given.get("taskId", "")
    return ExtendVideo(given.get("prompt", ""), task_id=task_id, **_picked(given, "mode"))


def _misplaced(given: Mapping[str, Any], kind: str, *names: str) -> list[tuple[str, str]]:
    return [(name, f"does not belong to {kind}") for name in names if name in given]


def _text_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = _misplaced(given, TEXT, "taskId")
    if given.get("image_urls"):
        problems.append(("image_urls", f"does not belong to {TEXT}"))
    return problems


def _frames_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = _misplaced(given, FRAMES, "taskId")
    urls = as_sequence(given.get("image_urls")) or ()
    if not 1 <= len(urls) <= MAX_FRAMES:
        problems.append(("image_urls", f"must be a list of 1 to {MAX_FRAMES} URLs"))
    return problems


def _reference_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = _misplaced(given, REFERENCE, "taskId")
    if given.get("mode", "fast") != "fast":
        problems.append(("mode", f"must be 'fast' for {REFERENCE}"))
    if given.get("aspect_ratio", "16:9") != "16:9":
        problems.append(("aspect_ratio", f"must be '16:9' for {REFERENCE}"))
    return problems


def _extend_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    return _misplaced(given, ExtendVideo.model, "generationType", "aspect_ratio", "image_urls")


_KINDS: Final[dict[str, tuple[_Builder, _Misfits]]] = {
    TEXT: (_text_row, _text_problems),
    FRAMES: (_frames_row, _frames_problems),
    REFERENCE: (_reference_row, _reference_problems),
    ExtendVideo.model: (_extend_row, _extend_problems),
}
