import json

import pytest

from apixo_async.emulator.disturbances import Circumstances, disturb, seconds_text
from apixo_async.emulator.faults import FAULTS, FaultPlan, Stage
from apixo_async.emulator.replies import Manner, Reply, success

TRUE = success({"taskId": "t2"})
OF_TASKS = {name for name in FAULTS if FaultPlan.from_rates(0, {name: 1}).every(Stage.TASK, "x", 0)}


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - OF_TASKS))
def test_every_fault_of_an_answer_changes_it(fault: str) -> None:
    """No name in the table is an empty promise."""
    assert disturb(fault, TRUE, Circumstances(previous_task="t1")) != TRUE


@pytest.mark.parametrize(
    ("fault", "manner"),
    [
        ("submit_cut_before", Manner.CUT),
        ("submit_cut_after", Manner.CUT),
        ("status_cut", Manner.CUT),
        ("submit_drip_after", Manner.DRIP),
        ("status_drip", Manner.DRIP),
        ("submit_truncated_json_after", Manner.TRUNCATED),
        ("status_truncated_json", Manner.TRUNCATED),
        ("submit_partial_after", Manner.PARTIAL),
        ("short_download", Manner.PARTIAL),
        ("huge_body", Manner.HUGE),
        ("gzip_bomb", Manner.GZIP_BOMB),
    ],
)
def test_some_faults_change_only_the_manner(fault: str, manner: Manner) -> None:
    """The true answer is sent, and sent badly."""
    disturbed = disturb(fault, TRUE, Circumstances())

    assert disturbed.manner is manner
    assert disturbed.body == TRUE.body


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("submit_429", 429, 429),
        ("status_429", 429, 429),
        ("submit_503_before", 503, 503),
        ("status_503", 503, 503),
        ("download_503", 503, 503),
        ("submit_500_after", 500, 500),
        ("submit_502_html_before", 502, 502),
        ("submit_502_html_after", 502, 502),
        ("status_502_html", 502, 502),
        ("download_html", 200, 502),
        ("redirect_307", 307, 307),
    ],
)
def test_some_faults_replace_the_answer(fault: str, status: int, code: int) -> None:
    """HTTP status and code are those that the name promises."""
    disturbed = disturb(fault, TRUE, Circumstances())

    assert (disturbed.status, disturbed.code) == (status, code)


@pytest.mark.parametrize("fault", ["submit_429_retry_after", "status_429_retry_after"])
def test_a_429_may_say_when_to_return(fault: str) -> None:
    """The header holds the seconds it was given."""
    disturbed = disturb(fault, TRUE, Circumstances(retry_after="0.083"))

    assert disturbed.headers == {"Retry-After": "0.083"}


@pytest.mark.parametrize(
    ("fault", "codes"),
    [("error_in_200", [400, 402, 429, 500]), ("status_error_in_200", [429, 500, 503])],
)
def test_errors_in_200_have_several_codes(fault: str, codes: list[int]) -> None:
    """Each code has its equal share of the draws, always under HTTP 200."""
    choices = [(index + 0.5) / len(codes) for index in range(len(codes))]
    replies = [disturb(fault, TRUE, Circumstances(choice=choice)) for choice in choices]

    assert [reply.code for reply in replies] == codes
    assert {reply.status for reply in replies} == {200}


def test_a_redirect_points_elsewhere_on_this_host() -> None:
    """The path asked for is found again below another one."""
    disturbed = disturb("redirect_307", Reply(), Circumstances(path="/api/v1/x"))

    assert disturbed.headers == {"Location": "/redirected/api/v1/x"}


def test_an_answer_without_task_id() -> None:
    """The envelope is that of a success, and the id is missing."""
    body = json.loads(disturb("no_task_id", TRUE, Circumstances()).body)

    assert body == {"code": 200, "message": "success", "data": {}}


def test_the_first_task_cannot_be_a_duplicate() -> None:
    """Where no task came before, the answer stays true."""
    assert disturb("duplicate_task_id", TRUE, Circumstances()) == TRUE


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5"), (5.0, "5"), (5 / 60, "0.083"), (0, "0"), (-1, "0")]
)
def test_seconds_are_written_as_a_header_may_hold_them(seconds: float, text: str) -> None:
    """Whole where possible, in milliseconds else, never negative."""
    assert seconds_text(seconds) == text
