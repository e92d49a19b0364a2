"""Sums over jobs: rates, times, reasons, doubts and results that expire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal import tally as module
from apixo_async.batch.journal.entries import stamp
from apixo_async.batch.journal.history import after
from apixo_async.batch.journal.overview import Doubled, Doubt, Failure, Overview
from apixo_async.batch.journal.tally import Tally, expiry_of, failure_of, seconds_of
from apixo_async.batch.spending import Prices
from apixo_async.tasks import RESULT_LIFETIME, Task
from tests.batch.journal.jobs import FAILED, WAYS, K, job

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def entry(state: JobState, key: str = "k") -> Entry:
    """A job in this state."""
    made = Entry.new(1, job(key), at=NOW)
    for event in WAYS[state]:
        made = after(made, event)
    return made


def ended(before: timedelta, *, lasted: timedelta = MINUTE, **changes: Any) -> Entry:  # noqa: ANN401
    """A success of so long ago."""
    end = NOW - before
    fields = {
        "state": JobState.SUCCEEDED,
        "attempts": 1,
        "charges": 1,
        "sending_at": stamp(end - lasted),
        "accepted_at": stamp(end - lasted),
        "ended_at": stamp(end),
        "task_id": "t1",
        "saved": 1,
    }
    return Entry.new(1, job(), at=end - lasted).changed({**fields, **changes})


def completed(before: timedelta) -> str:
    """An answer of a task that the API completed so long ago."""
    milliseconds = int((NOW - before).timestamp() * 1000)
    return json.dumps({"taskId": "t1", "state": "success", "completeTime": milliseconds})


def summed(*entries: Entry, owner: str | None = None, prices: Prices | None = None) -> Overview:
    """What these jobs amount to."""
    tally = Tally(now=NOW, owner=owner)
    for one in entries:
        tally.add(one)
    return tally.overview(prices)


@pytest.mark.parametrize("owner", [None, "process 1 on here"])
def test_every_job_is_counted_once(owner: str | None) -> None:
    """The total is the sum of all standings, whatever the states."""
    entries = [entry(state) for state in JobState for _ in range(3)]
    seen = summed(*entries, owner=owner)

    assert seen.total == sum(seen.counts.values()) == len(entries)
    assert dict(seen.states) == dict.fromkeys(JobState, 3)
    assert len(seen.doubts) == (3 if owner else 6)


def test_nothing_amounts_to_nothing() -> None:
    """An empty journal has no rates, no kinds and no work."""
    seen = summed()

    assert (seen.total, seen.kinds, seen.overall_rate, seen.recent_rate) == (0, (), None, 0)
    assert not seen.has_work


def test_submits_retries_and_charges_are_told_apart() -> None:
    """A repeated submit is a retry; only what may have made a task is charged."""
    seen = summed(
        ended(MINUTE, attempts=3, charges=2),
        ended(MINUTE),
        entry(JobState.QUEUED),
        prices=Prices({"quality": "0.5"}),
    )

    assert (seen.submits, seen.retries, seen.charges) == (4, 2, 3)
    assert seen.known_cost == 3 * Prices({"quality": "0.5"}).by_name["quality"]


def test_the_rate_of_the_last_minutes_is_not_that_of_all() -> None:
    """Ten jobs in the last five minutes, ten in the hour before."""
    recent = [ended(MINUTE) for _ in range(10)]
    early = [ended(61 * MINUTE, lasted=timedelta()) for _ in range(10)]
    seen = summed(*early, *recent)

    assert seen.recent_rate == pytest.approx(10 / 5)
    assert seen.overall_rate == pytest.approx(20 / 60)


def test_a_young_batch_is_measured_over_its_own_time() -> None:
    """Two jobs in the only two minutes so far are one a minute."""
    seen = summed(ended(MINUTE, lasted=MINUTE), ended(timedelta(), lasted=MINUTE))

    assert seen.recent_rate == pytest.approx(1)


def test_a_decision_is_no_progress() -> None:
    """An abandoned job has ended, but nothing was finished."""
    seen = summed(ended(MINUTE, state=JobState.ABANDONED, accepted_at=None))

    assert seen.overall_rate is None
    assert seen.recent_rate == 0


def test_times_are_kept_by_model_and_mode() -> None:
    """Kinds come in order; a job that was refused has no time."""
    seen = summed(
        ended(MINUTE, mode="quality", lasted=90 * SECOND),
        ended(MINUTE, mode="fast", lasted=30 * SECOND),
        ended(MINUTE, mode="fast", lasted=50 * SECOND),
        ended(MINUTE, mode="fast", state=JobState.REJECTED, accepted_at=None),
        ended(MINUTE, model="other", mode=None, accepted_at=None),
    )
    shown = [(kind.model, kind.mode, kind.jobs, kind.durations) for kind in seen.kinds]

    assert [row[:3] for row in shown] == [
        ("other", None, 1),
        ("veo-3-1", "fast", 3),
        ("veo-3-1", "quality", 1),
    ]
    assert shown[0][3] is None
    assert shown[1][3] is not None
    assert (shown[1][3].count, shown[1][3].p50, shown[1][3].p99) == (2, 30.0, 50.0)


def test_tries_that_made_no_task_are_no_submits() -> None:
    """A connection that was refused three times, then one submit."""
    tally = Tally(now=NOW, owner=None)
    tally.add(ended(MINUTE, attempts=4), not_sent=3)
    tally.add(entry(JobState.QUEUED).changed({"attempts": 2}), not_sent=2)
    seen = tally.overview()

    assert (seen.submits, seen.retries, seen.not_sent) == (1, 0, 5)


def test_the_next_job_tells_what_it_costs() -> None:
    """The first in the order of the journal, because that is what a cap stops at."""
    seen = summed(
        entry(JobState.SUCCEEDED),
        entry(JobState.QUEUED).changed({"mode": "fast"}),
        entry(JobState.QUEUED),
        prices=Prices({"fast": "0.5", "quality": 2}),
    )

    assert (seen.next_kind, str(seen.next_price)) == (("veo-3-1", "fast"), "0.5")
    assert not seen.is_capped


def test_a_task_took_what_the_api_says() -> None:
    """Not the time until somebody looked, as after a night between a crash and going on."""
    answer = {"taskId": "t1", "state": "success", "createTime": 1_000, "completeTime": 91_000}
    seen_late = ended(MINUTE, lasted=9 * 60 * MINUTE, task=json.dumps(answer))
    without = ended(MINUTE, task=json.dumps({**answer, "createTime": None}))

    assert seconds_of(seen_late) == 90
    assert seconds_of(without) == 60


def test_a_clock_that_went_back_makes_no_negative_time() -> None:
    """An end before its beginning lasted nothing."""
    assert seconds_of(ended(MINUTE, lasted=-MINUTE)) == 0
    assert seconds_of(entry(JobState.QUEUED)) is None


# Failures


def test_failures_are_grouped_by_code_and_reason() -> None:
    """Equal failures are one line with a number, the most frequent first, whatever their ids."""
    refused = entry(JobState.REJECTED)
    seen = summed(refused, entry(JobState.FAILED), entry(JobState.FAILED, "other"))

    assert seen.failures == (
        Failure(state=JobState.FAILED, code="E1", reason="no", count=2, keys=("k", "other")),
        Failure(state=JobState.REJECTED, code="400", reason="bad", count=1, keys=("k",)),
    )


def test_a_reason_names_no_task() -> None:
    """What differs from job to job would make a group of each."""
    lost = Task(id="t1", model="veo-3-1", state="success")
    failed = after(
        entry(JobState.ACCEPTED),
        events.Failed(key="k", task=lost, reason="task t1 ended without a URL"),
    )

    assert failure_of(failed) == (None, "task ended without a URL")


def test_a_code_without_a_message_is_told() -> None:
    """Nothing is invented where the API says nothing."""
    silent = Task(
        id="t1", model="veo-3-1", state="failed", raw={"state": "failed", "failCode": "X"}
    )
    failed = after(entry(JobState.ACCEPTED), events.Failed(key="k", task=silent, reason="no"))

    assert failure_of(failed) == ("X", "no reason given")
    assert FAILED.fail_code != "X"


def test_reasons_without_end_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages with something of their own in them cannot fill the memory."""
    monkeypatch.setattr(module, "REASONS", 2)
    refused = [
        after(entry(JobState.SENDING), events.Rejected(key="k", reason=f"bad {n}", code=400))
        for n in range(5)
    ]
    seen = summed(*refused)

    assert [(one.reason, one.count) for one in seen.failures] == [
        ("other reasons", 3),
        ("bad 0", 1),
        ("bad 1", 1),
    ]


# Doubts


def test_a_doubt_has_all_that_is_known() -> None:
    """When it was sent, how far it came, why, what arrived, and which task it may be."""
    (doubt,) = summed(entry(JobState.UNCERTAIN, "a")).doubts

    assert doubt.sent_at is not None
    assert doubt == Doubt(
        key="a",
        sent_at=doubt.sent_at,
        phase="answer",
        reason="reset",
        received="{",
        received_bytes=1,
        candidate_task_id="t9",
        attempts=1,
    )


@pytest.mark.parametrize(
    ("told", "candidate", "is_denied"),
    [
        ((events.Denied(key=K, task_id="t9"),), "t9", True),
        ((events.CalledBack(key=K, attempt=1, task_id="t8"),), "t8", False),
        (
            (
                events.Denied(key=K, task_id="t9"),
                events.CalledBack(key=K, attempt=1, task_id="t8"),
            ),
            "t8",
            False,
        ),
    ],
    ids=["denied", "called back", "denied, then called back"],
)
def test_a_doubt_names_the_likeliest_task(
    told: tuple[events.JobEvent, ...], candidate: str, is_denied: bool
) -> None:
    """What a callback has named comes before what a damaged answer showed."""
    doubtful = entry(JobState.UNCERTAIN)
    for event in told:
        doubtful = after(doubtful, event)
    (doubt,) = summed(doubtful).doubts

    assert (doubt.candidate_task_id, doubt.candidate_denied) == (candidate, is_denied)


def test_a_submit_of_a_dead_process_is_a_doubt() -> None:
    """It was on its way and nobody waits for its answer; while its process lives it is none."""
    (doubt,) = summed(entry(JobState.SENDING)).doubts

    assert (doubt.phase, doubt.received, doubt.attempts) == ("crash", "", 1)
    assert "process ended" in doubt.reason
    assert summed(entry(JobState.SENDING), owner="process 1 on here").doubts == ()


def test_doubts_are_listed_up_to_a_bound_and_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An overview stays small however bad the day was."""
    monkeypatch.setattr(module, "LISTED", 2)
    seen = summed(*[entry(JobState.UNCERTAIN) for _ in range(5)])

    assert len(seen.doubts) == 2
    assert seen.states[JobState.UNCERTAIN] == 5


# Results that expire


@pytest.mark.parametrize(
    ("age", "expiring", "expired"),
    [
        (timedelta(), 0, 0),
        (12 * DAY - SECOND, 0, 0),
        (12 * DAY, 1, 0),
        (15 * DAY - SECOND, 1, 0),
        (15 * DAY, 0, 1),
        (400 * DAY, 0, 1),
    ],
)
def test_unsaved_results_are_warned_about_from_day_12(
    age: timedelta, expiring: int, expired: int
) -> None:
    """URLs live 15 days from completion; three days before their end there is still time."""
    seen = summed(ended(age, saved=0, task=completed(age)))

    assert (seen.expiring_count, seen.expired_count) == (expiring, expired)
    assert (len(seen.expiring), len(seen.expired)) == (expiring, expired)
    assert seen.unsaved == 1
    for one in (*seen.expiring, *seen.expired):
        assert one.at == NOW - age + RESULT_LIFETIME


def test_what_is_saved_does_not_expire() -> None:
    """Files on disk need no URL."""
    seen = summed(ended(14 * DAY, task=completed(14 * DAY)))

    assert (seen.unsaved, seen.expiring_count, seen.expired_count) == (0, 0, 0)


def test_the_end_of_the_task_counts_not_when_it_was_seen() -> None:
    """A task that ended while no process looked is as old as the API says."""
    seen = summed(ended(DAY, lasted=15 * DAY, saved=0, task=completed(13 * DAY)))

    assert [one.at for one in seen.expiring] == [NOW + 2 * DAY]


def test_an_answer_without_a_time_counts_from_when_it_was_seen() -> None:
    """The best that is known."""
    entry = ended(13 * DAY, saved=0, task=None)

    assert expiry_of(entry, entry.snapshot()) == NOW + 2 * DAY
    assert summed(entry).expiring_count == 1
    assert expiry_of(entry.changed({"ended_at": None}), None) is None


def test_expiring_results_are_listed_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are counted, the first are named."""
    monkeypatch.setattr(module, "LISTED", 1)
    seen = summed(*[ended(13 * DAY, saved=0) for _ in range(3)])

    assert (seen.expiring_count, len(seen.expiring)) == (3, 1)


def test_a_reason_names_the_first_few_jobs() -> None:
    """All are counted."""
    seen = summed(*(entry(JobState.REJECTED, f"k{number}") for number in range(7)))

    (failure,) = seen.failures
    assert (failure.count, failure.keys) == (7, ("k0", "k1", "k2", "k3", "k4"))


def test_jobs_with_more_than_one_task_are_listed_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each with its own task and the others; all are counted."""
    monkeypatch.setattr(module, "LISTED", 2)
    told = events.CalledBack(key="k", attempt=1, task_id="t2", state="success")
    doubled = [after(entry(JobState.SUCCEEDED, f"k{number}"), told) for number in range(3)]
    seen = summed(*doubled, entry(JobState.FAILED))

    assert seen.doubled_count == 3
    assert seen.doubled == tuple(
        Doubled(key=f"k{number}", task_id="t1", others=("t2",)) for number in range(2)
    )


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ({"fail_code": "X", "code": 400, "http_status": 500}, "X"),
        ({"code": 400, "http_status": 500}, "400"),
        ({"http_status": 500}, "500"),
        ({}, None),
    ],
)
def test_a_failure_has_the_code_that_says_most(why: dict[str, object], code: str | None) -> None:
    """That of the task, else of the answer, else of HTTP."""
    failed = entry(JobState.REJECTED).changed({"note": json.dumps({"reason": "no", **why})})

    assert failure_of(failed) == (code, "no")


def test_a_failure_without_a_reason_says_so() -> None:
    """Neither the task nor the answer gave one."""
    assert failure_of(entry(JobState.REJECTED).changed({"note": None})) == (None, "no reason given")
