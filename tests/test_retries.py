import inspect

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
from apixo_async.retries import (
    SubmitVerdict,
    is_look_fatal,
    may_generate_again,
    resubmit_delay,
    stops_batch,
    submit_verdict,
)
from apixo_async.tasks import Task

TASK = Task(id="t", model="veo-3-1")
NOT_SENT, THROTTLED = SubmitVerdict.NOT_SENT, SubmitVerdict.THROTTLED
REJECTED, UNCERTAIN = SubmitVerdict.REJECTED, SubmitVerdict.UNCERTAIN

# Each class: a sample, what it means after a submit, whether it stops a batch.
VERDICTS: dict[type[ApixoError], tuple[ApixoError, SubmitVerdict, bool]] = {
    ApixoError: (ApixoError("x"), UNCERTAIN, False),
    InvalidRequestError: (InvalidRequestError("x", []), UNCERTAIN, False),
    InvalidSettingError: (InvalidSettingError("x"), UNCERTAIN, False),
    ClientUsageError: (ClientUsageError("x"), REJECTED, True),
    TransportError: (TransportError("x", host="h", reason="other"), UNCERTAIN, False),
    NotSentError: (NotSentError("x", host="h", reason="dns"), NOT_SENT, True),
    UnansweredError: (UnansweredError("x", host="h", reason="reset"), UNCERTAIN, False),
    APIError: (APIError("x", code=451), UNCERTAIN, False),
    BadRequestError: (BadRequestError("x", code=400), REJECTED, False),
    InsufficientCreditsError: (InsufficientCreditsError("x", code=402), REJECTED, True),
    AuthenticationError: (AuthenticationError("x", code=401), REJECTED, True),
    NotFoundError: (NotFoundError("x", code=404), REJECTED, False),
    RateLimitedError: (RateLimitedError("x", code=429), THROTTLED, False),
    ServerError: (ServerError("x", http_status=503), UNCERTAIN, False),
    UnexpectedAnswerError: (UnexpectedAnswerError("x"), UNCERTAIN, False),
    SubmitUncertainError: (SubmitUncertainError(model="m", reason="reset"), UNCERTAIN, False),
    TaskFailedError: (TaskFailedError(TASK), UNCERTAIN, False),
    ContentViolationError: (ContentViolationError(TASK), UNCERTAIN, False),
    InvalidImageURLError: (InvalidImageURLError(TASK), UNCERTAIN, False),
    TaskTimeoutError: (TaskTimeoutError(TASK, waited=1.0), UNCERTAIN, False),
    DownloadError: (DownloadError("x", url="u", reason="short"), UNCERTAIN, False),
    JournalError: (JournalError("x"), UNCERTAIN, True),
    StoreError: (StoreError("x"), UNCERTAIN, True),
}
LOOKS = [error for error, _, _ in VERDICTS.values()]


def test_every_error_has_a_verdict() -> None:
    """No class can be added to the tree without somebody deciding what it means for a submit."""
    tree = {cls for _, cls in inspect.getmembers(errors, inspect.isclass)} & {
        cls for cls in vars(errors).values() if getattr(cls, "__module__", "") == errors.__name__
    }

    assert tree == set(VERDICTS)


@pytest.mark.parametrize("cls", VERDICTS)
def test_what_a_failed_submit_means(cls: type[ApixoError]) -> None:
    """Only what surely created no task may be repeated or called refused; all else is uncertain."""
    error, verdict, _ = VERDICTS[cls]

    assert type(error) is cls
    assert verdict is submit_verdict(error)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotSentError("x", host="h", reason="tls"), NOT_SENT),
        (APIError("x", http_status=408), UNCERTAIN),
        (APIError("x", http_status=409), UNCERTAIN),
        (ServerError("x", http_status=200, code=500), UNCERTAIN),
        (ServerError("x", http_status=502), UNCERTAIN),
        (ServerError("x", http_status=503, code=503), UNCERTAIN),
    ],
    ids=["tls", "408", "409", "code 500 inside 200", "502", "503"],
)
def test_doubt_is_never_repeated(error: ApixoError, verdict: SubmitVerdict) -> None:
    """A gateway may fail after it passed the request on, so its failure says nothing."""
    assert verdict is submit_verdict(error)


def test_a_user_s_own_error_is_uncertain() -> None:
    """A class that nobody here has heard of is not taken for harmless."""

    class OwnError(ApixoError):
        pass

    assert submit_verdict(OwnError("x")) is UNCERTAIN


@pytest.mark.parametrize("cls", VERDICTS)
def test_what_stops_a_batch(cls: type[ApixoError]) -> None:
    """A batch stops where every further submit would fail alike, and for nothing else."""
    error, _, stops = VERDICTS[cls]

    assert stops == stops_batch(error)


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 20.0), (99, 20.0)],
)
def test_a_submit_that_was_not_sent_waits_longer_each_time(failures: int, longest: float) -> None:
    """The delay is drawn evenly from zero to half a second, doubling up to 20 s."""
    assert resubmit_delay(failures, unit=0.0) == 0.0
    assert resubmit_delay(failures, unit=0.5) == longest / 2
    assert resubmit_delay(failures, unit=0.999999) == pytest.approx(longest, rel=1e-5)


def fatal(
    error: ApixoError,
    *,
    key_worked: bool = True,
    in_a_row: int = 10**6,
    span: float = 1e6,
    age: float | None = 1e6,
) -> bool:
    """Whether a failed look ends the wait, by default in the worst of all situations."""
    return is_look_fatal(error, key_worked=key_worked, in_a_row=in_a_row, span=span, age=age)


@pytest.mark.parametrize("error", LOOKS, ids=lambda error: type(error).__name__)
def test_nearly_no_failed_look_is_fatal(error: ApixoError) -> None:
    """Even a million failures in a row end a wait only if key, task or the client are gone."""
    ends = (AuthenticationError, NotFoundError, BadRequestError, ClientUsageError)
    expected = isinstance(error, ends)

    assert expected == fatal(error)
    assert expected == fatal(error, key_worked=False, age=None)


def test_a_closed_client_ends_every_wait_at_once() -> None:
    """Whoever looks through a closed client, or from another loop, would never see an answer."""
    assert fatal(ClientUsageError("closed"), in_a_row=1, span=0.0, age=0.0)


@pytest.mark.parametrize(
    ("key_worked", "span", "expected"),
    [
        (False, 0.0, True),
        (False, 59.9, True),
        (True, 0.0, False),
        (True, 59.9, False),
        (True, 60.0, True),
        (True, 1e6, True),
    ],
)
def test_a_refused_key(key_worked: bool, span: float, expected: bool) -> None:
    """A key that never worked is wrong; one that did has been revoked after a minute of refusal."""
    error = AuthenticationError("x", code=401)

    assert expected == fatal(error, key_worked=key_worked, span=span, in_a_row=1, age=0.0)


@pytest.mark.parametrize("error", [NotFoundError("x"), BadRequestError("x")], ids=["404", "400"])
@pytest.mark.parametrize(
    ("age", "in_a_row", "span", "expected"),
    [
        (0.0, 1, 0.0, False),
        (59.9, 100, 120.0, False),
        (60.0, 3, 120.0, True),
        (60.0, 2, 120.0, False),
        (60.0, 3, 119.9, False),
        (1e6, 1, 0.0, False),
        (1e6, 3, 120.0, True),
        (None, 1, 0.0, False),
        (None, 2, 1e6, False),
        (None, 3, 120.0, True),
    ],
    ids=[
        "new and denied",
        "new and denied for long",
        "old enough, often and for long enough",
        "not often enough",
        "not for long enough",
        "old, the first denial",
        "old and denied",
        "foreign, the first denial",
        "foreign, not often enough",
        "foreign and denied",
    ],
)
def test_a_task_that_is_denied(
    error: ApixoError, age: float | None, in_a_row: int, span: float, expected: bool
) -> None:
    """A new task may be unknown for a minute; an old one is given up after 3 denials in 120 s."""
    assert expected == fatal(error, age=age, in_a_row=in_a_row, span=span)


def failed(code: str | None) -> TaskFailedError:
    """The error of a task that failed with this code."""
    return TaskFailedError(Task(id="t", model="veo-3-1", fail_code=code))


@pytest.mark.parametrize(
    ("error", "done", "expected"),
    [
        (failed("timeout"), 0, True),
        (failed("timeout"), 1, True),
        (failed("timeout"), 2, False),
        (failed("timeout"), 3, False),
        (failed("other"), 0, False),
        (failed(None), 0, False),
        (ContentViolationError(Task(id="t", model="veo-3-1", fail_code="timeout")), 0, False),
        (InvalidImageURLError(Task(id="t", model="veo-3-1", fail_code="timeout")), 0, True),
        (ServerError("timeout"), 0, False),
        (None, 0, False),
    ],
    ids=[
        "a named code",
        "once more",
        "as often as allowed",
        "more often than allowed",
        "another code",
        "no code",
        "a content violation",
        "another failure of a named code",
        "no failed task",
        "no failure at all",
    ],
)
def test_what_may_be_paid_for_again(error: ApixoError | None, done: int, expected: bool) -> None:
    """Only a task that failed with a named code, so often and no more, and never a violation."""
    assert expected is may_generate_again(error, codes=["timeout"], done=done, times=2)
