"""The rules are those of the Veo 3.1 page and of the Extend page, one broken at a time."""

import copy
import math
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.errors import InvalidRequestError
from apixo_async.veo import (
    PROMPT_MAX_CHARACTERS,
    REQUEST_TYPES,
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
    is_request,
)
from tests.wire import strategies

A, B, C, D = (f"https://example.com/{name}.jpg" for name in "abcd")

# A right request of each class with as little as possible.
LEAST: dict[type[Any], dict[str, Any]] = {
    TextToVideo: {"prompt": "x"},
    FramesToVideo: {"prompt": "x", "first_frame": A},
    ReferenceToVideo: {"prompt": "x", "image_urls": [A]},
    ExtendVideo: {"prompt": "x", "task_id": "task_12345678"},
    ModelRequest: {"model": "seedance-2-0", "input": {"prompt": "x"}},
}
VIDEOS = [TextToVideo, FramesToVideo, ReferenceToVideo, ExtendVideo]
MODES = [TextToVideo, FramesToVideo, ExtendVideo]
RATIOS = [TextToVideo, FramesToVideo]


def shown(value: object) -> str:
    """A short name for a case."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:50]}... {len(text)}"


NO_RATIOS: list[object] = ["1:1", "16/9", "", None, 16 / 9]
NO_SEEDS: list[object] = [1.0, "1234", True, math.nan]
NO_PROVIDERS: list[object] = ["cheap", "", 1]
NO_OBJECTS: list[object] = [None, [], "{}", {1: 2}]
NO_TEXTS: list[object] = [None, 7, b"https://example.com", [A]]
NO_IDS: list[object] = ["", "a b", "a\nb", "\u200b", "\ud800", None, 7]

# The same rule holds for the same field of every class that has it.
WRONG: list[tuple[type[Any], str, object, str]] = [
    *((cls, "prompt", "", "must have 1 to 10,000 characters, has 0") for cls in VIDEOS),
    *(
        (cls, "prompt", "x" * 10_001, "must have 1 to 10,000 characters, has 10,001")
        for cls in VIDEOS
    ),
    *((cls, "prompt", None, "must be text, got NoneType") for cls in VIDEOS),
    *((cls, "prompt", b"x", "must be text, got bytes") for cls in VIDEOS),
    *((cls, "mode", "slow", "must be one of 'quality', 'fast', got 'slow'") for cls in MODES),
    *((cls, "mode", "Fast", "must be one of 'quality', 'fast', got 'Fast'") for cls in MODES),
    *((cls, "mode", None, "must be one of 'quality', 'fast', got None") for cls in MODES),
    *((cls, "mode", [], "must be one of 'quality', 'fast', got []") for cls in MODES),
    *(
        (cls, "aspect_ratio", value, f"must be one of '16:9', '9:16', 'auto', got {value!r}")
        for cls in RATIOS
        for value in NO_RATIOS
    ),
    *(
        (cls, "seed", value, f"must be a whole number, got {value!r}")
        for cls in VIDEOS
        for value in NO_SEEDS
    ),
    *((cls, "watermark", 7, "must be text, got int") for cls in VIDEOS),
    *(
        (cls, "provider", value, f"must be one of 'auto', 'value', 'official', got {value!r}")
        for cls in LEAST
        for value in NO_PROVIDERS
    ),
    *(
        (cls, "extra_input", value, "must be a mapping with text keys")
        for cls in VIDEOS
        for value in NO_OBJECTS
    ),
    *(
        (FramesToVideo, "first_frame", value, "must be a URL, got " + type(value).__name__)
        for value in NO_TEXTS
    ),
    *(
        (FramesToVideo, frame, value, f"must be a public http(s) URL the API can read, got {got}")
        for frame in ("first_frame", "last_frame")
        for value, got in [
            ("", "''"),
            ("a.jpg", "'a.jpg'"),
            ("ftp://example.com/a.jpg", "'ftp://example.com/a.jpg'"),
            ("data:image/png;base64,AAAA", "'data:image/png;base64,AAAA'"),
            ("https://example.com/a b.jpg", "'https://example.com/a b.jpg'"),
            ("https://example.com/a.jpg\n", "'https://example.com/a.jpg\\n'"),
            ("file://" + "x" * 100, repr("file://" + "x" * 73)),
        ]
    ),
    (ReferenceToVideo, "image_urls", [], "must hold 1 to 3 images, holds 0"),
    (ReferenceToVideo, "image_urls", [A, B, C, D], "must hold 1 to 3 images, holds 4"),
    (ReferenceToVideo, "image_urls", A, "must be a list of URLs, got str"),
    (ReferenceToVideo, "image_urls", None, "must be a list of URLs, got NoneType"),
    (ReferenceToVideo, "image_urls", {A}, "must be a list of URLs, got set"),
    *(
        (ExtendVideo, "task_id", value, f"must be a non-empty name without spaces, got {value!r}")
        for value in NO_IDS
    ),
    *(
        (ModelRequest, "model", value, f"must be a non-empty name without spaces, got {value!r}")
        for value in ("", "veo 3", "veo\t3", None)
    ),
    *(
        (ModelRequest, "model", value, f"must be a plain model id, got {value!r}")
        for value in ("a/b", "a?b", "a#b", "a%2fb", "a\\b", ".", "..")
    ),
    *((ModelRequest, "input", value, "must be a mapping with text keys") for value in NO_OBJECTS),
]


def problems(cls: type[Any], **changes: object) -> tuple[tuple[str, str], ...]:
    """The broken rules of a request that differs from a right one by these fields."""
    try:
        cls(**{**LEAST[cls], **changes})
    except InvalidRequestError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("cls", LEAST)
def test_the_least_request_is_right(cls: type[Any]) -> None:
    """What the tables below change one by one breaks no rule by itself."""
    assert problems(cls) == ()


@pytest.mark.parametrize(
    ("cls", "field", "value", "rule"),
    WRONG,
    ids=[f"{cls.__name__}-{field}-{number}" for number, (cls, field, _, _) in enumerate(WRONG)],
)
def test_one_broken_rule_is_named(cls: type[Any], field: str, value: object, rule: str) -> None:
    """A request that breaks one rule cannot be built; the error names the field and the rule."""
    assert problems(cls, **{field: value}) == ((field, rule),)


@pytest.mark.parametrize("urls", [[A, "b.jpg"], [A, "b.jpg", C]], ids=["last", "middle"])
def test_a_wrong_image_is_named_by_its_place(urls: list[str]) -> None:
    """Of several images the wrong one is named."""
    rule = "must be a public http(s) URL the API can read, got 'b.jpg'"

    assert problems(ReferenceToVideo, image_urls=urls) == (("image_urls[1]", rule),)


@pytest.mark.parametrize(
    ("cls", "changes", "fields"),
    [
        (
            TextToVideo,
            {
                "prompt": "",
                "mode": "slow",
                "aspect_ratio": "1:1",
                "seed": "1",
                "watermark": 7,
                "provider": "cheap",
                "extra_input": {"mode": "fast", "a": object()},
            },
            [
                "prompt",
                "mode",
                "aspect_ratio",
                "seed",
                "watermark",
                "provider",
                "extra_input",
                "extra_input['mode']",
            ],
        ),
        (
            FramesToVideo,
            {"prompt": 7, "first_frame": "", "last_frame": "", "mode": "", "aspect_ratio": ""},
            ["prompt", "first_frame", "last_frame", "mode", "aspect_ratio"],
        ),
        (
            ReferenceToVideo,
            {"prompt": "", "image_urls": [A, "", B, 7], "seed": 1.5},
            ["prompt", "image_urls", "image_urls[1]", "image_urls[3]", "seed"],
        ),
        (
            ExtendVideo,
            {"prompt": "", "task_id": "", "mode": "", "seed": "", "provider": ""},
            ["prompt", "task_id", "mode", "seed", "provider"],
        ),
        (
            ModelRequest,
            {"model": "a /", "input": 7, "provider": "cheap"},
            ["model", "model", "input", "provider"],
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_all_broken_rules_are_named_at_once(
    cls: type[Any], changes: dict[str, object], fields: list[str]
) -> None:
    """One round of fixing is enough, however many rules are broken."""
    assert fields == [field for field, _ in problems(cls, **changes)]


def test_the_error_reads_as_a_sentence() -> None:
    """A person sees what was built, and every field with its rule."""
    with pytest.raises(InvalidRequestError) as caught:
        TextToVideo("", mode="slow")  # type: ignore[arg-type]

    assert str(caught.value) == (
        "TextToVideo is not valid: prompt: must have 1 to 10,000 characters, has 0; "
        "mode: must be one of 'quality', 'fast', got 'slow'"
    )


OPEN: dict[str, tuple[list[type[Any]], dict[str, object]]] = {
    "shortest prompt": (VIDEOS, {"prompt": "x"}),
    "longest prompt": (VIDEOS, {"prompt": "x" * 10_000}),
    "longest prompt of 4-byte characters": (VIDEOS, {"prompt": "🌊" * 10_000}),
    "prompt of spaces": (VIDEOS, {"prompt": "  "}),
    "prompt of a line break": (VIDEOS, {"prompt": "\n"}),
    "prompt in Japanese": (VIDEOS, {"prompt": "海に沈む夕日"}),
    "sample seed": (VIDEOS, {"seed": 1234}),
    "zero seed": (VIDEOS, {"seed": 0}),
    "negative seed": (VIDEOS, {"seed": -1}),
    "huge seed": (VIDEOS, {"seed": 10**30}),
    "empty watermark": (VIDEOS, {"watermark": ""}),
    "watermark": (VIDEOS, {"watermark": "made by me"}),
    "provider auto": ([*VIDEOS, ModelRequest], {"provider": "auto"}),
    "provider value": ([*VIDEOS, ModelRequest], {"provider": "value"}),
    "provider official": ([*VIDEOS, ModelRequest], {"provider": "official"}),
    "mode quality": (MODES, {"mode": "quality"}),
    "mode fast": (MODES, {"mode": "fast"}),
    "wide": (RATIOS, {"aspect_ratio": "16:9"}),
    "tall": (RATIOS, {"aspect_ratio": "9:16"}),
    "auto": (RATIOS, {"aspect_ratio": "auto"}),
    "a field of an older page": (VIDEOS, {"extra_input": {"enableTranslation": False}}),
    "one frame": ([FramesToVideo], {"last_frame": None}),
    "two frames": ([FramesToVideo], {"last_frame": B}),
    "two equal frames": ([FramesToVideo], {"last_frame": A}),
    "two frames in auto and fast": (
        [FramesToVideo],
        {"last_frame": B, "aspect_ratio": "auto", "mode": "fast"},
    ),
    "plain http and another ending": ([FramesToVideo], {"first_frame": "http://example.com/a.gif"}),
    "upper case": ([FramesToVideo], {"first_frame": "HTTPS://EXAMPLE.COM/A"}),
    "long URL": ([FramesToVideo], {"first_frame": "https://example.com/" + "x" * 5_000}),
    "two images": ([ReferenceToVideo], {"image_urls": [A, B]}),
    "three images": ([ReferenceToVideo], {"image_urls": (A, B, C)}),
    "hexadecimal id": ([ExtendVideo], {"task_id": "dff8afd3" * 4}),
    "empty input": ([ModelRequest], {"input": {}}),
    "veo as any model": ([ModelRequest], {"model": "veo-3-1"}),
    "nested input": ([ModelRequest], {"input": {"list": [1, {"a": None}], "f": 0.5}}),
}


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        pytest.param(cls, changes, id=f"{cls.__name__}-{name}")
        for name, (kinds, changes) in OPEN.items()
        for cls in kinds
    ],
)
def test_what_the_documents_leave_open_is_accepted(
    cls: type[Any], changes: dict[str, object]
) -> None:
    """Whatever some document allows, or none forbids, is for the API to judge."""
    assert problems(cls, **changes) == ()


def defaults(cls: type[Any]) -> dict[str, object]:
    """What the least request of a class holds besides what was given."""
    fields = attrs.asdict(cls(**LEAST[cls]))
    return {name: value for name, value in fields.items() if name not in LEAST[cls]}


COMMON: dict[str, object] = {"seed": None, "watermark": None, "provider": None, "extra_input": {}}


@pytest.mark.parametrize(
    ("cls", "model", "expected"),
    [
        (TextToVideo, "veo-3-1", {"mode": "quality", "aspect_ratio": "16:9", **COMMON}),
        (
            FramesToVideo,
            "veo-3-1",
            {"last_frame": None, "mode": "quality", "aspect_ratio": "16:9", **COMMON},
        ),
        (ReferenceToVideo, "veo-3-1", COMMON),
        (ExtendVideo, "veo-3-1-extend", {"mode": "fast", **COMMON}),
        (ModelRequest, "seedance-2-0", {"provider": None}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_defaults_are_those_of_the_pages(
    cls: type[Any], model: str, expected: dict[str, object]
) -> None:
    """Quality in 16:9, but fast for an extension; everything else is left out."""
    assert expected == defaults(cls)
    assert model == cls(**LEAST[cls]).model


def test_a_reference_leaves_no_choice() -> None:
    """Mode and aspect ratio cannot be given for references, as the API fixes both."""
    assert ReferenceToVideo("x", image_urls=[A]).mode == "fast"
    for name in ("mode", "aspect_ratio"):
        with pytest.raises(TypeError, match=name):
            ReferenceToVideo("x", image_urls=[A], **{name: "auto"})  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", LEAST)
def test_all_but_the_subject_is_keyword_only(cls: type[Any]) -> None:
    """Fields can be added later without breaking calls."""
    positional = [field.name for field in attrs.fields(cls) if not field.kw_only]

    assert positional == (["model", "input"] if cls is ModelRequest else ["prompt"])


@pytest.mark.parametrize("name", strategies.OWN_FIELDS)
@pytest.mark.parametrize("cls", VIDEOS)
def test_extra_input_cannot_replace_what_is_checked(cls: type[Any], name: str) -> None:
    """A field with rules of its own is not smuggled past them."""
    expected = ((f"extra_input[{name!r}]", "is set by the request's own fields"),)

    assert expected == problems(cls, extra_input={name: "anything"})


@pytest.mark.parametrize("field", ["extra_input", "input"])
@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        object(),
        {1, 2},
        b"bytes",
        MappingProxyType({"a": 1}),
        {"a": {1: 2, "b": 3}},
        {"a": {(1, 2): 3}},
    ],
    ids=[
        "nan",
        "infinity",
        "an object",
        "a set",
        "bytes",
        "a mapping inside",
        "keys of several kinds",
        "a tuple as key",
    ],
)
def test_free_input_must_be_json(field: str, value: object) -> None:
    """What cannot be written as JSON is refused when it is given, not when it is sent."""
    cls = ModelRequest if field == "input" else TextToVideo
    ((named, rule),) = problems(cls, **{field: {"a": value}})

    assert field == named
    assert rule.startswith("must be JSON: ")


def test_a_value_that_holds_itself_is_refused() -> None:
    """Circular and bottomless values end in the same error as any other wrong one."""
    circle: dict[str, object] = {}
    circle["again"] = circle
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert [field for field, _ in problems(ModelRequest, input=circle)] == ["input"]
    assert [field for field, _ in problems(TextToVideo, extra_input={"a": deep})] == ["extra_input"]


@pytest.mark.parametrize(
    ("cls", "field"), [*((cls, "extra_input") for cls in VIDEOS), (ModelRequest, "input")]
)
def test_free_input_is_copied(cls: type[Any], field: str) -> None:
    """Whoever keeps filling the mapping that was passed does not change the request."""
    mapping: dict[str, object] = {"a": 1}
    request = cls(**{**LEAST[cls], field: mapping})
    mapping["prompt"] = "changed"

    assert getattr(request, field) == {"a": 1}


def test_any_mapping_will_do() -> None:
    """A read-only mapping is as good as a dict."""
    proxy: Mapping[str, object] = MappingProxyType({"a": 1})

    assert ModelRequest("m", proxy) == ModelRequest("m", {"a": 1})


def test_a_list_of_images_is_copied_to_a_tuple() -> None:
    """The request cannot be changed by way of the list it was built from."""
    urls = [A, B]
    request = ReferenceToVideo("x", image_urls=urls)
    urls.append("nonsense")

    assert request.image_urls == (A, B)


@pytest.mark.parametrize("cls", LEAST)
def test_a_request_cannot_be_changed(cls: type[Any]) -> None:
    """What was checked once stays right; a changed copy is checked anew."""
    request = cls(**LEAST[cls])
    field = next(iter(LEAST[cls]))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(request, field, "changed")
    with pytest.raises(InvalidRequestError):
        attrs.evolve(request, **{field: ""})

    assert request == cls(**LEAST[cls])


@settings(max_examples=60)
@given(strategies.requests)
def test_a_request_is_a_value(request: Request) -> None:
    """Every request equals its copies, hashes like them, survives pickling, and prints itself."""
    twins = [
        pickle.loads(pickle.dumps(request)),  # noqa: S301  # our own bytes
        copy.copy(request),
        copy.deepcopy(request),
        attrs.evolve(request),
    ]

    assert [request] * 4 == twins
    assert {hash(request)} == set(map(hash, twins))
    assert type(request).__name__ in repr(request)


def test_equal_requests_are_one_in_a_set() -> None:
    """Requests can be counted and looked up by what they ask for."""
    kinds = {ModelRequest("m", {}), TextToVideo("x"), TextToVideo("x"), TextToVideo("x", seed=1)}

    assert len(kinds) == 3


@pytest.mark.parametrize(
    ("given_input", "mode"),
    [({"mode": "text-to-video"}, "text-to-video"), ({}, None), ({"mode": 7}, None)],
    ids=["named", "missing", "no text"],
)
def test_another_model_s_mode_is_read_from_its_input(
    given_input: dict[str, object], mode: str | None
) -> None:
    """Durations and prices go by mode, so it is known for other models as well."""
    assert mode == ModelRequest("m", given_input).mode


@pytest.mark.parametrize("cls", LEAST)
def test_what_can_be_submitted(cls: type[Any]) -> None:
    """Each class is a request by type and by value; the class itself, or a row, is none."""
    assert cls in REQUEST_TYPES
    assert is_request(cls(**LEAST[cls]))
    assert not is_request(cls)
    assert not is_request(LEAST[cls])


def test_the_union_holds_every_class() -> None:
    """`Request` is exactly the five classes that are tested here."""
    assert get_args(Request) == tuple(LEAST)


def test_the_longest_prompt_is_the_documented_one() -> None:
    """The page says 10000 characters; they are counted as characters, not as bytes."""
    assert PROMPT_MAX_CHARACTERS == 10_000


@settings(max_examples=150)
@given(st.data())
def test_whatever_is_given_either_works_or_is_explained(data: st.DataObject) -> None:
    """Random values in random fields never raise anything but the typed error with its fields."""
    cls = data.draw(st.sampled_from(list(LEAST)))
    names = [field.name for field in attrs.fields(cls)]
    junk = st.one_of(strategies.json_values, st.binary(max_size=3), st.just(...))
    changes = data.draw(st.dictionaries(st.sampled_from(names), junk, max_size=4))

    assert {field.split("[")[0] for field, _ in problems(cls, **changes)} <= set(changes)


def test_free_input_is_copied_to_its_last_value() -> None:
    """Changing what was passed in, however deep, changes nothing in the request."""
    inner: dict[str, object] = {"size": [1, 2]}
    request = ModelRequest("nano-banana-2", {"options": inner})
    inner["size"] = "changed"

    assert request.input == {"options": {"size": [1, 2]}}


def test_a_seed_that_json_cannot_carry_is_refused() -> None:
    """Any whole number is a seed, as long as it can be written."""
    assert TextToVideo("x", seed=2**1024 - 1).seed == 2**1024 - 1
    with pytest.raises(InvalidRequestError, match="1024 bits"):
        TextToVideo("x", seed=2**1024)
