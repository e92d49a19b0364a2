"""The tree is drawn three times: in the module's docstring, here, and by the classes themselves."""

import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest

from apixo_async import errors
from apixo_async.errors import (
    APIError,
    ApixoError,
    AuthenticationError,
    BadRequestError,
    ClientUsageError,
    ContentViolationError,
    DownloadError,
    InsufficientCreditsError,
    InvalidImageURLError,
    InvalidRequestError,
    InvalidSettingError,
    JournalError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    ServerError,
    StoreError,
    SubmitUncertainError,
    TaskFailedError,
    TaskTimeoutError,
    TransportError,
    UnansweredError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task, TaskState

FAILED = Task(
    id="task_12345678",
    model="veo-3-1",
    state=TaskState.FAILED,
    fail_code="CONTENT_VIOLATION",
    fail_message="Content does not meet safety guidelines",
    raw={"state": "failed"},
)
RUNNING = Task(id="task_12345678", model="veo-3-1", state="processing_r2")

PARENTS = {
    "ApixoError": "Exception",
    "InvalidRequestError": "ApixoError",
    "InvalidSettingError": "ApixoError",
    "ClientUsageError": "ApixoError",
    "TransportError": "ApixoError",
    "NotSentError": "TransportError",
    "UnansweredError": "TransportError",
    "APIError": "ApixoError",
    "BadRequestError": "APIError",
    "InsufficientCreditsError": "APIError",
    "AuthenticationError": "APIError",
    "NotFoundError": "APIError",
    "RateLimitedError": "APIError",
    "ServerError": "APIError",
    "UnexpectedAnswerError": "ApixoError",
    "SubmitUncertainError": "ApixoError",
    "TaskFailedError": "ApixoError",
    "ContentViolationError": "TaskFailedError",
    "InvalidImageURLError": "TaskFailedError",
    "TaskTimeoutError": "ApixoError",
    "DownloadError": "ApixoError",
    "JournalError": "ApixoError",
    "StoreError": "JournalError",
}

SAMPLES: dict[str, ApixoError] = {
    "ApixoError": ApixoError("anything"),
    "InvalidRequestError": InvalidRequestError(
        "TextToVideo", [("prompt", "must be text"), ("seed", "must be a whole number")]
    ),
    "InvalidSettingError": InvalidSettingError("first must be at least 0 seconds"),
    "ClientUsageError": ClientUsageError("the client is closed"),
    "TransportError": TransportError("broken", host="api.apixo.ai", reason="other"),
    "NotSentError": NotSentError("no such host", host="api.apixo.ai", reason="dns"),
    "UnansweredError": UnansweredError(
        "cut off", host="api.apixo.ai", reason="reset", received='{"code":2'
    ),
    "APIError": APIError("odd", http_status=451, code=451, data={"error": "odd"}),
    "BadRequestError": BadRequestError("bad", http_status=200, code=400, data=None),
    "InsufficientCreditsError": InsufficientCreditsError("empty", http_status=402, code=402),
    "AuthenticationError": AuthenticationError("who?", http_status=401, code=401),
    "NotFoundError": NotFoundError("where?", http_status=404),
    "RateLimitedError": RateLimitedError("slow down", http_status=429, code=429, retry_after=7.5),
    "ServerError": ServerError("Bad Gateway", http_status=502, data=[1]),
    "UnexpectedAnswerError": UnexpectedAnswerError(
        "no URLs", http_status=200, excerpt="{}", task=RUNNING
    ),
    "SubmitUncertainError": SubmitUncertainError(
        model="veo-3-1",
        reason="reset",
        phase="cancelled",
        received='{"data":{"taskId":"t1"',
        candidate_task_id="t1",
        candidate_denied=True,
        http_status=200,
    ),
    "TaskFailedError": TaskFailedError(FAILED),
    "ContentViolationError": ContentViolationError(FAILED),
    "InvalidImageURLError": InvalidImageURLError(FAILED),
    "TaskTimeoutError": TaskTimeoutError(RUNNING, waited=1800.25),
    "DownloadError": DownloadError(
        "cut off", url="https://r2.apixo.ai/video.mp4", reason="short", http_status=206
    ),
    "JournalError": JournalError("disk full"),
    "StoreError": StoreError("PostgreSQL cannot be reached"),
}


def classes() -> dict[str, type]:
    """Every class that the module itself defines."""
    return {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }


def drawn() -> dict[str, str]:
    """The tree of the module's docstring: each name with its parent's."""
    parents: dict[str, str] = {}
    above: dict[int, str] = {-1: "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ((?:[│ ]   |[├└]── )*)([A-Z]\w+Error)\b", line):
            depth = len(found[1]) // 4
            above[depth] = found[2]
            parents[found[2]] = above[depth - 1]
    return parents


def test_the_classes_form_the_pinned_tree() -> None:
    """Every class of the module is in the tree, below the parent it is promised to have."""
    actual = {name: cls.__bases__[0].__name__ for name, cls in classes().items()}

    assert actual == PARENTS


def test_the_drawing_is_the_tree() -> None:
    """The tree at the top of the module shows exactly the classes there are."""
    assert drawn() == PARENTS


def test_every_class_has_a_sample() -> None:
    """No class can be added without taking part in the tests below."""
    assert list(SAMPLES) == list(PARENTS)
    assert all(name == type(error).__name__ for name, error in SAMPLES.items())


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("InvalidRequestError", ValueError),
        ("InvalidSettingError", ValueError),
        ("ClientUsageError", RuntimeError),
        ("TaskTimeoutError", TimeoutError),
    ],
)
def test_a_standard_base_where_it_helps(name: str, base: type[Exception]) -> None:
    """These are caught by callers who only know Python's own errors; `ApixoError` catches too."""
    assert isinstance(SAMPLES[name], base)
    assert isinstance(SAMPLES[name], ApixoError)


def test_no_other_standard_bases() -> None:
    """Nothing else can be caught by accident, as with `except OSError` around a download."""
    standard = {
        name: {base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"}
        - {"Exception", "BaseException", "object"}
        for name, error in SAMPLES.items()
    }

    assert {name: bases for name, bases in standard.items() if bases} == {
        "InvalidRequestError": {"ValueError"},
        "InvalidSettingError": {"ValueError"},
        "ClientUsageError": {"RuntimeError"},
        "TaskTimeoutError": {"TimeoutError", "OSError"},
    }


def same(left: BaseException, right: BaseException) -> bool:
    """Whether two errors are of one class and equal in text and in every attribute."""
    return (
        type(left) is type(right)
        and left.args == right.args
        and str(left) == str(right)
        and left.__dict__ == right.__dict__
    )


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(name: str, protocol: int) -> None:
    """An error that crosses a process border is the same error there."""
    error = SAMPLES[name]

    assert same(error, pickle.loads(pickle.dumps(error, protocol)))  # noqa: S301  # our own bytes


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_survives_copying(name: str, duplicate: Callable[[ApixoError], ApixoError]) -> None:
    """A copied error is another object with the same class, text and attributes."""
    error = SAMPLES[name]
    twin = duplicate(error)

    assert twin is not error
    assert same(error, twin)


def test_a_subclass_of_a_user_survives_as_well() -> None:
    """Pickling needs no code in subclasses, whatever they add, notes included."""
    error = RateLimitedError("slow", retry_after=3.0)
    error.add_note("while submitting job 7")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert twin.__notes__ == ["while submitting job 7"]
    assert twin.retry_after == 3.0


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        (
            "InvalidRequestError",
            {
                "subject": "TextToVideo",
                "problems": (("prompt", "must be text"), ("seed", "must be a whole number")),
            },
        ),
        ("NotSentError", {"host": "api.apixo.ai", "reason": "dns", "is_retryable": True}),
        (
            "UnansweredError",
            {"host": "api.apixo.ai", "reason": "reset", "received": '{"code":2'},
        ),
        (
            "APIError",
            {"message": "odd", "http_status": 451, "code": 451, "data": {"error": "odd"}},
        ),
        ("RateLimitedError", {"retry_after": 7.5, "http_status": 429, "code": 429, "data": None}),
        ("UnexpectedAnswerError", {"http_status": 200, "excerpt": "{}", "task": RUNNING}),
        (
            "SubmitUncertainError",
            {
                "model": "veo-3-1",
                "reason": "reset",
                "phase": "cancelled",
                "received": '{"data":{"taskId":"t1"',
                "candidate_task_id": "t1",
                "candidate_denied": True,
                "http_status": 200,
            },
        ),
        (
            "TaskFailedError",
            {
                "task": FAILED,
                "task_id": "task_12345678",
                "fail_code": "CONTENT_VIOLATION",
                "fail_message": "Content does not meet safety guidelines",
            },
        ),
        ("TaskTimeoutError", {"task": RUNNING, "task_id": "task_12345678", "waited": 1800.25}),
        (
            "DownloadError",
            {"url": "https://r2.apixo.ai/video.mp4", "reason": "short", "http_status": 206},
        ),
    ],
)
def test_facts_are_attributes(name: str, attributes: dict[str, object]) -> None:
    """Programs read what happened from attributes and need not parse the text."""
    assert attributes == {field: getattr(SAMPLES[name], field) for field in attributes}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "InvalidRequestError",
            "TextToVideo is not valid: prompt: must be text; seed: must be a whole number",
        ),
        ("APIError", "odd (HTTP 451, code 451)"),
        ("BadRequestError", "bad (HTTP 200, code 400)"),
        ("NotFoundError", "where? (HTTP 404, code None)"),
        ("UnexpectedAnswerError", "no URLs: '{}'"),
        (
            "SubmitUncertainError",
            (
                "it is unknown whether this veo-3-1 submit was accepted (reset); "
                "it may be task t1, which the API does not know; "
                "it was not sent again, because it may be running and billed"
            ),
        ),
        (
            "TaskFailedError",
            "task task_12345678 failed: CONTENT_VIOLATION: Content does not meet safety guidelines",
        ),
        (
            "TaskTimeoutError",
            (
                "task task_12345678 was still processing_r2 after 1800 s of waiting; "
                "it goes on: wait for it again by its id, do not submit it again"
            ),
        ),
    ],
)
def test_the_text_says_what_happened_and_what_to_do(name: str, text: str) -> None:
    """A person finds the facts, and advice where doing the obvious would cost money."""
    assert text == str(SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_repr_names_class_and_text(name: str) -> None:
    """What a debugger or a log shows of an error inside a container says which it is."""
    error = SAMPLES[name]
    text = error.message if isinstance(error, APIError) else str(error)

    assert repr(error) == f"{name}({text!r})"


def test_an_error_made_before_any_call_names_no_status() -> None:
    """A missing key is no answer of the API, so its text speaks of no HTTP status."""
    assert str(AuthenticationError("no API key")) == "no API key"


def test_an_envelope_s_code_is_shown_without_a_status() -> None:
    """A code alone, as in a callback's body, is part of the text."""
    assert str(ServerError("broken", code=500)) == "broken (no HTTP status, code 500)"


def test_an_unexpected_answer_without_a_body_shows_none() -> None:
    """Nothing is quoted where nothing came."""
    assert str(UnexpectedAnswerError("empty")) == "empty"


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        ("X", "y", "X: y"),
        ("X", None, "X"),
        (None, "y", "y"),
        (None, None, "no reason given"),
        ("", "", "no reason given"),
    ],
    ids=["both", "code only", "message only", "neither", "both empty"],
)
def test_a_failure_says_what_is_known(code: str | None, message: str | None, shown: str) -> None:
    """Whatever of code and message is missing, the text is a sentence."""
    task = Task(id="t", model="m", state="failed", fail_code=code, fail_message=message)

    assert str(TaskFailedError(task)) == f"task t failed: {shown}"


@pytest.mark.parametrize(
    ("reason", "retryable"),
    [
        ("dns", True),
        ("refused", True),
        ("unreachable", True),
        ("connect_timeout", True),
        ("timeout", True),
        ("resources", True),
        ("reset", True),
        ("other", True),
        ("tls", False),
        ("netrc", False),
    ],
)
def test_only_what_somebody_has_to_mend_is_not_worth_a_second_try(
    reason: str, retryable: bool
) -> None:
    """A wrong certificate or account does not heal by trying again; everything else may."""
    assert retryable == NotSentError("x", host="h", reason=reason).is_retryable
