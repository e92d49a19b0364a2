import json
from typing import Any

import pytest

from apixo_async.emulator.clock import Clock
from apixo_async.emulator.replies import (
    as_http_200,
    bad_gateway,
    callback_data,
    error,
    status_data,
    success,
)
from apixo_async.emulator.rules import VEO, Submission
from apixo_async.emulator.tasks import Task

CLOCK = Clock(60, lambda: 0.0, 0.0, epoch_ms=1_767_965_610_929)
URL = "https://r2.apixo.ai/video.mp4"
VIOLATION = ("CONTENT_VIOLATION", "Content does not meet safety guidelines")


def make(*faults: str, failure: tuple[str, str] | None = None) -> Task:
    """Return a task of 120 s with the page's id."""
    submission = Submission(VEO, {}, None)
    return Task("task_12345678", submission, 0, 120, 0.2, frozenset(faults), failure)


def data(*faults: str, at: float = 120) -> dict[str, Any]:
    """Return the status data of a successful task."""
    return status_data(make(*faults), at, CLOCK, [URL])


def test_the_page_s_answer_to_a_submit() -> None:
    """Acceptance is answered with the JSON that the page shows."""
    reply = success({"taskId": "task_12345678"})

    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == json.loads(
        '{"code": 200, "message": "success", "data": {"taskId": "task_12345678"}}'
    )


def test_the_page_s_error() -> None:
    """An error is answered with the JSON that the page shows, under its code as HTTP status."""
    reply = error(400, "Insufficient credits")

    assert reply.status == 400
    assert json.loads(reply.body) == json.loads(
        '{"code": 400, "message": "Insufficient credits", "data": null}'
    )


def test_the_page_s_status_of_a_success() -> None:
    """A finished task shows the page's fields with the page's values in the page's order."""
    shown = json.dumps(data())

    assert shown == json.dumps(
        {
            "taskId": "task_12345678",
            "state": "success",
            "resultJson": '{"resultUrls":["https://r2.apixo.ai/video.mp4"]}',
            "createTime": 1767965610929,
            "completeTime": 1767965730929,
            "costTime": 120000,
        }
    )


def test_the_page_s_status_of_a_failure() -> None:
    """A failed task shows code and message and no times, as on the page."""
    failed = make(failure=VIOLATION)

    assert status_data(failed, 120, CLOCK, [URL]) == {
        "taskId": "task_12345678",
        "state": "failed",
        "failCode": "CONTENT_VIOLATION",
        "failMsg": "Content does not meet safety guidelines",
    }


def test_an_unfinished_task_has_no_result() -> None:
    """Before the end there are only the id, the state and the time of creation."""
    assert data(at=60) == {
        "taskId": "task_12345678",
        "state": "processing",
        "createTime": 1767965610929,
    }


def test_the_callback_of_a_success_is_its_status() -> None:
    """A receiver finds the same fields as somebody who polls."""
    assert callback_data(make(), CLOCK, [URL]) == data()


def test_the_callback_of_a_failure_has_times() -> None:
    """Unlike the status, the callback says when; it does not say what it took."""
    shown = callback_data(make(failure=VIOLATION), CLOCK, [])

    assert (shown["createTime"], shown["completeTime"]) == (1767965610929, 1767965730929)
    assert shown["failCode"] == "CONTENT_VIOLATION"
    assert "costTime" not in shown


def test_missing_fields() -> None:
    """With the fault a finished task has a completion time only."""
    assert set(data("missing_fields")) == {"taskId", "state", "resultJson", "completeTime"}


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("result_object", {"resultUrls": [URL]}),
        ("result_broken", '{"resultUrls":["https://'),
        ("result_empty", '{"resultUrls":[]}'),
    ],
)
def test_a_result_can_be_malformed(fault: str, result: object) -> None:
    """Each fault spoils resultJson in its own way and leaves the rest alone."""
    assert data(fault) == {**data(), "resultJson": result}


def test_an_error_can_hide_in_http_200() -> None:
    """Only the HTTP status changes; the envelope still tells."""
    hidden = as_http_200(error(429))

    assert (hidden.status, hidden.code) == (200, 429)
    assert json.loads(hidden.body)["code"] == 429


def test_a_proxy_s_page_is_no_json() -> None:
    """A bad gateway speaks HTML."""
    page = bad_gateway()

    assert (page.status, page.content_type) == (502, "text/html")
    assert page.body.startswith(b"<html>")
