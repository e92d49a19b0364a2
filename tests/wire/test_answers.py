"""The status answers of the Veo page stand here as printed, so that a reader can compare."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._wire import (
    EXCERPT_CHARACTERS,
    Reply,
    means_no_credits,
    read_balance,
    read_task,
    read_task_id,
    task_failure,
    unwrap,
)
from apixo_async._wire.answers import result_urls
from apixo_async._wire.text import TASK_ID_MAX
from apixo_async.errors import (
    ContentViolationError,
    InvalidImageURLError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task, TaskState
from tests.wire import strategies

# As printed, but for `resultJson`, where the page puts spaces into the names and values of the
# JSON inside the string; `PRINTED_RESULT` holds it literally.
SUCCEEDED = r"""{
"code" : 200 ,
"message" : "success" ,
"data" : {
"taskId" : "task_12345678" ,
"state" : "success" ,
"resultJson" : "{\"resultUrls\":[\"https://r2.apixo.ai/video.mp4\"]}" ,
"createTime" : 1767965610929 ,
"completeTime" : 1767965730929 ,
"costTime" : 120000
}
}"""

PRINTED_RESULT = r"""{ " resultUrls " :[ " https://r2.apixo.ai/video.mp4 " ]}"""

FAILED = """{
"code" : 200 ,
"message" : "success" ,
"data" : {
"taskId" : "task_12345678" ,
"state" : "failed" ,
"failCode" : "CONTENT_VIOLATION" ,
"failMsg" : "Content does not meet safety guidelines"
}
}"""

ID, MODEL = "task_12345678", "veo-3-1"
URL = "https://r2.apixo.ai/video.mp4"
CREATED = datetime(2026, 1, 9, 13, 33, 30, 929_000, tzinfo=UTC)
COMPLETED = datetime(2026, 1, 9, 13, 35, 30, 929_000, tzinfo=UTC)


def data_of(body: str) -> Any:  # noqa: ANN401  # whatever JSON holds
    """The `data` of an answer, read as every answer is."""
    return unwrap(Reply(200, body.encode()))


def read(data: object) -> Task:
    """A status answer's data as a task."""
    return read_task(data, model=MODEL, task_id=ID)


def success(**changes: object) -> dict[str, object]:
    """The data of the page's success with some fields changed; `...` leaves one out."""
    fields = {**data_of(SUCCEEDED), **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def test_the_page_s_success() -> None:
    """The page's success is read whole, times in UTC and seconds."""
    assert read(data_of(SUCCEEDED)) == Task(
        id=ID,
        model=MODEL,
        state=TaskState.SUCCESS,
        urls=(URL,),
        created_at=CREATED,
        completed_at=COMPLETED,
        duration=120.0,
    )


def test_the_page_s_failure() -> None:
    """The page's failure has no times, and gives the error for its code."""
    task = read(data_of(FAILED))

    assert task == Task(
        id=ID,
        model=MODEL,
        state=TaskState.FAILED,
        fail_code="CONTENT_VIOLATION",
        fail_message="Content does not meet safety guidelines",
    )
    assert type(task_failure(task)) is ContentViolationError


def test_the_page_s_accepted_submit() -> None:
    """The page's answer to a submit gives its id."""
    assert read_task_id({"taskId": "task_12345678"}) == "task_12345678"


def test_the_page_s_result_with_spaces_in_its_names() -> None:
    """Even with the spaces that the page prints inside the quotation marks, the URL is found."""
    assert json.loads(PRINTED_RESULT) == {" resultUrls ": [f" {URL} "]}
    assert read(success(resultJson=PRINTED_RESULT)).urls == (URL,)


def test_spaces_around_a_url_are_no_part_of_it() -> None:
    """Where only the value is printed with spaces, the URL is what is meant."""
    assert result_urls('{ "resultUrls" :[ " https://r2.apixo.ai/video.mp4 " ]}') == (URL,)


def test_a_real_answer_of_another_model() -> None:
    """Real answers come in another order and without `costTime`: the stamps give the duration."""
    task = read(
        {
            "resultJson": '{"resultUrls":["https://file.apixo.ai/temp/a.png"]}',
            "state": "success",
            "taskId": ID,
            "createTime": 1780480451000,
            "completeTime": 1780480536000,
        }
    )

    assert task.urls == ("https://file.apixo.ai/temp/a.png",)
    assert task.duration == 85.0


@pytest.mark.parametrize(
    ("changes", "created", "completed", "duration"),
    [
        ({"costTime": ...}, CREATED, COMPLETED, 120.0),
        ({"createTime": ...}, None, COMPLETED, 120.0),
        ({"createTime": ..., "costTime": ...}, None, COMPLETED, None),
        ({"completeTime": ..., "costTime": ...}, CREATED, None, None),
        ({"createTime": ..., "completeTime": ..., "costTime": ...}, None, None, None),
        ({"costTime": None, "createTime": None}, None, COMPLETED, None),
        ({"costTime": "120000", "createTime": "1767965610929"}, CREATED, COMPLETED, 120.0),
        ({"costTime": 120000.5, "createTime": 1767965610929.0}, CREATED, COMPLETED, 120.0005),
        ({"costTime": 0}, CREATED, COMPLETED, 0.0),
        ({"costTime": -1}, CREATED, COMPLETED, 120.0),
        ({"costTime": "two minutes"}, CREATED, COMPLETED, 120.0),
        ({"costTime": True, "createTime": []}, None, COMPLETED, None),
        ({"costTime": "nan", "createTime": "inf"}, None, COMPLETED, None),
        ({"costTime": 10**400, "createTime": 10**30}, None, COMPLETED, None),
        (
            {"costTime": ..., "createTime": 1767965730930},
            COMPLETED.replace(microsecond=930_000),
            COMPLETED,
            0.0,
        ),
        (
            {"createTime": 1767965610},
            datetime(1970, 1, 21, 11, 6, 5, 610_000, UTC),
            COMPLETED,
            120.0,
        ),
    ],
    ids=[
        "no cost",
        "no creation",
        "no creation and no cost",
        "no completion and no cost",
        "no times",
        "nulls",
        "numbers as text",
        "fractions",
        "no time at all",
        "negative cost",
        "words",
        "wrong types",
        "not finite",
        "out of range",
        "completed before it was created",
        "seconds instead of milliseconds",
    ],
)
def test_times_are_read_as_far_as_they_make_sense(
    changes: dict[str, object],
    created: datetime | None,
    completed: datetime | None,
    duration: float | None,
) -> None:
    """Times are for display: one that is missing or senseless is absent and harms nothing else."""
    task = read(success(**changes))

    assert (created, completed, duration) == (task.created_at, task.completed_at, task.duration)
    assert task.urls == (URL,)


@pytest.mark.parametrize(
    "state",
    ["pending", "processing", "processing_r2", "queued", "succeeded", "fail", "SUCCESS", " ", "海"],
)
def test_a_state_is_kept_as_it_came(state: str) -> None:
    """A known state and one that nobody documented alike mean that the task still runs."""
    task = read({"taskId": ID, "state": state})

    assert state == task.state
    assert not task.is_terminal


@pytest.mark.parametrize("state", TaskState)
def test_a_documented_state_is_its_member(state: TaskState) -> None:
    """What the documents name can be compared by identity."""
    assert state is read({"state": state.value}).state


@pytest.mark.parametrize("state", ["pending", "processing_r2", "failed"])
def test_only_a_success_has_results(state: str) -> None:
    """URLs that come too early, or with a failure, are no result; `raw` still shows them."""
    task = read(success(state=state))

    assert task.urls == ()
    assert URL in str(task.raw["resultJson"])


@pytest.mark.parametrize("state", ["pending", "success"])
def test_only_a_failure_has_reasons(state: str) -> None:
    """A leftover fail code does not make a running or successful task look failed."""
    task = read({"state": state, "failCode": "X", "failMsg": "y"})

    assert (task.fail_code, task.fail_message) == (None, None)


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"failCode": "BRAND_NEW", "failMsg": "who knows"}, "BRAND_NEW", "who knows"),
        ({"failCode": "X", "failMsg": None}, "X", None),
        ({"failCode": None, "failMsg": "y"}, None, "y"),
        ({}, None, None),
        ({"failCode": 1301, "failMsg": {"reason": "y"}}, "1301", "{'reason': 'y'}"),
        ({"failCode": " X\n", "failMsg": "<b>y</b>\x00"}, "X", "y"),
        ({"failCode": "", "failMsg": ""}, "", ""),
        ({"failMsg": "x" * 10_000}, None, "x" * EXCERPT_CHARACTERS),
        ({"failMsg": "half\ud800"}, None, "half?"),
    ],
    ids=[
        "unknown code",
        "null message",
        "null code",
        "neither",
        "other types",
        "dirt",
        "empty",
        "long",
        "half a character",
    ],
)
def test_reasons_are_short_text(
    fields: dict[str, object], code: str | None, message: str | None
) -> None:
    """Any code is kept, and what is shown to a person is one printable line."""
    task = read({"state": "failed", **fields})

    assert (code, message) == (task.fail_code, task.fail_message)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ('{"resultUrls":["https://a/1.mp4"]}', ("https://a/1.mp4",)),
        ({"resultUrls": ["https://a/1.mp4"]}, ("https://a/1.mp4",)),
        ('{"resultUrls":["https://a/1","https://a/2"]}', ("https://a/1", "https://a/2")),
        ('{"resultUrls":"https://a/1.mp4"}', ("https://a/1.mp4",)),
        ('{"resultUrls":[{"url":"https://a/1"}]}', ("https://a/1",)),
        ({"resultUrls": [{"audio_url": "https://a/1", "image_url": "b"}]}, ("https://a/1",)),
        ({"resultUrls": [{"title": "x"}, {"download_url": "https://a/2"}]}, ("https://a/2",)),
        ({"resultUrls": [{"url": None, "audio_url": "https://a/1"}]}, ("https://a/1",)),
        ('{"resultUrls":[null,7,"",[]," ","https://a/1"]}', ("https://a/1",)),
        ('{"resultUrls":[" https://a/1\\n"]}', ("https://a/1",)),
        ('{"resultUrls":["https://a/1","https://a/1"]}', ("https://a/1", "https://a/1")),
        ('{"resultUrls":["https://a/1"],"other":{"a":1}}', ("https://a/1",)),
        ('\ufeff{"resultUrls":["https://a/1"]}', ()),
        ('{"resultUrls":[]}', ()),
        ('{"resultUrls":null}', ()),
        ('{"resultUrls":7}', ()),
        ('{"resultUrls":{"a":"https://a/1"}}', ()),
        ('{"resulturls":["https://a/1"]}', ()),
        ('["https://a/1"]', ()),
        ('"https://a/1"', ()),
        ("https://a/1", ()),
        ("{}", ()),
        ("", ()),
        ("{", ()),
        ('{"resultUrls":["https://a/1"', ()),
        ("[" * 100_000, ()),
        ('{"resultUrls":' + "[" * 100_000, ()),
        (None, ()),
        (7, ()),
        ([], ()),
        ({}, ()),
        (
            {"resultUrls": [f"https://a/{n}" for n in range(1_000)]},
            tuple(f"https://a/{n}" for n in range(1_000)),
        ),
    ],
    ids=[
        "string",
        "object",
        "two",
        "one without a list",
        "object with url",
        "object with audio_url",
        "second object with download_url",
        "object with null url",
        "items of all types",
        "spaces",
        "the same twice",
        "other fields",
        "byte order mark",
        "empty list",
        "null list",
        "number for a list",
        "object for a list",
        "other case",
        "list without a name",
        "string in a string",
        "no json",
        "empty object in a string",
        "empty string",
        "broken",
        "cut off",
        "deep",
        "deep inside",
        "null",
        "number",
        "list",
        "empty object",
        "a thousand",
    ],
)
def test_results_are_found_in_every_shape_seen(result: object, expected: tuple[str, ...]) -> None:
    """A result is a JSON string by the page and other things in the wild; junk gives no URLs."""
    task = read(success(resultJson=result))

    assert expected == task.urls
    assert task.has_succeeded


@pytest.mark.parametrize("name", ["url", "video_url", "audio_url", "image_url", "download_url"])
def test_a_result_may_be_an_object_with_a_url(name: str) -> None:
    """Models that answer with objects call the URL by one of these names."""
    assert result_urls({"resultUrls": [{"id": 7, name: URL}]}) == (URL,)


def test_a_success_without_any_result() -> None:
    """A success may come without its result; what that means is decided above."""
    assert read(success(resultJson=...)).urls == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "the status has no data: 'None'"),
        (7, "the status has no data: '7'"),
        ("success", "the status has no data: \"'success'\""),
        ([], "the status has no data: '[]'"),
        ({}, "data.state must be a non-empty string, got NoneType: '{}'"),
        ({"taskId": ID}, "data.state must be a non-empty string, got NoneType"),
        ({"state": None}, "data.state must be a non-empty string, got NoneType: "),
        ({"state": ""}, "data.state must be a non-empty string, got str: "),
        ({"state": 1}, "data.state must be a non-empty string, got int: "),
        ({"state": ["success"]}, "data.state must be a non-empty string, got list: "),
        (
            {"state": "success", "taskId": "task_2"},
            "asked for task task_12345678, answered for 'task_2'",
        ),
        ({"state": "success", "taskId": 7}, "asked for task task_12345678, answered for '7'"),
    ],
    ids=[
        "null",
        "number",
        "string",
        "list",
        "empty object",
        "no state",
        "null state",
        "empty state",
        "number as state",
        "list as state",
        "another task",
        "number as id",
    ],
)
def test_a_status_that_is_none_says_what_is_wrong(data: object, message: str) -> None:
    """Without a state, or about another task, an answer is no status; the error shows it."""
    with pytest.raises(UnexpectedAnswerError) as caught:
        read(data)

    assert str(caught.value).startswith(message)


def test_a_strange_state_is_shown_in_short() -> None:
    """An answer of a megabyte does not make an error of a megabyte."""
    with pytest.raises(UnexpectedAnswerError) as caught:
        read({"state": ["x" * 1_000_000]})

    assert len(str(caught.value)) < 2 * EXCERPT_CHARACTERS


@pytest.mark.parametrize("task_id", [ID, None, "", ...], ids=["named", "null", "empty", "missing"])
def test_a_status_may_leave_its_id_out(task_id: object) -> None:
    """Who asked for one task gets the answer for it, named or not."""
    data = {"taskId": task_id, "state": "pending"}

    assert read({name: value for name, value in data.items() if value is not ...}).id == ID


def test_an_id_may_come_as_a_number() -> None:
    """A task known as `7` is the task 7."""
    assert read_task({"taskId": 7, "state": "pending"}, model=MODEL, task_id="7").id == "7"


def test_the_answer_is_kept_whole() -> None:
    """Fields that nobody knows can be read from `raw`."""
    task = read({"state": "pending", "progress": 40, "queue": {"place": 3}})

    assert task.raw == {"state": "pending", "progress": 40, "queue": {"place": 3}}


def test_every_depth_of_a_status_is_survived() -> None:
    """However deep the strange parts of a status are nested, they are text or an error of ours."""
    for depth in [*range(50, 1_000, 7), 100_000]:
        deep: Any = []
        for _ in range(depth):
            deep = [deep]
        for data in ({"state": deep}, {"taskId": deep, "state": "failed"}, [deep]):
            with pytest.raises(UnexpectedAnswerError):
                read(data)
        with pytest.raises(UnexpectedAnswerError):
            read_task_id({"taskId": deep})
        with pytest.raises(UnexpectedAnswerError):
            read_balance(deep)


known = st.fixed_dictionaries(
    {},
    optional={
        "taskId": strategies.json_values | st.just(ID),
        "state": strategies.json_values | st.sampled_from(list(TaskState)).map(str),
        "resultJson": strategies.json_values
        | strategies.json_values.map(json.dumps)
        | st.fixed_dictionaries({"resultUrls": strategies.json_values}).map(json.dumps),
        "failCode": strategies.json_values,
        "failMsg": strategies.json_values,
        "createTime": strategies.json_values | st.floats(),
        "completeTime": strategies.json_values | st.floats(),
        "costTime": strategies.json_values | st.floats(),
    },
)


@settings(max_examples=300)
@given(strategies.json_values | known)
def test_any_json_is_a_status_or_one_error(data: object) -> None:
    """Whatever JSON comes, reading it gives a sound task or `UnexpectedAnswerError`."""
    try:
        task = read(data)
    except UnexpectedAnswerError:
        return

    assert task.id == ID
    assert task.state
    assert all(task.urls)
    assert task.duration is None or task.duration >= 0
    assert str(task_failure(task))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"taskId": "task_12345678"}, "task_12345678"),
        ({"taskId": "dff8afd3" * 4}, "dff8afd3" * 4),
        ({"taskId": 12345678}, "12345678"),
        ({"taskId": 7}, "7"),
        ({"taskId": "t"}, "t"),
        ({"taskId": "a/b?c=d%20"}, "a/b?c=d%20"),
        ({"taskId": "x" * TASK_ID_MAX, "state": "pending"}, "x" * TASK_ID_MAX),
    ],
    ids=[
        "documented",
        "hexadecimal",
        "number",
        "digit",
        "letter",
        "odd characters",
        "longest",
    ],
)
def test_an_id_is_taken_as_it_is(data: object, expected: str) -> None:
    """Ids are opaque: whatever can be told apart and sent back is one."""
    assert expected == read_task_id(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        7,
        "task_12345678",
        {"taskId": None},
        {"taskId": ""},
        {"taskId": " "},
        {"taskId": "a b"},
        {"taskId": "a\n"},
        {"taskId": "a\x00"},
        {"taskId": "\u200b"},
        {"taskId": "\ud800"},
        {"taskId": True},
        {"taskId": 7.5},
        {"taskId": ["task_12345678"]},
        {"taskid": "task_12345678"},
        {"taskId": "x" * (TASK_ID_MAX + 1)},
        {"taskId": "x" * 10_000},
    ],
    ids=lambda data: ascii(data)[:40] if len(repr(data)) < 100 else str(len(repr(data))),
)
def test_an_answer_without_a_usable_id(data: object) -> None:
    """An accepted submit without an id to come back to is an answer that nobody described."""
    with pytest.raises(UnexpectedAnswerError, match="without a usable taskId"):
        read_task_id(data)


@settings(max_examples=100)
@given(strategies.json_values | st.fixed_dictionaries({"taskId": strategies.json_values}))
def test_any_json_is_an_id_or_one_error(data: object) -> None:
    """An id that is returned can always be printed and put into an address."""
    try:
        task_id = read_task_id(data)
    except UnexpectedAnswerError:
        return

    assert task_id.isprintable()
    assert 0 < len(task_id.encode()) <= 4 * TASK_ID_MAX


@pytest.mark.parametrize(
    ("data", "expected"),
    [(74.87, 74.87), (0, 0.0), (100, 100.0), ("74.87", 74.87)],
    ids=["documented", "zero", "whole", "text"],
)
def test_a_balance_is_a_number(data: object, expected: float) -> None:
    """The balance is a bare number of dollars; one written as text is accepted."""
    assert expected == read_balance(data)


@pytest.mark.parametrize(
    "data",
    [None, {}, {"balance": 1}, [74.87], "", "much", True, float("nan"), float("inf")],
    ids=repr,
)
def test_no_balance(data: object) -> None:
    """Anything but a finite number is an answer that nobody described."""
    with pytest.raises(UnexpectedAnswerError, match="the balance is not a number"):
        read_balance(data)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("CONTENT_VIOLATION", ContentViolationError),
        ("NSFW_DETECTED", ContentViolationError),
        ("NSFW", ContentViolationError),
        ("SensitiveContent", ContentViolationError),
        ("SensitiveContentDetected", ContentViolationError),
        ("InputImageSensitiveContentDetected", ContentViolationError),
        ("InputOutputSensitiveContentDetected", ContentViolationError),
        ("OutputVideoSensitiveContentDetected", ContentViolationError),
        ("ProhibitedContentDetected", ContentViolationError),
        ("content_violation", ContentViolationError),
        ("INVALID_IMAGE_URL", InvalidImageURLError),
        ("IMAGE_DOWNLOAD_FAILED", InvalidImageURLError),
        ("PROMPT_TOO_LONG", TaskFailedError),
        ("PromptLengthExceeded", TaskFailedError),
        ("INVALID_PROMPT", TaskFailedError),
        ("IMAGE_TOO_LARGE", TaskFailedError),
        ("UNSUPPORTED_FORMAT", TaskFailedError),
        ("PROCESSING_TIMEOUT", TaskFailedError),
        ("MODEL_UNAVAILABLE", TaskFailedError),
        ("GENERATION_FAILED", TaskFailedError),
        ("INSUFFICIENT_CREDITS", TaskFailedError),
        ("TASKID_ERROR", TaskFailedError),
        ("INVALID_LORA_URL", TaskFailedError),
        ("BRAND_NEW", TaskFailedError),
        ("", TaskFailedError),
        (None, TaskFailedError),
    ],
)
def test_a_fail_code_gives_its_class(code: str | None, expected: type[TaskFailedError]) -> None:
    """Every code of both naming schemes gives the error that says what to change."""
    error = task_failure(Task(id=ID, model=MODEL, state=TaskState.FAILED, fail_code=code))

    assert expected is type(error)
    assert error.fail_code == code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("INSUFFICIENT_CREDITS", True),
        ("insufficient_credits", True),
        ("InsufficientCredits", True),
        ("CONTENT_VIOLATION", False),
        ("", False),
        (None, False),
    ],
)
def test_a_fail_code_may_mean_an_empty_balance(code: str | None, expected: bool) -> None:
    """The old pages report missing money as a failure of the task: it stops a batch as well."""
    assert expected == means_no_credits(code)
