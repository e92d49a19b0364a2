from __future__ import annotations

import json

import pytest

from apixo_async import AuthenticationError, Limits
from apixo_async.cli.progress import OpenJob
from apixo_async.cli.summary import LedgerExtract, Summary

LEFT = (OpenJob("k1", task_id="t1", model="veo-3-1"), OpenJob("k2", task_id="t2", model="other"))


@pytest.mark.parametrize(
    ("ended", "left", "not_started"),
    [
        ({"succeeded": 10}, (), 0),
        ({"succeeded": 3, "not_started": 7}, (), 7),
        ({"succeeded": 3}, LEFT, 5),
        ({}, (), 10),
    ],
)
def test_totals_reconcile(
    ended: dict[str, int], left: tuple[OpenJob, ...], not_started: int
) -> None:
    """Whatever ended the batch, each job is in exactly one total."""
    counts = Summary(jobs=10, ended=ended, left_behind=left).counts

    assert sum(counts.values()) == 10
    assert counts["not_started"] == not_started


def test_left_tasks_come_with_their_commands() -> None:
    """Each task left behind is named with the command to wait for it, its model included."""
    lines = list(Summary(jobs=2, ended={}, left_behind=LEFT, signal="SIGINT").lines())

    assert "interrupted by SIGINT" in lines
    assert "  k1  apixo wait t1" in lines
    assert "  k2  apixo wait t2 --model other" in lines


def test_tasks_of_an_emulator_cannot_be_fetched_later() -> None:
    """Where the emulator ends with the batch, no command is offered that could not work."""
    text = "\n".join(Summary(jobs=2, ended={}, left_behind=LEFT, is_emulated=True).lines())

    assert "2 tasks still running, gone with the emulator" in text
    assert "apixo wait" not in text


def test_a_stop_says_why_and_what_to_do() -> None:
    """The reason, the API's own words and the advice are shown."""
    error = AuthenticationError("Invalid key")
    text = "\n".join(Summary(jobs=1, ended={}, stopped="key", stop_error=error).lines())

    assert "stopped early because the API refused the key: Invalid key" in text
    assert "APIXO_API_KEY" in text


def test_a_summary_in_json_has_every_total() -> None:
    """Programs find all totals, also those that are zero, and the tasks left behind."""
    whole = Summary(jobs=3, ended={"succeeded": 1}, left_behind=LEFT).as_json()

    assert json.loads(json.dumps(whole)) == whole
    assert (whole["failed"], whole["still_running"]) == (0, 2)
    assert [job["task_id"] for job in whole["left_behind"]] == ["t1", "t2"]


def test_the_ledger_is_shown_beside_the_limits() -> None:
    """Of an emulator's ledger the numbers appear that tell whether all went well."""
    ledger = {
        "billed_total": 200,
        "billed_twice": ["a"],
        "throttled": {"rate": 1, "concurrency": 2, "injected": 0},
        "peak_requests_per_window": 1_234,
        "peak_unfinished": 50,
    }

    first, second = LedgerExtract.of(ledger).lines(Limits())

    assert first == "emulator: 200 tasks billed, 1 prompt billed twice, 3 answered 429"
    words = "busiest minute 1,234 of 10,000 requests, at most 50 of 1,000 tasks unfinished"
    assert second.strip() == words
