"""Storages for tests: a bucket that takes uploads in parts by the rules of S3, and a plain disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem


@attrs.define
class Bucket:
    """What is in the bucket `videos`, the only one there is, and what was done with it."""

    objects: dict[str, bytes] = attrs.field(factory=dict)
    uploads: dict[int, list[bytes]] = attrs.field(factory=dict)
    """Those that are neither completed nor aborted."""
    calls: list[str] = attrs.field(factory=list)
    failures: dict[str, Exception] = attrs.field(factory=dict)
    """What a call raises instead of doing its work."""
    lost_answers: dict[str, Exception] = attrs.field(factory=dict)
    """What it raises after it has done its work."""
    swallows: int = 0
    """How many bytes it loses of what is completed."""
    most_at_once: int = 0
    latency: threading.Event | None = None
    """What each call waits for."""
    _at_once: int = 0
    _number: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def call(self, name: str) -> None:
        """One call to the storage begins."""
        with self._lock:
            self.calls.append(name)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.latency is not None:
                self.latency.wait(10)
            if name in self.failures:
                raise self.failures[name]
        finally:
            with self._lock:
                self._at_once -= 1

    def done(self, name: str) -> None:
        """Its answer gets lost, perhaps."""
        if name in self.lost_answers:
            raise self.lost_answers[name]

    def begin(self) -> int:
        """A new upload."""
        with self._lock:
            self._number += 1
            self.uploads[self._number] = []
            return self._number


class BucketFile(AbstractBufferedFile):  # type: ignore[misc]  # untyped
    """An upload in parts, as that of s3fs: bound to its name, nothing until it is completed."""

    fs: Buckets

    def _initiate_upload(self) -> None:
        self.fs.bucket.call("create")
        self.number = self.fs.bucket.begin()

    def _upload_chunk(self, final: bool = False) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # as those of s3fs
        self.fs.bucket.call("part")
        parts = self.fs.bucket.uploads[self.number]
        assert all(len(part) >= int(self.blocksize) for part in parts), "only the last may be short"
        parts.append(self.buffer.getvalue())
        return True

    def commit(self) -> None:
        bucket = self.fs.bucket
        bucket.call("complete")
        if "x" in self.mode and self.path in bucket.objects:
            raise FileExistsError(self.path)
        whole = b"".join(bucket.uploads.pop(self.number))
        bucket.objects[self.path] = whole[: len(whole) - bucket.swallows]
        bucket.done("complete")

    def discard(self) -> None:
        if hasattr(self, "number"):
            self.fs.bucket.call("abort")
            self.fs.bucket.uploads.pop(self.number, None)

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.fs.bucket.call("get")
        return self.fs.bucket.objects[self.path][start:end]


class Buckets(AbstractFileSystem):  # type: ignore[misc]  # untyped
    """`s3://videos/...`; `options` are those it was made with."""

    protocol = ("s3", "s3a")
    async_impl = True
    bucket = Bucket()
    options: dict[str, Any] = {}  # noqa: RUF012  # of the last one that was made

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # as those of fsspec
        super().__init__()
        type(self).options = options

    def _open(  # pyright: ignore[reportIncompatibleMethodOverride]  # all by keyword
        self,
        path: str,
        mode: str = "rb",
        **more: Any,  # noqa: ANN401  # as above
    ) -> BucketFile:  # as above
        if "r" not in mode and not path.startswith("videos/"):
            raise FileNotFoundError("The specified bucket does not exist")
        return BucketFile(self, path, mode, **more)

    def info(self, path: str, **_: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
        self.bucket.call("info")
        if path not in self.bucket.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.bucket.objects[path]), "type": "file"}

    def rm_file(self, path: str) -> None:
        self.bucket.call("remove")
        del self.bucket.objects[path]


class Disk(LocalFileSystem):  # type: ignore[misc]  # untyped
    """`disk:///directory`: a storage without uploads in parts."""

    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("disk://")))


@contextmanager
def registered() -> Iterator[Bucket]:
    """The bucket, empty."""
    fsspec.register_implementation("s3", Buckets, clobber=True)
    fsspec.register_implementation("disk", Disk, clobber=True)
    Buckets.bucket = Bucket()
    try:
        yield Buckets.bucket
    finally:
        for name in ("s3", "disk"):
            _registry.pop(name)
        Buckets.bucket = Bucket()


def in_memory() -> dict[str, bytes]:
    """What is in fsspec's own storage in memory."""
    return {str(path): file.getvalue() for path, file in fsspec.filesystem("memory").store.items()}


def forget() -> None:
    """Empties it."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
