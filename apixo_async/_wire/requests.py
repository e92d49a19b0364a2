"""Requests to the JSON the API takes, and its field names back to requests."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)

if TYPE_CHECKING:
    from cattrs import Converter

TEXT: Final = "TEXT_2_VIDEO"
FRAMES: Final = "FIRST_AND_LAST_FRAMES_2_VIDEO"
REFERENCE: Final = "REFERENCE_2_VIDEO"

MAX_FRAMES: Final = 2
""" "FIRST_AND_LAST_FRAMES_2_VIDEO ... image_urls (max 2)" (Veo 3.1 page, generation types)."""


@functools.cache
def _converter() -> Converter:
    # Slow to import: who only asks for tasks does not wait for it.
    from cattrs import Converter  # noqa: PLC0415  # see above
    from cattrs.gen import make_dict_unstructure_fn, override  # noqa: PLC0415  # see above

    converter = Converter()
    outside = {"provider": override(omit=True), "extra_input": override(omit=True)}

    # Any: cattrs does not export the type of an override, and its stubs take these keywords for
    # options of the function itself.
    def plain(cls: type[Any], **overrides: Any) -> Callable[[Any], dict[str, Any]]:  # noqa: ANN401
        options: dict[str, Any] = {**outside, **overrides}
        return make_dict_unstructure_fn(cls, converter, **options)

    text = plain(TextToVideo)
    frames = plain(FramesToVideo, first_frame=override(omit=True), last_frame=override(omit=True))
    reference = plain(ReferenceToVideo)
    extend = plain(ExtendVideo, task_id=override(rename="taskId"))

    # The documents disagree on what has a default, so `mode`, `generationType` and `aspect_ratio`
    # are always sent.
    def frames_input(request: FramesToVideo) -> dict[str, Any]:
        urls = [url for url in (request.first_frame, request.last_frame) if url is not None]
        return {**frames(request), "generationType": FRAMES, "image_urls": urls}

    def reference_input(request: ReferenceToVideo) -> dict[str, Any]:
        fixed = {"mode": request.mode, "generationType": REFERENCE, "aspect_ratio": "16:9"}
        return {**reference(request), **fixed, "image_urls": list(request.image_urls)}

    converter.register_unstructure_hook(
        TextToVideo, lambda request: {**text(request), "generationType": TEXT}
    )
    converter.register_unstructure_hook(FramesToVideo, frames_input)
    converter.register_unstructure_hook(ReferenceToVideo, reference_input)
    converter.register_unstructure_hook(ExtendVideo, extend)
    return converter


def prepare() -> None:
    """Imports what turns requests into JSON, if nobody has needed it yet. Raises `OSError`."""
    _converter()


def request_input(request: Request) -> dict[str, Any]:
    """The `input` object of a submit; fields that are `None` are left out."""
    if isinstance(request, ModelRequest):
        return dict(request.input)
    fields = _converter().unstructure(request)
    kept = {name: value for name, value in fields.items() if value is not None}
    return {**kept, **request.extra_input}


def submit_body(request: Request, *, callback_url: str | None = None) -> dict[str, Any]:
    """The body of `POST /generateTask/{model}` (Veo 3.1 page, request body)."""
    body: dict[str, Any] = {"request_type": "async" if callback_url is None else "callback"}
    if callback_url is not None:
        body["callback_url"] = callback_url
    if request.provider is not None:
        body["provider"] = request.provider
    body["input"] = request_input(request)
    return body


# Made once: `json.dumps` would make a new one for each text.
_ENCODE: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON bytes; the same value gives the same bytes."""
    return _ENCODE(body).encode()


def fingerprint(request: Request) -> str:
    """A hash that two requests share exactly when they ask for the same thing."""
    asked = {"model": request.model, "provider": request.provider, "input": request_input(request)}
    return hashlib.sha256(encode(asked)).hexdigest()


def submit_path(model: str) -> str:
    """Where a task of this model is created, below the base URL."""
    return f"/generateTask/{_quoted(model)}"


def status_path(model: str, task_id: str) -> str:
    """Where a task is looked up; the model must be the one it was submitted with."""
    return f"/statusTask/{_quoted(model)}?taskId={_quoted(task_id)}"


_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]*")


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else quote(name, safe="")


BALANCE_PATH: Final = "/apikeys/current-balance"
""" `data` of the answer is a bare number, the USD left on this key (system page)."""
