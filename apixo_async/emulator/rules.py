"""What a submit must look like: the documented rules, applied to a body.

All broken rules are reported together, each naming its field. Fields that no document mentions are
let through, as a real server does with most of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VEO = "veo-3-1"
EXTEND = "veo-3-1-extend"

REQUEST_TYPES = ("async", "callback")
PROVIDERS = ("auto", "value", "official")
MODES = ("quality", "fast")
ASPECTS = ("16:9", "9:16", "auto")
LONGEST_PROMPT = 10_000
"""Characters: "Text description, 1-10000 characters"."""

TEXT = "TEXT_2_VIDEO"
FRAMES = "FIRST_AND_LAST_FRAMES_2_VIDEO"
REFERENCE = "REFERENCE_2_VIDEO"
MOST_IMAGES = {TEXT: 0, FRAMES: 2, REFERENCE: 3}

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MISSING = object()

Json = dict[str, Any]


class WrongRequestError(Exception):
    """A body that breaks at least one rule; its text names every field concerned."""


@attrs.frozen
class Submission:
    """A submit that broke no rule."""

    model: str
    input: Json
    callback_url: str | None
    """None when the result is to be polled for."""

    @property
    def prompt(self) -> str:
        """The prompt, or for a model without one its whole input as JSON."""
        return prompt_of(self.input)

    @property
    def mode(self) -> str | None:
        """The mode where the model has one."""
        mode = self.input.get("mode")
        return mode if isinstance(mode, str) else None

    @property
    def is_tall(self) -> bool:
        """Whether the picture is to be higher than wide."""
        return self.input.get("aspect_ratio") == "9:16"


def prompt_of(model_input: object) -> str:
    """Return the prompt in *model_input*, or the whole of it as JSON if it holds none."""
    if isinstance(model_input, dict):
        prompt: object = cast("Json", model_input).get("prompt")
        if isinstance(prompt, str):
            return prompt
    return json.dumps(model_input, sort_keys=True)


def read_object(body: bytes) -> Json:
    """Return the JSON object in *body*; WrongRequestError if there is none."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        raise WrongRequestError("the body must be JSON") from None
    if not isinstance(value, dict):
        raise WrongRequestError("the body must be a JSON object")
    return cast("Json", value)


def read_submission(model: str, body: Json) -> Submission:
    """Check *body* against every rule that is documented for *model*."""
    problems = list(_envelope_problems(body))
    given = body.get("input")
    model_input = cast("Json", given) if isinstance(given, dict) else None
    if model_input is None:
        problems.append("input is required and must be an object")
    elif model == VEO:
        problems.extend(_veo_problems(model_input))
    elif model == EXTEND:
        problems.extend(_extend_problems(model_input))
    if problems or model_input is None:
        raise WrongRequestError("; ".join(problems))
    url = body.get("callback_url")
    return Submission(model, model_input, url if body.get("request_type") == "callback" else None)


def _envelope_problems(body: Json) -> Iterator[str]:
    yield from _choice(body, "request_type", REQUEST_TYPES, required=False, where="")
    yield from _choice(body, "provider", PROVIDERS, required=False, where="")
    url = body.get("callback_url")
    if body.get("request_type") != "callback":
        if url is not None:
            yield "callback_url is only used with request_type callback"
    elif url is None:
        yield "callback_url is required with request_type callback"
    elif not _is_callback_url(url):
        yield "callback_url must be an https URL (http only on this machine)"


def _veo_problems(given: Json) -> Iterator[str]:
    yield from _common_problems(given)
    yield from _choice(given, "generationType", tuple(MOST_IMAGES), required=True)
    yield from _choice(given, "aspect_ratio", ASPECTS, required=False)
    kind = given.get("generationType")
    if isinstance(kind, str) and kind in MOST_IMAGES:
        yield from _image_problems(given, kind)
    if kind == REFERENCE:
        if given.get("mode") == "quality":
            yield f"input.mode must be fast with {REFERENCE}"
        if given.get("aspect_ratio") in ("9:16", "auto"):
            yield f"input.aspect_ratio must be 16:9 with {REFERENCE}"


def _extend_problems(given: Json) -> Iterator[str]:
    yield from _common_problems(given)
    task_id = given.get("taskId")
    if not isinstance(task_id, str) or not task_id:
        yield "input.taskId is required and must be a string"


def _common_problems(given: Json) -> Iterator[str]:
    yield from _choice(given, "mode", MODES, required=True)
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= LONGEST_PROMPT:
        yield f"input.prompt is required and must be a string of 1 to {LONGEST_PROMPT} characters"
    if not isinstance(given.get("watermark", ""), str):
        yield "input.watermark must be a string"
    seed = given.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        yield "input.seed must be an integer"


def _image_problems(given: Json, kind: str) -> Iterator[str]:
    most = MOST_IMAGES[kind]
    images: object = given.get("image_urls", [])
    if not isinstance(images, list):
        yield "input.image_urls must be an array of strings"
        return
    urls = cast("list[object]", images)
    if most == 0:
        if urls:
            yield f"input.image_urls must be left out with {kind}"
        return
    if not 1 <= len(urls) <= most:
        yield f"input.image_urls must hold 1 to {most} URLs with {kind}"
    if not all(_is_web_url(url) for url in urls):
        yield "input.image_urls must hold http or https URLs"


def _choice(
    given: Mapping[str, Any],
    name: str,
    allowed: tuple[str, ...],
    *,
    required: bool,
    where: str = "input.",
) -> Iterator[str]:
    value = given.get(name, _MISSING)
    if value is _MISSING:
        if required:
            yield f"{where}{name} is required"
    elif value not in allowed:
        yield f"{where}{name} must be one of {', '.join(allowed)}"


def _is_web_url(value: object) -> bool:
    return isinstance(value, str) and _split(value)[0] in {"http", "https"}


def _is_callback_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    scheme, host = _split(value)
    return scheme == "https" or (scheme == "http" and host in _LOOPBACK)


def _split(url: str) -> tuple[str, str]:
    """Return scheme and host, both empty if *url* lacks either."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "", ""
    return (parts.scheme, host) if host else ("", "")
