"""The JSON of the Veo page stands here as printed, so that a reader can compare."""

import json
from typing import Any

import pytest

from apixo_async.emulator.rules import (
    EXTEND,
    VEO,
    WrongRequestError,
    prompt_of,
    read_object,
    read_submission,
)

SKELETON = """{"request_type": "async", "callback_url": "https://...", "provider": "auto",
    "input": {"mode": "quality", "prompt": "...", "generationType": "TEXT_2_VIDEO",
    "aspect_ratio": "16:9", "image_urls": ["..."], "watermark": "", "seed": 1234}}"""

TEXT_TO_VIDEO = """{"request_type": "async", "input": {"mode": "quality",
    "prompt": "a cinematic flyover of a futuristic city at sunrise",
    "generationType": "TEXT_2_VIDEO", "aspect_ratio": "16:9"}}"""

FRAMES = """{"request_type": "callback", "callback_url": "https://your-server.com/callback",
    "input": {"mode": "quality", "prompt": "a calm ocean turning into a storm",
    "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO",
    "image_urls": ["https://example.com/frame_start.jpg", "https://example.com/frame_end.jpg"],
    "aspect_ratio": "9:16"}}"""

REFERENCE = """{"request_type": "async", "input": {"mode": "fast",
    "prompt": "turn this sequence into a dynamic action shot",
    "generationType": "REFERENCE_2_VIDEO",
    "image_urls": ["https://example.com/ref1.jpg", "https://example.com/ref2.jpg"],
    "aspect_ratio": "16:9"}}"""

IMAGE = "https://example.com/a.jpg"


def problems(model: str, body: dict[str, Any]) -> list[str]:
    """Return the broken rules, one for each."""
    try:
        read_submission(model, body)
    except WrongRequestError as error:
        return str(error).split("; ")
    return []


@pytest.mark.parametrize("text", [TEXT_TO_VIDEO, FRAMES, REFERENCE], ids=["text", "frames", "ref"])
def test_the_examples_of_the_page_are_accepted(text: str) -> None:
    """Each of the three requests that the page shows with curl is a right one."""
    assert problems(VEO, read_object(text.encode())) == []


def test_the_page_s_outline_of_the_body_is_no_request() -> None:
    """Its list of all fields combines some that exclude each other; without those it is right."""
    body = read_object(SKELETON.encode())

    assert [problem.split()[0] for problem in problems(VEO, body)] == [
        "callback_url",
        "input.image_urls",
    ]
    del body["callback_url"], body["input"]["image_urls"]
    assert problems(VEO, body) == []


def test_a_right_submit_is_read() -> None:
    """Prompt, mode, picture and callback are what the request says."""
    submission = read_submission(VEO, json.loads(FRAMES))

    assert submission.prompt == "a calm ocean turning into a storm"
    assert submission.mode == "quality"
    assert submission.is_tall
    assert submission.callback_url == "https://your-server.com/callback"


def veo(**changes: object) -> dict[str, Any]:
    """Return a text-to-video body; `...` leaves a field out."""
    given = {"mode": "fast", "prompt": "x", "generationType": "TEXT_2_VIDEO", **changes}
    return {"input": {name: value for name, value in given.items() if value is not ...}}


def frames(**changes: object) -> dict[str, Any]:
    """Return a body with a first frame."""
    kind = "FIRST_AND_LAST_FRAMES_2_VIDEO"
    return veo(**{"generationType": kind, "image_urls": [IMAGE], **changes})


def reference(**changes: object) -> dict[str, Any]:
    """Return a body with a reference image."""
    return veo(**{"generationType": "REFERENCE_2_VIDEO", "image_urls": [IMAGE], **changes})


@pytest.mark.parametrize(
    "body",
    [
        veo(),
        veo(prompt="x" * 10_000),
        veo(aspect_ratio="auto", seed=1234, watermark=""),
        veo(seed=-1),
        veo(enableTranslation=True),
        veo(image_urls=[]),
        {**veo(), "request_type": "async", "provider": "official", "source": "x"},
        {**veo(), "request_type": "callback", "callback_url": "https://a.example/x?secret=1"},
        {**veo(), "request_type": "callback", "callback_url": "http://127.0.0.1:8080/x"},
        {**veo(), "request_type": "callback", "callback_url": "http://[::1]:8080/x"},
        frames(),
        frames(image_urls=[IMAGE, IMAGE], aspect_ratio="auto"),
        reference(image_urls=[IMAGE] * 3, aspect_ratio="16:9"),
        reference(),
    ],
)
def test_a_request_within_the_rules_is_accepted(body: dict[str, Any]) -> None:
    """Everything that the documents allow passes."""
    assert problems(VEO, body) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "input is required and must be an object"),
        ({"input": []}, "input is required and must be an object"),
        (veo(mode=...), "input.mode is required"),
        (veo(mode="slow"), "input.mode must be one of quality, fast"),
        (veo(mode=None), "input.mode must be one of quality, fast"),
        (veo(prompt=...), "input.prompt is required"),
        (veo(prompt=""), "input.prompt is required and must be a string of 1 to 10000"),
        (veo(prompt="x" * 10_001), "input.prompt is required and must be a string of 1 to 10000"),
        (veo(prompt=["x"]), "input.prompt is required"),
        (veo(generationType=...), "input.generationType is required"),
        (veo(generationType="IMAGE"), "input.generationType must be one of TEXT_2_VIDEO, FIRST"),
        (veo(generationType=[]), "input.generationType must be one of"),
        (veo(aspect_ratio="1:1"), "input.aspect_ratio must be one of 16:9, 9:16, auto"),
        (veo(image_urls=[IMAGE]), "input.image_urls must be left out with TEXT_2_VIDEO"),
        (veo(image_urls=IMAGE), "input.image_urls must be an array of strings"),
        (veo(seed="1"), "input.seed must be an integer"),
        (veo(seed=True), "input.seed must be an integer"),
        (veo(seed=1.5), "input.seed must be an integer"),
        (veo(watermark=7), "input.watermark must be a string"),
        (frames(image_urls=...), "input.image_urls must hold 1 to 2 URLs with FIRST_AND_LAST"),
        (frames(image_urls=[IMAGE] * 3), "input.image_urls must hold 1 to 2 URLs with FIRST"),
        (frames(image_urls=["a.jpg"]), "input.image_urls must hold http or https URLs"),
        (frames(image_urls=["http://[a/x"]), "input.image_urls must hold http or https URLs"),
        (frames(image_urls=[7]), "input.image_urls must hold http or https URLs"),
        (reference(image_urls=[IMAGE] * 4), "input.image_urls must hold 1 to 3 URLs with REFER"),
        (reference(mode="quality"), "input.mode must be fast with REFERENCE_2_VIDEO"),
        (reference(aspect_ratio="9:16"), "input.aspect_ratio must be 16:9 with REFERENCE_2_VIDEO"),
        (reference(aspect_ratio="auto"), "input.aspect_ratio must be 16:9 with REFERENCE_2_VIDEO"),
        ({**veo(), "request_type": "sync"}, "request_type must be one of async, callback"),
        ({**veo(), "provider": "cheap"}, "provider must be one of auto, value, official"),
        ({**veo(), "request_type": "callback"}, "callback_url is required with request_type"),
        ({**veo(), "callback_url": "https://a.example"}, "callback_url is only used with"),
        (
            {**veo(), "request_type": "callback", "callback_url": "http://a.example/x"},
            "callback_url must be an https URL",
        ),
        (
            {**veo(), "request_type": "callback", "callback_url": 7},
            "callback_url must be an https URL",
        ),
    ],
    ids=str,
)
def test_a_broken_rule_is_named(body: dict[str, Any], problem: str) -> None:
    """One broken rule is one problem, which begins with the field."""
    [found] = problems(VEO, body)

    assert found.startswith(problem)


def test_all_broken_rules_are_reported_at_once() -> None:
    """Nobody has to send five requests to learn of five mistakes."""
    body = {"request_type": "?", "input": {"prompt": "", "seed": "1"}}

    fields = [problem.split()[0] for problem in problems(VEO, body)]

    assert fields == [
        "request_type",
        "input.mode",
        "input.prompt",
        "input.seed",
        "input.generationType",
    ]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"seed": 1234, "watermark": "mine"}, []),
        ({"taskId": ""}, ["input.taskId"]),
        ({"taskId": 7, "mode": "x"}, ["input.mode", "input.taskId"]),
        ({"prompt": ""}, ["input.prompt"]),
    ],
)
def test_extending_has_rules_of_its_own(changes: dict[str, Any], fields: list[str]) -> None:
    """An extension needs a task to extend, a mode and a prompt, and no generation type."""
    body = {"input": {"taskId": "task_12345678", "mode": "fast", "prompt": "x", **changes}}

    assert [problem.split()[0] for problem in problems(EXTEND, body)] == fields


def test_other_models_take_any_object() -> None:
    """What this emulator has no document for, it does not judge."""
    submission = read_submission("sora-2", {"input": {"duration": 8}})

    assert submission.prompt == '{"duration": 8}'
    assert submission.mode is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Broken, foreign and hostile bodies all end in one kind of error."""
    with pytest.raises(WrongRequestError, match="the body must be"):
        read_object(body)


@pytest.mark.parametrize(("given", "prompt"), [({"prompt": "x"}, "x"), (None, "null"), (7, "7")])
def test_every_input_has_something_to_be_counted_under(given: object, prompt: str) -> None:
    """Without a prompt the input itself stands in the ledger."""
    assert prompt_of(given) == prompt
