from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from apixo_async import ApixoClient, ClientUsageError, DownloadError, NotSentError, Task, TaskState
from apixo_async._wire import Reply
from apixo_async.client.saving import has_expired
from apixo_async.downloads import SavedFile
from tests.fakes import envelope, refusal
from tests.faults import Act, FaultServer, Peer, reply
from tests.filehost import OTHER, VIDEO, files_in, video

KEY = "apx_CANARY_7f3b29d1c85e4a60"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@attrs.define
class StatusApi:
    """An API that answers status calls with these, the last for all that follow."""

    answers: list[Reply | Exception] = attrs.field(factory=list)
    calls: list[str] = attrs.field(factory=list)

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        self.calls.append(f"{method} {path}")
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """There is nothing to close."""

    def client(self) -> ApixoClient:
        """A client that asks here."""
        return ApixoClient(KEY, base_url="http://127.0.0.1:9", transport=self)


def success(*urls: str, completed: datetime = NOW) -> Reply:
    """The status of a task that is done."""
    stamp = int(completed.timestamp() * 1000)
    data = {"taskId": "t-1", "state": "success", "completeTime": stamp}
    return envelope({**data, "resultJson": json.dumps({"resultUrls": urls})})


def done(*urls: str, completed: datetime | None = NOW) -> Task:
    """A task as its owner knows it."""
    state = TaskState.SUCCESS
    return Task(id="t-1", model="veo-3-1", state=state, urls=urls, completed_at=completed)


def host(files: dict[str, bytes], *, status: str = "403 No") -> Act:
    """A file host with some paths; all others are answered with `status`."""

    async def act(peer: Peer) -> None:
        seen = await peer.request()
        body = files.get(seen.target)
        answer = reply(b"", status=status) if body is None else video(body)
        await peer.send(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    return act


async def lost(client: ApixoClient, task: Task, directory: Path) -> DownloadError:
    """The error of a save; it names the task and keeps the signature to itself."""
    with pytest.raises(DownloadError) as caught:
        await client.save(task, directory)
    error = caught.value
    assert "t-1" in str(error)
    assert b"secret" not in pickle.dumps(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@pytest.mark.parametrize("status", ["403 No", "404 None", "410 Gone"])
async def test_a_file_that_has_gone_is_found_at_its_fresh_url(status: str, tmp_path: Path) -> None:
    """One status call tells where it is now; no task is started for it."""
    async with FaultServer(host({"/new": VIDEO}, status=status)) as server:
        api = StatusApi([success(f"{server.url}/new")])
        async with api.client() as client:
            (file,) = await client.save(done(f"{server.url}/old"), tmp_path)

        assert [seen.target for seen in server.seen] == ["/old", "/new"]
    assert api.calls == ["GET /statusTask/veo-3-1?taskId=t-1"]
    assert file.path.name == "t-1.mp4"
    assert files_in(tmp_path) == {"t-1.mp4": VIDEO}


async def test_all_results_of_a_task_share_one_status_call(tmp_path: Path) -> None:
    """What it told about the first is used for the others, and files keep their names."""
    files = {"/a": VIDEO, "/new/b": OTHER, "/new/c": VIDEO}
    async with FaultServer(host(files)) as server:
        api = StatusApi([success(*[f"{server.url}/new/{name}" for name in "abc"])])
        async with api.client() as client:
            task = done(*[f"{server.url}/{name}" for name in "abc"])
            await client.save(task, tmp_path, name="job")

        assert [seen.target for seen in server.seen] == ["/a", "/b", "/new/b", "/new/c"]
    assert len(api.calls) == 1
    assert files_in(tmp_path) == {"job.mp4": VIDEO, "job-2.mp4": OTHER, "job-3.mp4": VIDEO}


async def test_a_file_that_has_gone_for_good(tmp_path: Path) -> None:
    """The fresh URL is tried once, and then the error says that there is none."""
    async with FaultServer(host({})) as server:
        api = StatusApi([success(f"{server.url}/new?secret")])
        async with api.client() as client:
            error = await lost(client, done(f"{server.url}/old?secret"), tmp_path)

        assert len(server.seen) == 2
    assert len(api.calls) == 1
    assert (error.reason, error.http_status) == ("gone", 403)
    assert error.url == f"{server.url}/new"


@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "task not found"),
        refusal(500, "broken"),
        NotSentError("no network", host="api.test", reason="dns"),
        envelope({"taskId": "t-1", "state": "processing"}),
        envelope("nonsense"),
    ],
)
async def test_a_status_call_that_does_not_help(answer: Reply | Exception, tmp_path: Path) -> None:
    """Whatever comes of it, the error is that of the download, and nothing is asked again."""
    api = StatusApi([answer])
    async with FaultServer(host({})) as server, api.client() as client:
        error = await lost(client, done(f"{server.url}/old"), tmp_path)

        assert len(server.seen) == 1
    assert len(api.calls) == 1
    assert error.reason == "gone"


async def test_a_status_with_fewer_urls_than_before(tmp_path: Path) -> None:
    """The second result cannot be found at the first one's URL."""
    async with FaultServer(host({"/a": VIDEO})) as server:
        api = StatusApi([success(f"{server.url}/a")])
        async with api.client() as client:
            error = await lost(client, done(f"{server.url}/a", f"{server.url}/b"), tmp_path)

    assert error.reason == "gone"
    assert files_in(tmp_path) == {"t-1.mp4": VIDEO}


@pytest.mark.parametrize("known", [None, NOW - 16 * DAY])
async def test_a_file_that_has_expired(known: datetime | None, tmp_path: Path) -> None:
    """After 15 days the error says so, also where only the fresh status knows the date."""
    async with FaultServer(host({})) as server:
        api = StatusApi([success(f"{server.url}/old", completed=NOW - 16 * DAY)])
        async with api.client() as client:
            error = await lost(client, done(f"{server.url}/old", completed=known), tmp_path)

    assert error.reason == "expired"
    assert "15 days" in str(error)


async def test_another_failure_at_the_fresh_url(tmp_path: Path) -> None:
    """What is wrong there is what is told."""
    async with FaultServer(host({})) as server:
        api = StatusApi([success("ftp://elsewhere/new")])
        async with api.client() as client:
            with pytest.raises(DownloadError) as caught:
                await client.save(done(f"{server.url}/old"), tmp_path)

    assert caught.value.reason == "bad_url"


async def test_a_failure_of_another_kind_asks_for_no_status(tmp_path: Path) -> None:
    """A fresh URL would not help."""
    api = StatusApi()
    async with FaultServer(host({}, status="401 No")) as server, api.client() as client:
        with pytest.raises(DownloadError) as caught:
            await client.save(done(f"{server.url}/old"), tmp_path)

    assert caught.value.reason == "refused"
    assert api.calls == []


async def test_a_client_that_is_closed_meanwhile(tmp_path: Path) -> None:
    """That is told as what it is."""
    api = StatusApi()
    client = api.client()

    async def act(peer: Peer) -> None:
        await peer.request()
        await client.engine.aclose()
        await peer.send(reply(b"", status="403 No"))

    async with client, FaultServer(act) as server:
        with pytest.raises(ClientUsageError):
            await client.save(done(server.url), tmp_path)

    assert api.calls == []


@pytest.mark.parametrize(
    ("completed", "created", "is_old"),
    [
        (NOW - 15 * DAY, None, True),
        (NOW - 14 * DAY, None, False),
        (NOW - 14 * DAY, NOW - 16 * DAY, False),
        (None, NOW - 15 * DAY, True),
        (None, NOW - 14 * DAY, False),
        (None, None, False),
    ],
)
def test_when_results_have_expired(
    completed: datetime | None, created: datetime | None, is_old: bool
) -> None:
    """By the end of the task, else by its beginning; without a date nobody can say."""
    task = Task(id="t-1", model="veo-3-1", completed_at=completed, created_at=created)

    assert has_expired(task, NOW) is is_old


# Who is told of files


class Record:
    """Notes what it is told, and whether the file had its name then."""

    def __init__(self, on_naming: Callable[[], None] = lambda: None) -> None:
        self.notes: list[tuple[str, str, bool]] = []
        self._on_naming = on_naming

    async def naming(self, file: SavedFile) -> None:
        self.notes.append(("naming", file.path.name, file.path.exists()))
        self._on_naming()

    async def saved(self, file: SavedFile) -> None:
        self.notes.append(("saved", file.path.name, file.path.exists()))


async def test_an_observer_is_told_before_and_after_each_name(tmp_path: Path) -> None:
    """In turn for each result; what it saw is what is returned."""
    record = Record()
    act, api = host({"/a": VIDEO, "/b": OTHER}), StatusApi()
    async with FaultServer(act) as server, api.client() as client:
        task = done(f"{server.url}/a", f"{server.url}/b")
        files = await client.save(task, tmp_path, name="job", observer=record)

    assert record.notes == [
        ("naming", "job.mp4", False),
        ("saved", "job.mp4", True),
        ("naming", "job-2.mp4", False),
        ("saved", "job-2.mp4", True),
    ]
    assert [file.path.name for file in files] == ["job.mp4", "job-2.mp4"]


async def test_an_observer_that_fails_ends_the_save(tmp_path: Path) -> None:
    """What cannot be recorded does not get a name; what has one stays."""
    calls = 0

    def fail_second() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError

    record = Record(fail_second)
    act, api = host({"/a": VIDEO, "/b": OTHER}), StatusApi()
    async with FaultServer(act) as server, api.client() as client:
        task = done(f"{server.url}/a", f"{server.url}/b")
        with pytest.raises(ZeroDivisionError):
            await client.save(task, tmp_path, name="job", observer=record)

    assert files_in(tmp_path) == {"job.mp4": VIDEO}
