"""Batches that save to a storage: what a journal and a bucket together know."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    DownloadError,
    InvalidSettingError,
    Job,
    OutcomeStatus,
    PollSchedule,
    TextToVideo,
)
from apixo_async.batch.journal import JournalReader
from apixo_async.testing import EmulatorThread
from tests.buckets import Bucket, registered
from tests.fakes import FakeApi
from tests.faults import FaultServer
from tests.filehost import VIDEO, in_turn, video

JOBS = [Job(TextToVideo(f"river {key}"), key=key) for key in "abc"]
SECRET = "hunter2-hunter2"
QUICK = PollSchedule(first=0, interval=0.01)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """The bucket behind `s3://videos`."""
    with registered() as bucket:
        yield bucket


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ApixoClient, FakeApi]]:
    """A client of an API whose tasks end at once, and whose results can be fetched."""
    async with FaultServer(in_turn(video())) as host:
        urls = json.dumps({"resultUrls": [host.url]})
        api = FakeApi(duration=lambda _: 0.0, latency=0.0, result=lambda _: urls)
        client = ApixoClient(
            "key",
            base_url=host.url,
            transport=api,
            schedule=QUICK,
            allow_private_hosts=True,
            storage_options={"secret": SECRET},
        )
        async with client:
            yield client, api


async def test_a_batch_saves_to_a_bucket(bucket: Bucket, db: Path) -> None:
    """Outcomes and journal have the URLs; the options are in neither."""
    async with connected() as (client, _):
        runner = BatchRunner(client, journal=db, save_to="s3://videos/run/", schedule=QUICK)
        report = await runner.run(JOBS)

    urls = [f"s3://videos/run/{key}.mp4" for key in "abc"]
    assert [str(file) for outcome in report.outcomes for file in outcome.files] == urls
    assert bucket.objects == {url.removeprefix("s3://"): VIDEO for url in urls}
    with JournalReader(db) as reader:
        assert reader.overview().save_to == "s3://videos/run"
        assert [str(file) for _, files in reader.with_files() for file in files] == urls
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in db.parent.iterdir())


async def test_what_is_saved_is_not_sent_again(bucket: Bucket, db: Path) -> None:
    """The journal is believed: the bucket is not even asked for what it says."""
    async with connected() as (client, api):
        runner = BatchRunner(client, journal=db, save_to="s3://videos", schedule=QUICK)
        await runner.run(JOBS)
        bucket.calls.clear()
        report = await runner.run(JOBS)

    assert all(outcome.files for outcome in report.outcomes)
    assert bucket.calls == ["info", "create", "part", "abort"], "only the place was tried"
    assert len(api.tasks) == 3


async def test_a_batch_is_refused_before_anything_is_sent(bucket: Bucket, db: Path) -> None:
    """A bucket that takes nothing costs nothing."""
    bucket.failures["create"] = PermissionError("Access Denied")
    async with connected() as (client, api):
        runner = BatchRunner(client, journal=db, save_to="s3://videos/run")
        with pytest.raises(InvalidSettingError, match="s3://videos/run: PermissionError: Access"):
            await runner.run(JOBS)

    assert not api.requests
    assert not db.exists()


@pytest.mark.parametrize(
    "place",
    [
        "afile",
        "afile/below",
        pytest.param(
            "/proc/videos", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
        ),
    ],
)
async def test_a_batch_to_no_directory_is_refused_before_anything_is_sent(
    place: str, db: Path
) -> None:
    """A path is held to the same as a bucket."""
    (db.parent / "afile").write_bytes(b"")
    async with connected() as (client, api):
        runner = BatchRunner(client, journal=db, save_to=db.parent / place)
        with pytest.raises(InvalidSettingError, match=f"cannot save to .*{place}: "):
            await runner.run(JOBS)

    assert not api.requests
    assert not db.exists()


async def test_a_bucket_that_fails_later_costs_no_second_video(bucket: Bucket, db: Path) -> None:
    """Videos are successes with a reason why they are not saved, and resuming saves them."""
    async with connected() as (client, api):
        runner = BatchRunner(client, journal=db, save_to="s3://videos", schedule=QUICK)
        bucket.failures["complete"] = OSError("the bucket is full")
        report = await runner.run(JOBS)
        assert {outcome.status for outcome in report.outcomes} == {OutcomeStatus.SUCCEEDED}
        for outcome in report.outcomes:
            assert isinstance(outcome.error, DownloadError)
            assert outcome.error.reason == "storage"
        assert not bucket.uploads

        bucket.failures.clear()
        again = await runner.resume()

    assert [str(outcome.files[0]) for outcome in again.outcomes] == [
        f"s3://videos/{key}.mp4" for key in "abc"
    ]
    assert len(api.tasks) == 3


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_upload_that_was_not_recorded_is_found(
    is_there: bool, bucket: Bucket, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was completed right before a crash is known by its hash; what was not is sent anew."""
    from apixo_async.batch.story import Story

    class Crash(BaseException):
        """Ends the process, as far as the job can tell."""

    async def crash(_: Story, __: object) -> None:
        raise Crash

    async with connected() as (client, api):
        runner = BatchRunner(client, journal=db, save_to="s3://videos", schedule=QUICK)
        with monkeypatch.context() as patch:
            patch.setattr(Story, "saved", crash)
            with pytest.raises((Crash, BaseExceptionGroup)):
                await runner.run(JOBS[:1])
        assert bucket.objects == {"videos/a.mp4": VIDEO}
        if not is_there:
            bucket.objects["videos/a.mp4"] = b"somebody else's" + VIDEO[15:]
        bucket.calls.clear()

        runner = BatchRunner(client, journal=db, save_to="s3://videos", schedule=QUICK)
        report = await runner.resume()

    (outcome,) = report.outcomes
    name = "a" if is_there else "a~2"
    assert [str(file) for file in outcome.files] == [f"s3://videos/{name}.mp4"]
    assert bucket.objects[f"videos/{name}.mp4"] == VIDEO
    assert bucket.calls.count("complete") == (not is_there)
    assert len(api.tasks) == 1


async def test_a_bucket_that_cannot_be_looked_into(
    bucket: Bucket, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose file is in doubt stays a success that is not saved, and says why."""
    from apixo_async.batch.story import Story

    async def fail(_: Story, __: object) -> None:
        raise DownloadError("cut", url="", reason="network")

    async with connected() as (client, _):
        runner = BatchRunner(client, journal=db, save_to="s3://videos", schedule=QUICK)
        with monkeypatch.context() as patch:
            patch.setattr(Story, "saved", fail)
            await runner.run(JOBS[:1])
        bucket.failures["get"] = PermissionError("Access Denied")
        report = await runner.resume()

    (outcome,) = report.outcomes
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert "cannot look into s3://videos: PermissionError: Access Denied" in str(outcome.error)


BATCH = """
import asyncio, sys
from pathlib import Path
import fsspec
from fsspec.implementations.local import LocalFileSystem
from apixo_async import ApixoClient, BatchRunner, Job, PollSchedule, TextToVideo

class Disk(LocalFileSystem):
    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("disk://"))

async def main():
    jobs = [Job(TextToVideo(f"river {n}"), key=f"job-{n}") for n in range(8)]
    async with ApixoClient(schedule=PollSchedule(first=0.05, interval=0.05)) as client:
        runner = BatchRunner(client, journal=sys.argv[1], save_to=sys.argv[2])
        print(*(len(outcome.files) for outcome in (await runner.run(jobs)).outcomes))

fsspec.register_implementation("disk", Disk)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.apixo_emulator(speed=100, durations="30")
@pytest.mark.parametrize("point", ["K9:5", "K10:4"])
def test_a_process_that_is_killed_while_it_saves(
    point: str, apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """The next one saves what is missing: each video is made once, and is there once."""
    videos = tmp_path / "videos"
    command = [sys.executable, "-P", "-c", BATCH, str(tmp_path / "run.db"), f"disk://{videos}"]

    def run(kill_at: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**os.environ, "APIXO_TEST_KILL_AT": kill_at},
            capture_output=True,
            text=True,
            check=False,
        )

    killed = run(point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = run("")

    assert ended.stdout.split() == ["1"] * 8, ended.stderr
    names = sorted(path.name for path in videos.iterdir() if path.suffix != ".part")
    assert names == [f"job-{number}.mp4" for number in range(8)]
    assert apixo_emulator.ledger.billed_total == 8
