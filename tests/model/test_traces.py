"""Real batches, watched: what they do, and in which order, is a way through the model."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async import BatchRunner, Job, PollSchedule, TextToVideo, UnansweredError
from apixo_async._wire import Reply
from apixo_async.client import hearing
from apixo_async.client.reading import CONFIRM_LOOKS
from tests import fakes
from tests.fakes import Answer, FakeApi, FakeTask, refusal
from tests.model.rules import Model
from tests.model.traces import admits
from tests.model.world import Budgets

FAST = PollSchedule(first=0.2, interval=0.05, deadline=18.0)
RECORDS = {
    *("Sending", "NotSent", "Accepted", "Rejected", "Uncertain", "Identified"),
    *("Succeeded", "Failed", "Resubmitted", "CalledBack"),
}
CUT = UnansweredError("the connection was closed", host="api.test", reason="reset")
DAMAGED = Reply(200, b'{"code": 200, "data": {"taskId": "task_1"')
BUDGETS = Budgets(runs=1, crashes=0, faults=1, losses=1)


@attrs.define
class Watched(FakeApi):
    """An API that notes what is on the disk whenever something leaves or comes."""

    db: Path = Path()
    trace: list[str] = attrs.field(factory=list)

    def look(self) -> None:
        """Adds the records that are on the disk now."""
        with closing(sqlite3.connect(self.db)) as database:
            rows = database.execute("SELECT kind FROM events ORDER BY number").fetchall()
        records = [kind for (kind,) in rows if kind in RECORDS]
        self.trace += records[sum(one in RECORDS for one in self.trace) :]

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        """As the transport is called, before anything leaves."""
        if method == "POST":
            self.look()
            self.trace.append("POST")
        return await super().send(method, path, body=body)

    async def call(self, url: str, body: bytes) -> None:
        """One callback, and what is on the disk when it is answered."""
        await super().call(url, body)
        self.look()
        if self.called[-1] is HTTPStatus.OK and "200" not in self.trace:
            self.trace.append("200")


def only(answer: Answer) -> Callable[[int, object], Answer]:
    """This answer to the first submit, the usual one to all others."""
    return lambda number, _: answer if number == 1 else None


def out_at_first(task: FakeTask) -> Answer:
    """The API cannot be asked, as often as the submit itself asks."""
    return refusal(503) if task.looks <= CONFIRM_LOOKS else None


WAYS: dict[str, tuple[Model, dict[str, Any], dict[str, Any], str]] = {
    "accepted": (Model(BUDGETS), {}, {}, "Sending POST Accepted Succeeded"),
    "put off": (
        Model(BUDGETS),
        {"on_submit": only(refusal(429))},
        {},
        "Sending POST NotSent Sending POST Accepted Succeeded",
    ),
    "refused": (Model(BUDGETS), {"on_submit": only(refusal(400))}, {}, "Sending POST Rejected"),
    "answer lost": (
        Model(BUDGETS),
        {"on_submit": only(CUT), "accept_anyway": True},
        {},
        "Sending POST Uncertain",
    ),
    "answer damaged": (
        Model(BUDGETS),
        {"on_submit": only(DAMAGED), "accept_anyway": True},
        {},
        "Sending POST Accepted Succeeded",
    ),
    "answer damaged, and asked about later": (
        Model(BUDGETS),
        {"on_submit": only(DAMAGED), "accept_anyway": True, "on_status": out_at_first},
        {},
        "Sending POST Uncertain Identified Succeeded",
    ),
    "sent again by policy": (
        Model(BUDGETS, policy="resubmit"),
        {"on_submit": only(CUT), "accept_anyway": True},
        {"uncertain": "resubmit"},
        "Sending POST Uncertain Resubmitted Sending POST Accepted Succeeded",
    ),
    "generated again": (
        Model(BUDGETS._replace(failures=1), retries=1),
        {"failure": lambda task: "E1" if task.id == "task_1" else None},
        {"retry_codes": ["E1"], "retries": 1},
        "Sending POST Accepted Failed Resubmitted Sending POST Accepted Succeeded",
    ),
    "found by its callback": (
        Model(BUDGETS._replace(calls=1)),
        {"on_submit": only(CUT), "accept_anyway": True, "receiver": fakes.receiver()},
        {},
        "Sending POST Uncertain CalledBack 200 Identified Succeeded",
    ),
    "called back while it runs": (
        Model(BUDGETS._replace(calls=1)),
        {"receiver": fakes.receiver(), "callbacks": lambda _: (-0.4,)},
        {},
        "Sending POST Accepted 200 Succeeded",
    ),
}


@pytest.fixture(autouse=True)
def asks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an answer named is asked about again after a moment."""
    monkeypatch.setattr(hearing, "PAUSE", FAST.interval)


@pytest.mark.parametrize(("model", "api", "runner", "expected"), WAYS.values(), ids=WAYS.keys())
async def test_a_real_batch_goes_a_way_of_the_model(
    model: Model,
    api: dict[str, Any],
    runner: dict[str, Any],
    expected: str,
    tmp_path: Path,
) -> None:
    """Its records, requests and answers come in an order that the model knows, and in no other."""
    watched = Watched(db=tmp_path / "run.db", duration=lambda _: 0.6, latency=0.05, **api)
    async with fakes.client_for(watched, schedule=FAST) as client:
        batch = BatchRunner(client, journal=watched.db, **runner)
        await batch.run([Job(TextToVideo("a fox"), key="k")])
    while watched.receiver is not None and not watched.called:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    watched.look()

    assert " ".join(watched.trace) == expected
    assert admits(model, tuple(watched.trace))


@pytest.mark.parametrize(
    "trace",
    [
        "POST Sending Accepted Succeeded",
        "Sending POST Succeeded",
        "Sending POST POST Accepted Succeeded",
        "Sending POST Uncertain Sending POST Accepted Succeeded",
        "Sending POST Uncertain 200 CalledBack Identified Succeeded",
    ],
)
def test_other_orders_are_no_way_of_the_model(trace: str) -> None:
    """A model that allowed everything would say nothing about the product."""
    assert not admits(Model(BUDGETS._replace(calls=1)), tuple(trace.split()))
