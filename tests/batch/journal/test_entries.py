import json
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._wire import fingerprint
from apixo_async.batch import events
from apixo_async.batch.journal.entries import Entry, JobState, stamp, text_of
from apixo_async.batch.journal.history import after
from apixo_async.batch.outcomes import Job, OutcomeStatus
from apixo_async.errors import (
    APIError,
    ApixoError,
    InvalidRequestError,
    JournalError,
    SubmitUncertainError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.tasks import Task
from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)
from tests.batch.journal.jobs import ACCEPTED, SENDING, UNCERTAIN, WAYS, K, job

NOW = datetime(2026, 1, 9, 13, 33, 30, 929_999, tzinfo=UTC)
REQUESTS: dict[str, Request] = {
    "text": TextToVideo("x"),
    "text with all": TextToVideo(
        "x", mode="fast", aspect_ratio="9:16", provider="official", extra_input={"new": [1]}
    ),
    "frames": FramesToVideo("x", first_frame="https://a/1.png", last_frame="https://a/2.png"),
    "reference": ReferenceToVideo("x", image_urls=["https://a/1.png"], provider="official"),
    "extend": ExtendVideo("x", task_id="t1"),
    "model": ModelRequest("other", {"prompt": "x", "深": {"a": None}}, provider="official"),
    "model like ours": ModelRequest("veo-3-1", {"prompt": "x"}),
    "unicode": TextToVideo("狐 🦊 \u202e\x00\x7f"),
    "half a character": TextToVideo("\ud83e"),
}


def new(asked: Request, **fields: Any) -> Entry:  # noqa: ANN401  # any field of a job
    """The entry of a new job."""
    return Entry.new(1, Job(asked, key="k", **fields), at=NOW)


def in_state(state: JobState) -> Entry:
    """A job that came into this state as jobs do."""
    entry = Entry.new(1, job(), at=NOW)
    for event in WAYS[state]:
        entry = after(entry, event)
    return entry


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
def test_a_request_comes_back_as_it_was_asked(asked: Request) -> None:
    """What is read from a row sends the same, and is of the same class where that is clear."""
    entry = Entry.of_row(new(asked).row())
    back = entry.asked()

    assert entry.fingerprint == fingerprint(back) == fingerprint(asked)
    if not isinstance(asked, ModelRequest) and not asked.extra_input:
        assert back == asked


@given(
    prompt=st.text(min_size=1, max_size=40).filter(str.strip),
    metadata=st.dictionaries(st.text(max_size=5), st.integers() | st.none(), max_size=3),
)
def test_any_prompt_and_metadata_come_back(prompt: str, metadata: dict[str, object]) -> None:
    """Every text that can be asked for survives, with what the user attached to it."""
    asked = Job(TextToVideo(prompt), key="k", metadata=metadata)

    assert Entry.of_row(Entry.new(1, asked, at=NOW).row()).job() == asked


@given(value=st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_any_answer_can_be_kept(value: object) -> None:
    """Whatever JSON the API sends, half characters included, is text that a file can hold."""
    text = text_of({"value": value})

    assert json.loads(text.encode().decode()) == {"value": value}


@pytest.mark.parametrize("metadata", [{"a": {1}}, {"a": float("nan")}, {"a": "\ud800"}, {"a": job}])
def test_metadata_that_is_no_json_is_refused_at_once(metadata: dict[str, object]) -> None:
    """What a file cannot hold is said before anything is sent."""
    with pytest.raises(InvalidRequestError, match="metadata"):
        new(TextToVideo("x"), metadata=metadata)


@pytest.mark.parametrize("column", range(18))
def test_a_row_that_was_changed_is_not_believed(column: int) -> None:
    """The checksum covers each column."""
    row = list(in_state(JobState.SUCCEEDED).row())
    row[column] = "other"

    with pytest.raises(JournalError, match="damaged"):
        Entry.of_row(row)


def test_a_state_of_the_future_is_named() -> None:
    """A state that this version does not know is an error with advice, not a guess."""
    from apixo_async.batch.journal.schema import checksum

    values = list(new(TextToVideo("x")).values())
    values[2] = "paused"

    with pytest.raises(JournalError, match=r"'paused'.*newer apixo-async; upgrade"):
        Entry.of_row([*values, checksum(values)])


OUTCOMES: dict[JobState, tuple[OutcomeStatus, type[ApixoError] | None]] = {
    JobState.QUEUED: (OutcomeStatus.NOT_STARTED, ApixoError),
    JobState.SENDING: (OutcomeStatus.UNCERTAIN, SubmitUncertainError),
    JobState.ACCEPTED: (OutcomeStatus.TIMED_OUT, ApixoError),
    JobState.UNCERTAIN: (OutcomeStatus.UNCERTAIN, SubmitUncertainError),
    JobState.SUCCEEDED: (OutcomeStatus.SUCCEEDED, None),
    JobState.FAILED: (OutcomeStatus.FAILED, TaskFailedError),
    JobState.REJECTED: (OutcomeStatus.FAILED, APIError),
    JobState.ABANDONED: (OutcomeStatus.FAILED, ApixoError),
}


@pytest.mark.parametrize("state", JobState, ids=str)
def test_an_outcome_is_told_again(state: JobState) -> None:
    """How a job stands is known from its row alone."""
    entry = Entry.of_row(in_state(state).row())
    outcome = entry.outcome(7)
    status, error = OUTCOMES[state]

    assert (outcome.index, outcome.status, outcome.job) == (7, status, job())
    assert isinstance(outcome.error, error or type(None))


def test_an_uncertain_outcome_says_what_arrived() -> None:
    """The reason, the phase, the excerpt and the candidate id are those of the first report."""
    error = in_state(JobState.UNCERTAIN).outcome(0).error

    assert isinstance(error, SubmitUncertainError)
    assert (error.phase, error.received, error.candidate_task_id) == ("answer", "{", "t9")
    crashed = after(in_state(JobState.SENDING), attrs.evolve(UNCERTAIN, phase="crash"))
    error = crashed.outcome(0).error
    assert isinstance(error, SubmitUncertainError)
    assert error.phase == "crash"


def test_a_refusal_is_told_with_its_codes() -> None:
    """Whoever looks later sees the same error."""
    error = in_state(JobState.REJECTED).outcome(0).error

    assert isinstance(error, APIError)
    assert (error.code, error.http_status) == (400, 400)


def test_a_success_without_a_result_is_told_as_such() -> None:
    """A task that the API calls a success and that has no URL was no success."""
    task = Task(id="t1", model="veo-3-1", state="success", raw={"state": "success"})
    failed = after(in_state(JobState.ACCEPTED), events.Failed(key=K, task=task, reason="no URLs"))

    assert isinstance(failed.outcome(0).error, UnexpectedAnswerError)


@pytest.mark.parametrize("answer", ["[1]", "{", '{"state": 5}', "null"])
def test_an_answer_that_cannot_be_read_still_has_its_task_id(answer: str) -> None:
    """The id is what was paid for: it is there whatever the answer was."""
    entry = attrs.evolve(in_state(JobState.SUCCEEDED), task=answer)

    assert entry.snapshot() == Task(id="t1", model="veo-3-1")


def test_times_are_utc_to_the_millisecond() -> None:
    """Texts of times sort as the times do, whatever the zone they were given in."""
    zone = datetime.now(UTC).astimezone().tzinfo

    assert stamp(NOW.astimezone(zone)) == "2026-01-09T13:33:30.929+00:00"


def test_ages_are_never_negative() -> None:
    """A clock that was set back makes a task young, not unborn; without a task there is none."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    sent = after(new(TextToVideo("x")), attrs.evolve(SENDING, at=ahead))
    accepted = after(sent, attrs.evolve(ACCEPTED, at=ahead))

    assert (sent.age, sent.doubt_age, accepted.age) == (0, 0, 0)


def test_an_abandoned_task_is_no_failure_of_the_api() -> None:
    """It may have succeeded; only the decision is known."""
    entry = in_state(JobState.ACCEPTED).changed({"state": JobState.ABANDONED})

    assert entry.task_id is not None
    assert type(entry.outcome(0).error) is ApixoError


def test_a_damaged_row_is_named() -> None:
    """By its number and its key."""
    row = [*in_state(JobState.QUEUED).row()]
    row[2] = "accepted"

    with pytest.raises(JournalError, match=r"^job 1 \('k'\) is damaged: its checksum is wrong$"):
        Entry.of_row(row)
