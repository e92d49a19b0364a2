"""The receiver without a server: whom it lets in, what it answers, whom it tells."""

import asyncio
import inspect
import json
import logging
import threading
from http import HTTPStatus
from pathlib import Path

import pytest

from apixo_async import InvalidSettingError, JournalError, WebhookReceiver
from apixo_async.webhooks import Callback, Slip, bodies, reception
from tests.virtual import virtual

SECRET = "a secret of these tests alone"
SLIP = Slip("job", 1)
JSON = {"content-type": "application/json"}
RECORD_SECONDS = reception.RECORD_SECONDS


def made(url: str = "https://example.com/apixo/") -> WebhookReceiver:
    """A receiver."""
    return WebhookReceiver(url, secret=SECRET)


def body(task_id: object = "t1", state: object = "success") -> bytes:
    """What APIXO sends."""
    return json.dumps({"code": 200, "data": {"taskId": task_id, "state": state}}).encode()


class Ear:
    """A listener that takes what is for its jobs."""

    def __init__(self, *jobs: str, error: Exception | None = None) -> None:
        self.jobs = jobs
        self.heard: list[Callback] = []
        self.error = error
        self.thread: threading.Thread | None = None

    async def __call__(self, callback: Callback) -> bool:
        self.thread = threading.current_thread()
        if self.error is not None:
            raise self.error
        if callback.slip.job not in self.jobs:
            return False
        self.heard.append(callback)
        return True


# Settings


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com/cb", "ftp://example.com", "https://", "https://u:p@example.com"),
        *("https://a/?q", "https://a/#f", "https://a b", "https://a:99999", "https://ü.example"),
        *("http://example.com", 7),
    ],
)
def test_an_address_that_apixo_cannot_call_is_refused(url: object) -> None:
    """Before anything is paid for, with a message that says what is wanted."""
    with pytest.raises(InvalidSettingError, match="public_url must be"):
        made(url)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "app:8080", "a.test"])
def test_plain_http_is_for_the_own_network(host: str) -> None:
    """An emulator calls back without TLS."""
    assert made(f"http://{host}/").public_url == f"http://{host}"


def test_a_url_is_made_of_job_attempt_and_mac() -> None:
    """The MAC is in the path, behind the public URL, which may end in a slash."""
    url = made().url(SLIP)

    assert url.startswith("https://example.com/apixo/job.1.")
    assert "?" not in url


def test_the_secret_is_not_shown() -> None:
    """Not by its repr."""
    assert SECRET not in repr(made())


# Before the body is read


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("path", ["/", "/job.1.x", "", "/apixo/job.2.{mac}", "/apixo/{token}/x"])
def test_who_does_not_know_the_url_learns_nothing(method: str, path: str) -> None:
    """A wrong MAC, another attempt and no URL at all look like a path that does not exist."""
    ours = made()
    token = ours.url(SLIP).rpartition("/")[2]
    path = path.format(token=token, mac=token.rpartition(".")[2])

    assert ours.admit(method, path, JSON) is HTTPStatus.NOT_FOUND
    assert ours.statistics().forged == 1


@pytest.mark.parametrize(
    "prefix", ["/", "/apixo/", "/somewhere/else/", ""], ids=["none", "kept", "other", "bare"]
)
def test_a_proxy_may_change_all_but_the_last_part(prefix: str) -> None:
    """Only what carries the MAC counts."""
    ours = made()

    assert ours.admit("POST", prefix + ours.url(SLIP).rpartition("/")[2], JSON) == SLIP


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 405),
        ("POST", {"content-encoding": "gzip"}, 415),
        ("POST", {"content-type": "text/xml"}, 415),
        ("POST", {"content-type": "multipart/form-data; boundary=x"}, 415),
        ("POST", {"content-length": "65537"}, 413),
        ("POST", {"content-length": "9" * 4000}, 413),
    ],
)
def test_what_no_callback_looks_like_is_refused(
    method: str, headers: dict[str, str], status: int
) -> None:
    """Without reading a byte of its body."""
    ours = made()

    assert ours.admit(method, ours.url(SLIP), headers) == status
    assert ours.statistics().refused == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        JSON,
        {"content-type": "application/json; charset=utf-8", "content-length": "65536"},
        {"content-type": "text/plain", "content-encoding": "identity"},
        {"content-type": "application/vnd.apixo+json", "content-length": "x"},
    ],
)
def test_a_callback_may_be_labelled_in_many_ways(headers: dict[str, str]) -> None:
    """No document says which header comes."""
    ours = made()

    assert ours.admit("POST", ours.url(SLIP), headers) == SLIP


# What it says


async def test_only_id_and_state_are_read() -> None:
    """Whatever else a callback brings, nobody is told of it."""
    ours, ear = made(), Ear("job")
    ours.connect(ear)
    envelope = {"data": {"taskId": "t1", "state": "success", "resultJson": '{"resultUrls":["x"]}'}}

    assert await ours.take(SLIP, json.dumps(envelope).encode()) == HTTPStatus.OK
    assert "x" not in repr(ear.heard)
    assert (ear.heard[0].claim.task_id, ear.heard[0].claim.state) == ("t1", "success")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"t1"', b"\xff", b"[" * 60_000])
async def test_what_is_no_json_object_comes_again(text: bytes) -> None:
    """A body that was cut on its way is refused, so that its sender repeats it."""
    ours, ear = made(), Ear("job")
    ours.connect(ear)

    assert await ours.take(SLIP, text) == HTTPStatus.BAD_REQUEST
    assert not ear.heard
    assert ours.statistics().refused == 1


async def test_the_first_listener_that_knows_the_job_is_told() -> None:
    """Clients share a receiver; each takes what it has asked for."""
    ours, one, other = made(), Ear("other"), Ear("job")
    ours.connect(one)
    ours.connect(other)

    assert await ours.take(SLIP, body()) == HTTPStatus.OK
    assert (len(one.heard), len(other.heard)) == (0, 1)
    assert ours.statistics().taken == 1
    assert ours.statistics().orphans == 0


async def test_what_nobody_asked_for_is_taken_and_kept() -> None:
    """Another replica's job, or one of a batch that goes on later."""
    ours, ear = made(), Ear("job")
    assert await ours.take(SLIP, body()) == HTTPStatus.OK
    ours.connect(ear)
    ours.disconnect(ear)

    assert ours.statistics().orphans == 1
    assert list(await ours.orphaned()) == ["job"]
    (orphan,) = await ours.orphans_of("job")
    assert orphan.slip == SLIP
    await ours.drop_orphan(orphan)
    assert list(await ours.orphaned()) == []


async def test_what_is_for_a_closed_journal_is_kept_and_asked_for_again() -> None:
    """Memory is gone with the process: 200 for it would lose the only evidence of a task."""
    ours = made()

    assert await ours.take(Slip("journal-7", 1), body()) == HTTPStatus.SERVICE_UNAVAILABLE
    (orphan,) = await ours.orphans_of("journal-7")
    assert orphan.claim.task_id == "t1"
    assert (ours.statistics().taken, ours.statistics().orphans) == (0, 1)
    assert ours.statistics().postponed == 1


async def test_what_is_for_a_closed_journal_is_taken_by_an_inbox(tmp_path: Path) -> None:
    """It is on disk there until the journal is open again."""
    ours = WebhookReceiver("https://example.com", secret=SECRET, inbox=tmp_path / "inbox.db")

    assert await ours.take(Slip("journal-7", 1), body()) == HTTPStatus.OK


async def test_who_keeps_no_orphans_asks_for_them_again() -> None:
    """So that another one of those who receive may know the job."""
    ours = WebhookReceiver("https://example.com", secret=SECRET, keeps_orphans=False)

    assert await ours.take(SLIP, body()) == HTTPStatus.SERVICE_UNAVAILABLE
    assert list(await ours.orphaned()) == []


async def test_what_cannot_be_recorded_is_not_confirmed(caplog: pytest.LogCaptureFixture) -> None:
    """503 makes the sender come again; 200 would lose the only evidence of a task."""
    ours = made()
    ours.connect(Ear("job", error=JournalError("disk full")))

    with caplog.at_level(logging.WARNING, logger="apixo_async"):
        assert await ours.take(SLIP, body()) == HTTPStatus.SERVICE_UNAVAILABLE
    assert ours.statistics().postponed == 1
    assert "disk full" in caplog.text


@virtual
async def test_a_slow_disk_does_not_make_the_sender_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to come again within a second; what was begun is written all the same."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", RECORD_SECONDS)
    ours, done = made(), asyncio.Event()

    async def slow(_: Callback) -> bool:
        await asyncio.sleep(5)
        done.set()
        return True

    ours.connect(slow)
    began = asyncio.get_running_loop().time()

    assert await ours.take(SLIP, body()) == HTTPStatus.SERVICE_UNAVAILABLE
    assert asyncio.get_running_loop().time() - began < 1
    await asyncio.sleep(6)
    assert done.is_set()


async def test_a_client_may_live_in_another_thread() -> None:
    """Each is told on its own event loop."""
    ours, ear = made(), Ear("job")
    ready, end = threading.Event(), threading.Event()

    async def client() -> None:
        ours.connect(ear)
        ready.set()
        await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(client(),))
    thread.start()
    try:
        await asyncio.to_thread(ready.wait)
        assert await ours.take(SLIP, body()) == HTTPStatus.OK
        assert ear.thread is thread
    finally:
        end.set()
        thread.join()
    assert await ours.take(SLIP, body()) == HTTPStatus.OK
    assert ours.statistics().orphans == 1, "a loop that is closed is passed over"


async def test_a_loop_that_is_closed_in_this_moment_has_nobody_to_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It still seemed to run, and does not take the question any more."""
    closed = asyncio.new_event_loop()
    closed.close()
    monkeypatch.setattr(closed, "is_running", lambda: True)
    ours = made()
    ours._listeners[Ear("job")] = closed

    assert await ours.take(SLIP, body()) == HTTPStatus.OK
    assert ours.statistics().orphans == 1


async def test_what_was_never_served_needs_no_end() -> None:
    """Leaving a block that was not entered is nothing."""
    await made().serve().__aexit__(None, None, None)


def test_by_default_it_listens_for_a_proxy_on_this_machine() -> None:
    """Port 8080, as it is documented."""
    parameters = inspect.signature(WebhookReceiver.serve).parameters

    assert (parameters["host"].default, parameters["port"].default) == ("127.0.0.1", 8080)


def test_limits_are_those_that_are_documented() -> None:
    """64 kB, 10 s for the body, an answer within a second."""
    assert bodies.BODY_MAX == 65_536
    assert bodies.BODY_SECONDS == 10.0
    assert RECORD_SECONDS == 0.8
