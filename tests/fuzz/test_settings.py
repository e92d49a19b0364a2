from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import attrs
from hypothesis import strategies as st

from apixo_async import (
    ApixoClient,
    BatchRunner,
    ExtendVideo,
    FramesToVideo,
    Job,
    LearnedSchedule,
    Limits,
    ModelRequest,
    PollSchedule,
    ReferenceToVideo,
    TextToVideo,
    Timeouts,
    WebhookReceiver,
)
from apixo_async._wire import encode, fingerprint, request_from_row, submit_body
from apixo_async.batch.journal import Entry
from apixo_async.batch.spending import Prices, usd
from apixo_async.errors import (
    AuthenticationError,
    InvalidRequestError,
    InvalidSettingError,
)
from apixo_async.veo import Request
from tests.fakes import KEY, FakeApi, client_for
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import Choices
from tests.fuzz.test_answers import NOW

Build: TypeAlias = Callable[..., Any]


def nested(depth: int) -> list[Any]:
    """Lists in each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


HOLDING_ITSELF: list[Any] = []
HOLDING_ITSELF.append(HOLDING_ITSELF)
HUGE = 10**5_000
"""More digits than Python writes down."""
JUNK: list[object] = [
    None,
    True,
    0,
    1,
    -1,
    0.5,
    10**400,
    HUGE,
    -HUGE,
    2.0**1023,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    Decimal("0.2"),
    Decimal("NaN"),
    Decimal("1E+999999"),
    "",
    " ",
    "fast",
    "0.2",
    "\ud800",
    "\x00",
    "\u202e",
    "x" * 20_000,
    "https://a.example/b",
    "https://[",
    "http://\ud800.example",
    b"",
    b"fast",
    b"\xff" * 20,
    [],
    [""],
    ["https://a.example/b"] * 3,
    [HUGE],
    (),
    {},
    {"a": HUGE},
    {HUGE: 1},
    {1: 2, "a": 3},
    {"\ud800": "\udfff"},
    {"a": math.nan},
    {"prompt": 1},
    {"a": nested(150)},
    {"a": nested(960)},
    nested(960),
    nested(50_000),
    {"a": nested(50_000)},
    HOLDING_ITSELF,
    {"a": HOLDING_ITSELF},
    {1, 2},
    ...,
    object,
    range(3),
    complex(1, 1),
]

junk = st.sampled_from(JUNK)
scripts = st.binary(max_size=10)

REQUESTS: list[tuple[Build, dict[str, object]]] = [
    (TextToVideo, {"prompt": "a"}),
    (FramesToVideo, {"prompt": "a", "first_frame": "https://a.example/b"}),
    (ReferenceToVideo, {"prompt": "a", "image_urls": ["https://a.example/b"]}),
    (ExtendVideo, {"prompt": "a", "task_id": "t1"}),
    (ModelRequest, {"model": "m", "input": {}}),
]


def changed(cls: Any, valid: Mapping[str, object], script: bytes) -> dict[str, Any]:  # noqa: ANN401  # any class of attrs
    """Arguments with one to three of them replaced."""
    choices = Choices(script)
    names = [field.name for field in attrs.fields(cls)]
    given = dict(valid)
    for _ in range(1 + choices.below(3)):
        given[choices.of(names)] = choices.of(JUNK)
    return given


def check_use(request: Request) -> None:
    """What could be built can be told apart, sent, and kept in a journal."""
    assert repr(request)
    assert hash(request) == hash(request)
    assert len(fingerprint(request)) == 64
    assert encode(submit_body(request))
    entry = Entry.new(1, Job(request, key="k"), at=NOW)
    assert fingerprint(entry.asked()) == entry.fingerprint


@fuzzed(st.integers(0, 4), scripts, slow=4_000)
def test_a_request_of_anything_can_be_used_or_is_explained(kind: int, script: bytes) -> None:
    """Arbitrary values in arbitrary fields are refused by name, or all can be done with them."""
    cls, valid = REQUESTS[kind]
    given = changed(cls, valid, script)
    try:
        request = cls(**given)
    except InvalidRequestError as error:
        assert {field.split("[")[0] for field, _ in error.problems} <= set(given)
        assert str(error)
        return

    check_use(request)


ROWS = ["prompt", "mode", "generationType", "aspect_ratio", "image_urls", "seed", "watermark"]
ROWS += ["provider", "taskId", "extra_input", "model", "input", "", "\ud800", "key"]


@fuzzed(
    st.dictionaries(st.sampled_from(ROWS), junk, max_size=5),
    st.sampled_from([{}, {"prompt": "a"}, {"model": "m", "input": {}}]),
    slow=2_500,
)
def test_a_row_of_anything_is_a_request_or_is_explained(
    row: Mapping[str, object], valid: Mapping[str, object]
) -> None:
    """Services pass rows on as they come: no value in them does harm."""
    try:
        request = request_from_row({**valid, **row})
    except InvalidRequestError as error:
        assert error.problems
        return

    check_use(request)


@fuzzed(junk, junk, slow=3_000)
def test_a_job_of_anything_is_kept_or_is_explained(key: Any, metadata: Any) -> None:  # noqa: ANN401  # anything
    """A key is checked at once, metadata when a journal has to keep them."""
    try:
        job = Job(TextToVideo("a"), key=key, metadata=metadata)
        entry = Entry.new(1, job, at=NOW)
    except InvalidRequestError as error:
        assert {field for field, _ in error.problems} <= {"key", "metadata"}
        return

    assert key is None or entry.job().key == key
    assert entry.values()


SETTINGS: list[Build] = [Limits, Timeouts, PollSchedule, LearnedSchedule]


@fuzzed(st.integers(0, len(SETTINGS) - 1), scripts, slow=4_000)
def test_a_setting_of_anything_works_or_is_explained(kind: int, script: bytes) -> None:
    """What `Limits`, `Timeouts` and schedules accept, a client can be built and reckon with."""
    cls = SETTINGS[kind]
    try:
        setting = cls(**changed(cls, {}, script))
    except InvalidSettingError as error:
        assert str(error)
        return

    if isinstance(setting, Limits):
        client_for(FakeApi(), limits=setting)
        return
    if isinstance(setting, Timeouts):
        ApixoClient(KEY, timeout=setting)
        return
    client_for(FakeApi(), schedule=setting)
    assert math.isfinite(setting.first + setting.interval * 0.5)
    assert setting.slot_lifetime > 0
    assert setting.uncertain_hold > 0


@fuzzed(st.sampled_from(["api_key", "base_url", "limits", "schedule", "timeout"]), junk, slow=2_500)
def test_a_client_of_anything_is_explained(name: str, value: Any) -> None:  # noqa: ANN401  # anything
    """A client that cannot be says so by an error of ours, and never shows what may be a key."""
    try:
        ApixoClient(**{"api_key": KEY, name: value})
    except (InvalidSettingError, AuthenticationError) as error:
        is_key = name == "api_key" and isinstance(value, str) and value.strip()
        assert not is_key or value not in str(error)


@fuzzed(st.sampled_from(["public_url", "secret"]), junk, slow=2_500)
def test_a_receiver_of_anything_is_explained(name: str, value: Any) -> None:  # noqa: ANN401  # anything
    """The same for a receiver of callbacks."""
    given: dict[str, Any] = {"public_url": "https://a.example/b", "secret": "s" * 16, name: value}
    try:
        WebhookReceiver(**given)
    except InvalidSettingError as error:
        assert str(error)


@fuzzed(
    st.sampled_from(["max_cost", "prices", "deadline", "uncertain"]),
    junk | junk.map(lambda value: {"fast": value}),
    slow=1_500,
)
def test_a_runner_of_anything_is_explained(name: str, value: Any) -> None:  # noqa: ANN401  # anything
    """The same for what guards money and time in a batch."""
    try:
        BatchRunner(client_for(FakeApi()), **{name: value})
    except InvalidSettingError as error:
        assert str(error)


@fuzzed(junk | st.floats() | st.text("0123456789.eE+-_ ", max_size=8), slow=3_000)
def test_an_amount_of_anything_is_exact_or_explained(value: object) -> None:
    """US dollars are a plain number from 0 up, or refused."""
    try:
        amount = usd(value, name="it")
    except InvalidSettingError as error:
        assert str(error)
        return

    assert 0 <= amount <= 10**9
    assert Prices({"fast": amount}).by_name == {"fast": amount}
