from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import hashlib
import io
import os
import pickle
import re
import threading
import traceback
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apixo_async import ApixoClient, ClientUsageError, DownloadError, Task, TaskState
from apixo_async.downloads import (
    ATTEMPTS,
    Downloader,
    SavedFile,
    file_names,
    file_stem,
    parts,
    shown_url,
    suffix_of,
)
from tests import faults
from tests.faults import FaultServer, Peer, reply, saying
from tests.filehost import (
    MP4,
    OTHER,
    VIDEO,
    FullJitter,
    NoJitter,
    files_in,
    in_turn,
    until,
    video,
)

KEY = "apx_CANARY_7f3b29d1c85e4a60"
SECRET = "X-Signature=51b5c0ffee"


@pytest.fixture
async def loader() -> AsyncIterator[Downloader]:
    """A downloader that does not wait between attempts."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


async def failed(loader: Downloader, url: str, directory: Path) -> DownloadError:
    """The error of a download; it leaves nothing on disk and tells nobody the signature."""
    with pytest.raises(DownloadError) as caught:
        await loader.save(url, directory, "job", overwrite=False)
    error = caught.value
    assert not directory.is_dir() or not files_in(directory)
    told = "".join(traceback.format_exception(error))
    assert "51b5c0ffee" not in told + repr(error) + repr(vars(error))
    assert b"51b5c0ffee" not in pickle.dumps(error)
    assert error.__cause__ is None
    return error


# One file


async def test_a_file_is_saved(loader: Downloader, tmp_path: Path) -> None:
    """The file is complete, named by its stem and its content; size and hash are its own."""
    directory = tmp_path / "not" / "there yet"
    async with FaultServer(in_turn(video())) as server:
        url = f"{server.url}/some/other-name.mov?{SECRET}"
        saved = await loader.save(url, directory, "job", overwrite=False)

        assert server.seen[0].target == f"/some/other-name.mov?{SECRET}"
    assert saved == SavedFile(directory / "job.mp4", len(VIDEO), hashlib.sha256(VIDEO).hexdigest())
    assert files_in(directory) == {"job.mp4": VIDEO}
    assert Path(os.fspath(saved)) == Path(str(saved)) == saved.path


async def test_a_file_has_another_name_until_it_is_complete(
    loader: Downloader, tmp_path: Path
) -> None:
    """What has arrived is on disk under a name ending in `.part`, and nothing under its own."""
    go_on = asyncio.Event()
    half = len(VIDEO) // 2

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(VIDEO[:half], content_type=MP4, length=len(VIDEO)))
        await go_on.wait()
        await peer.send(VIDEO[half:])

    async with FaultServer(act) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        (part,) = files_in(tmp_path)
        go_on.set()
        await task

    assert part == "job.part"
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_file_is_on_the_disk_before_it_has_its_name(
    loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves the complete file or none: content, then name, then directory."""
    steps: list[str] = []
    sync, link = os.fsync, Path.hardlink_to

    def note_sync(descriptor: int) -> None:
        is_file = os.fstat(descriptor).st_size == len(VIDEO)
        steps.append("content" if is_file else "directory")
        sync(descriptor)

    def note_link(path: Path, target: Path) -> None:
        steps.append("name")
        link(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "hardlink_to", note_link)
    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert steps == ["content", "name", "directory"]


async def test_a_file_that_comes_byte_by_byte(loader: Downloader, tmp_path: Path) -> None:
    """The kind of a file is told from its first bytes, however few come at a time."""
    body = VIDEO[:24]
    drops = [body[i : i + 1] for i in range(len(body))]
    act = saying(reply(content_type="binary/octet-stream", length=len(body)), *drops, pause=0.002)
    async with FaultServer(act) as server:
        saved = await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert saved.path.name == "job.mp4"
    assert files_in(tmp_path) == {"job.mp4": body}


async def test_a_file_without_an_announced_length_that_is_cut(
    loader: Downloader, tmp_path: Path
) -> None:
    """An MP4 says itself how long it is: what ends too early is fetched again."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with FaultServer(in_turn(head + VIDEO[:50_000], head + VIDEO)) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert files_in(tmp_path) == {"job.mp4": VIDEO}
    assert len(server.seen) == 2


async def test_a_file_that_never_ends_as_it_says(loader: Downloader, tmp_path: Path) -> None:
    """It is not kept as if it were whole; where its length was announced, that is what counts."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with FaultServer(in_turn(head + VIDEO[:50_000])) as server:
        with pytest.raises(DownloadError, match="got 50000 of a longer file") as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False)
    async with FaultServer(in_turn(video(VIDEO[:50_000]))) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert caught.value.reason == "short"
    assert files_in(tmp_path) == {"job.mp4": VIDEO[:50_000]}


async def test_a_file_without_an_announced_length(loader: Downloader, tmp_path: Path) -> None:
    """A body that ends with its connection is saved."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with FaultServer(saying(head + VIDEO)) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_file_that_was_packed_against_our_wish(loader: Downloader, tmp_path: Path) -> None:
    """We ask for the plain file; if it comes packed all the same, it is saved unpacked."""
    packed = reply(gzip.compress(VIDEO), content_type=MP4, headers=["Content-Encoding: gzip"])
    async with FaultServer(in_turn(packed)) as server:
        saved = await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert server.seen[0].values("accept-encoding") == ["identity"]
        assert len(server.seen) == 1
    assert saved.size == len(VIDEO)
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


# Hosts that fail

HTML = reply(b"<!doctype html><p>Please wait", content_type="text/html")
SHORT = reply(VIDEO[:50_000], content_type=MP4, length=len(VIDEO))
PASSING = {
    "short": (SHORT, "network"),
    "no answer": (b"", "network"),
    "no HTTP": (b"220 mail.example\r\n\r\n", "network"),
    "empty": (video(b""), "short"),
    "503": (reply(b"", status="503 Busy"), "server"),
    "429": (reply(b"", status="429 Slow"), "server"),
    "408": (reply(b"", status="408 Late"), "server"),
    "HTML": (HTML, "not_media"),
    "JSON": (reply(b'{"error":"wait"}', content_type="binary/octet-stream"), "not_media"),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_may_pass_is_tried_again(name: str, loader: Downloader, tmp_path: Path) -> None:
    """After two such answers the third, a good one, is saved, and nothing else is left."""
    bad, _ = PASSING[name]
    async with FaultServer(in_turn(bad, bad, video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) >= 3  # aiohttp itself may try once more
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_reset_is_tried_again(loader: Downloader, tmp_path: Path) -> None:
    """A connection reset in the middle of a file costs one attempt."""

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(SHORT if len(peer.server.seen) == 1 else video())
        if len(peer.server.seen) == 1:
            await until(lambda: any(tmp_path.iterdir()))
            peer.reset()

    async with FaultServer(act) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) == 2
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


@pytest.mark.parametrize("name", PASSING)
async def test_what_does_not_pass_is_given_up(
    name: str, loader: Downloader, tmp_path: Path
) -> None:
    """After five attempts the error says what was wrong, and nothing is left on the disk."""
    bad, reason = PASSING[name]
    async with FaultServer(in_turn(bad)) as server:
        error = await failed(loader, f"{server.url}/video.mp4?{SECRET}", tmp_path)

        assert error.reason == reason
        assert error.url == f"{server.url}/video.mp4"
        assert ATTEMPTS <= len(server.seen) <= 2 * ATTEMPTS  # aiohttp itself may try once more


async def test_a_host_that_refuses_connections(loader: Downloader, tmp_path: Path) -> None:
    """Where nobody listens, the error is one of the network and names the URL."""
    with faults.refusing() as origin:
        error = await failed(loader, f"{origin}/v.mp4?{SECRET}", tmp_path)

    assert error.reason == "network"
    assert f"{origin}/v.mp4" in str(error)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *[(status, "gone") for status in (403, 404, 410)],
        *[(status, "refused") for status in (204, 206, 304, 400, 401, 451)],
    ],
)
async def test_what_will_not_change_is_not_tried_again(
    status: int, reason: str, loader: Downloader, tmp_path: Path
) -> None:
    """A file that has gone, or a host that will not give it, is asked once."""
    async with FaultServer(in_turn(reply(b"", status=f"{status} No"))) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)

        assert (error.reason, error.http_status) == (reason, status)
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "video.mp4",
        "/video.mp4",
        "http://",
        "http://[1",
        "http://a:99999/",
        "ftp://a/v.mp4",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "//files.example/v.mp4",
        "http:///v.mp4",
        "https://user@/v.mp4",
        "http://a..b/v.mp4",
        "http://.a/v.mp4",
        "http://exa mple/v.mp4",
        "http://a%20b/v.mp4",
        f"http://{'a' * 64}.example/v.mp4",
        "http://host:99999/v.mp4",
        "http://host:port/v.mp4",
        f"user:51b5c0ffee@host/?{SECRET}",
    ],
)
async def test_what_is_no_url_is_not_tried_at_all(
    url: str, loader: Downloader, tmp_path: Path
) -> None:
    """Whatever the API may have given for a URL, the error is a `DownloadError`."""
    error = await failed(loader, url, tmp_path)

    assert error.reason == "bad_url"


async def test_a_file_that_is_announced_too_large(tmp_path: Path) -> None:
    """It is not begun."""
    loader = Downloader(allow_private_hosts=True, max_bytes=len(VIDEO) - 1)
    async with FaultServer(in_turn(video())) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)
        await loader.aclose()

        assert error.reason == "too_large"
        assert len(server.seen) == 1


async def test_a_file_without_end(tmp_path: Path) -> None:
    """It is stopped at the limit, and what was written is removed."""
    loader = Downloader(allow_private_hosts=True, max_bytes=100_000)

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", VIDEO[:24])
        while True:
            await peer.send(b"x" * 10_000)

    async with FaultServer(act) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)
        await loader.aclose()

        assert error.reason == "too_large"
        assert len(server.seen) == 1


async def test_the_largest_file_that_is_allowed(tmp_path: Path) -> None:
    """A file of exactly the limit is saved."""
    loader = Downloader(allow_private_hosts=True, max_bytes=len(VIDEO))
    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)
        await loader.aclose()

    assert files_in(tmp_path) == {"job.mp4": VIDEO}


# What the file host learns


@pytest.mark.writes_key("files", reason="a .netrc that must not be read")
@pytest.mark.parametrize("redirects", [0, 3])
async def test_the_file_host_learns_nothing_of_ours(
    redirects: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no cookie, no name of ours, no account of this machine, also after a redirect."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login me password {KEY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    onward = ["Set-Cookie: a=b; Path=/", "Location: /onward"]
    answers = [reply(status="302 Found", headers=onward)] * redirects
    async with FaultServer(in_turn(*answers, video())) as server:
        task = Task(id="t-1", model="veo-3-1", state=TaskState.SUCCESS, urls=(server.url,))
        async with ApixoClient(KEY, base_url="http://127.0.0.1:9") as client:
            (path,) = await client.download(task, tmp_path)

        assert path.name == "t-1.mp4"
        assert len(server.seen) == redirects + 1
        for seen in server.seen:
            names = [name for name, _ in seen.headers]
            assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
            assert "aiohttp" in seen.values("user-agent")[0]
            assert KEY not in str(seen.headers) + seen.target


async def test_a_proxy_in_the_environment_is_left_alone(
    loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed URLs do not travel through a proxy that nobody asked us to use."""
    async with FaultServer(in_turn(video())) as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with FaultServer(in_turn(video())) as server:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert proxy.connections == 0


async def test_a_redirect_too_many(loader: Downloader, tmp_path: Path) -> None:
    """The fourth redirect is not followed, and trying again would not help."""
    answer = reply(status="302 Found", headers=[f"Location: /{SECRET}"])
    async with FaultServer(in_turn(answer)) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)

        assert error.reason == "redirects"
        assert len(server.seen) == 4


@pytest.mark.parametrize("place", ["ftp://a/b", "file:///etc/passwd", "http://[1"])
async def test_a_redirect_to_what_is_no_web_address(
    place: str, loader: Downloader, tmp_path: Path
) -> None:
    """It is not followed."""
    answer = reply(status="302 Found", headers=[f"Location: {place}"])
    async with FaultServer(in_turn(answer)) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)

        assert error.reason == "bad_url"
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://cdn.example/a/b.mp4", "https://cdn.example/a/b.mp4"),
        (f"https://cdn.example/b.mp4?{SECRET}#x", "https://cdn.example/b.mp4"),
        ("https://me:p@ss@cdn.example:8443/b.mp4", "https://cdn.example:8443/b.mp4"),
        ("https://cdn.example/\x1b[31mred", "https://cdn.example/?[31mred"),
        ("me:secret@cdn.example/b.mp4", "a malformed URL"),
        ("http://[1/b.mp4?secret", "a malformed URL"),
        ("", "a malformed URL"),
    ],
)
def test_a_url_as_it_is_shown(url: str, shown: str) -> None:
    """Host and path are shown; query, fragment, password and control characters are not."""
    assert shown_url(url) == shown


# Disks that fail


class FullDisk(io.FileIO):
    """A file that can be made but takes no byte; closing tries to write again, and fails again."""

    def write(self, _: Any, /) -> int:  # noqa: ANN401 - as io declares it
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files opened for writing are on a full disk."""

    def open_full(descriptor: int, mode: str) -> io.BufferedWriter:
        assert mode == "wb"
        return io.BufferedWriter(FullDisk(descriptor, "wb"), buffer_size=10 * len(VIDEO))

    monkeypatch.setattr(os, "fdopen", open_full)


async def test_a_full_disk(loader: Downloader, tmp_path: Path, full_disk: None) -> None:
    """It is told with its place, the host is asked once, and the part is removed all the same."""
    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError) as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) == 1
    assert caught.value.reason == "disk"
    assert f"{tmp_path}: No space left on device" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == []


async def test_a_full_disk_does_not_swallow_a_cancellation(
    loader: Downloader, tmp_path: Path, full_disk: None
) -> None:
    """A download that is cancelled ends as cancelled, although its file cannot be closed well."""
    act = saying(reply(VIDEO[:100], content_type=MP4, length=len(VIDEO)), b"", pause=10)
    async with FaultServer(act) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await until(lambda: any(tmp_path.iterdir()))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("step", ["_open", "_write", "_settle", "_give_name"])
async def test_a_disk_that_fails_at_a_step(
    step: str, loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step fails: one `DownloadError` with the place, no second attempt, no rest."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(f"apixo_async.downloads.parts.PartFile.{step}", fail)
    async with FaultServer(in_turn(video())) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)

    assert error.reason == "disk"
    assert f"{tmp_path}: Input/output error" in str(error)


async def test_a_directory_that_is_none(loader: Downloader, tmp_path: Path) -> None:
    """A directory that cannot be made is told with its name."""
    place = tmp_path / "file"
    place.write_bytes(b"")
    async with FaultServer(in_turn(video())) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", place)

    assert error.reason == "disk"
    assert str(place) in str(error)


# Cancellation


async def test_cancelled_before_the_answer(loader: Downloader, tmp_path: Path) -> None:
    """Nothing is left of a download that is cancelled while the host is silent."""
    async with FaultServer(faults.silent) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await server.until(lambda: bool(server.seen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert files_in(tmp_path) == {}


async def test_cancelled_in_the_middle(loader: Downloader, tmp_path: Path) -> None:
    """Nothing is left of a download that is cancelled when half of it is on the disk."""
    act = saying(reply(VIDEO[:50_000], content_type=MP4, length=len(VIDEO)), b"", pause=10)
    async with FaultServer(act) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("step", ["_open", "_write", "_settle", "_give_name", "_discard"])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_a_thread_is_at_the_disk(
    step: str,
    times: int,
    loader: Downloader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread is waited for: no rest, but a file that just got its name stays and is whole."""
    where = f"apixo_async.downloads.parts.PartFile.{step}"
    original = parts.PartFile.__dict__[step]
    reached, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - handed on
        reached.set()
        assert go_on.wait(10)
        return original(*args, **options)

    monkeypatch.setattr(where, slow)
    async with FaultServer(in_turn(video())) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await asyncio.to_thread(reached.wait, 10)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.005)
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    is_named = step in {"_give_name", "_discard"}
    assert files_in(tmp_path) == ({"job.mp4": VIDEO} if is_named else {})
    gc.collect()  # a file that was not closed warns here, and warnings are errors


async def test_cancelled_between_two_attempts(tmp_path: Path) -> None:
    """A pause is no obstacle, and the place is free for the next download."""
    loader = Downloader(allow_private_hosts=True, concurrent=1, rng=FullJitter())
    async with FaultServer(in_turn(reply(b"", status="503 Busy"), video())) as server:
        task = asyncio.create_task(loader.save(server.url, tmp_path, "job", overwrite=False))
        await server.until(lambda: bool(server.seen) and server.open == 0)
        await until(lambda: any(tmp_path.iterdir()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert files_in(tmp_path) == {}
        await loader.save(server.url, tmp_path, "job", overwrite=False)
        await loader.aclose()

    assert files_in(tmp_path) == {"job.mp4": VIDEO}


# Names that are taken


@pytest.fixture(params=["links", "no links"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)


async def test_a_file_that_is_there_is_kept(
    loader: Downloader, tmp_path: Path, file_system: None
) -> None:
    """The new file gets the next free name."""
    (tmp_path / "job.mp4").write_bytes(b"mine")
    async with FaultServer(in_turn(video(), video(OTHER))) as server:
        second = await loader.save(server.url, tmp_path, "job", overwrite=False)
        third = await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert (second.path.name, third.path.name) == ("job~2.mp4", "job~3.mp4")
    assert files_in(tmp_path) == {"job.mp4": b"mine", "job~2.mp4": VIDEO, "job~3.mp4": OTHER}


async def test_a_file_that_is_there_is_replaced_if_that_is_wanted(
    loader: Downloader, tmp_path: Path, file_system: None
) -> None:
    """With `overwrite` the new file takes the name of the old one."""
    (tmp_path / "job.mp4").write_bytes(b"old")
    async with FaultServer(in_turn(video())) as server:
        saved = await loader.save(server.url, tmp_path, "job", overwrite=True)

    assert saved.path.name == "job.mp4"
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_failure_keeps_the_file_that_was_to_be_replaced(
    loader: Downloader, tmp_path: Path
) -> None:
    """With `overwrite`, too, the old file stays until the new one is complete."""
    (tmp_path / "job.mp4").write_bytes(b"old")
    async with FaultServer(in_turn(SHORT)) as server:
        with pytest.raises(DownloadError):
            await loader.save(server.url, tmp_path, "job", overwrite=True)

    assert files_in(tmp_path) == {"job.mp4": b"old"}


async def test_downloads_of_one_name_at_once(
    loader: Downloader, tmp_path: Path, file_system: None
) -> None:
    """Each gets a name of its own, and each file is whole."""
    bodies = [VIDEO[:24] + bytes([number]) * 1_000 for number in range(8)]

    async def act(peer: Peer) -> None:
        seen = await peer.request()
        await peer.send(video(bodies[int(seen.target[1:])]))

    async with FaultServer(act) as server:
        saved = await asyncio.gather(
            *[
                loader.save(f"{server.url}/{number}", tmp_path, "job", overwrite=False)
                for number in range(len(bodies))
            ]
        )

    assert {file.path.name for file in saved} == {
        "job.mp4",
        *[f"job~{number}.mp4" for number in range(2, len(bodies) + 1)],
    }
    assert [file.path.read_bytes() for file in saved] == bodies
    assert len(files_in(tmp_path)) == len(bodies)


async def test_a_rename_that_fails_gives_its_name_back(
    loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links a name is claimed first; no empty file is left when that was in vain."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    async with FaultServer(in_turn(video())) as server:
        error = await failed(loader, f"{server.url}/v.mp4?{SECRET}", tmp_path)

    assert error.reason == "disk"


# How many at once, and the end


async def test_only_so_many_at_once(tmp_path: Path) -> None:
    """The others wait for their turn, and all are saved."""
    loader = Downloader(allow_private_hosts=True, concurrent=3)
    go_on = asyncio.Event()

    async def act(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        await peer.send(video())

    async with FaultServer(act) as server:
        save = partial(loader.save, server.url, tmp_path, overwrite=False)
        saving = asyncio.gather(*[save(stem=f"job-{number}") for number in range(12)])
        await server.until(lambda: len(server.seen) == 3)
        go_on.set()
        await saving
        await loader.aclose()

        assert server.peak == 3
    assert len(files_in(tmp_path)) == 12


async def test_a_downloader_that_is_closed(tmp_path: Path) -> None:
    """It says so; closing twice, or before any use, is fine."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    await loader.aclose()
    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)
        await loader.aclose()
        await loader.aclose()
        with pytest.raises(ClientUsageError, match="closed"):
            await loader.save(server.url, tmp_path, "late", overwrite=False)

        assert len(server.seen) == 1
    assert set(files_in(tmp_path)) == {"job.mp4"}
    gc.collect()  # what was not closed warns here, and warnings are errors


async def test_several_results_of_one_task(tmp_path: Path) -> None:
    """Each URL of a task becomes a file; the name can be chosen, and the URL has no say in it."""
    async with FaultServer(in_turn(video(), video(OTHER))) as server:
        urls = (f"{server.url}/a/../../evil.exe", f"{server.url}/b")
        task = Task(id="t-1", model="veo-3-1", state=TaskState.SUCCESS, urls=urls)
        async with ApixoClient(KEY, base_url="http://127.0.0.1:9") as client:
            paths = await client.download(task, tmp_path, name="../my video")

    first, second = paths
    assert second.name == first.name.replace(".mp4", "-2.mp4")
    assert files_in(tmp_path) == {first.name: VIDEO, second.name: OTHER}


async def test_a_task_without_results(tmp_path: Path) -> None:
    """There is nothing to download, and the error says so."""
    async with ApixoClient(KEY, base_url="http://127.0.0.1:9") as client:
        with pytest.raises(DownloadError, match="no result") as caught:
            await client.download(Task(id="t-1", model="veo-3-1"), tmp_path)

    assert caught.value.reason == "no_urls"


# Names


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("ocean", "ocean"),
        ("Ocean-01_final.v2", "Ocean-01_final.v2"),
        ("0123456789abcdef", "0123456789abcdef"),
        ("a b", "a_b-c8687a08"),
        ("../../etc/passwd", "etc_passwd-"),
        ("", "video-e3b0c442"),
        (".", "video-cdb4ee2a"),
        ("..", "video-5ec1f7e7"),
        ("CON", "video-"),
        ("nul.txt", "video-"),
        ("COM7", "video-"),
        ("console", "console"),
        ("~", "video-"),
        ("café", "caf-"),
    ],
)
def test_the_file_name_of_a_key(key: str, stem: str) -> None:
    """A plain key is its own name; whatever had to change is told apart by a hash."""
    assert file_stem(key).startswith(stem)
    if stem == key:
        assert file_stem(key) == key


NASTY = ["../", "%2e%2e/", "..\\", "\0", "CON", "aux.", "LPT1.mp4", "\u202egpj", "🎬", ".hidden"]
KEYS = st.text() | st.lists(st.sampled_from(NASTY) | st.text(max_size=3)).map("".join)
WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)


@given(KEYS)
@example("x" * 300)
@example("é" * 300)
@example("a/" * 150)
@example("CON/")
@example("\ud800")
@example("%2e%2e/%2e%2e/x")
def test_every_key_has_a_safe_file_name(key: str) -> None:
    """A name for any file system: one component, visible, short, not reserved, always the same."""
    stem = file_stem(key)

    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", stem)
    assert not stem.endswith(".")
    assert len(stem) <= 128
    assert not WINDOWS.fullmatch(stem)
    assert not WINDOWS.fullmatch(stem + ".mp4")
    assert file_stem(key) == stem
    assert file_stem(stem) == stem or len(stem) > 100


def test_keys_that_look_alike_have_names_of_their_own() -> None:
    """Keys that would be the same after cleaning are told apart."""
    keys = ["a b", "a?b", "a/b", "a_b", "a__b", "_a_b", ".a_b", "", ".", "..", "CON", "con"]
    keys += ["x" * 101, "x" * 102, "x" * 100]

    assert len({file_stem(key).lower() for key in keys}) == len(keys)


def test_the_file_names_of_several_results() -> None:
    """The first result has the plain name, the others are numbered from 2."""
    assert file_names("job", 3) == {0: "job", 1: "job-2", 2: "job-3"}


@pytest.mark.parametrize(
    ("head", "content_type", "suffix"),
    [
        (VIDEO[:64], MP4, ".mp4"),
        (VIDEO[:64], "text/html", ".mp4"),
        (b"\x1aE\xdf\xa3", "video/webm", ".webm"),
        (b"\x89PNG\r\n", "image/png", ".png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg", ".jpg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", ".webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav", ".wav"),
        (b"GIF89a", "image/gif", ".gif"),
        (b"ID3\x04", "audio/mpeg", ".mp3"),
        (b"\xff\xfb\x90", "audio/mpeg", ".mp3"),
        (b"\x00\x01\x02", MP4, ".bin"),
        (b"<html>", "application/octet-stream", None),
        (b" \n{", "application/octet-stream", None),
        (b"plain words", "text/plain", None),
        (b"[1]", "application/json", None),
        (b"Access Denied", MP4, None),
        (b"Zugriff verweigert \xc3\xa4", "application/octet-stream", None),
        (("nein " + "\u00e4" * 40).encode()[:64], MP4, None),
        (b"plain\x00words", MP4, ".bin"),
    ],
)
def test_the_suffix_of_a_file(head: bytes, content_type: str, suffix: str | None) -> None:
    """The content decides; what is a page or a message is no result at all."""
    assert suffix_of(head, content_type) == suffix
