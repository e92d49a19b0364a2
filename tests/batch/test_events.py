import pickle
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import attrs
import pytest

from apixo_async.batch import events
from apixo_async.batch.events import (
    Abandoned,
    Accepted,
    AllSaved,
    CalledBack,
    Denied,
    Event,
    Failed,
    Identified,
    JobEvent,
    Naming,
    NotSent,
    NotStarted,
    Queued,
    Rejected,
    Resubmitted,
    Saved,
    SaveFailed,
    Sending,
    Stopped,
    Succeeded,
    TimedOut,
    Uncertain,
)
from apixo_async.tasks import Task

TASK = Task(id="t1", model="veo-3-1", state="success", urls=("https://a/1",))

SAMPLES: list[Event] = [
    Queued(key="k", index=0, model="veo-3-1", mode="fast"),
    Sending(key="k", attempt=1),
    NotSent(key="k", attempt=1, reason="dns"),
    Accepted(key="k", task_id="t1", model="veo-3-1"),
    Rejected(key="k", reason="bad", code=400),
    Uncertain(key="k", reason="reset", phase="answer", received="{", candidate_task_id="t1"),
    Succeeded(key="k", task=TASK),
    Failed(key="k", task=TASK, reason="no URLs"),
    TimedOut(key="k", task=TASK, reason="1800 s"),
    Naming(key="k", path="k.mp4", size=3, sha256="ab"),
    Saved(key="k", path="k.mp4", size=3, sha256="ab"),
    AllSaved(key="k"),
    SaveFailed(key="k", reason="disk full"),
    Resubmitted(key="k", reason="settled"),
    Abandoned(key="k"),
    CalledBack(key="k", attempt=1, task_id="t1", state="success"),
    Denied(key="k", task_id="t1"),
    Identified(key="k", task_id="t1"),
    NotStarted(key="k", reason="stopped"),
    Stopped(reason="key", message="wrong key"),
]
named = pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)


def test_every_event_has_a_sample() -> None:
    """The vocabulary is these words: none can be added without taking part in the tests below."""
    defined = {
        value
        for name, value in vars(events).items()
        if isinstance(value, type) and value.__module__ == events.__name__ and name[0] != "_"
    }

    assert {type(event) for event in SAMPLES} == defined
    assert {*get_args(JobEvent), Stopped} == defined
    assert set(get_args(Event)) == defined


@named
def test_an_event_is_a_fact(event: Event) -> None:
    """What happened cannot be changed, and two equal facts are equal."""
    field: str = next(iter(attrs.fields_dict(type(event))))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, field, "changed")

    assert attrs.evolve(event) == event


@named
def test_an_event_survives_pickling(event: Event) -> None:
    """Facts can be stored and sent."""
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301  # our own bytes


@named
def test_an_event_knows_when_it_happened(event: Event) -> None:
    """The time is set when the event is made, in UTC."""
    kind: type[Any] = type(event)
    fields = {field.name: getattr(event, field.name) for field in attrs.fields(kind)}
    del fields["at"]
    before = datetime.now(UTC)
    made = kind(**fields)

    assert before <= made.at <= datetime.now(UTC)
    assert made.at.utcoffset() == timedelta(0)


@named
def test_an_event_can_be_told_with_its_time(event: Event) -> None:
    """Reading a record back gives the event with the time it had."""
    moment = datetime(2026, 1, 9, 13, 33, 30, tzinfo=UTC)

    assert attrs.evolve(event, at=moment).at == moment


@named
def test_events_are_told_by_names(event: Event) -> None:
    """All fields are keyword-only, so that none is mistaken for another."""
    assert all(field.kw_only for field in attrs.fields(type(event)))


@pytest.mark.parametrize(
    "event", SAMPLES[:-1], ids=[type(event).__name__ for event in SAMPLES[:-1]]
)
def test_an_event_of_a_job_names_it(event: JobEvent) -> None:
    """Each step of a job carries the job's key; only the stop of a batch belongs to none."""
    assert event.key == "k"
