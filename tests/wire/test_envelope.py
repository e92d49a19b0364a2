import importlib.util
import json
import re
import sys
from datetime import UTC, datetime
from unittest import mock

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apixo_async._narrow import NESTING_MAX
from apixo_async._wire import EXCERPT_CHARACTERS, Reply, unwrap
from apixo_async._wire import envelope as envelope_module
from apixo_async._wire.envelope import Envelope, parse_envelope, parse_json
from apixo_async.errors import (
    APIError,
    ApixoError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnexpectedAnswerError,
)
from tests.wire import strategies

NOW = datetime(2026, 1, 9, 13, 33, 30, tzinfo=UTC)

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

SUBMITTED = b"""{
"code" : 200 ,
"message" : "success" ,
"data" : {
"taskId" : "task_12345678"
}
}"""

REFUSED = b"""{
"code" : 400 ,
"message" : "Insufficient credits" ,
"data" : null
}"""


def reply(status: int, body: object = b"", *, retry_after: str | None = None) -> Reply:
    """An answer; a body that is no bytes is written as JSON."""
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, written, retry_after, received_at=NOW)


def envelope(code: object, message: str = "oops", data: object = None) -> dict[str, object]:
    """The API's wrapper."""
    return {"code": code, "message": message, "data": data}


def raised(answer: Reply) -> ApixoError:
    """The error that an answer means."""
    with pytest.raises(ApixoError) as caught:
        unwrap(answer)
    return caught.value


def test_the_page_s_accepted_submit() -> None:
    """The page's success gives its `data`."""
    assert unwrap(reply(200, SUBMITTED)) == {"taskId": "task_12345678"}


@pytest.mark.parametrize("status", [200, 400, 402])
def test_the_page_s_refused_submit(status: int) -> None:
    """The page's error is an empty balance, whichever HTTP status it comes with."""
    error = raised(reply(status, REFUSED))

    assert isinstance(error, InsufficientCreditsError)
    assert (error.message, error.http_status, error.code) == ("Insufficient credits", status, 400)


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (envelope(200, data={"a": 1}), {"a": 1}),
        (envelope(200, data=74.87), 74.87),
        (envelope(200, data=0), 0),
        (envelope(200, data=[]), []),
        (envelope(200), None),
        ({"code": 200}, None),
        ({"code": "200", "data": 1}, 1),
        ({"code": 200.0, "data": 1}, 1),
        ({"code": 200, "data": 1, "error": None, "traceId": "t"}, 1),
        ({"code": 200, "message": None, "data": 1}, 1),
        ({"code": 200, "message": ["odd"], "data": 1}, 1),
    ],
    ids=[
        "object",
        "bare number",
        "zero",
        "list",
        "null",
        "no data",
        "code as text",
        "code as float",
        "other fields",
        "no message",
        "message of a wrong type",
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_code_200_is_success(status: int, body: object, data: object) -> None:
    """A good envelope in a good answer gives its data, whatever that is."""
    assert data == unwrap(reply(status, body))


def test_a_byte_order_mark_is_no_fault() -> None:
    """JSON with a mark before it is still JSON."""
    assert unwrap(reply(200, b"\xef\xbb\xbf" + SUBMITTED)) == {"taskId": "task_12345678"}


CASES: list[tuple[int, int | None, type[ApixoError]]] = [
    # HTTP 200, the error inside: the envelope alone decides.
    (200, 400, BadRequestError),
    (200, 401, AuthenticationError),
    (200, 402, InsufficientCreditsError),
    (200, 403, BadRequestError),
    (200, 404, NotFoundError),
    (200, 429, RateLimitedError),
    (200, 500, ServerError),
    (200, 503, ServerError),
    (200, 531, ServerError),
    (200, 451, APIError),
    (200, 408, APIError),
    (200, 409, APIError),
    (200, 0, APIError),
    (200, -1, APIError),
    (200, 201, APIError),
    (200, 302, APIError),
    (200, 10**9, ServerError),
    (200, None, UnexpectedAnswerError),
    (204, None, UnexpectedAnswerError),
    # HTTP 4xx without an envelope's word.
    (400, None, BadRequestError),
    (401, None, AuthenticationError),
    (402, None, InsufficientCreditsError),
    (403, None, BadRequestError),
    (404, None, NotFoundError),
    (405, None, BadRequestError),
    (408, None, APIError),
    (409, None, APIError),
    (413, None, BadRequestError),
    (414, None, BadRequestError),
    (415, None, BadRequestError),
    (422, None, BadRequestError),
    (425, None, APIError),
    (429, None, RateLimitedError),
    (451, None, APIError),
    # HTTP 4xx with an envelope that says the same, or says it better.
    (400, 400, BadRequestError),
    (400, 401, AuthenticationError),
    (400, 402, InsufficientCreditsError),
    (400, 404, NotFoundError),
    (400, 429, RateLimitedError),
    (400, 500, ServerError),
    (401, 401, AuthenticationError),
    (403, 402, InsufficientCreditsError),
    (429, 429, RateLimitedError),
    (429, 400, BadRequestError),
    # HTTP 4xx with an envelope that claims success: the status decides.
    (400, 200, BadRequestError),
    (401, 200, AuthenticationError),
    (404, 0, NotFoundError),
    (429, 200, RateLimitedError),
    # HTTP 5xx outweighs everything: nobody knows what stands behind the gateway.
    (500, None, ServerError),
    (500, 200, ServerError),
    (500, 400, ServerError),
    (502, None, ServerError),
    (503, 429, ServerError),
    (504, 401, ServerError),
    (599, 402, ServerError),
    # Redirects are not followed, and mean nothing, whatever they carry.
    (300, None, UnexpectedAnswerError),
    (300, 200, UnexpectedAnswerError),
    (301, None, UnexpectedAnswerError),
    (302, 200, UnexpectedAnswerError),
    (307, 400, UnexpectedAnswerError),
    (308, 401, UnexpectedAnswerError),
    (304, 429, UnexpectedAnswerError),
    # Statuses that no document knows.
    (101, None, UnexpectedAnswerError),
    (600, None, ServerError),
]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    CASES,
    ids=[f"HTTP {status}-{code}" for status, code, _ in CASES],
)
@pytest.mark.parametrize("data", [None, {"error": "Missing required field"}, 7], ids=repr)
def test_status_and_code_give_the_class(
    status: int, code: int | None, expected: type[ApixoError], data: object
) -> None:
    """Exactly this class comes from this status and code, whatever else the envelope holds."""
    error = raised(reply(status, envelope(code, data=data)))

    assert expected is type(error)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    CASES,
    ids=[f"HTTP {status}-{code}" for status, code, _ in CASES],
)
def test_facts_come_along(status: int, code: int | None, expected: type[ApixoError]) -> None:
    """An error of the API keeps status, code, message and data, a strange answer its beginning."""
    error = raised(reply(status, envelope(code, data={"a": 1})))

    if isinstance(error, APIError):
        facts = (error.http_status, error.code, error.message, error.data)
        assert facts == (status, code, "oops", {"a": 1})
    else:
        assert isinstance(error, UnexpectedAnswerError)
        assert error.http_status == status
        assert '"oops"' in error.excerpt


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"not json",
        HTML,
        b"200",
        b"74.87",
        b"null",
        b"true",
        b'"success"',
        b"[]",
        b'[{"code":200}]',
        b"{}",
        b'{"code":200,"data":{"taskId":"t"}',
        b'{"code":200}{"code":200}',
        b'{"data":{"taskId":"t"}}',
        b'{"code":null}',
        b'{"code":true,"data":1}',
        b'{"code":"ok","data":1}',
        b'{"code":"2OO","data":1}',
        b'{"code":" 200","data":1}',
        '{"code":"٢٠٠","data":1}'.encode(),
        b'{"code":200.5,"data":1}',
        b'{"code":NaN,"data":1}',
        b'{"code":1e999,"data":1}',
        b'{"code":[200],"data":1}',
        b'{"Code":200,"data":1}',
        b"\xff\xfe\x00",
        b'{"code":200,"message":"\xff"}',
        b'{"code":' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"code":200,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=[
        "empty",
        "spaces",
        "text",
        "html",
        "number 200",
        "number",
        "null",
        "true",
        "string",
        "empty list",
        "list",
        "empty object",
        "cut off",
        "two objects",
        "no code",
        "null code",
        "true as code",
        "word as code",
        "letters as code",
        "code with a space",
        "Arabic digits",
        "half a code",
        "NaN code",
        "infinite code",
        "list as code",
        "other case",
        "no text",
        "broken text",
        "huge code",
        "open brackets",
        "open braces",
        "deep list",
        "deep data",
    ],
)
class TestBodiesWithoutAnEnvelope:
    def test_http_200_is_unexpected(self, body: bytes) -> None:
        """A good status with a body that is no envelope is never taken for success."""
        error = raised(reply(200, body))

        assert type(error) is UnexpectedAnswerError
        assert error.http_status == 200
        assert len(str(error)) < 2 * EXCERPT_CHARACTERS

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (400, BadRequestError),
            (401, AuthenticationError),
            (404, NotFoundError),
            (429, RateLimitedError),
            (502, ServerError),
            (504, ServerError),
        ],
    )
    def test_a_bad_status_speaks_for_itself(
        self, body: bytes, status: int, expected: type[ApixoError]
    ) -> None:
        """Without an envelope the status decides, and the message is never empty or endless."""
        error = raised(reply(status, body))

        assert expected is type(error)
        assert isinstance(error, APIError)
        assert (error.http_status, error.code) == (status, None)
        assert 0 < len(error.message) <= EXCERPT_CHARACTERS


def test_every_depth_ends_in_an_answer() -> None:
    """However deep data is nested, and wherever Python gives up, the error is one of ours."""
    for depth in range(50, 1_100):
        inner = b"[" * depth + b"]" * depth
        for body in (
            b'{"code":400,"data":{"error":' + inner + b"}}",
            b'{"code":400,"message":' + inner + b"}",
        ):
            assert isinstance(raised(reply(200, body)), (BadRequestError, UnexpectedAnswerError))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (envelope(400, "Invalid request"), "Invalid request"),
        (
            envelope(400, "Invalid request", {"error": "Missing required field: input.prompt"}),
            "Invalid request: Missing required field: input.prompt",
        ),
        (envelope(400, "same", {"error": "same"}), "same"),
        (envelope(400, "", {"error": "inner"}), "inner"),
        (envelope(400, "", {"error": {"field": "prompt"}}), '{"field": "prompt"}'),
        ({"code": 400, "error": "outer"}, "outer"),
        ({"code": 400, "message": "m", "error": "outer"}, "m: outer"),
        ({"code": 400, "message": "m", "error": "outer", "data": {"error": "inner"}}, "m: inner"),
        ({"code": 400, "message": {"de": "nein"}}, '{"de": "nein"}'),
        ({"code": 400, "message": "two\n lines\x00"}, "two lines"),
        ({"code": 400, "message": "<b>bold</b>"}, "bold"),
        ({"code": 400, "message": "x" * 10_000}, "x" * 2_000),
        ({"code": 400, "message": "\ud800"}, "?"),
        ({"code": 400}, '{"code": 400}'),
        ({"code": 400, "message": 0, "data": None}, '{"code": 400, "message": 0, "data": null}'),
    ],
    ids=[
        "message",
        "with an inner error",
        "with the same inner error",
        "inner error only",
        "inner error that is an object",
        "outer error only",
        "message and outer error",
        "all three",
        "message that is an object",
        "control characters",
        "markup",
        "long",
        "half a character",
        "nothing",
        "empty values",
    ],
)
def test_the_message_is_found_wherever_it_is(body: object, message: str) -> None:
    """What the API wanted to say is shown, from whichever of its places; else the body is."""
    error = raised(reply(400, body))

    assert isinstance(error, APIError)
    assert message == error.message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (502, "Bad Gateway"),
        (429, "Too Many Requests"),
        (418, "I'm a Teapot"),
        (531, "unknown error"),
    ],
)
def test_an_empty_body_is_named_by_its_status(status: int, message: str) -> None:
    """An error without any text still says something."""
    error = raised(reply(status))

    assert isinstance(error, APIError)
    assert message == error.message


def test_a_gateway_s_page_is_readable() -> None:
    """Of an HTML page the words remain."""
    assert str(raised(reply(502, HTML))) == "502 Bad Gateway nginx (HTTP 502, code None)"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Insufficient credits", InsufficientCreditsError),
        ("insufficient credit", InsufficientCreditsError),
        ("INSUFFICIENT_CREDITS", InsufficientCreditsError),
        ("InsufficientCredits", InsufficientCreditsError),
        ("insufficient_balance", InsufficientCreditsError),
        ("Insufficient account balance", InsufficientCreditsError),
        ("You do not have enough... not enough credits left", InsufficientCreditsError),
        ("Your balance is insufficient", InsufficientCreditsError),
        ("out of credits", InsufficientCreditsError),
        ("credits are insufficient", InsufficientCreditsError),
        ("credit not enough", InsufficientCreditsError),
        ("funds exhausted", InsufficientCreditsError),
        ("not enough funds", InsufficientCreditsError),
        ("Invalid parameters", BadRequestError),
        ("prompt is too long", BadRequestError),
        ("credits", BadRequestError),
        ("Insufficient image resolution", BadRequestError),
        ("Image from a desktop upload cannot be read", BadRequestError),
        ("Prompt 'a laptop up close' is not allowed", BadRequestError),
        ("Prompt 'a casino fund raiser' is not allowed", BadRequestError),
        ("notion balance sheet", BadRequestError),
        ("Prompt 'no fundamental change' is not allowed", BadRequestError),
        ("Prompt 'a man with no balance pole' is not allowed", BadRequestError),
        ("Prompt 'no top-up needed' is not allowed", BadRequestError),
    ],
)
def test_an_empty_balance_is_told_from_a_wrong_request(
    message: str, expected: type[ApixoError]
) -> None:
    """A 400 about money is one, and a 400 about a picture is none, as money stops a whole batch."""
    assert expected is type(raised(reply(400, envelope(400, message))))
    assert expected is type(raised(reply(200, envelope(400, "Error", {"error": message}))))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("API key lacks permission", AuthenticationError),
        ("Invalid api_key", AuthenticationError),
        ("You have no permission for this model", AuthenticationError),
        ("Forbidden token in prompt", BadRequestError),
        ("Unauthorized", AuthenticationError),
        ("Content violates policy", BadRequestError),
        ("Forbidden", BadRequestError),
        ("The prompt mentions a monkey", BadRequestError),
    ],
)
@pytest.mark.parametrize("status", [200, 403])
def test_both_meanings_of_403(status: int, message: str, expected: type[ApixoError]) -> None:
    """One page says 403 is about the key, another about content: the text decides."""
    assert expected is type(raised(reply(status, envelope(403, message))))


@pytest.mark.parametrize("message", ["Insufficient credits", "API key lacks permission"])
def test_the_text_decides_only_where_documents_do_not(message: str) -> None:
    """Words that would turn a 400 or 403 into something else leave other codes alone."""
    assert type(raised(reply(200, envelope(404, message)))) is NotFoundError
    assert type(raised(reply(200, envelope(500, message)))) is ServerError


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(429, retry_after="7"), 7.0),
        (reply(200, envelope(429), retry_after="7"), 7.0),
        (reply(429, retry_after="Fri, 09 Jan 2026 13:34:00 GMT"), 30.0),
        (reply(429, retry_after="soon"), None),
        (reply(429), None),
    ],
    ids=["seconds", "inside HTTP 200", "date", "nonsense", "absent"],
)
def test_a_429_says_how_long(answer: Reply, expected: float | None) -> None:
    """The header is read on every 429, by status or by code, relative to the answer's arrival."""
    error = raised(answer)

    assert isinstance(error, RateLimitedError)
    assert expected == error.retry_after


def test_an_unexpected_answer_says_why() -> None:
    """A redirect is told from an answer that makes no sense."""
    assert str(raised(reply(302))) == "HTTP 302: redirects are not followed"
    assert str(raised(reply(200, b"hi"))) == "HTTP 200: no answer of this API: 'hi'"


@settings(max_examples=300)
@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=50)
    | strategies.json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {},
        optional={
            "code": strategies.json_values | st.sampled_from([200, 400, 429]),
            "message": strategies.json_values,
            "data": strategies.json_values,
            "error": strategies.json_values,
        },
    ).map(lambda value: json.dumps(value).encode()),
    retry_after=st.none() | st.text(max_size=10),
)
def test_any_answer_is_data_or_one_of_our_errors(
    status: int, body: bytes, retry_after: str | None
) -> None:
    """No answer of any server raises anything else, and no bad status ever gives data."""
    try:
        unwrap(Reply(status, body, retry_after, received_at=NOW))
    except (APIError, UnexpectedAnswerError) as error:
        assert str(error)  # noqa: PT017  # whatever it is, it has a text
    else:
        assert status < 300


@pytest.mark.parametrize("length", range(len(SUBMITTED)))
def test_a_cut_answer_is_never_success(length: int) -> None:
    """Wherever a good answer is cut off, it is no answer."""
    assert type(raised(reply(200, SUBMITTED[:length]))) is UnexpectedAnswerError


def test_an_envelope_as_data() -> None:
    """Code, message and data are told apart from a body, as callbacks send it, too."""
    assert Envelope(code=400, message="Insufficient credits", data=None) == parse_envelope(REFUSED)
    assert parse_envelope(b"[]") is None


@pytest.mark.parametrize("text", ["[" * 100_000, b"[" * 100_000, "9" * 5_000, "{", b"\xff", ""])
def test_hostile_json_is_a_value_error(text: str | bytes) -> None:
    """Callers of the parser need to know one error only, not a `RecursionError` beside it."""
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_json_is_nested_no_deeper_than_can_be_written_again(opening: bytes) -> None:
    """What is read is kept in journals and errors, wherever in a program that happens."""

    def nested(depth: int) -> bytes:
        closing = b"]" if opening == b"[" else b"}"
        return opening * (depth - 1) + opening[:1] + closing * depth

    assert parse_json(nested(NESTING_MAX))
    for text in (nested(NESTING_MAX + 1), nested(NESTING_MAX + 1).decode(), nested(990)):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)


def test_many_brackets_are_no_depth() -> None:
    """A thousand results beside each other are read."""
    assert parse_json("[" + ",".join(["[{}]"] * 1_000) + "]") == [[{}]] * 1_000


@given(
    strategies.json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.sampled_from(
        [b"NaN", b"[1e999]", b'"\\ud800"', b"\xef\xbb\xbf{}", b"{}{}", b"-0", b"[" * 3000]
    )
)
def test_both_readers_of_json_accept_the_same(text: bytes) -> None:
    """With and without the extra `speed`, the same answers are read, to the same values.

    All but whole numbers beyond 64 bits, which orjson gives as floats.
    """
    assume(not re.search(rb"\d{19}", text))

    def read() -> object:
        try:
            return parse_json(text)
        except ValueError:
            return ValueError

    quick = read()
    with mock.patch.object(envelope_module, "quick_loads", None):
        plain = read()

    assert repr(quick) == repr(plain)


def test_without_the_extra_the_standard_library_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`speed` is an extra, and nothing else depends on it."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    spec = importlib.util.find_spec(envelope_module.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.quick_loads is None
    assert module.parse_json(b'{"a": [1]}') == {"a": [1]}
