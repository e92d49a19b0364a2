"""A file between the process that receives and the one that submits."""

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import IO

import pytest

from apixo_async import (
    BatchRunner,
    InvalidSettingError,
    Job,
    OutcomeStatus,
    PollSchedule,
    TextToVideo,
)
from apixo_async import WebhookReceiver as Receiver
from apixo_async._wire import Claim
from apixo_async.webhooks import Callback, Slip, boxes, inbox
from apixo_async.webhooks.inbox import Inbox
from tests import fakes
from tests.batch.test_callbacks import happened, lost_now_and_then
from tests.fakes import FakeApi

URL, SECRET = "https://receiver.test", "a secret of these tests alone"
BODY = b'{"data": {"taskId": "t1", "state": "success"}}'
BUSY_MS = inbox._BUSY_MS


@pytest.fixture(autouse=True)
def _on_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are frequent, and nobody who holds the file for a while is given up."""
    monkeypatch.setattr(boxes, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(inbox, "_BUSY_MS", 30_000)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[int]:
    """Up to where an inbox was gone through, once for each look that is over."""
    over, look = asyncio.Queue[int](), boxes._look

    async def watched(box: boxes.Numbered, last: int, tell: boxes.Tell) -> int:
        up_to = await look(box, last, tell)
        over.put_nowait(up_to)
        return up_to

    monkeypatch.setattr(boxes, "_look", watched)
    return over


def callback(job: str, task_id: str = "t1", attempt: int = 1) -> Callback:
    """Says that the task succeeded."""
    return Callback(Slip(job, attempt), Claim(task_id, "success"))


async def test_it_keeps_what_nobody_took_until_somebody_has_it(tmp_path: Path) -> None:
    """Whichever process asks; it goes when it is said to be recorded, and not before."""
    one, other = Inbox(tmp_path / "in.db"), Inbox(tmp_path / "in.db")
    for what in (callback("a"), callback("a"), callback("a", "t2"), callback("b")):
        await one.put(what)

    assert list(await other.find("a")) == [callback("a"), callback("a", "t2")]
    await other.drop(callback("a"))
    assert list(await one.find("a")) == [callback("a", "t2")]
    assert list(await one.find("b")) == [callback("b")]


async def test_an_id_of_digits_stays_a_text(tmp_path: Path) -> None:
    """Zeros in front of it included, as it is compared with what the API gave."""
    box = Inbox(tmp_path / "in.db")
    await box.put(callback("a", "007"))

    assert list(await box.find("a")) == [callback("a", "007")]


async def test_a_thousand_at_once_share_a_few_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the writes of all before it."""
    box = Inbox(tmp_path / "in.db")
    writes: list[int] = []
    put = Inbox._put

    def counted(self: Inbox, callbacks: Sequence[Callback]) -> None:
        writes.append(len(callbacks))
        put(self, callbacks)

    monkeypatch.setattr(Inbox, "_put", counted)
    await asyncio.gather(*(box.put(callback(f"job{n}")) for n in range(1000)))

    assert sum(writes) == 1000
    assert len(writes) <= 10
    assert list(await box.find("job999")) == [callback("job999")]


async def test_it_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room."""
    monkeypatch.setattr(inbox, "MOST", 2)
    box = Inbox(tmp_path / "in.db")
    for job in "abc":
        await box.put(callback(job))

    assert list(await box.find("a")) == []
    assert list(await box.find("c")) == [callback("c")]


async def test_one_that_cannot_be_taken_holds_up_no_other(tmp_path: Path) -> None:
    """It stays, and is told again."""
    box = Inbox(tmp_path / "in.db")
    for job in ["other", "bad", "good"]:
        await box.put(callback(job))
    told: list[str] = []

    async def tell(what: Callback) -> bool:
        told.append(what.slip.job)
        if what.slip.job == "bad":
            raise OSError("no")
        return what.slip.job == "good"

    watching = asyncio.create_task(box.watch(tell))
    while told.count("bad") < 2:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    watching.cancel()

    assert (told.count("other"), told.count("good")) == (1, 1)
    assert list(await box.find("bad")) == [callback("bad")]
    assert list(await box.find("good")) == []


async def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whoever could write there could make us look at tasks; the umask makes no difference."""
    before = os.umask(0)
    try:
        await Inbox(tmp_path / "in.db").put(callback("a"))
        with closing(sqlite3.connect(tmp_path / "in.db")) as reader:
            reader.execute("SELECT count(*) FROM callbacks").fetchall()
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert modes == dict.fromkeys(modes, 0o600)
    assert "in.db" in modes


async def test_old_callbacks_go(tmp_path: Path) -> None:
    """After a day, with the next one that comes."""
    box = Inbox(tmp_path / "in.db")
    await box.put(callback("a"))
    with closing(sqlite3.connect(tmp_path / "in.db")) as database, database:
        database.execute("UPDATE callbacks SET at = at - 90000")
    await box.put(callback("b"))

    assert list(await box.find("a")) == []
    assert list(await box.find("b")) == [callback("b")]


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    """Before anything is received."""
    with pytest.raises(InvalidSettingError, match="there is no directory"):
        Receiver(URL, secret=SECRET, inbox=tmp_path / "no" / "in.db")


async def test_what_cannot_be_written_is_not_confirmed(tmp_path: Path) -> None:
    """The sender comes again."""
    ours = Receiver(URL, secret=SECRET, inbox=tmp_path / "in.db")
    (tmp_path / "in.db").write_bytes(b"this is no database, whatever it is called" * 100)

    assert await ours.take(Slip("a", 1), BODY) == HTTPStatus.SERVICE_UNAVAILABLE


async def test_a_file_that_somebody_holds_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender has to be answered within a second."""
    assert BUSY_MS == 500
    monkeypatch.setattr(inbox, "_BUSY_MS", 10)
    box = Inbox(tmp_path / "in.db")
    await box.put(callback("a"))
    with closing(sqlite3.connect(tmp_path / "in.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="database is locked"):
            await asyncio.wait_for(box.put(callback("b")), 25)

    await box.put(callback("b"))
    assert sorted(await box.jobs()) == ["a", "b"]


async def test_it_tells_which_jobs_it_keeps_anything_for(tmp_path: Path) -> None:
    """Each is named once; before the first callback there is not even a file."""
    box = Inbox(tmp_path / "in.db")
    assert list(await box.jobs()) == []
    for what in (callback("a"), callback("a", "t2"), callback("b")):
        await box.put(what)

    assert sorted(await box.jobs()) == ["a", "b"]


async def test_a_place_that_is_no_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """As a full one is, so that the sender comes again."""
    box = Inbox(tmp_path)

    with pytest.raises(OSError, match=f"inbox {tmp_path}: unable to open"):
        await box.put(callback("a"))


async def test_it_goes_on_when_the_file_can_be_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, looks: asyncio.Queue[int]
) -> None:
    """What nobody takes stays in it, and is not told again."""
    good, bad = tmp_path / "good.db", tmp_path / "in.db"
    await Inbox(good).put(callback("a"))
    await Inbox(good).put(callback("b"))
    bad.write_bytes(b"this is no database, whatever it is called" * 100)
    told: list[str] = []

    async def tell(what: Callback) -> bool:
        told.append(what.slip.job)
        return what.slip.job == "b"

    watching = asyncio.create_task(Inbox(bad).watch(tell))
    while "cannot be read" not in caplog.text:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    good.replace(bad)
    for _ in range(3):
        await looks.get()
    watching.cancel()

    assert told == ["a", "b"]
    assert list(await Inbox(bad).jobs()) == ["a"]


async def test_all_that_share_a_write_learn_that_it_failed(tmp_path: Path) -> None:
    """Nobody waits for ever for what somebody else's thread could not write."""
    box = Inbox(tmp_path)
    puts = [box.put(callback(f"job{number}")) for number in range(3)]
    failures = await asyncio.wait_for(asyncio.gather(*puts, return_exceptions=True), 10)

    assert [type(failure) for failure in failures] == [OSError] * 3


async def test_a_failure_that_nobody_waits_for_is_no_noise(tmp_path: Path) -> None:
    """The sender has been told to come again; there is nothing more to say."""
    loop, heard = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    box = Inbox(tmp_path)
    writing, waiting = (asyncio.create_task(box.put(callback(job))) for job in "ab")
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(writing, waiting, return_exceptions=True)
    with pytest.raises(OSError, match="unable to open"):
        await box.put(callback("c"))
    gc.collect()
    await asyncio.sleep(0)

    assert heard == []


async def test_it_is_looked_into_now_and_then_and_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: asyncio.Queue[int]
) -> None:
    """What comes between two looks waits for the next."""
    monkeypatch.setattr(boxes, "LOOK_EVERY", 3600.0)
    box, told = Inbox(tmp_path / "in.db"), asyncio.Queue[str]()
    await box.put(callback("a"))

    async def tell(what: Callback) -> bool:
        told.put_nowait(what.slip.job)
        return False

    watching = asyncio.create_task(box.watch(tell))
    assert await told.get() == "a"
    await looks.get()
    await box.put(callback("b"))
    await asyncio.sleep(0.1)
    watching.cancel()

    assert told.empty()


async def test_each_event_loop_looks_for_itself(tmp_path: Path) -> None:
    """A client whose loop ends takes nothing from one on another loop."""
    shared = Receiver(URL, secret=SECRET, inbox=tmp_path / "in.db")
    heard: list[Callback] = []

    async def nobody(_: Callback) -> bool:
        return False

    async def mine(what: Callback) -> bool:
        heard.append(what)
        return True

    async def elsewhere() -> None:
        shared.connect(nobody)
        await asyncio.sleep(0.05)

    await asyncio.to_thread(asyncio.run, elsewhere())
    shared.connect(mine)
    await Inbox(tmp_path / "in.db").put(callback("a"))
    while not heard:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    shared.disconnect(nobody)
    shared.disconnect(mine)

    assert heard == [callback("a")]


RECEIVE = """
import asyncio, sys
from apixo_async import WebhookReceiver

async def main(url, secret, inbox):
    receiver = WebhookReceiver(url, secret=secret, inbox=inbox)
    while call := await asyncio.to_thread(sys.stdin.readline):
        called, task_id = call.split()
        slip = receiver.admit("POST", called, {})
        body = '{"data": {"taskId": "%s", "state": "success"}}' % task_id
        while await receiver.take(slip, body.encode()) != 200:
            pass  # the API comes again

asyncio.run(main(*sys.argv[1:]))
"""
"""A process that only receives: it takes what its standard input says is called."""


class CallingElsewhere(FakeApi):
    """Its callbacks go to another process."""

    calls: IO[str]

    def call_in(self, seconds: float, url: str, data: Mapping[str, object]) -> None:
        """Calls back then."""
        asyncio.get_running_loop().call_later(seconds, self._tell, f"{url} {data['taskId']}\n")

    def _tell(self, call: str) -> None:
        self.calls.write(call)
        self.calls.flush()


async def test_one_process_receives_and_another_one_submits(tmp_path: Path) -> None:
    """They share the secret and the inbox; lost answers are found as in one process."""
    box = tmp_path / "in.db"
    command = [sys.executable, "-c", RECEIVE, URL, SECRET, str(box)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as other:  # noqa: ASYNC220
        assert other.stdin is not None
        api = CallingElsewhere(
            receiver=Receiver(URL, secret=SECRET, inbox=box),
            duration=lambda _: 0.3,
            latency=0.002,
            on_submit=lost_now_and_then,
            accept_anyway=True,
        )
        api.calls = other.stdin
        patient = PollSchedule(first=0.9, interval=0.05, deadline=50.0)
        async with fakes.client_for(api, schedule=patient) as client:
            jobs = [Job(TextToVideo(f"prompt {n}"), key=f"k{n}") for n in range(30)]
            report = await BatchRunner(client, journal=tmp_path / "run.db").run(jobs)

    assert happened(report) == {OutcomeStatus.SUCCEEDED: 30}
    assert len(api.billed) == 30
    assert other.returncode == 0
