from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apixo_async import DownloadError
from apixo_async.downloads import Downloader, SavedFile, claims, find_saved
from apixo_async.downloads.claims import SLOTS, Claim, claim, make_directory
from tests.faults import FaultServer, Peer, reply
from tests.filehost import MP4, OTHER, VIDEO, NoJitter, files_in, in_turn, until, video

posix = pytest.mark.skipif(sys.platform == "win32", reason="no locks and no modes there")
DIGEST = hashlib.sha256(VIDEO).hexdigest()


@pytest.fixture
async def loader() -> AsyncIterator[Downloader]:
    """A downloader that does not wait between attempts."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


def let_go(*claimed: Claim) -> None:
    """Ends downloads as their process would."""
    for it in claimed:
        os.close(it.descriptor)
        it.release()


# Temporary names


@posix
def test_a_name_is_never_shared(tmp_path: Path) -> None:
    """However many claim a stem at once, each has a file of its own that nobody removes."""
    claimed = [claim(tmp_path, "job") for _ in range(SLOTS + 3)]

    assert len({it.path for it in claimed}) == len(claimed)
    assert all(it.still_holds() for it in claimed)
    assert [it.path.name for it in claimed[:3]] == ["job.part", "job~2.part", "job~3.part"]
    assert [it.is_locked for it in claimed] == [True] * SLOTS + [False] * 3
    let_go(*claimed)


@posix
def test_what_was_left_behind_is_removed(tmp_path: Path) -> None:
    """All temporary names of the stem, without a look at other stems or other files."""
    names = ["job.part", "job~3.part", "job.mp4", "job~2.mp4", "other.part", "job-2.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")

    taken = claim(tmp_path, "job")

    assert taken.path.name == "job.part"
    left = files_in(tmp_path)
    assert left.pop("job.part") == b""
    assert set(left) == {"job.mp4", "job~2.mp4", "other.part", "job-2.part"}
    let_go(taken)


@posix
def test_a_leftover_that_is_a_finished_file_as_well(tmp_path: Path) -> None:
    """A crash between its two names leaves both; the finished one loses nothing."""
    (tmp_path / "job.part").write_bytes(VIDEO)
    (tmp_path / "job.mp4").hardlink_to(tmp_path / "job.part")

    taken = claim(tmp_path, "job")

    assert files_in(tmp_path) == {"job.mp4": VIDEO, "job.part": b""}
    let_go(taken)


@posix
@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_a_temporary_name_that_is_something_else(kind: str, tmp_path: Path) -> None:
    """What no download has made is neither followed nor removed nor waited for."""
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    part = tmp_path / "job.part"
    match kind:
        case "link":
            part.symlink_to(target)
        case "directory":
            part.mkdir()
        case _:
            os.mkfifo(part)

    taken = claim(tmp_path, "job")

    assert taken.path.name == "job~2.part"
    assert os.path.lexists(part)
    assert target.read_bytes() == b"mine"
    let_go(taken)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are random there, and nothing is taken for a leftover."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claims, "_lock", refuse)
    (tmp_path / "job.part").write_bytes(b"old")
    claimed = [claim(tmp_path, "job") for _ in range(2)]

    assert not any(it.is_locked for it in claimed)
    assert len({it.path for it in claimed}) == 2
    assert all(it.path.name.startswith("job.") for it in claimed)
    assert set(files_in(tmp_path)) == {"job.part", *[it.path.name for it in claimed]}
    let_go(*claimed)


@posix
def test_a_name_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take a new file for a leftover; then the next name is used."""
    lock = claims._lock

    def late(descriptor: int) -> None:
        (tmp_path / "job.part").unlink(missing_ok=True)
        lock(descriptor)

    monkeypatch.setattr(claims, "_lock", late)
    taken = claim(tmp_path, "job")

    assert taken.path.name == "job~2.part"
    assert taken.still_holds()
    let_go(taken)


@posix
def test_a_leftover_that_another_process_has_just_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was locked is no longer what has the name, so the name is left alone."""
    part = tmp_path / "job.part"
    part.write_bytes(b"left behind")
    lock = claims._lock

    def late(descriptor: int) -> None:
        if part.read_bytes() == b"left behind":
            part.unlink()
            part.write_bytes(b"of a neighbour")
        lock(descriptor)

    monkeypatch.setattr(claims, "_lock", late)
    taken = claim(tmp_path, "job")

    assert taken.path.name == "job~2.part"
    assert part.read_bytes() == b"of a neighbour"
    let_go(taken)


@posix
async def test_a_temporary_name_is_free_once_its_file_was_renamed(
    loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour that takes it in that moment does not lose its own file."""
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        renamed = replace(path, target)
        path.write_bytes(b"of a neighbour")
        return renamed

    monkeypatch.setattr(Path, "replace", replaced)
    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=True)

    assert files_in(tmp_path) == {"job.mp4": VIDEO, "job.part": b"of a neighbour"}


async def test_without_locks_a_download_is_as_good(
    loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole and nothing else is left."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims, "_lock", refuse)
    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)
        await loader.save(server.url, tmp_path, "job", overwrite=True)

    assert files_in(tmp_path) == {"job.mp4": VIDEO}


DOWNLOAD = """
import asyncio, sys
from pathlib import Path
from apixo_async.downloads import Downloader

async def main():
    loader = Downloader(allow_private_hosts=True)
    await loader.save(sys.argv[1], Path(sys.argv[2]), "job", overwrite=False)
    await loader.aclose()

asyncio.run(main())
"""


def started(url: str, directory: Path) -> subprocess.Popen[bytes]:
    """A process that downloads a URL as `job`."""
    return subprocess.Popen([sys.executable, "-c", DOWNLOAD, url, str(directory)])


async def halfway(peer: Peer) -> None:
    """Sends half of the file and then nothing."""
    await peer.request()
    await peer.send(reply(VIDEO[:150_000], content_type=MP4, length=len(VIDEO)))
    await peer.stay()


@posix
async def test_after_a_kill_the_next_download_cleans_up(loader: Downloader, tmp_path: Path) -> None:
    """What a killed process had begun is replaced by a whole file."""
    async with FaultServer(halfway) as server:
        process = started(server.url, tmp_path)
        await until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    assert set(files_in(tmp_path)) == {"job.part"}

    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert files_in(tmp_path) == {"job.mp4": VIDEO}


@posix
async def test_two_processes_do_not_share_a_temporary_file(
    loader: Downloader, tmp_path: Path
) -> None:
    """While one is halfway, another saves the same stem, and neither disturbs the other."""
    go_on = asyncio.Event()

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(VIDEO[:150_000], content_type=MP4, length=len(VIDEO)))
        await go_on.wait()
        await peer.send(VIDEO[150_000:])

    async with FaultServer(act) as slow, FaultServer(in_turn(video(OTHER))) as fast:
        process = started(slow.url, tmp_path)
        await until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        await loader.save(fast.url, tmp_path, "job", overwrite=False)
        assert set(files_in(tmp_path)) == {"job.mp4", "job.part"}
        go_on.set()
        assert await asyncio.to_thread(process.wait) == 0

    assert files_in(tmp_path) == {"job.mp4": OTHER, "job~2.mp4": VIDEO}


@posix
async def test_a_temporary_file_that_was_taken_away(loader: Downloader, tmp_path: Path) -> None:
    """Someone who tidies up ends the download; no other file gets the name in its place."""

    async def tidy(file: SavedFile) -> None:
        (tmp_path / "job.part").unlink()
        (tmp_path / "job.part").write_bytes(b"foreign")

    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError, match="taken away") as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False, about_to_name=tidy)

    assert caught.value.reason == "disk"
    assert files_in(tmp_path) == {"job.part": b"foreign"}


# Who can read it


@posix
@pytest.mark.parametrize("links", [True, False])
async def test_only_the_owner_can_read_what_is_saved(
    links: bool, loader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and new directories are private from the start; those that were there stay as is."""
    modes: list[int] = []

    async def note(file: SavedFile) -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in file.path.parent.iterdir())

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        async with FaultServer(in_turn(video())) as server:
            saved = await loader.save(
                server.url, tmp_path / "a" / "b", "job", overwrite=False, about_to_name=note
            )
    finally:
        os.umask(before)

    places = [saved.path, tmp_path / "a" / "b", tmp_path / "a", tmp_path]
    assert [stat.S_IMODE(path.stat().st_mode) for path in places] == [0o600, 0o700, 0o700, 0o755]
    assert modes == [0o600]


def test_a_directory_that_is_made_by_two(tmp_path: Path) -> None:
    """One that is there already is fine, a file in its place is not."""
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        make_directory(tmp_path / "file" / "below")


# Before a file has its name


async def test_whoever_asks_is_told_before_a_file_has_its_name(
    loader: Downloader, tmp_path: Path
) -> None:
    """The file is told as it will be, while its content is complete under the temporary name."""
    (tmp_path / "job.mp4").write_bytes(b"mine")
    told: list[SavedFile] = []

    async def note(file: SavedFile) -> None:
        told.append(file)
        assert not file.path.exists()
        assert VIDEO in files_in(tmp_path).values()

    async with FaultServer(in_turn(video())) as server:
        saved = await loader.save(server.url, tmp_path, "job", overwrite=False, about_to_name=note)

    assert told == [saved]
    assert saved.path.name == "job~2.mp4"


async def test_a_name_that_is_taken_at_the_last_moment(loader: Downloader, tmp_path: Path) -> None:
    """The next name is told as well before it is given."""
    told: list[str] = []

    async def take(file: SavedFile) -> None:
        told.append(file.path.name)
        if len(told) == 1:
            file.path.write_bytes(b"mine")

    async with FaultServer(in_turn(video())) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False, about_to_name=take)

    assert told == ["job.mp4", "job~2.mp4"]
    assert files_in(tmp_path) == {"job.mp4": b"mine", "job~2.mp4": VIDEO}


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("bad"), TimeoutError()])
async def test_an_error_of_whoever_is_told_is_passed_on(
    error: Exception, loader: Downloader, tmp_path: Path
) -> None:
    """It is not taken for one of the download: no second attempt, no file, no other class."""

    async def fail(file: SavedFile) -> None:
        raise error

    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(type(error)) as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False, about_to_name=fail)

        assert len(server.seen) == 1
    assert caught.value is error
    assert files_in(tmp_path) == {}


async def test_cancelled_while_someone_is_told(loader: Downloader, tmp_path: Path) -> None:
    """The file has no name yet, so nothing is left of it."""
    told = asyncio.Event()

    async def wait(file: SavedFile) -> None:
        told.set()
        await asyncio.Event().wait()

    async with FaultServer(in_turn(video())) as server:
        saving = asyncio.create_task(
            loader.save(server.url, tmp_path, "job", overwrite=False, about_to_name=wait)
        )
        await told.wait()
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving

    assert files_in(tmp_path) == {}


# What was saved before


@pytest.mark.parametrize("name", ["job.mp4", "job~2.mp4", "job.webm", "job~2.bin"])
def test_a_saved_file_is_found_again(name: str, tmp_path: Path) -> None:
    """By its content, whichever name it got in the end."""
    (tmp_path / "job.mp4").write_bytes(OTHER)
    (tmp_path / name).write_bytes(VIDEO)

    found = find_saved(tmp_path, "job", size=len(VIDEO), sha256=DIGEST.upper())

    assert found == SavedFile(tmp_path / name, len(VIDEO), DIGEST)


def test_a_saved_file_is_found_though_the_first_was_moved_away(tmp_path: Path) -> None:
    """The plain name may be missing."""
    (tmp_path / "job~2.mp4").write_bytes(OTHER)
    (tmp_path / "job~3.mp4").write_bytes(VIDEO)

    found = find_saved(tmp_path, "job", size=len(VIDEO), sha256=DIGEST)

    assert found is not None
    assert found.path.name == "job~3.mp4"


@pytest.mark.parametrize(
    "content",
    [OTHER, VIDEO[:-1], VIDEO[:-1] + b"x", b"", None],
    ids=["another", "shorter", "changed", "empty", "a directory"],
)
def test_a_file_that_is_another_is_not_found(content: bytes | None, tmp_path: Path) -> None:
    """Size and hash have to be right; a temporary file is none."""
    (tmp_path / "job.part").write_bytes(VIDEO)
    (tmp_path / "job-2.mp4").write_bytes(VIDEO)
    if content is None:
        (tmp_path / "job.mp4").mkdir()
    else:
        (tmp_path / "job.mp4").write_bytes(content)

    assert find_saved(tmp_path, "job", size=len(VIDEO), sha256=DIGEST) is None


def test_nothing_is_found_where_there_is_no_directory(tmp_path: Path) -> None:
    """It is no error either."""
    assert find_saved(tmp_path / "none", "job", size=1, sha256=DIGEST) is None
