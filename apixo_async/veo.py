"""What you ask for: one frozen class per kind of generation.

A request that breaks a documented rule cannot be built: `InvalidRequestError` lists every broken
rule with its field. The rules are those of the Veo 3.1 page ("Model input parameters", "Generation
Types") and the Veo 3.1 Extend page. Where the documents disagree with each other, nothing is
rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeGuard, get_args

import attrs

from apixo_async._narrow import (
    NESTING_MAX,
    as_mapping,
    as_sequence,
    is_nested_too_deeply,
    shown,
)
from apixo_async.errors import InvalidRequestError

Mode: TypeAlias = Literal["quality", "fast"]
AspectRatio: TypeAlias = Literal["16:9", "9:16", "auto"]
Provider: TypeAlias = Literal["auto", "value", "official"]

PROMPT_MAX_CHARACTERS: Final = 10_000
""" "Text description, 1-10000 characters" (Veo 3.1 page, parameters)."""
REFERENCE_MAX_IMAGES: Final = 3
""" "REFERENCE_2_VIDEO: ... image_urls (max 3)" (Veo 3.1 page, generation types)."""

SEED_MAX_BITS: Final = 1_024
"""No range is documented; this only keeps out numbers that cannot be written."""

Problem: TypeAlias = tuple[str, str]
Rule: TypeAlias = Callable[[str, Any], Iterator[Problem]]


def _prompt(field: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield field, f"must be text, got {type(value).__name__}"
    elif not 1 <= len(value) <= PROMPT_MAX_CHARACTERS:
        yield field, f"must have 1 to {PROMPT_MAX_CHARACTERS:,} characters, has {len(value):,}"


def _one_of(allowed: object) -> Rule:
    words = get_args(allowed)

    def rule(field: str, value: object) -> Iterator[Problem]:
        if value not in words or not isinstance(value, str):
            yield field, f"must be one of {', '.join(map(repr, words))}, got {shown(value)}"

    return rule


def _optional(rule: Rule) -> Rule:
    def optional(field: str, value: object) -> Iterator[Problem]:
        if value is not None:
            yield from rule(field, value)

    return optional


def _image_url(field: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield field, f"must be a URL, got {type(value).__name__}"
    elif not value.lower().startswith(("http://", "https://")) or any(map(str.isspace, value)):
        yield field, f"must be a public http(s) URL the API can read, got {value[:80]!r}"


def _image_urls(field: str, value: object) -> Iterator[Problem]:
    urls = as_sequence(value)
    if urls is None:
        yield field, f"must be a list of URLs, got {type(value).__name__}"
        return
    if not 1 <= len(urls) <= REFERENCE_MAX_IMAGES:
        yield field, f"must hold 1 to {REFERENCE_MAX_IMAGES} images, holds {len(urls)}"
    for index, url in enumerate(urls):
        yield from _image_url(f"{field}[{index}]", url)


def _seed(field: str, value: object) -> Iterator[Problem]:
    # No range is documented: relatives of the API use 10000-99999, its own sample is 1234.
    if not isinstance(value, int) or isinstance(value, bool):
        yield field, f"must be a whole number, got {shown(value)}"
    elif value.bit_length() > SEED_MAX_BITS:
        yield field, f"must have at most {SEED_MAX_BITS} bits, or no JSON can carry it"


def _text(field: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield field, f"must be text, got {type(value).__name__}"


def _identifier(field: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        yield field, f"must be a non-empty name without spaces, got {shown(value)}"


def _path_segment(field: str, value: object) -> Iterator[Problem]:
    yield from _identifier(field, value)
    if isinstance(value, str) and (set(value) & set("/?#%\\") or value in {".", ".."}):
        yield field, f"must be a plain model id, got {value!r}"


def _json_object(field: str, value: object) -> Iterator[Problem]:
    mapping = as_mapping(value)
    if mapping is None or not all(isinstance(name, str) for name in mapping):
        yield field, "must be a mapping with text keys"
        return
    try:
        # As it will be sent: sorting fails on keys that cannot be compared.
        json.dumps(dict(mapping), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        yield field, f"must be JSON: {error}"
    else:
        if is_nested_too_deeply(dict(mapping)):
            yield field, f"must be JSON of at most {NESTING_MAX} lists and objects in each other"


def _extra_input(field: str, value: object) -> Iterator[Problem]:
    yield from _json_object(field, value)
    names = {name for name in as_mapping(value) or () if isinstance(name, str)}
    for name in sorted(_OWN_INPUT_FIELDS & names):
        yield f"{field}[{name!r}]", "is set by the request's own fields"


# The names the API's `input` object gives to what the classes below already hold.
_OWN_INPUT_FIELDS: Final = frozenset(
    {
        "prompt",
        "mode",
        "generationType",
        "aspect_ratio",
        "image_urls",
        "seed",
        "watermark",
        "taskId",
    }
)

_RULE: Final = "apixo_rule"


def _ruled(rule: Rule, **options: Any) -> Any:  # noqa: ANN401  # as attrs.field itself
    """An attrs field with its rule beside it."""
    return attrs.field(metadata={_RULE: rule}, **options)


def _frozen_copy(value: object) -> object:
    """A copy down to the last value, so that later changes outside change nothing here."""
    mapping = as_mapping(value)
    if mapping is None:
        return value
    copied = dict(mapping)
    if not all(isinstance(name, str) for name in copied):
        return copied
    try:
        return json.loads(json.dumps(copied, allow_nan=False, sort_keys=True))
    except (TypeError, ValueError, RecursionError):
        return copied  # its rule says what is wrong with it


def _as_tuple(value: object) -> object:
    urls = as_sequence(value)
    return value if urls is None else tuple(urls)


class _Checked:
    """Checks all rules when the value is built and reports every broken one at once."""

    __slots__ = ()

    def __attrs_post_init__(self) -> None:
        problems = [
            problem
            for field in attrs.fields(type(self))  # type: ignore[arg-type]  # every subclass is attrs
            for problem in field.metadata[_RULE](field.name, getattr(self, field.name))
        ]
        if problems:
            raise InvalidRequestError(type(self).__name__, problems)


def _extra_field() -> Any:  # noqa: ANN401  # as attrs.field itself
    return _ruled(_extra_input, factory=dict, converter=_frozen_copy, kw_only=True, hash=False)


@attrs.frozen
class TextToVideo(_Checked):
    """A video from a text (`TEXT_2_VIDEO`).

    `prompt` has 1 to 10,000 characters. `mode` is `quality` (the API's default, dearer) or `fast`.
    `seed` makes a result repeatable as far as the model allows; `watermark` is text shown in the
    picture; `provider` is the API's routing strategy. `None` leaves a field out. `extra_input`
    takes any field the API may add to `input` later. Raises `InvalidRequestError`.
    """

    model: ClassVar[str] = "veo-3-1"

    prompt: str = _ruled(_prompt)
    mode: Mode = _ruled(_one_of(Mode), default="quality", kw_only=True)
    aspect_ratio: AspectRatio = _ruled(_one_of(AspectRatio), default="16:9", kw_only=True)
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    extra_input: Mapping[str, object] = _extra_field()


@attrs.frozen
class FramesToVideo(_Checked):
    """A video between a first and a last picture (`FIRST_AND_LAST_FRAMES_2_VIDEO`).

    The frames are public URLs of JPG, PNG or WebP images of at most 10 MB each; `last_frame` may
    be left out (the pages give 2 as the maximum, and one of them allows 1). The other fields are
    those of `TextToVideo`. Raises `InvalidRequestError`.
    """

    model: ClassVar[str] = "veo-3-1"

    prompt: str = _ruled(_prompt)
    first_frame: str = _ruled(_image_url, kw_only=True)
    last_frame: str | None = _ruled(_optional(_image_url), default=None, kw_only=True)
    mode: Mode = _ruled(_one_of(Mode), default="quality", kw_only=True)
    aspect_ratio: AspectRatio = _ruled(_one_of(AspectRatio), default="16:9", kw_only=True)
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    extra_input: Mapping[str, object] = _extra_field()


@attrs.frozen
class ReferenceToVideo(_Checked):
    """A video from one to three reference pictures (`REFERENCE_2_VIDEO`).

    It has no `mode` and no `aspect_ratio`, because the API leaves no choice: "only supports fast
    mode and aspect_ratio must be 16:9" (Veo 3.1 page, tips). `image_urls` are public URLs of JPG,
    PNG or WebP images of at most 10 MB each. Raises `InvalidRequestError`.
    """

    model: ClassVar[str] = "veo-3-1"

    prompt: str = _ruled(_prompt)
    image_urls: Sequence[str] = _ruled(_image_urls, converter=_as_tuple, kw_only=True)
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    extra_input: Mapping[str, object] = _extra_field()

    @property
    def mode(self) -> Mode:
        """Always `fast`."""
        return "fast"


@attrs.frozen
class ExtendVideo(_Checked):
    """A continuation of a finished `veo-3-1` task (model `veo-3-1-extend`).

    `task_id` is the id of a completed, not expired `veo-3-1` task; another one ends the new task
    with the fail code `TASKID_ERROR`. `mode` defaults to `fast` here, as the Extend page says.
    Raises `InvalidRequestError`.
    """

    model: ClassVar[str] = "veo-3-1-extend"

    prompt: str = _ruled(_prompt)
    task_id: str = _ruled(_identifier, kw_only=True)
    mode: Mode = _ruled(_one_of(Mode), default="fast", kw_only=True)
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    extra_input: Mapping[str, object] = _extra_field()


@attrs.frozen
class ModelRequest(_Checked):
    """A request for any other model of the API: the envelope is the same, `input` is passed as is.

    `input` must be a mapping that can be written as JSON; it is copied. Only the shape is checked,
    the fields are the model's own business. Raises `InvalidRequestError`.
    """

    model: str = _ruled(_path_segment)
    input: Mapping[str, object] = _ruled(_json_object, converter=_frozen_copy, hash=False)
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)

    @property
    def mode(self) -> str | None:
        """The `mode` of the input, if it has one: durations and prices go by it."""
        mode = self.input.get("mode")
        return mode if isinstance(mode, str) else None


Request: TypeAlias = TextToVideo | FramesToVideo | ReferenceToVideo | ExtendVideo | ModelRequest
"""Everything that can be submitted."""

REQUEST_TYPES: Final[tuple[type, ...]] = get_args(Request)


def is_request(value: object) -> TypeGuard[Request]:
    """Whether this can be submitted."""
    return isinstance(value, REQUEST_TYPES)
