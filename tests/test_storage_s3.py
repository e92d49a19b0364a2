"""s3fs against a server of S3's protocol: `make test-s3`, in an environment of its own.

What is asked here is whether the storage of our other tests behaves as this one does.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import boto3  # pyright: ignore[reportMissingImports]  # installed where it is needed
import pytest
from moto.server import ThreadedMotoServer  # pyright: ignore[reportMissingImports]  # installed where it is needed

from apixo_async import DownloadError, InvalidSettingError
from apixo_async.downloads import Downloader, SavedFile
from apixo_async.downloads.storage import Storage
from tests.faults import FaultServer, reply
from tests.filehost import OTHER, VIDEO, FileHost, NoJitter, in_turn, video

BIG = VIDEO * 60
PLACE = "s3://videos/a/b"

pytestmark = pytest.mark.filterwarnings("ignore")  # those of s3fs and its server are theirs


@attrs.frozen
class Server:
    """The server and a client of another make."""

    endpoint: str
    client: Any

    def storage(self, url: str = PLACE) -> Storage:
        """A place in it."""
        return Storage(url, {"endpoint_url": self.endpoint})

    def objects(self) -> dict[str, int]:
        """Names and sizes of what is there, when no upload is left over."""
        assert not self.client.list_multipart_uploads(Bucket="videos").get("Uploads")
        found = self.client.list_objects_v2(Bucket="videos").get("Contents", [])
        return {one["Key"]: one["Size"] for one in found}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id-of-the-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="videos")
    yield Server(f"http://{host}:{port}", client)
    for name in client.list_objects_v2(Bucket="videos").get("Contents", []):
        client.delete_object(Bucket="videos", Key=name["Key"])
    server.stop()


@pytest.fixture
async def loader() -> AsyncIterator[Downloader]:
    """A downloader that does not wait between attempts."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


async def test_results_are_saved_by_their_names(s3: Server, loader: Downloader) -> None:
    """In parts, over a break, beside what is there, or over it if that is wanted."""
    host = FileHost([BIG], cuts=[7_000_000], patience=0.1)
    storage = s3.storage()
    async with FaultServer(host.act) as server:
        first = await loader.save(server.url, storage, "job", overwrite=False)
    async with FaultServer(in_turn(video(OTHER), video())) as server:
        second = await loader.save(server.url, storage, "job", overwrite=False)
        third = await loader.save(server.url, storage, "job", overwrite=True)

    assert first.size == len(BIG)
    assert second.place == f"{PLACE}/job~2.mp4"
    assert s3.objects() == {"a/b/job.mp4": len(VIDEO), "a/b/job~2.mp4": len(OTHER)}
    assert await storage.has(third)
    assert await storage.find(third, "job") == third
    assert await storage.find(attrs.evolve(third, sha256="00"), "job") is None


async def test_a_result_that_stays_too_short_is_nothing(s3: Server, loader: Downloader) -> None:
    """Its upload is aborted."""
    short = reply(BIG[:6_000_000], content_type="video/mp4", length=len(BIG))
    async with FaultServer(in_turn(short)) as server:
        with pytest.raises(DownloadError):
            await loader.save(server.url, s3.storage(), "job", overwrite=False)

    assert s3.objects() == {}


async def test_a_name_that_is_taken_meanwhile(s3: Server, loader: Downloader) -> None:
    """The store refuses it when the upload is completed, and the next one is taken."""

    async def take(file: SavedFile) -> None:
        if "~" not in str(file):
            s3.client.put_object(Bucket="videos", Key="a/b/job.mp4", Body=b"somebody else's")

    async with FaultServer(in_turn(video())) as server:
        file = await loader.save(
            server.url, s3.storage(), "job", overwrite=False, about_to_name=take
        )

    assert file.place == f"{PLACE}/job~2.mp4"
    assert s3.objects() == {"a/b/job.mp4": 15, "a/b/job~2.mp4": len(VIDEO)}


async def test_a_place_is_tried(s3: Server) -> None:
    """A bucket that is there is left as it was; another is refused."""
    await s3.storage().check()
    with pytest.raises(InvalidSettingError, match="s3://none/a: FileNotFoundError"):
        await s3.storage("s3://none/a").check()

    assert s3.objects() == {}


@pytest.mark.apixo_emulator(speed=50.0, durations="5")
def test_the_command_line(s3: Server, apixo_emulator: object, tmp_path: Path) -> None:
    """Fsspec's own variables say where the storage is; nothing shows the secret."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\n")
    command = ("apixo_async.cli", "batch", str(prompts), "--journal", str(tmp_path / "run.db"))
    options = ("--first-poll", "0.02", "--poll-every", "0.05", "--save-to", PLACE, "-vv")
    result = subprocess.run(
        [sys.executable, "-m", *command, *options],
        env={**os.environ, "FSSPEC_S3_ENDPOINT_URL": s3.endpoint},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert f"2 files in {PLACE}" in result.stdout
    assert len(s3.objects()) == 2
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hunter2" not in result.stdout.encode() + result.stderr.encode() + written
