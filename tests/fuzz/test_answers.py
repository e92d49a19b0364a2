from __future__ import annotations

import json
import math
import pickle
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from hypothesis import strategies as st

from apixo_async._wire import (
    Reply,
    candidate_task_id,
    excerpt,
    read_balance,
    read_task,
    read_task_id,
    status_path,
    task_failure,
    unwrap,
)
from apixo_async._wire.answers import result_urls
from apixo_async._wire.envelope import parse_json
from apixo_async._wire.text import retry_after_seconds
from apixo_async.batch.journal.entries import task_from_text, task_text
from apixo_async.errors import APIError, ApixoError, RateLimitedError, UnexpectedAnswerError
from apixo_async.limits.throttling import RETRY_AFTER_CAP, RETRY_AFTER_JITTER, pause_seconds
from apixo_async.tasks import Task
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import VALUES, Choices, scripts, spoilt
from tests.wire.strategies import json_values

NOW = datetime(2026, 1, 9, 13, 33, 30, tzinfo=UTC)
MODEL = "veo-3-1"
SUBMITTED: dict[str, object] = {"code": 200, "message": "success", "data": {"taskId": "t1"}}
REFUSED: dict[str, object] = {"code": 400, "message": "Insufficient credits", "data": None}
ENDED: dict[str, object] = {
    "code": 200,
    "message": "success",
    "data": {
        "taskId": "t1",
        "state": "success",
        "resultJson": '{"resultUrls": ["https://a/1.mp4"]}',
        "failCode": "",
        "failMsg": "",
        "createTime": 1767965610929,
        "completeTime": 1767965652317,
        "costTime": 41388,
    },
}
FAILED: dict[str, object] = {
    "code": 200,
    "message": "success",
    "data": {"taskId": "t1", "state": "failed", "failCode": "NSFW", "failMsg": "not that"},
}
BALANCE: dict[str, object] = {"code": 200, "message": "success", "data": 74.87}

statuses = st.sampled_from([100, 200, 201, 204, 301, 308, 400, 401, 402, 403, 404, 429, 500, 599])
mostly_good = st.just(200) | statuses
headers = st.none() | st.text(max_size=8) | st.integers(0, 500).map(str)


def checked(error: ApixoError) -> None:
    """An error of ours can be printed, and crosses the border of a process."""
    assert str(error).isprintable()
    assert repr(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def data_of(status: int, body: bytes, retry_after: str | None = None) -> object:
    """The data of an answer, or the error that stands for it, once that has been looked at."""
    try:
        data = unwrap(Reply(status, body, retry_after, received_at=NOW))
    except (APIError, UnexpectedAnswerError) as error:
        checked(error)
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            assert 0 <= error.retry_after < math.inf
        return error
    assert status < HTTPStatus.MULTIPLE_CHOICES
    return data


def task_of(data: object) -> Task | None:
    """The task in the data of an answer, sound in every respect; `None` if it is told as none."""
    try:
        task = read_task(data, model=MODEL, task_id="t1")
    except UnexpectedAnswerError as error:
        checked(error)
        return None
    assert (task.id, task.model) == ("t1", MODEL)
    assert task.state
    assert all(task.urls)
    assert task.duration is None or 0 <= task.duration < math.inf
    assert task.expires_at is None or task.expires_at > NOW.replace(year=1)
    checked(task_failure(task))
    return task


@fuzzed(mostly_good, st.binary(max_size=60), headers, slow=3_000)
def test_any_bytes_are_data_or_an_error_of_ours(
    status: int, body: bytes, retry_after: str | None
) -> None:
    """Whatever a server sends, nothing but our own errors comes of it."""
    data = data_of(status, body, retry_after)
    if not isinstance(data, ApixoError):
        task_of(data)


@fuzzed(json_values, slow=1_000)
def test_any_json_is_read_by_every_reader_or_refused(value: object) -> None:
    """A status, an id, a balance: each is sound or `UnexpectedAnswerError`."""
    task_of(value)
    for read in (read_task_id, read_balance):
        try:
            read(value)
        except UnexpectedAnswerError as error:
            checked(error)


@fuzzed(mostly_good, scripts.map(partial(spoilt, SUBMITTED)), slow=5_000)
def test_a_spoilt_answer_to_a_submit(status: int, body: bytes) -> None:
    """It gives an id that a status can be asked for with, or an error; never half an id."""
    data = data_of(status, body)
    if isinstance(data, ApixoError):
        return
    try:
        task_id = read_task_id(data)
    except UnexpectedAnswerError as error:
        checked(error)
        return
    assert task_id.isprintable()
    assert len(task_id) <= 512
    assert status_path(MODEL, task_id).isascii()


@fuzzed(scripts.map(partial(spoilt, SUBMITTED)), slow=5_000)
def test_a_hint_in_a_spoilt_answer(body: bytes) -> None:
    """An id that is found in a broken answer can be asked for, shown and written down."""
    task_id = candidate_task_id(body.decode("utf-8", "replace"))
    if task_id is not None:
        assert task_id.isprintable()
        assert status_path(MODEL, task_id).isascii()


@fuzzed(mostly_good, scripts.map(partial(spoilt, ENDED)), slow=4_500)
def test_a_spoilt_answer_about_a_task(status: int, body: bytes) -> None:
    """It gives a sound task or an error, and the journal keeps what it gives."""
    data = data_of(status, body)
    if isinstance(data, ApixoError):
        return
    task = task_of(data)
    if task is None:
        return
    text = task_text(task)
    assert (text is None) == (not task.raw)
    if text is not None:
        text.encode()
        assert repr(task_from_text(text, task_id="t1", model=MODEL)) == repr(task)


@fuzzed(mostly_good, scripts.map(partial(spoilt, FAILED)), slow=2_500)
def test_a_spoilt_answer_about_a_failure(status: int, body: bytes) -> None:
    """Why a task failed is short and printable, whatever was sent as the reason."""
    data = data_of(status, body)
    task = None if isinstance(data, ApixoError) else task_of(data)
    if task is not None:
        assert task.fail_code is None or task.fail_code.isprintable()
        assert task.fail_message is None or task.fail_message.isprintable()


@fuzzed(
    mostly_good,
    st.sampled_from([REFUSED, BALANCE]),
    scripts,
    headers,
    slow=2_500,
)
def test_a_spoilt_refusal_or_balance(
    status: int, valid: dict[str, object], script: bytes, retry_after: str | None
) -> None:
    """Both are what they say or an error of ours."""
    data = data_of(status, spoilt(valid, script), retry_after)
    if isinstance(data, ApixoError):
        return
    try:
        usd = read_balance(data)
    except UnexpectedAnswerError as error:
        checked(error)
    else:
        assert 0 <= usd < math.inf


@fuzzed(st.integers(0, 10**4), slow=1_500)
def test_a_cut_answer_is_no_success(length: int) -> None:
    """An answer that broke off anywhere gives no data."""
    body = json.dumps(ENDED).encode()
    cut = body[: length % len(body)]

    assert isinstance(data_of(200, cut), UnexpectedAnswerError)


# Results


def results(script: bytes) -> object:
    """A `resultJson` of some shape, with strange things in it."""
    choices = Choices(script)
    urls: list[object] = [
        f"https://a/{number}.mp4" for number in range(choices.of([1, 0, 2, 1000]))
    ]
    for _ in range(choices.below(3)):
        strange = choices.of(VALUES).decode("utf-8", "replace")
        try:
            urls.insert(0, parse_json(strange))
        except ValueError:
            urls.insert(0, strange)
    named = {choices.of(["resultUrls", " resultUrls ", "resultURLs", ""]): urls}
    shapes: list[object] = [
        named,
        urls,
        {**named, "resultUrls": urls[0] if urls else None},
        {**named, "resultUrls": [{"url": url} for url in urls]},
        {**named, "resultUrls": {"url": urls}},
        [named],
    ]
    shape = choices.of(shapes)
    for _ in range(choices.below(4)):
        shape = json.dumps(shape)
    if isinstance(shape, str) and choices.below(2):
        shape = shape[: choices.below(len(shape) + 1)]
    return shape


@fuzzed(scripts.map(results), slow=5_000)
def test_results_in_any_shape(result: object) -> None:
    """Every URL is text without space around it; what is none is left out."""
    urls = result_urls(result)

    assert all(url and url == url.strip() for url in urls)
    body = {"code": 200, "data": {"state": "success", "resultJson": result}}
    data = data_of(200, json.dumps(body).encode())
    task = None if isinstance(data, ApixoError) else task_of(data)
    assert task is None or task.urls == urls


# Retry-After and foreign text


DAYS = ["Fri, ", "Fri ", "Friday, ", "", "Xxx, ", "\u0664, "]
CLOCKS = ["13:33:37", "23:59:60", "00:00:00", "99:99:99", "13:33", "1:1:1", "\u0661\u0663:33:37"]
ZONES = ["GMT", "+0000", "-0000", "+9959", "-9999", "+99999999", "EST", "", "Z", "\u0660"]
YEARS = ["2026", "9999", "0001", "0000", "99999", "26", "-1", "\u0662\u0660\u0662\u0666"]
dates = st.builds(
    "{}{} {} {} {} {}".format,
    st.sampled_from(DAYS),
    st.sampled_from(["09", "31", "0", "99", "9" * 30, "\u0669"]),
    st.sampled_from(["Jan", "Dec", "Feb", "jan", "13"]),
    st.sampled_from(YEARS),
    st.sampled_from(CLOCKS),
    st.sampled_from(ZONES),
)
numbers = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "+", "-", " ", "0", "\u0660", "\uff11"]),
    st.integers(0, 10**20) | st.floats() | st.just("9" * 5_000),
    st.sampled_from(["", "s", ".5", "e9", ", 7", "\x00"]),
)


@fuzzed(
    dates | numbers | st.text(max_size=12),
    st.integers(1, 80),
    st.floats(0, 1, exclude_max=True),
    slow=4_000,
)
def test_a_retry_after_of_any_kind(value: str, episode: int, unit: float) -> None:
    """It is absent or a time to come, and nobody waits longer for it than was decided."""
    seconds = retry_after_seconds(value, now=NOW)

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    pause = pause_seconds(seconds, episode=episode, unit=unit)
    assert 0 <= pause <= RETRY_AFTER_CAP * (1 + RETRY_AFTER_JITTER)


@fuzzed(scripts.map(partial(spoilt, REFUSED)) | st.binary(max_size=100), slow=2_500)
def test_an_excerpt_of_anything_is_one_printable_line(body: bytes) -> None:
    """No answer can spoil a terminal or a log."""
    for text in (excerpt(body), excerpt(b"<" + body)):
        assert text.isprintable()
        assert text == " ".join(text.split())
