"""The JSON of the Veo page stands here as printed, so that a reader can compare."""

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._wire import (
    BALANCE_PATH,
    encode,
    fingerprint,
    request_input,
    status_path,
    submit_body,
    submit_path,
)
from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)
from tests.wire import strategies

OUTLINE = """{
"request_type" : "async" ,
"callback_url" : "https://..." ,
"provider" : "auto" ,
"input" : {
"mode" : "quality" ,
"prompt" : "..." ,
"generationType" : "TEXT_2_VIDEO" ,
"aspect_ratio" : "16:9" ,
"image_urls" : [ "..." ],
"watermark" : "" ,
"seed" : 1234
}
}"""

TEXT = """{
"request_type": "async",
"input": {
"mode": "quality",
"prompt": "a cinematic flyover of a futuristic city at sunrise",
"generationType": "TEXT_2_VIDEO",
"aspect_ratio": "16:9"
}
}"""

FRAMES = """{
"request_type": "callback",
"callback_url": "https://your-server.com/callback",
"input": {
"mode": "quality",
"prompt": "a calm ocean turning into a storm",
"generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO",
"image_urls": [
"https://example.com/frame_start.jpg",
"https://example.com/frame_end.jpg"
],
"aspect_ratio": "9:16"
}
}"""

REFERENCE = """{
"request_type": "async",
"input": {
"mode": "fast",
"prompt": "turn this sequence into a dynamic action shot",
"generationType": "REFERENCE_2_VIDEO",
"image_urls": [
"https://example.com/ref1.jpg",
"https://example.com/ref2.jpg"
],
"aspect_ratio": "16:9"
}
}"""


@pytest.mark.parametrize(
    ("page", "request_", "callback_url"),
    [
        (TEXT, TextToVideo("a cinematic flyover of a futuristic city at sunrise"), None),
        (
            FRAMES,
            FramesToVideo(
                "a calm ocean turning into a storm",
                first_frame="https://example.com/frame_start.jpg",
                last_frame="https://example.com/frame_end.jpg",
                aspect_ratio="9:16",
            ),
            "https://your-server.com/callback",
        ),
        (
            REFERENCE,
            ReferenceToVideo(
                "turn this sequence into a dynamic action shot",
                image_urls=["https://example.com/ref1.jpg", "https://example.com/ref2.jpg"],
            ),
            None,
        ),
    ],
    ids=["text", "frames", "reference"],
)
def test_the_page_s_curl_calls(page: str, request_: Request, callback_url: str | None) -> None:
    """Each request that the page shows with curl is sent exactly as it stands there."""
    assert json.loads(page) == json.loads(encode(submit_body(request_, callback_url=callback_url)))


def test_the_page_s_outline_of_the_body() -> None:
    """With every option set, all fields of the page's outline have its names and places.

    The outline combines what excludes each other: a callback URL with polling, and images with
    text; those two differ.
    """
    request = FramesToVideo(
        "...", first_frame="https://...", seed=1234, watermark="", provider="auto"
    )
    expected = json.loads(OUTLINE)
    expected["request_type"] = "callback"
    expected["input"]["generationType"] = "FIRST_AND_LAST_FRAMES_2_VIDEO"
    expected["input"]["image_urls"] = ["https://..."]

    assert expected == submit_body(request, callback_url="https://...")


def test_an_extension() -> None:
    """An extension names the task it continues, and says `fast` although that is its default."""
    request = ExtendVideo("and then it rains", task_id="task_12345678")

    assert submit_body(request) == {
        "request_type": "async",
        "input": {"prompt": "and then it rains", "taskId": "task_12345678", "mode": "fast"},
    }


def test_any_other_model() -> None:
    """Another model's input goes out as it is; the wrapper is the same."""
    request = ModelRequest("seedance-2-0", {"duration": 5, "seed": None}, provider="official")

    assert submit_body(request) == {
        "request_type": "async",
        "provider": "official",
        "input": {"duration": 5, "seed": None},
    }


def test_extra_input_lies_beside_the_known_fields() -> None:
    """A field that we do not know is sent inside `input`, also where its value is null."""
    extra = {"enableTranslation": False, "new": None}

    assert request_input(TextToVideo("x", extra_input=extra)) == {
        "prompt": "x",
        "mode": "quality",
        "generationType": "TEXT_2_VIDEO",
        "aspect_ratio": "16:9",
        **extra,
    }


def test_one_frame_is_a_list_of_one() -> None:
    """Without a last frame no empty place is sent for it."""
    request = FramesToVideo("x", first_frame="https://a/b.jpg")

    assert request_input(request)["image_urls"] == ["https://a/b.jpg"]


@settings(max_examples=100)
@given(strategies.veo_requests, st.none() | st.just("https://me.example/hook"))
def test_what_every_body_holds(request: Request, callback_url: str | None) -> None:
    """Fields on whose default the documents disagree are always sent, empty ones never."""
    body = submit_body(request, callback_url=callback_url)
    sent: dict[str, Any] = body["input"]
    always = {"prompt", "mode"}
    if not isinstance(request, ExtendVideo):
        always |= {"generationType", "aspect_ratio"}
    free = set(getattr(request, "extra_input", ()))

    assert always <= set(sent)
    assert all(sent[name] is not None for name in set(sent) - free)
    assert body["request_type"] == ("callback" if callback_url else "async")
    assert body.get("callback_url") == callback_url
    assert body.get("provider") == request.provider
    assert None not in body.values()


@settings(max_examples=100)
@given(strategies.requests)
def test_every_request_can_be_sent(request: Request) -> None:
    """Whatever could be built can be written as ASCII JSON and means the same when it is read."""
    body = submit_body(request)
    written = encode(body)

    assert written.isascii()
    assert json.loads(written) == body


def test_the_body_is_no_door_to_the_request() -> None:
    """Changing what is about to be sent does not change the request."""
    request = ModelRequest("m", {"a": 1})
    request_input(request)["a"] = 2

    assert request.input == {"a": 1}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"b": 1, "a": {"d": 2, "c": 3}}, {"a": {"c": 3, "d": 2}, "b": 1}),
        ({"a": [1, 2]}, {"a": (1, 2)}),
    ],
    ids=["order of keys", "list or tuple"],
)
def test_equal_bodies_give_equal_bytes(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Order of keys and kind of sequence leave no trace in the bytes."""
    assert encode(left) == encode(right)


def test_bytes_are_plain_and_short() -> None:
    """No spaces, and nothing outside ASCII that some middleman could spoil."""
    assert encode({"b": "海", "a": 1.5}) == b'{"a":1.5,"b":"\\u6d77"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_not_written(value: float) -> None:
    """NaN and infinity are no JSON, although Python would write them."""
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": value})


ASKED = TextToVideo("x", seed=1)


@pytest.mark.parametrize(
    "other",
    [
        TextToVideo("y", seed=1),
        TextToVideo("x", seed=2),
        TextToVideo("x"),
        TextToVideo("x", seed=1, mode="fast"),
        TextToVideo("x", seed=1, aspect_ratio="auto"),
        TextToVideo("x", seed=1, watermark=""),
        TextToVideo("x", seed=1, provider="auto"),
        TextToVideo("x", seed=1, extra_input={"a": None}),
        FramesToVideo("x", seed=1, first_frame="https://a/b.jpg"),
        ExtendVideo("x", seed=1, task_id="t"),
        ModelRequest("veo-3-1-fast", request_input(ASKED)),
    ],
    ids=[
        "prompt",
        "seed",
        "no seed",
        "mode",
        "ratio",
        "empty watermark",
        "provider",
        "extra field",
        "frames",
        "extension",
        "model",
    ],
)
def test_every_difference_changes_the_fingerprint(other: Request) -> None:
    """Two requests that differ in anything the API sees have different fingerprints."""
    assert fingerprint(ASKED) != fingerprint(other)


def test_the_same_wish_has_the_same_fingerprint() -> None:
    """How a request was spelled does not count, only what the API would see."""
    spelled_out = TextToVideo("x", mode="quality", aspect_ratio="16:9", seed=1, watermark=None)

    assert fingerprint(ASKED) == fingerprint(spelled_out)
    assert fingerprint(ASKED) == fingerprint(ModelRequest("veo-3-1", request_input(ASKED)))


def test_fingerprints_never_change() -> None:
    """They name files and continue runs of earlier versions, so they are pinned."""
    assert fingerprint(ASKED) == (
        "6374d79ed08561dff4caf79d69b6a316294968d8d9db9385f96ac192b67059b2"
    )


@settings(max_examples=50)
@given(strategies.requests)
def test_fingerprints_are_hexadecimal(request: Request) -> None:
    """A fingerprint can stand in a file name, whatever the request holds."""
    mark = fingerprint(request)

    assert len(mark) == 64
    assert set(mark) <= set("0123456789abcdef")


def test_the_page_s_addresses() -> None:
    """Paths below the base URL are those that the pages print."""
    assert submit_path("veo-3-1") == "/generateTask/veo-3-1"
    assert status_path("veo-3-1", "task_12345678") == ("/statusTask/veo-3-1?taskId=task_12345678")
    assert BALANCE_PATH == "/apikeys/current-balance"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_id_leaves_its_place_in_the_address(task_id: str) -> None:
    """An id with any characters stays one query value and adds nothing to the address."""
    parts = urlsplit(status_path("veo-3-1", task_id))

    assert parts.path == "/statusTask/veo-3-1"
    assert parse_qs(parts.query, strict_parsing=True) == {"taskId": [task_id]}
    assert parts.fragment == ""


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_model_leaves_its_place_in_the_address(model: str) -> None:
    """A model's name with any characters stays one segment of the path."""
    path = submit_path(model)

    assert path.count("/") == 2
    assert unquote(path.removeprefix("/generateTask/")) == model
