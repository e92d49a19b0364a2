"""Results to storages: nothing half-written, nothing twice, no secret told, no loop blocked."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from apixo_async import ApixoClient, DownloadError, InvalidSettingError, Task, TaskState
from apixo_async.downloads import Downloader, SavedFile
from apixo_async.downloads.storage import Storage
from tests.buckets import Bucket, Buckets, forget, in_memory, registered
from tests.fakes import FakeApi
from tests.faults import FaultServer, reply
from tests.filehost import OTHER, VIDEO, FileHost, NoJitter, in_turn, until, video

BIG = VIDEO * 60
"""12 MB: three parts."""
DIGEST = hashlib.sha256(VIDEO).hexdigest()
SECRET = "hunter2-hunter2"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """The bucket behind `s3://videos`."""
    with registered() as bucket:
        yield bucket


@pytest.fixture
async def loader() -> AsyncIterator[Downloader]:
    """A downloader that does not wait between attempts."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


PLACES = ["s3://videos/a/b", "disk://{}", "memory://a/b"]
"""One that takes uploads in parts; others, which move a file when it is whole."""


@pytest.fixture
def place(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty place."""
    forget()
    yield request.param.format(tmp_path / "videos")
    forget()


def content(place: str, bucket: Bucket) -> dict[str, bytes]:
    """What is there by name, temporary names included."""
    scheme, _, path = place.partition("://")
    if scheme == "disk":
        return {file.name: file.read_bytes() for file in Path(path).glob("*")}
    assert not bucket.uploads, "an upload was neither completed nor aborted"
    known = bucket.objects if scheme == "s3" else in_memory()
    return {name.rpartition("/")[2]: data for name, data in known.items()}


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_result_is_saved_by_its_name(
    place: str, bucket: Bucket, loader: Downloader
) -> None:
    """Its URL, size and hash are told; what has the name already is kept."""
    storage = Storage(place)
    async with FaultServer(in_turn(video(), video(OTHER), video(BIG))) as server:
        first = await loader.save(server.url, storage, "job", overwrite=False)
        second = await loader.save(server.url, storage, "job", overwrite=False)
        third = await loader.save(server.url, storage, "job", overwrite=True)

    assert first == SavedFile(f"{place}/job.mp4", len(VIDEO), DIGEST)
    assert second.place == f"{place}/job~2.mp4"
    assert third.place == f"{place}/job.mp4"
    assert content(place, bucket) == {"job.mp4": BIG, "job~2.mp4": OTHER}


async def test_a_result_goes_to_a_bucket_part_by_part(bucket: Bucket, loader: Downloader) -> None:
    """Never more than a block is held, and the upload is completed last of all."""
    async with FaultServer(in_turn(video(BIG))) as server:
        await loader.save(server.url, Storage("s3://videos"), "job", overwrite=False)

    calls = [call for call in bucket.calls if call != "info"]
    assert calls == ["create", "part", "part", "part", "complete"]
    assert bucket.objects == {"videos/job.mp4": BIG}


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_result_that_breaks_off_goes_on_where_it_was(
    place: str, bucket: Bucket, loader: Downloader
) -> None:
    """Within one download the rest is asked for and added to what was sent."""
    host = FileHost([BIG], cuts=[len(BIG) // 2], patience=0.1)
    async with FaultServer(host.act) as server:
        await loader.save(server.url, Storage(place), "job", overwrite=False)

    assert host.starts[0] == 0
    assert host.starts[-1] > 0
    assert content(place, bucket) == {"job.mp4": BIG}
    assert bucket.calls.count("create") == place.startswith("s3")


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_result_that_changed_meanwhile_begins_anew(
    place: str, bucket: Bucket, loader: Downloader
) -> None:
    """What was sent of the old version is thrown away."""
    other = OTHER * 60
    host = FileHost([BIG, other], cuts=[len(BIG) - 1], patience=0.1)
    async with FaultServer(host.act) as server:
        await loader.save(server.url, Storage(place), "job", overwrite=False)

    assert content(place, bucket) == {"job.mp4": other}


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_result_that_stays_too_short_is_nothing(
    place: str, bucket: Bucket, loader: Downloader
) -> None:
    """An upload whose length does not fit is aborted."""
    short = reply(BIG[:6_000_000], content_type="video/mp4", length=len(BIG))
    async with FaultServer(in_turn(short)) as server:
        with pytest.raises(DownloadError, match="while downloading"):
            await loader.save(server.url, Storage(place), "job", overwrite=False)

    assert content(place, bucket) == {}
    assert "complete" not in bucket.calls
    assert bucket.calls.count("abort") == bucket.calls.count("create")


async def test_a_page_in_place_of_a_video_is_not_sent(bucket: Bucket, loader: Downloader) -> None:
    """It is known by its first bytes before anything leaves."""
    async with FaultServer(in_turn(reply(b"<html>" * 50, content_type="video/mp4"))) as server:
        with pytest.raises(DownloadError) as caught:
            await loader.save(server.url, Storage("s3://videos"), "job", overwrite=False)

    assert caught.value.reason == "not_media"
    assert not {"create", "part", "complete"} & set(bucket.calls)


async def test_a_name_that_is_taken_meanwhile_is_not_taken_over(
    bucket: Bucket, loader: Downloader
) -> None:
    """The upload is bound to its name, so the result is sent once more under the next."""
    told: list[str] = []

    async def take(file: SavedFile) -> None:
        told.append(str(file))
        bucket.objects.setdefault("videos/job.mp4", b"somebody else's")

    async with FaultServer(in_turn(video())) as server:
        file = await loader.save(
            server.url, Storage("s3://videos"), "job", overwrite=False, about_to_name=take
        )

    assert told == ["s3://videos/job.mp4", "s3://videos/job~2.mp4"]
    assert str(file) == "s3://videos/job~2.mp4"
    assert bucket.objects == {"videos/job.mp4": b"somebody else's", "videos/job~2.mp4": VIDEO}
    assert not bucket.uploads


async def test_names_that_are_always_taken(bucket: Bucket, loader: Downloader) -> None:
    """After a few the download is given up."""

    async def take(file: SavedFile) -> None:
        bucket.objects[f"videos/{str(file).rpartition('/')[2]}"] = b"somebody else's"

    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError, match="others took each name for job"):
            await loader.save(
                server.url, Storage("s3://videos"), "job", overwrite=False, about_to_name=take
            )

    assert VIDEO not in bucket.objects.values()


async def test_a_completion_whose_answer_is_lost_is_found_out(
    bucket: Bucket, loader: Downloader
) -> None:
    """What has the name is read and known by its hash: it is not sent twice."""
    bucket.lost_answers["complete"] = OSError("the connection broke")
    async with FaultServer(in_turn(video())) as server:
        file = await loader.save(server.url, Storage("s3://videos"), "job", overwrite=False)

    assert file.sha256 == DIGEST
    assert bucket.objects == {"videos/job.mp4": VIDEO}
    assert bucket.calls.count("create") == 1


async def test_a_failure_keeps_the_object_that_was_to_be_replaced(
    bucket: Bucket, loader: Downloader
) -> None:
    """It is told as what it is, once, and not as a name that somebody else took."""
    bucket.objects["videos/job.mp4"] = OTHER
    bucket.failures["complete"] = OSError("busy")
    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError, match="cannot write to s3://videos: OSError: busy"):
            await loader.save(server.url, Storage("s3://videos"), "job", overwrite=True)

    assert bucket.objects == {"videos/job.mp4": OTHER}
    assert bucket.calls.count("create") == bucket.calls.count("abort") == 1


@pytest.mark.parametrize("step", ["info", "create", "part", "complete", "abort"])
async def test_a_storage_that_fails_at_a_step(
    step: str, bucket: Bucket, loader: Downloader, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names the place and what to look at; what can be removed is."""
    bucket.failures[step] = PermissionError(f"Access Denied to {SECRET}")
    if step == "abort":
        bucket.failures["complete"] = OSError("busy")
    storage = Storage("s3://videos/a", {"secret": SECRET})
    async with FaultServer(in_turn(video(BIG))) as server:
        with pytest.raises(DownloadError) as caught:
            await loader.save(server.url, storage, "job", overwrite=False)

    error = caught.value
    assert error.reason == "storage"
    assert str(error).startswith("cannot write to s3://videos/a: ")
    assert error.__context__ is None
    if step == "abort":
        assert "could not be removed from s3://videos/a: PermissionError" in caplog.text
    else:
        assert "Access Denied to ***; may these credentials write" in str(error)
        assert not bucket.uploads
    assert SECRET not in str(error) + caplog.text
    assert bucket.objects == {}


async def test_a_full_storage(bucket: Bucket, loader: Downloader, tmp_path: Path) -> None:
    """A temporary name is removed when the file cannot be written to its end."""
    (tmp_path / "job.mp4").write_bytes(b"mine")
    storage = Storage(f"disk://{tmp_path}")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apixo_async.downloads.storage.Opened.move", fail)
        async with FaultServer(in_turn(video())) as server:
            with pytest.raises(DownloadError, match="No space left on device"):
                await loader.save(server.url, storage, "job", overwrite=False)

    assert content(f"disk://{tmp_path}", bucket) == {"job.mp4": b"mine"}


async def test_what_arrived_is_held_to_its_size(bucket: Bucket, loader: Downloader) -> None:
    """A storage that has less than was sent has not saved it."""
    bucket.swallows = 1
    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError, match=f"{len(VIDEO)} bytes were sent as job.mp4"):
            await loader.save(server.url, Storage("s3://videos"), "job", overwrite=False)


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_what_is_recorded_is_looked_for(
    place: str, bucket: Bucket, loader: Downloader, tmp_path: Path
) -> None:
    """A record is of this place, by name, size and hash; of other places the disk can be asked."""
    storage = Storage(place)
    async with FaultServer(in_turn(video())) as server:
        file = await loader.save(server.url, storage, "job", overwrite=False)
    other = attrs.evolve(file, place=f"{place}/other.mp4")
    changed = attrs.evolve(file, sha256="00")
    on_disk = SavedFile(tmp_path / "job.mp4", len(VIDEO), DIGEST)

    assert await storage.has(file)
    assert not await storage.has(other)
    assert not await storage.has(attrs.evolve(file, size=1))
    assert await storage.has(attrs.evolve(file, place="s3://elsewhere/job.mp4"))
    assert not await storage.has(on_disk)
    on_disk.path.write_bytes(VIDEO)
    assert await storage.has(on_disk)
    assert await storage.find(file, "job") == file
    for one in (other, changed, on_disk):
        assert await storage.find(one, "job") is None


# Threads


async def test_the_loop_goes_on_while_a_storage_waits(bucket: Bucket, loader: Downloader) -> None:
    """Downloads go to a storage side by side, as many as there are at once, and no more."""
    bucket.latency = threading.Event()
    async with FaultServer(in_turn(video())) as server:
        storage = Storage("s3://videos")
        saving = [
            asyncio.create_task(loader.save(server.url, storage, f"job-{number}", overwrite=False))
            for number in range(20)
        ]
        await until(lambda: bucket.most_at_once == 16)
        bucket.latency.set()
        await asyncio.gather(*saving)

    assert bucket.most_at_once == 16
    assert len(bucket.objects) == 20


async def test_a_storage_that_is_not_asynchronous_gets_one_call_after_the_other(
    bucket: Bucket, loader: Downloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of most nobody says that two threads may use them at once."""
    monkeypatch.setattr(Buckets, "async_impl", False)
    async with FaultServer(in_turn(video())) as server:
        storage = Storage("s3://videos")
        await asyncio.gather(
            *(
                loader.save(server.url, storage, f"job-{number}", overwrite=False)
                for number in range(8)
            )
        )

    assert bucket.most_at_once == 1
    assert len(bucket.objects) == 8


async def test_threads_end_with_the_client(bucket: Bucket) -> None:
    """Also when it is closed while something is on its way, whose upload is then aborted."""
    before = set(threading.enumerate())
    async with FaultServer(in_turn(video())) as server:
        client = ApixoClient("key", base_url=server.url, transport=FakeApi())
        storage = client.saver.destination("s3://videos")
        part = storage.part("job", overwrite=False)
        async with part:
            await part.write(BIG)
            await client.aclose()

    assert not bucket.uploads
    assert bucket.objects == {}
    storage.close()
    await until(lambda: not set(threading.enumerate()) - before)


# What is refused before anything is sent


async def test_a_place_is_tried_without_leaving_anything(bucket: Bucket, tmp_path: Path) -> None:
    """A storage that takes what is begun and thrown away is a good one."""
    for url in ("s3://videos/a", f"disk://{tmp_path / 'new'}", "memory://tried"):
        await Storage(url).check()
        Storage(url).check_now()

    assert bucket.objects == {}
    assert not bucket.uploads
    assert list((tmp_path / "new").iterdir()) == []
    assert "/tried" not in str(in_memory())


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme `missing`, which fsspec knows, and whose package is not installed."""
    from fsspec.registry import known_implementations

    known = {"class": "no_such_package.FileSystem", "err": "Install no_such_package"}
    monkeypatch.setitem(known_implementations, "missing", known)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://none/a", "FileNotFoundError: The specified bucket does not exist; is there such"),
        ("nonsense://a", "fsspec knows no storage called nonsense"),
        ("missing://a", "a package is missing .* pip install no_such_package"),
        ("https://example.test/a", ""),
    ],
)
async def test_a_place_that_nothing_can_be_saved_to(
    url: str, problem: str, bucket: Bucket, no_package: None
) -> None:
    """The error names it and says what to do."""
    with pytest.raises(InvalidSettingError, match=f"cannot save to {url}: .*{problem}"):
        await Storage(url).check()


async def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra, which the error names."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InvalidSettingError, match=r"pip install 'apixo-async\[storage\]'"):
        await Storage("s3://videos").check()


@pytest.mark.parametrize(
    ("url", "has_fsspec", "advice"),
    [
        ("memory://a", False, "fsspec is not installed: pip install 'apixo-async[storage]'"),
        ("nonsense://a", False, "fsspec is not installed: pip install 'apixo-async[storage]'"),
        ("nonsense://a", True, "fsspec knows no storage called nonsense"),
        ("missing://a", True, ": pip install no_such_package"),
    ],
)
async def test_a_download_to_a_storage_that_cannot_be_opened(
    url: str, has_fsspec: bool, advice: str, no_package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is at fault, not the URL of the result, which is not even asked for."""
    if not has_fsspec:
        monkeypatch.setitem(sys.modules, "fsspec", None)
    host = FileHost([VIDEO])
    async with FaultServer(host.act) as server:
        client = ApixoClient("key", base_url=server.url, transport=FakeApi())
        task = Task(id="t-1", model="veo-3-1", state=TaskState.SUCCESS, urls=(server.url,))
        async with client:
            for verb in (client.download, client.save):
                with pytest.raises(InvalidSettingError) as caught:
                    await verb(task, url)
                assert str(caught.value).startswith(f"cannot save to {url}: ")
                assert str(caught.value).endswith(advice)

    assert host.starts == []


# Secrets


async def test_options_reach_the_storage_and_nothing_else(bucket: Bucket) -> None:
    """They are what fsspec makes the storage with; no repr, error or cache has them."""
    options = {"secret": SECRET, "client_kwargs": {"region_name": "eu"}, "many": [SECRET + "-2"]}
    client = ApixoClient(
        "key", base_url="http://127.0.0.1:9", transport=FakeApi(), storage_options=options
    )
    async with client:
        storage = client.saver.destination("s3://videos")
        await storage.check()
        bucket.failures["create"] = OSError(
            f"https://me:{SECRET}@host/a?X-Signature=abc and {SECRET}-2 in eu \x1b[2J"
        )
        with pytest.raises(InvalidSettingError) as caught:
            await storage.check()

    assert Buckets.options == options
    assert SECRET not in repr(storage) + repr(client) + str(caught.value)
    assert "X-Signature" not in str(caught.value)
    assert "***-2" not in str(caught.value), "the longest is masked first"
    assert "in eu ?[2J" in str(caught.value)
    assert not Buckets._cache, "fsspec keeps no instance that others would share"


def test_options_are_those_of_a_mapping() -> None:
    """Anything else is refused at once."""
    with pytest.raises(InvalidSettingError, match="storage_options must be a Mapping, got str"):
        ApixoClient("key", storage_options="secret")  # type: ignore[arg-type]
