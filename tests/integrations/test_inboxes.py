"""Inboxes: what holds for one in a file and for one in PostgreSQL, and what only for the latter."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import attrs
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from apixo_async import (
    BatchRunner,
    InvalidSettingError,
    Job,
    OutcomeStatus,
    StoreError,
    TextToVideo,
    WebhookReceiver,
)
from apixo_async._wire import Claim
from apixo_async.integrations.postgres import Database, PostgresInbox
from apixo_async.integrations.postgres import inbox as in_postgres
from apixo_async.webhooks import Callback, Slip, boxes
from apixo_async.webhooks import inbox as in_file
from apixo_async.webhooks.inbox import Inbox
from tests import fakes
from tests.batch.test_callbacks import FAST, happened, lost_now_and_then
from tests.fakes import FakeApi
from tests.integrations.stores import address_of, through
from tests.services import POSTGRES, Wire, postgres_schema, wire

URL, SECRET = "https://receiver.test", "a secret of these tests alone"
BODY = b'{"data": {"taskId": "t1", "state": "success"}}'
DAY = 24 * 3600
Box: TypeAlias = Inbox | PostgresInbox


@attrs.frozen
class Place:
    """Where an inbox is, with nothing in it."""

    inbox: Callable[[], Box]
    """One more that sees what the others see."""
    age: Callable[[float], None]
    """Makes all that is in it older by seconds."""


@pytest.fixture
def schema() -> Iterator[str]:
    """A name that nobody else has."""
    with postgres_schema() as name:
        yield name


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """One of each kind."""
    if request.param == "file":
        path = tmp_path / "in.db"

        def age(seconds: float) -> None:
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("UPDATE callbacks SET at = at - ?", (seconds,))

        yield Place(lambda: Inbox(path), age)
        return
    with postgres_schema() as name:

        def older(seconds: float) -> None:
            with psycopg.connect(POSTGRES, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("UPDATE {}.callbacks SET at = at - make_interval(secs => %s)").format(
                        sql.Identifier(name)
                    ),
                    [seconds],
                )

        yield Place(lambda: PostgresInbox(POSTGRES, schema=name), older)


@pytest.fixture
async def make(place: Place) -> AsyncIterator[Callable[[], Box]]:
    """Makes inboxes of one place, which are closed in the end."""
    made: list[Box] = []

    def one() -> Box:
        made.append(place.inbox())
        return made[-1]

    yield one
    for box in made:
        if isinstance(box, PostgresInbox):
            await box.aclose()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "LOOK_EVERY", 0.02)


def callback(job: str, task_id: str | None = "t1", attempt: int = 1) -> Callback:
    """Says that the task succeeded."""
    return Callback(Slip(job, attempt), Claim(task_id, "success"))


async def test_it_keeps_what_nobody_took_until_somebody_has_it(make: Callable[[], Box]) -> None:
    """Whoever asks; the same one is kept once, and goes when it is said to be recorded."""
    one, other = make(), make()
    given = [callback("a"), callback("a"), callback("a", "007"), callback("a", None), callback("b")]
    for what in [*given, callback("a", None), callback("a", attempt=2)]:
        await one.put(what)
    kept = [callback("a"), callback("a", "007"), callback("a", None), callback("a", attempt=2)]

    assert list(await other.find("a")) == kept
    await other.drop(callback("a"))
    await other.drop(callback("a", None))
    assert list(await one.find("a")) == [kept[1], kept[3]]
    assert list(await one.find("b")) == [callback("b")]
    assert list(await one.find("c")) == []


async def test_it_tells_which_jobs_it_keeps_anything_for(make: Callable[[], Box]) -> None:
    """Each is named once; before the first callback there is none."""
    box = make()
    before = list(await box.jobs())
    for what in (callback("a"), callback("a", "t2"), callback("b")):
        await box.put(what)

    assert (before, sorted(await box.jobs())) == ([], ["a", "b"])


async def test_a_thousand_at_once_share_a_few_writes(
    make: Callable[[], Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the writes of all before it; the order stays, and the same ones are one."""
    groups: list[int] = []
    put = boxes.GroupedPuts.__init__

    def counting(self: boxes.GroupedPuts, write: Callable[[Sequence[Callback]], object]) -> None:
        def counted(group: Sequence[Callback]) -> object:
            groups.append(len(group))
            return write(group)

        put(self, counted)  # type: ignore[arg-type]  # it is awaited by whoever calls it

    monkeypatch.setattr(boxes.GroupedPuts, "__init__", counting)
    box = make()
    await asyncio.gather(*(box.put(callback("a", f"t{n // 2}")) for n in range(1000)))

    assert sum(groups) == 1000
    assert len(groups) <= 10
    assert list(await box.find("a")) == [callback("a", f"t{n}") for n in range(500)]


async def test_old_callbacks_go(place: Place, make: Callable[[], Box]) -> None:
    """After a day, with the next one that comes."""
    box = make()
    await box.put(callback("a"))
    place.age(DAY / 2)
    await box.put(callback("b"))
    place.age(DAY / 2 + 60)
    await box.put(callback("c"))

    assert sorted(await box.jobs()) == ["b", "c"]


async def test_it_has_an_end(make: Callable[[], Box], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room."""
    for module in (in_file, in_postgres):
        monkeypatch.setattr(module, "MOST", 2)
    box = make()
    for job in "abc":
        await box.put(callback(job))

    assert sorted(await box.jobs()) == ["b", "c"]


async def test_one_that_cannot_be_taken_holds_up_no_other(
    make: Callable[[], Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, and is told again; what nobody here wants is told once; pages end nowhere early."""
    for module in (in_file, in_postgres):
        monkeypatch.setattr(module, "PAGE", 2)
    box, other = make(), make()
    for job in ["other", "bad", "good", "better", "best"]:
        await other.put(callback(job))
    told: list[str] = []

    async def tell(what: Callback) -> bool:
        told.append(what.slip.job)
        if what.slip.job == "bad":
            raise OSError("no")
        return what.slip.job != "other"

    watching = asyncio.create_task(box.watch(tell))
    while told.count("bad") < 2:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    await other.put(callback("late"))
    while "late" not in told:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.01)
    while "late" in await other.jobs():  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    assert [told.count(job) for job in ("other", "good", "better", "best", "late")] == [1] * 5
    assert sorted(await other.jobs()) == ["bad", "other"]


# PostgreSQL


async def test_what_is_committed_later_is_seen_all_the_same(schema: str) -> None:
    """Who looks in between sees neither of two, and then both: numbers are given in that order."""
    slow, quick = PostgresInbox(POSTGRES, schema=schema), PostgresInbox(POSTGRES, schema=schema)
    await slow.put(callback("first"))
    reader = Database(POSTGRES, schema=schema)
    async with reader.transaction() as fetch:
        # Another process, in the middle of putting one.
        await fetch(in_postgres._ONE_AT_A_TIME, [schema])
        await fetch(in_postgres._INSERT, [["slow"], [1], ["t1"], ["success"]])
        putting = asyncio.create_task(quick.put(callback("quick")))
        await asyncio.sleep(0.2)
        seen = await slow.after(0)
    await putting
    last = seen[-1][0]

    assert [one.slip.job for _, one in seen] == ["first"]
    assert [one.slip.job for _, one in await slow.after(last)] == ["slow", "quick"]
    await asyncio.gather(slow.aclose(), quick.aclose(), reader.aclose())


@pytest.fixture
async def line() -> AsyncIterator[Wire]:
    """A way to PostgreSQL that can be cut."""
    async with wire(*address_of(POSTGRES, 5432)) as way:
        yield way


async def test_what_cannot_be_written_is_not_confirmed(schema: str, line: Wire) -> None:
    """The sender comes again, and then it is taken."""
    box = PostgresInbox(through(POSTGRES, line.port), schema=schema)
    receiver = WebhookReceiver(URL, secret=SECRET, inbox=box)
    answers = [await receiver.take(Slip("a", 1), BODY)]
    line.cut()
    answers.append(await receiver.take(Slip("b", 1), BODY))
    with pytest.raises(StoreError, match="PostgreSQL"):
        await box.put(callback("c"))
    line.mend()
    answers.append(await receiver.take(Slip("b", 1), BODY))

    assert answers == [HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK]
    assert sorted(await receiver.orphaned()) == ["a", "b"]
    assert receiver.statistics().postponed == 1
    await box.aclose()


async def test_it_goes_on_after_an_outage(
    schema: str, line: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged where, without the password, and what came meanwhile is told."""
    box = PostgresInbox(through(POSTGRES, line.port), schema=schema)
    other = PostgresInbox(POSTGRES, schema=schema)
    told = asyncio.Queue[str]()

    async def tell(what: Callback) -> bool:
        told.put_nowait(what.slip.job)
        return True

    await box.put(callback("a"))
    watching = asyncio.create_task(box.watch(tell))
    assert await told.get() == "a"
    while await other.jobs():  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    line.cut()
    while "cannot be read" not in caplog.text:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    await other.put(callback("b"))
    line.mend()

    assert await told.get() == "b"
    assert (
        f"inbox <Database 127.0.0.1 {address_of_database()} {schema}> cannot be read" in caplog.text
    )
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await other.aclose()


def address_of_database() -> str:
    """The name of the database of the tests."""
    return str(conninfo_to_dict(POSTGRES)["dbname"])


async def test_each_event_loop_looks_for_itself(schema: str) -> None:
    """A client whose loop ends takes nothing from one on another loop, and leaves nothing open."""
    box = PostgresInbox(POSTGRES, schema=schema)
    shared = WebhookReceiver(URL, secret=SECRET, inbox=box)
    heard: list[Callback] = []

    async def nobody(_: Callback) -> bool:
        return False

    async def mine(what: Callback) -> bool:
        heard.append(what)
        return True

    async def elsewhere() -> None:
        shared.connect(nobody)
        await box.put(callback("b"))
        await asyncio.sleep(0.05)

    await asyncio.to_thread(asyncio.run, elsewhere())
    shared.connect(mine)
    await box.put(callback("a"))
    while len(heard) < 2:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    shared.disconnect(nobody)
    shared.disconnect(mine)
    await asyncio.sleep(0.05)

    assert heard == [callback("b"), callback("a")]
    await box.aclose()


async def test_a_database_that_others_use_is_not_closed(schema: str) -> None:
    """Neither when it is closed nor when nobody looks any more."""
    database = Database(POSTGRES, schema=schema)
    box = PostgresInbox(database)
    await box.put(callback("a"))
    [(process,)] = await database.fetch("SELECT pg_backend_pid()")

    async def tell(_: Callback) -> bool:
        return False

    watching = asyncio.create_task(box.watch(tell))
    await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await box.aclose()

    assert await database.fetch("SELECT pg_backend_pid()") == [(process,)]
    await database.aclose()


class CallingElsewhere(FakeApi):
    """Its callbacks go to another replica, which has no client."""

    elsewhere: WebhookReceiver
    calls: set[asyncio.Task[HTTPStatus]]

    def call_in(self, seconds: float, url: str, data: Mapping[str, object]) -> None:
        """Calls back then."""
        asyncio.get_running_loop().call_later(seconds, self._call, url, data)

    def _call(self, url: str, data: Mapping[str, object]) -> None:
        slip = self.elsewhere.admit("POST", url, {})
        assert isinstance(slip, Slip)
        body = f'{{"data": {{"taskId": "{data["taskId"]}", "state": "success"}}}}'
        self.calls.add(asyncio.create_task(self.elsewhere.take(slip, body.encode())))


async def test_one_replica_receives_and_another_one_submits(schema: str, tmp_path: Path) -> None:
    """They share the secret and the inbox; lost answers are found as in one process."""
    theirs, ours = PostgresInbox(POSTGRES, schema=schema), PostgresInbox(POSTGRES, schema=schema)
    api = CallingElsewhere(
        receiver=WebhookReceiver(URL, secret=SECRET, inbox=ours),
        duration=lambda _: 0.3,
        latency=0.002,
        on_submit=lost_now_and_then,
        accept_anyway=True,
    )
    api.elsewhere, api.calls = WebhookReceiver(URL, secret=SECRET, inbox=theirs), set()
    async with fakes.client_for(api, schedule=FAST) as client:
        jobs = [Job(TextToVideo(f"prompt {n}"), key=f"k{n}") for n in range(30)]
        report = await BatchRunner(client, journal=tmp_path / "run.db").run(jobs)

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 30}
    assert len(api.billed) == 30
    assert set(await asyncio.gather(*api.calls)) == {HTTPStatus.OK}
    await theirs.aclose()
    await ours.aclose()


def test_what_is_no_inbox_is_told_at_once() -> None:
    """And what can be one."""
    with pytest.raises(
        InvalidSettingError, match=r"inbox must be the path .* PostgresInbox, got 5"
    ):
        WebhookReceiver(URL, secret=SECRET, inbox=5)  # type: ignore[arg-type]
