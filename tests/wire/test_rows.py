from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._wire import ROW_FIELDS, request_from_row, request_input
from apixo_async.errors import InvalidRequestError
from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)
from tests.wire import strategies

A, B, C = (f"https://example.com/{name}.jpg" for name in "abc")
TEXT, FRAMES, REFERENCE = "TEXT_2_VIDEO", "FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO"


def problems(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The broken rules of a row."""
    try:
        request_from_row(row)
    except InvalidRequestError as error:
        return list(error.problems)
    return []


def row_of(request: Request) -> dict[str, Any]:
    """A request as a row in the API's field names."""
    if isinstance(request, ModelRequest):
        row = {"model": request.model, "input": dict(request.input)}
    else:
        row = request_input(attrs.evolve(request, extra_input={}))
        row["extra_input"] = dict(request.extra_input)
    return {**row, "provider": request.provider}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "x"}, TextToVideo("x")),
        ({"prompt": "x", "model": "veo-3-1"}, TextToVideo("x")),
        ({"prompt": "x", "image_urls": []}, TextToVideo("x")),
        ({"prompt": "x", "image_urls": None, "seed": None, "mode": None}, TextToVideo("x")),
        ({"prompt": "x", "generationType": TEXT}, TextToVideo("x")),
        (
            {
                "prompt": "x",
                "mode": "fast",
                "aspect_ratio": "auto",
                "seed": 7,
                "watermark": "",
                "provider": "value",
                "extra_input": {"a": 1},
            },
            TextToVideo(
                "x",
                mode="fast",
                aspect_ratio="auto",
                seed=7,
                watermark="",
                provider="value",
                extra_input={"a": 1},
            ),
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": [A, B]},
            FramesToVideo("x", first_frame=A, last_frame=B),
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": (A,)},
            FramesToVideo("x", first_frame=A),
        ),
        (
            {"prompt": "x", "image_urls": [A, B], "mode": "quality"},
            FramesToVideo("x", first_frame=A, last_frame=B),
        ),
        (
            {"prompt": "x", "image_urls": [A], "aspect_ratio": "9:16"},
            FramesToVideo("x", first_frame=A, aspect_ratio="9:16"),
        ),
        (
            {"prompt": "x", "image_urls": [A], "aspect_ratio": "auto", "mode": "fast"},
            FramesToVideo("x", first_frame=A, aspect_ratio="auto", mode="fast"),
        ),
        (
            {"prompt": "x", "generationType": REFERENCE, "image_urls": [A]},
            ReferenceToVideo("x", image_urls=[A]),
        ),
        (
            {
                "prompt": "x",
                "generationType": REFERENCE,
                "image_urls": [A, B],
                "mode": "fast",
                "aspect_ratio": "16:9",
            },
            ReferenceToVideo("x", image_urls=[A, B]),
        ),
        ({"prompt": "x", "image_urls": [A, B, C]}, ReferenceToVideo("x", image_urls=[A, B, C])),
        ({"prompt": "x", "taskId": "t1"}, ExtendVideo("x", task_id="t1")),
        (
            {"prompt": "x", "taskId": "t1", "model": "veo-3-1-extend", "mode": "quality"},
            ExtendVideo("x", task_id="t1", mode="quality"),
        ),
        (
            {"model": "seedance-2-0", "input": {"duration": 5}},
            ModelRequest("seedance-2-0", {"duration": 5}),
        ),
        (
            {"model": "veo-3-1", "input": {}, "provider": "auto"},
            ModelRequest("veo-3-1", {}, provider="auto"),
        ),
        ({"model": "m", "input": {}, "mode": None}, ModelRequest("m", {})),
    ],
    ids=[
        "only a prompt",
        "with the model",
        "with an empty list of images",
        "with nulls",
        "text by name",
        "text with everything",
        "two frames by name",
        "one frame by name",
        "frames because of quality",
        "frames because of tall",
        "frames because of auto",
        "reference by name",
        "reference with what is fixed",
        "reference because of three images",
        "extension by task",
        "extension by model",
        "another model",
        "veo as any model",
        "another model with nulls",
    ],
)
def test_a_row_becomes_its_request(row: Mapping[str, Any], expected: Request) -> None:
    """A row in the API's own names gives the request it means, its kind named or evident."""
    assert expected == request_from_row(row)


@settings(max_examples=200)
@given(strategies.requests)
def test_every_request_comes_back_from_its_row(request: Request) -> None:
    """Writing any request as a row and reading it gives an equal request."""
    assert request == request_from_row(row_of(request))


@settings(max_examples=100)
@given(st.one_of(strategies.text_requests, strategies.extend_requests))
def test_without_images_the_kind_may_be_left_out(request: Request) -> None:
    """Text and extensions are never in doubt."""
    row = row_of(request)
    row.pop("generationType", None)

    assert request == request_from_row(row)


@settings(max_examples=100)
@given(st.one_of(strategies.frames_requests, strategies.reference_requests))
def test_with_images_the_kind_is_right_or_asked_for(request: Request) -> None:
    """A guess is never wrong: either no other kind fits, or the row is refused for its doubt."""
    row = row_of(request)
    del row["generationType"]
    try:
        read = request_from_row(row)
    except InvalidRequestError as error:
        assert [field for field, _ in error.problems] == ["generationType"]  # noqa: PT017
    else:
        assert request == read


DOUBT = f"must say {FRAMES!r} or {REFERENCE!r}: the other fields fit both"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x", "image_urls": [A]},
        {"prompt": "x", "image_urls": [A, B], "mode": "fast"},
        {"prompt": "x", "image_urls": [A, B], "aspect_ratio": "16:9", "mode": "fast"},
    ],
    ids=["one image", "two in fast mode", "two in fast mode and wide"],
)
def test_a_row_that_fits_two_kinds_is_refused(row: Mapping[str, Any]) -> None:
    """Frames and references cost differently and look different: nobody guesses."""
    assert problems(row) == [("generationType", DOUBT)]


KINDS = f"must be one of {TEXT!r}, {FRAMES!r}, {REFERENCE!r}, got "


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, [("prompt", "is missing")]),
        ({"generationType": FRAMES, "image_urls": [A]}, [("prompt", "is missing")]),
        ({"generationType": REFERENCE, "image_urls": [A]}, [("prompt", "is missing")]),
        ({"taskId": "t"}, [("prompt", "is missing")]),
        ({"prompt": ""}, [("prompt", "must have 1 to 10,000 characters, has 0")]),
        (
            {"prompt": "x", "promt": "y", "model": "veo-3-1", "a": 1},
            [("a", "is not a field of this API"), ("promt", "is not a field of this API")],
        ),
        ({"prompt": "x", "generationType": "TEXT"}, [("generationType", f"{KINDS}'TEXT'")]),
        ({"prompt": "x", "generationType": []}, [("generationType", f"{KINDS}[]")]),
        (
            {"prompt": "x", "generationType": TEXT, "image_urls": [A]},
            [("image_urls", f"does not belong to {TEXT}")],
        ),
        (
            {"prompt": "x", "generationType": TEXT, "taskId": "t"},
            [("generationType", "does not belong to veo-3-1-extend")],
        ),
        (
            {"prompt": "x", "generationType": FRAMES},
            [("image_urls", "must be a list of 1 to 2 URLs")],
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": [A, B, C]},
            [("image_urls", "must be a list of 1 to 2 URLs")],
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": A},
            [("image_urls", "must be a list of 1 to 2 URLs")],
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": [A, "b"]},
            [("image_urls[1]", "must be a public http(s) URL the API can read, got 'b'")],
        ),
        (
            {"prompt": "x", "generationType": FRAMES, "image_urls": [None]},
            [("image_urls[0]", "must be a URL, got NoneType")],
        ),
        (
            {"prompt": "x", "generationType": REFERENCE},
            [("image_urls", "must hold 1 to 3 images, holds 0")],
        ),
        (
            {"prompt": "x", "image_urls": [A, B, C, A]},
            [("image_urls", "must hold 1 to 3 images, holds 4")],
        ),
        (
            {"prompt": "x", "generationType": REFERENCE, "image_urls": [A], "mode": "quality"},
            [("mode", f"must be 'fast' for {REFERENCE}")],
        ),
        (
            {"prompt": "x", "generationType": REFERENCE, "image_urls": [A], "aspect_ratio": "auto"},
            [("aspect_ratio", f"must be '16:9' for {REFERENCE}")],
        ),
        (
            {"prompt": "x", "taskId": "t", "aspect_ratio": "16:9", "image_urls": [A]},
            [
                ("aspect_ratio", "does not belong to veo-3-1-extend"),
                ("image_urls", "does not belong to veo-3-1-extend"),
            ],
        ),
        (
            {"prompt": "x", "model": "veo-3-1-extend"},
            [("taskId", "is missing")],
        ),
        (
            {"prompt": "x", "model": "veo-3-1", "taskId": "t"},
            [("taskId", f"does not belong to {TEXT}")],
        ),
        (
            {
                "prompt": "x",
                "model": "veo-3-1",
                "taskId": "t",
                "generationType": FRAMES,
                "image_urls": [A],
            },
            [("taskId", f"does not belong to {FRAMES}")],
        ),
        (
            {
                "prompt": "x",
                "model": "veo-3-1",
                "taskId": "t",
                "generationType": REFERENCE,
                "image_urls": [A],
            },
            [("taskId", f"does not belong to {REFERENCE}")],
        ),
        (
            {"prompt": "x", "model": "seedance-2-0"},
            [
                (
                    "input",
                    "must be given for model 'seedance-2-0': its fields are the model's own",
                )
            ],
        ),
        (
            {"input": {}},
            [("model", "must be given beside `input`")],
        ),
        (
            {"model": "m", "input": [], "provider": "cheap", "prompt": "x", "mode": "fast"},
            [
                ("mode", "belongs inside `input`"),
                ("prompt", "belongs inside `input`"),
                ("input", "must be a mapping with text keys"),
                ("provider", "must be one of 'auto', 'value', 'official', got 'cheap'"),
            ],
        ),
        (
            {"model": "a/b", "input": {}},
            [("model", "must be a plain model id, got 'a/b'")],
        ),
        (
            {"prompt": "x", "extra_input": {"mode": "fast"}},
            [("extra_input['mode']", "is set by the request's own fields")],
        ),
        (
            {"prompt": "x", "seed": "7", "provider": ""},
            [
                ("seed", "must be a whole number, got '7'"),
                ("provider", "must be one of 'auto', 'value', 'official', got ''"),
            ],
        ),
    ],
    ids=[
        "nothing",
        "frames without a prompt",
        "a reference without a prompt",
        "an extension without a prompt",
        "an empty prompt",
        "misspelled fields",
        "unknown kind",
        "kind of a wrong type",
        "images beside text",
        "task beside a kind",
        "frames without images",
        "three frames",
        "frames as text",
        "second frame wrong",
        "first frame null",
        "reference without images",
        "four images",
        "reference in quality",
        "reference in auto",
        "extension with a picture",
        "extension of nothing",
        "task beside the video model",
        "task beside frames",
        "task beside a reference",
        "another model without input",
        "input without a model",
        "another model with all faults",
        "model that is a path",
        "free input over a field",
        "values of wrong types",
    ],
)
def test_a_wrong_row_names_its_fields(
    row: Mapping[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Every broken rule is named by the API's own field name, as it stands in the file."""
    assert expected == problems(row)


def test_all_faults_of_a_row_are_named_at_once() -> None:
    """Doubts, strangers, misplaced fields and wrong values are reported together."""
    row = {
        "prompt": "",
        "generationType": "VIDEO",
        "image_urls": [A, "b"],
        "mode": "fast",
        "aspect_ratio": "16:9",
        "seed": 1.5,
        "colour": "red",
        "taskId": None,
    }

    assert [field for field, _ in problems(row)] == [
        "colour",
        "generationType",
        "prompt",
        "image_urls[1]",
        "seed",
    ]


def test_the_error_speaks_of_the_row() -> None:
    """The text says that a row is wrong, not some class the file's author never heard of."""
    with pytest.raises(InvalidRequestError, match=r"^row is not valid: prompt: is missing"):
        request_from_row({"seed": 1})


def test_a_row_is_left_as_it_is() -> None:
    """Reading does not change the row, so that it can be shown or written again."""
    row = {"prompt": "x", "model": "veo-3-1", "seed": None}
    request_from_row(row)

    assert row == {"prompt": "x", "model": "veo-3-1", "seed": None}


def test_the_known_fields() -> None:
    """A row speaks the names of the API's `input`, with `provider` and a place for the rest."""
    assert set(strategies.OWN_FIELDS) | {"provider", "extra_input"} == ROW_FIELDS


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([*sorted(ROW_FIELDS), "model", "input", "other"]),
        strategies.json_values
        | st.sampled_from([TEXT, FRAMES, REFERENCE, "veo-3-1", "veo-3-1-extend", "fast", [A], "x"]),
    )
)
def test_any_json_row_works_or_is_explained(row: dict[str, Any]) -> None:
    """No row of any file raises anything but the typed error; what is wrong always has a name."""
    assert all(field and rule for field, rule in problems(row))
