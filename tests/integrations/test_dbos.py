"""Durable generations on DBOS: a queue, replicas, and what becomes of those that die."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dbos import DBOS
from psycopg import sql

from apixo_async import (
    AuthenticationError,
    ClientUsageError,
    InvalidRequestError,
    InvalidSettingError,
    Outcome,
    OutcomeStatus,
    PollSchedule,
    StoreError,
    TextToVideo,
    Timeouts,
    WebhookReceiver,
)
from apixo_async.batch.journal import Entry, JobState
from apixo_async.emulator import EmulatorSettings
from apixo_async.integrations.dbos import DurableJob, DurableVeo, _engine
from apixo_async.integrations.dbos._caring import cares
from apixo_async.integrations.dbos._engine import executor_id
from apixo_async.integrations.sqlite.ledger import SqliteRows
from apixo_async.testing import EmulatorThread
from tests import fakes
from tests.ports import kept_port
from tests.services import POSTGRES, postgres_schema

FAST: Mapping[str, Any] = {
    "schedule": PollSchedule(first=0.3, interval=0.2, deadline=60.0),
    "timeout": Timeouts(submit=1.0),
    "lease": 3.0,
}
WORKER = Path(__file__).with_name("replica.py")


@pytest.fixture
def api() -> Iterator[EmulatorThread]:
    """An emulator whose tasks take half a second."""
    settings = EmulatorSettings(durations="0.5", api_key=fakes.KEY)
    with EmulatorThread(settings) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The URL of an SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'veo.db'}"


@contextmanager
def database() -> Iterator[str]:
    """The URL of a PostgreSQL database of its own."""
    with postgres_schema() as name:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{POSTGRES.rpartition('/')[0]}/{name}"
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            with psycopg.connect(POSTGRES, autocommit=True) as connection:
                connection.execute(drop)


def service(url: str, api: EmulatorThread, **settings: Any) -> DurableVeo:  # noqa: ANN401  # as it takes them
    """A replica on the fast schedule."""
    return DurableVeo(url, **{"api_key": fakes.KEY, "base_url": api.base_url, **FAST, **settings})


async def enqueued(veo: DurableVeo, count: int, *, name: str = "clip") -> list[DurableJob]:
    """So many jobs, whose prompts are their keys."""
    keys = [f"{name}-{number}" for number in range(count)]
    return list(await asyncio.gather(*(veo.enqueue(key, prompt=key) for key in keys)))


async def outcomes(veo: DurableVeo, jobs: list[DurableJob]) -> dict[str, Outcome]:
    """All of them, by key."""
    async with asyncio.timeout(90):
        return {outcome.key: outcome async for outcome in veo.as_completed(jobs)}


def statuses(found: Mapping[str, Outcome]) -> set[OutcomeStatus]:
    """How they ended."""
    return {outcome.status for outcome in found.values()}


def paid_once(api: EmulatorThread) -> bool:
    """Whether no prompt was billed twice."""
    return set(api.ledger.billed.values()) <= {1}


# One replica


async def test_jobs_are_carried_to_their_videos(file: str, api: EmulatorThread) -> None:
    """Enqueued by the API's own names or as requests, and told as they end."""
    async with service(file, api) as veo:
        jobs = await enqueued(veo, 5)
        jobs.append(await veo.enqueue("own", TextToVideo("own", mode="fast"), metadata={"n": 1}))
        found = await outcomes(veo, jobs)
        again = await veo.outcome("clip-0")

    assert statuses(found) == {OutcomeStatus.SUCCEEDED}
    assert all(outcome.urls for outcome in found.values())
    assert found["own"].job.metadata == {"n": 1}
    assert again is not None
    assert again.urls == found["clip-0"].urls
    assert api.ledger.submits_seen.total() == 6


async def test_the_same_key_is_the_same_job(file: str, api: EmulatorThread) -> None:
    """Also after it has ended and in another life; another request under it is refused."""
    async with service(file, api) as veo:
        jobs = await enqueued(veo, 2)
        await outcomes(veo, jobs)
        assert await enqueued(veo, 2) == jobs
        with pytest.raises(InvalidRequestError, match="was used for another request"):
            await veo.enqueue("clip-0", prompt="something else")
    async with service(file, api) as veo:
        assert await enqueued(veo, 2) == jobs
        assert statuses(await outcomes(veo, jobs)) == {OutcomeStatus.SUCCEEDED}
    assert api.ledger.submits_seen.total() == 2


async def test_who_does_not_work_only_enqueues(file: str, api: EmulatorThread) -> None:
    """Its jobs wait for who does."""
    async with service(file, api, works=False) as veo:
        jobs = await enqueued(veo, 2)
        await asyncio.sleep(3)
        first = await veo.outcome("clip-0")
    assert first is not None
    assert first.status is OutcomeStatus.NOT_STARTED
    assert not api.ledger.submits_seen
    async with service(file, api) as veo:
        assert statuses(await outcomes(veo, jobs)) == {OutcomeStatus.SUCCEEDED}


async def test_a_task_that_takes_long_is_waited_for_again(file: str) -> None:
    """By who asks for it again once it has timed out; it is paid once."""
    schedule = PollSchedule(first=0.3, interval=0.2, deadline=1.0)
    settings = EmulatorSettings(durations="8", api_key=fakes.KEY)
    with EmulatorThread(settings) as api:
        async with service(file, api, schedule=schedule) as veo:
            first = await outcomes(veo, await enqueued(veo, 1))
            found = first
            while statuses(found) == {OutcomeStatus.TIMED_OUT}:
                found = await outcomes(veo, await enqueued(veo, 1))
            state = await veo.state("clip-0")
        assert statuses(first) == {OutcomeStatus.TIMED_OUT}
        assert (statuses(found), state) == ({OutcomeStatus.SUCCEEDED}, "succeeded")
        assert api.ledger.submits_seen.total() == 1


async def test_each_key_has_a_queue_of_its_own(file: str, api: EmulatorThread) -> None:
    """The same name of a job is another job for another account."""
    keys = {"one": fakes.KEY, "other": fakes.KEY}
    async with service(file, api, api_key=keys) as veo:
        jobs = [await veo.enqueue("a", prompt=f"for {who}", account=who) for who in keys]
        async with asyncio.timeout(60):
            found = [outcome async for outcome in veo.as_completed(jobs)]
        with pytest.raises(InvalidSettingError, match="account must be one of one, other"):
            await veo.enqueue("b", prompt="b")
    assert {outcome.job.request.prompt for outcome in found} == {"for one", "for other"}  # type: ignore[union-attr]


async def test_leaving_leaves_the_jobs_to_the_next(file: str, api: EmulatorThread) -> None:
    """What runs is followed, what waits is submitted, and nothing is paid twice."""
    async with service(file, api, max_concurrent=2) as veo:
        jobs = await enqueued(veo, 6)
        while not api.ledger.billed:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)
    async with service(file, api) as veo:
        found = await outcomes(veo, jobs)
    assert statuses(found) == {OutcomeStatus.SUCCEEDED}
    assert paid_once(api)


async def test_uncertain_jobs_are_told_and_settled(file: str, api: EmulatorThread) -> None:
    """By a person, in each of three ways; then they are carried on."""
    api.set_faults({"submit_cut_after": 1.0})
    async with service(file, api) as veo:
        jobs = await enqueued(veo, 3)
        found = await outcomes(veo, jobs)
        assert statuses(found) == {OutcomeStatus.UNCERTAIN}
        assert {outcome.key for outcome in await veo.uncertain()} == set(found)
        api.set_faults({})
        task = next(task for task in api.tasks() if task["prompt"] == "clip-0")
        await veo.settle("clip-0", task_id=str(task["id"]))
        await veo.settle("clip-1", resubmit=True)
        await veo.settle("clip-2", abandon=True)
        settled = await outcomes(veo, jobs)
        assert not await veo.uncertain()
    assert settled["clip-0"].status is OutcomeStatus.SUCCEEDED
    assert settled["clip-1"].status is OutcomeStatus.SUCCEEDED
    assert settled["clip-2"].status is OutcomeStatus.FAILED
    assert dict(api.ledger.billed) == {"clip-0": 1, "clip-1": 2, "clip-2": 1}


async def test_a_refused_key_is_raised_to_who_waits(file: str, api: EmulatorThread) -> None:
    """The jobs stay in the queue for a key that works."""
    async with service(file, api, api_key="a-wrong-one") as veo:
        jobs = await enqueued(veo, 2)
        with pytest.raises(AuthenticationError):
            await outcomes(veo, jobs)
        assert veo.stopped["default"][0] == "key"
    async with service(file, api) as veo:
        assert statuses(await outcomes(veo, jobs)) == {OutcomeStatus.SUCCEEDED}


async def test_old_history_is_deleted_and_nothing_open(file: str, api: EmulatorThread) -> None:
    """Here and at DBOS; the key is a new one then."""
    async with service(file, api) as veo:
        await outcomes(veo, await enqueued(veo, 3))
        await asyncio.sleep(1.5)  # DBOS writes the end of a workflow after the ledger has it
        assert await veo.purge() == 0
        assert await veo.purge(timedelta(0)) == 3
        assert await veo.outcome("clip-0") is None
    path = file.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as looked_into:
        assert looked_into.execute("SELECT count(*) FROM workflow_status").fetchone() == (0,)


# Callbacks


async def test_a_callback_that_another_replica_receives_reaches_the_job(
    file: str, api: EmulatorThread, tmp_path: Path
) -> None:
    """It tells of ends at once, and names the tasks of submits whose answers were lost."""
    api.set_faults({"submit_cut_after": 0.5})
    shared: Mapping[str, Any] = {
        "secret": "a secret of the tests alone",
        "inbox": tmp_path / "in.db",
    }
    slow = PollSchedule(first=120.0, interval=60.0, deadline=600.0)
    with kept_port() as port:
        url = f"http://127.0.0.1:{port}"
        receiving, carrying = (WebhookReceiver(url, **shared) for _ in range(2))
        async with (
            receiving.serve(port=port),
            service(file, api, webhook=carrying, schedule=slow) as veo,
        ):
            found = await outcomes(veo, await enqueued(veo, 8))
    assert statuses(found) == {OutcomeStatus.SUCCEEDED}
    assert paid_once(api)
    assert api.ledger.faults["submit_cut_after"]


# What is stored


def everything_in(directory: Path) -> bytes:
    """All bytes of all files there, those of databases in order."""
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


async def test_the_key_is_stored_nowhere_and_nothing_is_pickled(
    file: str, api: EmulatorThread, tmp_path: Path
) -> None:
    """Whoever can write to the database can run no code here, and who reads it cannot pay."""
    async with service(file, api) as veo:
        await outcomes(veo, await enqueued(veo, 2))
    stored = everything_in(tmp_path)
    assert b"clip-0" in stored
    assert fakes.KEY.encode() not in stored
    with closing(sqlite3.connect(tmp_path / "veo.db")) as looked_into:
        for table, column in (
            ("workflow_input", "inputs"),
            ("workflow_output", "output"),
            ("operation_outputs", "output"),
        ):
            values = looked_into.execute(f"SELECT {column} FROM {table}").fetchall()  # noqa: S608
            assert len(values) == 2
            assert all(json.loads(value) for (value,) in values)
        mode = looked_into.execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


# Wrong use


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"database_url": "mysql://host/name"}, "database_url must be postgresql://"),
        ({"database_url": "sqlite://"}, "database_url must be postgresql://"),
        ({"database_url": "sqlite:///:memory:"}, "database_url must be postgresql://"),
        ({"database_url": "odd://user:secret@host"}, "got one with a password"),
        ({"api_key": {}}, "api_key as a mapping must name accounts"),
        ({"api_key": {"a/b": "x"}}, "api_key as a mapping must name accounts"),
        ({"max_concurrent": 0}, "concurrent_tasks must be"),
        ({"max_starts_per_minute": 0}, "max_starts_per_minute must be a whole number"),
        ({"max_starts_per_minute": 1.5}, "max_starts_per_minute must be a whole number"),
        ({"lease": 0}, "lease must be"),
    ],
)
def test_a_setting_that_cannot_be_one_is_named(settings: dict[str, Any], rule: str) -> None:
    """With its rule, before anything is opened."""
    with pytest.raises(InvalidSettingError, match=rule):
        DurableVeo(**{"api_key": "x", **settings})


@pytest.mark.parametrize(
    ("alive", "expected"),
    [
        ([], False),
        (["b-1-00000000"], True),
        (["b-1-00000000", "c-1-00000000"], True),
        (["b-1-00000000", "a-1-00000000"], False),
        (["c-1-00000000"], False),
        (["b-1-00000000", "0a1b2c3d4e5f6071", "a batch"], True),
    ],
)
def test_one_of_those_that_work_looks_for_the_dead(alive: list[str], *, expected: bool) -> None:
    """The first by name; a batch that shares the limits does not look, whatever its name."""
    assert cares("b-1-00000000", alive) is expected
    assert cares(executor_id(), ["!"]) is False


def test_a_replica_alone_looks_for_the_dead() -> None:
    """Whatever the host is called."""
    name = executor_id()

    assert cares(name, [name])


async def test_a_ledger_that_stays_away_keeps_nobody_from_leaving(
    file: str,
    api: EmulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its task may be billed: that is logged, and the job is uncertain by the record."""
    replace = SqliteRows.replace

    async def kept(rows: SqliteRows, before: Entry, after: Entry) -> bool:
        if after.state is JobState.ACCEPTED:
            raise StoreError("away")
        return await replace(rows, before, after)

    monkeypatch.setattr(SqliteRows, "replace", kept)
    monkeypatch.setattr("apixo_async.durable.ledger.CLOSE_SECONDS", 0.5)
    async with asyncio.timeout(40):
        async with service(file, api) as veo:
            await enqueued(veo, 1)
            while not api.ledger.billed:  # noqa: ASYNC110  # it is on another thread
                await asyncio.sleep(0.05)
        async with service(file, api, works=False) as veo:
            left = await veo.outcome("clip-0")

    assert left is not None
    assert left.status is OutcomeStatus.UNCERTAIN
    assert api.ledger.submits_seen.total() == 1
    assert "what came of job number 1 could not be recorded" in caplog.text


async def test_jobs_that_end_during_a_look_hide_no_others(
    file: str, api: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits would be told that nobody carries them."""
    listed = DBOS.list_workflows

    def ending(**which: Any) -> Any:  # noqa: ANN401  # as it takes them
        found = listed(**which)
        for flow in found[:1]:
            DBOS.cancel_workflow(flow.workflow_id)
        return found

    async with service(file, api, works=False) as veo:
        jobs = await enqueued(veo, 6)
        monkeypatch.setattr(_engine, "PAGE", 2)
        monkeypatch.setattr(DBOS, "list_workflows", ending)
        active = await veo._engine.active("default")

    assert active >= {job.key for job in jobs[1:]}


async def test_it_has_to_be_open(file: str, api: EmulatorThread) -> None:
    """And there is one at a time, because DBOS runs once in a process."""
    veo = service(file, api)
    with pytest.raises(ClientUsageError, match="async with"):
        await veo.enqueue("a", prompt="a")
    async with veo:
        other = service(file, api)
        with pytest.raises(ClientUsageError, match="once in a process"):
            async with other:
                pass
        assert statuses(await outcomes(veo, await enqueued(veo, 1))) == {OutcomeStatus.SUCCEEDED}


async def test_a_database_that_is_not_there_is_said_so(api: EmulatorThread) -> None:
    """On opening, and nothing was started."""
    with pytest.raises(StoreError, match="PostgreSQL"):
        async with service("postgresql://nobody@127.0.0.1:9/none", api):
            pass


# Many replicas


class Replica:
    """A process that carries jobs."""

    def __init__(self, url: str, api: EmulatorThread) -> None:
        arguments = [sys.executable, str(WORKER), url, api.base_url, fakes.KEY]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE)

    async def ready(self) -> None:
        """It has begun to work."""
        assert self._process.stdout is not None
        assert await asyncio.to_thread(self._process.stdout.readline) == b"ready\n"

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """It is gone."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def run(url: str, *, hurt: signal.Signals | None, count: int = 30) -> dict[str, Outcome]:
    """So many jobs carried by two replicas, of which one is hurt with POSTs in flight."""
    settings = EmulatorSettings(durations="uniform:2:4", latency="0.5", api_key=fakes.KEY)
    with EmulatorThread(settings) as api:
        replicas = [Replica(url, api) for _ in range(2)]
        try:
            await asyncio.gather(*(replica.ready() for replica in replicas))
            async with service(url, api, works=False) as veo:
                jobs = await enqueued(veo, count)
                while api.ledger.billed.total() < count // 3:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.02)
                if hurt is not None:
                    replicas[0].send(hurt)
                if hurt is signal.SIGSTOP:
                    await asyncio.sleep(2 * FAST["lease"])
                    replicas[0].send(signal.SIGCONT)
                found = await outcomes(veo, jobs)
                await settled_down(veo, found)
                left = {outcome.key for outcome in await veo.uncertain()}
        finally:
            for replica in replicas:
                replica.end()
        assert paid_once(api)
        lost = set(api.ledger.billed) - {key for key, one in found.items() if one.task is not None}
        assert lost <= left
        return found


async def settled_down(veo: DurableVeo, found: dict[str, Outcome]) -> None:
    """Who was only frozen brings home what became of its submits."""
    for key, outcome in found.items():
        if outcome.status is OutcomeStatus.UNCERTAIN:
            found[key] = await veo.outcome(key) or outcome


@pytest.mark.slow
@pytest.mark.parametrize("hurt", [None, signal.SIGKILL, signal.SIGSTOP], ids=str)
async def test_a_replica_that_dies_or_freezes_costs_nothing_twice(
    hurt: signal.Signals | None,
) -> None:
    """Its jobs are carried on by the other; what was in flight is stated as uncertain at worst."""
    with database() as url:
        found = await run(url, hurt=hurt)
    ends = statuses(found)
    assert OutcomeStatus.SUCCEEDED in ends
    assert ends <= {OutcomeStatus.SUCCEEDED, OutcomeStatus.UNCERTAIN}
    if hurt is None:
        assert ends == {OutcomeStatus.SUCCEEDED}


@pytest.mark.slow
async def test_a_script_on_sqlite_that_is_killed_goes_on_when_it_is_run_again(
    tmp_path: Path,
) -> None:
    """The jobs are in the file, and those that ran are followed."""
    url = f"sqlite:///{tmp_path / 'veo.db'}"
    settings = EmulatorSettings(durations="uniform:2:4", latency="0.5", api_key=fakes.KEY)
    with EmulatorThread(settings) as api:
        replica = Replica(url, api)
        await replica.ready()
        async with service(url, api, works=False) as veo:
            jobs = await enqueued(veo, 12)
            while api.ledger.billed.total() < 4:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.02)
        replica.end()
        async with service(url, api) as veo:
            found = await outcomes(veo, jobs)
        assert statuses(found) <= {OutcomeStatus.SUCCEEDED, OutcomeStatus.UNCERTAIN}
        assert paid_once(api)
