import pickle
from typing import Any

import attrs
import pytest

from apixo_async.batch.outcomes import BatchReport, Job, Outcome, OutcomeStatus, StopReason
from apixo_async.errors import AuthenticationError, DownloadError, InvalidRequestError
from apixo_async.tasks import Task, TaskState
from apixo_async.veo import TextToVideo

REQUEST = TextToVideo("x")


def outcome(index: int, status: OutcomeStatus, **fields: Any) -> Outcome:  # noqa: ANN401  # any field
    """An outcome of some job."""
    return Outcome(job=Job(REQUEST, key=f"k{index}"), index=index, status=status, **fields)


def done(*urls: str) -> Task:
    """A task with these results."""
    return Task(id="t", model="veo-3-1", state=TaskState.SUCCESS, urls=urls)


@pytest.mark.parametrize(
    "key",
    [None, "a", "scene 1/part 2", "場面", "x" * 200],
    ids=["none", "short", "odd", "Japanese", "longest"],
)
def test_a_key_is_any_printable_text(key: str | None) -> None:
    """Names are the user's own; how they become file names is decided elsewhere."""
    assert key == Job(REQUEST, key=key).key


WRONG_KEYS: list[object] = ["", "x" * 201, "a\nb", "a\x00", "\ud800", "\u200b", 7, b"a", True]


@pytest.mark.parametrize("key", WRONG_KEYS, ids=lambda key: ascii(key)[:20])
def test_a_key_that_cannot_be_a_name_is_refused(key: object) -> None:
    """Nothing empty, endless or invisible names files and records."""
    with pytest.raises(InvalidRequestError) as caught:
        Job(REQUEST, key=key)  # type: ignore[arg-type]  # that is the point

    rule = f"must be printable text of 1 to 200 characters, got {key!r}"
    assert (caught.value.subject, caught.value.problems) == ("Job", (("key", rule),))


def test_a_job_is_a_value() -> None:
    """It can be compared, hashed, pickled and not changed; its metadata is the user's business."""
    job = Job(REQUEST, key="k", metadata={"list": [1]})

    assert pickle.loads(pickle.dumps(job)) == job  # noqa: S301  # our own bytes
    assert hash(job) == hash(Job(REQUEST, key="k"))
    assert job != Job(REQUEST, key="k")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        job.key = "other"  # type: ignore[misc]


def test_a_job_has_neither_key_nor_metadata_by_default() -> None:
    """A bare request is a job as well."""
    assert attrs.asdict(Job(REQUEST), recurse=False) == {
        "request": REQUEST,
        "key": None,
        "metadata": {},
    }


def test_the_statuses_are_the_promised_ones() -> None:
    """A job ends in one of five stated ways, whose names are part of the interface."""
    assert [str(status) for status in OutcomeStatus] == [
        "succeeded",
        "failed",
        "uncertain",
        "timed_out",
        "not_started",
    ]


def test_the_reasons_for_stopping_are_the_promised_ones() -> None:
    """A batch ends early for one of these, whose names are part of the interface."""
    assert {str(reason) for reason in StopReason} >= {
        "key",
        "balance",
        "unreachable",
        "requested",
        "input",
    }


def test_an_outcome_knows_its_key_and_results() -> None:
    """What a caller wants to know first is one attribute away."""
    succeeded = outcome(0, OutcomeStatus.SUCCEEDED, task=done("https://a/1", "https://a/2"))
    never = outcome(1, OutcomeStatus.NOT_STARTED)

    assert (succeeded.key, succeeded.urls) == ("k0", ("https://a/1", "https://a/2"))
    assert (never.key, never.urls, never.task, never.error, never.files) == (
        "k1",
        (),
        None,
        None,
        (),
    )


def test_an_outcome_survives_pickling() -> None:
    """Results cross process borders with their errors."""
    error = DownloadError("cut off", url="https://a/1", reason="short")
    failed = outcome(0, OutcomeStatus.SUCCEEDED, task=done("https://a/1"), error=error)
    twin = pickle.loads(pickle.dumps(failed))  # noqa: S301  # our own bytes

    assert attrs.evolve(twin, error=None) == attrs.evolve(failed, error=None)
    assert type(twin.error) is DownloadError
    assert str(twin.error) == str(error)


def test_a_report_lists_results_in_input_order() -> None:
    """All URLs of all videos stand in the order of the input."""
    report = BatchReport(
        (
            outcome(0, OutcomeStatus.SUCCEEDED, task=done("https://a/1")),
            outcome(1, OutcomeStatus.FAILED, task=Task(id="t", model="m", state="failed")),
            outcome(2, OutcomeStatus.SUCCEEDED, task=done("https://a/2", "https://a/3")),
            outcome(3, OutcomeStatus.NOT_STARTED),
        )
    )

    assert report.urls == ("https://a/1", "https://a/2", "https://a/3")


def test_a_report_counts_every_status() -> None:
    """Statuses that did not occur count 0, so that a sum needs no special cases."""
    statuses = [OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED, OutcomeStatus.SUCCEEDED]
    report = BatchReport(tuple(outcome(n, status) for n, status in enumerate(statuses)))

    assert report.counts == {
        OutcomeStatus.SUCCEEDED: 2,
        OutcomeStatus.FAILED: 1,
        OutcomeStatus.UNCERTAIN: 0,
        OutcomeStatus.TIMED_OUT: 0,
        OutcomeStatus.NOT_STARTED: 0,
    }


def test_an_empty_report_is_a_report() -> None:
    """Of no jobs nothing was stopped and nothing failed."""
    report = BatchReport(())

    assert (report.urls, report.stopped, report.stop_error) == ((), None, None)
    assert set(report.counts.values()) == {0}


def test_a_report_says_why_it_ends_early() -> None:
    """Reason and error of a stop stand beside the outcomes."""
    error = AuthenticationError("wrong key", http_status=401)
    report = BatchReport((), StopReason.KEY, error)

    assert (report.stopped, report.stop_error) == ("key", error)
