"""How much memory, and how long, it takes to save a result of 1 GB.

    python -m benchmarks.saving                  # to a directory, and in parts to a bucket of ours
    python -m benchmarks.saving s3://...         # to a storage, with fsspec's own variables for it

The host that it comes from, and the bucket, are threads of this process that keep nothing.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
from aiohttp import web
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from apixo_async.downloads import Destination, Directory, Downloader
from apixo_async.downloads.storage import Storage

SIZE = 1_000_000_000
PIECE = b"\x00\x00\x00\x18ftypisom" + bytes(1_000_000 - 12)


async def video(request: web.Request) -> web.StreamResponse:
    """1 GB that nobody holds."""
    response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
    response.content_length = SIZE
    await response.prepare(request)
    for _ in range(SIZE // len(PIECE)):
        await response.write(PIECE)
    return response


class _File(AbstractBufferedFile):  # type: ignore[misc]  # untyped
    def _upload_chunk(self, final: bool = False) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: FBT001, FBT002  # as there
        del final
        return True

    def commit(self) -> None:
        Nowhere.kept[self.path] = self.loc

    def discard(self) -> None:
        pass


class Nowhere(AbstractFileSystem):  # type: ignore[misc]  # untyped
    """A bucket that takes uploads in parts as s3fs does, and forgets all but their sizes."""

    protocol = ("s3", "s3a")
    async_impl = True
    kept: dict[str, int] = {}  # noqa: RUF012  # shared on purpose

    def _open(self, path: str, mode: str = "rb", **more: Any) -> _File:  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: ANN401  # as there
        return _File(self, path, mode, **more)

    def info(self, path: str, **_: Any) -> dict[str, Any]:  # noqa: ANN401  # as there
        """What is there, as fsspec wants it."""
        if path not in self.kept:
            raise FileNotFoundError(path)
        return {"name": path, "size": self.kept[path], "type": "file"}


def serve(ready: threading.Event, port: list[int]) -> None:
    """The host, in a thread of its own."""

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", video)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(run())


def peak() -> float:
    """The most memory this process ever had, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


async def measure(name: str, destination: Destination, url: str) -> None:
    """Saves it once."""
    loader = Downloader(allow_private_hosts=True)
    await destination.check()
    before, began = peak(), time.perf_counter()
    file = await loader.save(url, destination, "video", overwrite=True)
    seconds = time.perf_counter() - began
    assert file.size == SIZE
    print(
        f"{name:<12}{seconds:6.1f} s  {SIZE / 1e6 / seconds:6.0f} MB/s  +{peak() - before:.0f} MB"
    )
    destination.close()
    await loader.aclose()


async def main() -> None:
    """All of them, or the one that was named."""
    ready, port = threading.Event(), list[int]()
    threading.Thread(target=serve, args=(ready, port), daemon=True).start()
    await asyncio.to_thread(ready.wait)
    url = f"http://127.0.0.1:{port[0]}/"
    if len(sys.argv) > 1:
        await measure(sys.argv[1].partition("://")[0], Storage(sys.argv[1]), url)
        return
    fsspec.register_implementation("s3", Nowhere, clobber=True)
    with tempfile.TemporaryDirectory() as directory:
        await measure("directory", Directory(Path(directory)), url)
    await measure("in parts", Storage("s3://nowhere"), url)


if __name__ == "__main__":
    asyncio.run(main())
