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
    """A video from a text (`TEXT_2_VIDEO`; Veo 3.1 page, generation types).

    `None` leaves a field out. A request is checked when it is built, and cannot be changed.

    Raises:
        InvalidRequestError: A field breaks a documented rule. All broken rules are listed.
    """

    model: ClassVar[str] = "veo-3-1"
    """The model's id, a part of the path of every call (Veo 3.1 page, endpoints)."""

    prompt: str = _ruled(_prompt)
    """What to show: "Text description, 1-10000 characters" (Veo 3.1 page, parameters)."""
    mode: Mode = _ruled(_one_of(Mode), default="quality", kw_only=True)
    """`quality`, the default, dearer and better, or `fast` (Veo 3.1 page, parameters)."""
    aspect_ratio: AspectRatio = _ruled(_one_of(AspectRatio), default="16:9", kw_only=True)
    """`16:9`, `9:16` or `auto` (Veo 3.1 page, parameters). It is
    always sent, because the pages disagree on its default."""
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    """A whole number; "Random seed for reproducibility" (Veo 3.1 page, parameters). No range is
    documented; numbers of more than 1,024 bits are refused here."""
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    """Text shown in the picture (Veo 3.1 page, request body)."""
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    """ "Routing strategy: auto, value, or official" (Veo 3.1 page, parameters)."""
    extra_input: Mapping[str, object] = _extra_field()
    """Fields that the API may add to `input` (Veo 3.1 page, request body) later. A copy is kept. It
    must be JSON, and may not name a field that this class has itself."""


@attrs.frozen
class FramesToVideo(_Checked):
    """A video between a first and a last picture.

    That is `FIRST_AND_LAST_FRAMES_2_VIDEO` (Veo 3.1 page, generation types). `None` leaves a field
    out. A request is checked when it is built, and cannot be changed.

    Raises:
        InvalidRequestError: A field breaks a documented rule. All broken rules are listed.
    """

    model: ClassVar[str] = "veo-3-1"
    """The model's id, a part of the path of every call (Veo 3.1 page, endpoints)."""

    prompt: str = _ruled(_prompt)
    """What to show: "Text description, 1-10000 characters" (Veo 3.1 page, parameters)."""
    first_frame: str = _ruled(_image_url, kw_only=True)
    """The public URL of the first picture: JPG, PNG or WebP, of at most 10 MB (Veo 3.1 page,
    tips)."""
    last_frame: str | None = _ruled(_optional(_image_url), default=None, kw_only=True)
    """The same of the last picture. It may be left out: the maximum is 2 (Veo 3.1 page, generation
    types), and an older version of that page allows 1."""
    mode: Mode = _ruled(_one_of(Mode), default="quality", kw_only=True)
    """`quality`, the default, dearer and better, or `fast` (Veo 3.1 page, parameters)."""
    aspect_ratio: AspectRatio = _ruled(_one_of(AspectRatio), default="16:9", kw_only=True)
    """`16:9`, `9:16` or `auto` (Veo 3.1 page, parameters). It is
    always sent, because the pages disagree on its default."""
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    """A whole number; "Random seed for reproducibility" (Veo 3.1 page, parameters). No range is
    documented; numbers of more than 1,024 bits are refused here."""
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    """Text shown in the picture (Veo 3.1 page, request body)."""
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    """ "Routing strategy: auto, value, or official" (Veo 3.1 page, parameters)."""
    extra_input: Mapping[str, object] = _extra_field()
    """Fields that the API may add to `input` (Veo 3.1 page, request body) later. A copy is kept. It
    must be JSON, and may not name a field that this class has itself."""


@attrs.frozen
class ReferenceToVideo(_Checked):
    """A video from one to three reference pictures (`REFERENCE_2_VIDEO`).

    It has no `mode` and no `aspect_ratio`, because the API leaves no choice: "only supports fast
    mode and aspect_ratio must be 16:9" (Veo 3.1 page, tips). `None` leaves a field out. A request
    is checked when it is built, and cannot be changed.

    Raises:
        InvalidRequestError: A field breaks a documented rule. All broken rules are listed.
    """

    model: ClassVar[str] = "veo-3-1"
    """The model's id, a part of the path of every call (Veo 3.1 page, endpoints)."""

    prompt: str = _ruled(_prompt)
    """What to show: "Text description, 1-10000 characters" (Veo 3.1 page, parameters)."""
    image_urls: Sequence[str] = _ruled(_image_urls, converter=_as_tuple, kw_only=True)
    """1 to 3 public URLs, "image_urls (max 3)" (Veo 3.1 page, generation types), of JPG, PNG or
    WebP pictures of at most 10 MB each (Veo 3.1 page, tips)."""
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    """A whole number; "Random seed for reproducibility" (Veo 3.1 page, parameters). No range is
    documented; numbers of more than 1,024 bits are refused here."""
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    """Text shown in the picture (Veo 3.1 page, request body)."""
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    """ "Routing strategy: auto, value, or official" (Veo 3.1 page, parameters)."""
    extra_input: Mapping[str, object] = _extra_field()
    """Fields that the API may add to `input` (Veo 3.1 page, request body) later. A copy is kept. It
    must be JSON, and may not name a field that this class has itself."""

    @property
    def mode(self) -> Mode:
        """Always `fast` (Veo 3.1 page, tips)."""
        return "fast"


@attrs.frozen
class ExtendVideo(_Checked):
    """A continuation of a finished `veo-3-1` task (Veo 3.1 Extend page).

    `None` leaves a field out. A request is checked when it is built, and cannot be changed.

    Raises:
        InvalidRequestError: A field breaks a documented rule. All broken rules are listed.
    """

    model: ClassVar[str] = "veo-3-1-extend"
    """The model's id, a part of the path of every call (Veo 3.1 Extend page, endpoints)."""

    prompt: str = _ruled(_prompt)
    """What to show: "Text description, 1-10000 characters" (Veo 3.1 page, parameters)."""
    task_id: str = _ruled(_identifier, kw_only=True)
    """The id of a completed `veo-3-1` task that is not expired (Veo 3.1 Extend page, parameters);
    another one ends the new task with the fail code `TASKID_ERROR`."""
    mode: Mode = _ruled(_one_of(Mode), default="fast", kw_only=True)
    """`fast`, the default of the Veo 3.1 Extend page, parameters, or `quality`."""
    seed: int | None = _ruled(_optional(_seed), default=None, kw_only=True)
    """A whole number; "Random seed for reproducibility" (Veo 3.1 page, parameters). No range is
    documented; numbers of more than 1,024 bits are refused here."""
    watermark: str | None = _ruled(_optional(_text), default=None, kw_only=True)
    """Text shown in the picture (Veo 3.1 page, request body)."""
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    """ "Routing strategy: auto, value, or official" (Veo 3.1 page, parameters)."""
    extra_input: Mapping[str, object] = _extra_field()
    """Fields that the API may add to `input` (Veo 3.1 page, request body) later. A copy is kept. It
    must be JSON, and may not name a field that this class has itself."""


@attrs.frozen
class ModelRequest(_Checked):
    """A request for any other model of the API: the envelope is the same, `input` is passed as is.

    Only the shape is checked (generate-task page, request body); the fields of `input` are the
    model's own business, and its own page says which there are.

    Raises:
        InvalidRequestError: A field has the wrong shape. All broken rules are listed.
    """

    model: str = _ruled(_path_segment)
    """The model's id, a part of the path of every call (generate-task page, path)."""
    input: Mapping[str, object] = _ruled(_json_object, converter=_frozen_copy, hash=False)
    """What the model's own page documents (generate-task page, request body). It must be JSON, of
    at most 200 lists and objects in each other. A copy is kept."""
    provider: Provider | None = _ruled(_optional(_one_of(Provider)), default=None, kw_only=True)
    """ "Routing strategy: auto, value, or official" (Veo 3.1 page, parameters)."""

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
