"""A host of result files that can be given bad habits, and what tests of downloads share."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self, TypeAlias

import attrs
import pytest

from apixo_async.downloads.parts import PartFile
from tests.faults import Act, Peer, Seen, reply


def mp4(content: bytes) -> bytes:
    """A file in two boxes: its kind, and what it holds."""
    return (
        b"\x00\x00\x00\x10ftypisom" + bytes(4) + (8 + len(content)).to_bytes(4) + b"mdat" + content
    )


VIDEO = mp4(bytes(range(256)) * 800)
OTHER = mp4(bytes(range(255, -1, -1)) * 700)
MP4 = "video/mp4"


def video(body: bytes = VIDEO) -> bytes:
    """The answer of a healthy file host."""
    return reply(body, content_type=MP4)


class NoJitter(random.Random):
    """Draws zeros, so that retries follow at once."""

    def random(self) -> float:
        return 0.0


class FullJitter(random.Random):
    """Draws the longest pauses."""

    def random(self) -> float:
        return 0.999


def files_in(directory: Path) -> dict[str, bytes]:
    """Names and contents."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that has no event: what is on a disk."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a directory has no event
            await asyncio.sleep(0.002)


def in_turn(*answers: bytes) -> Act:
    """One answer for each connection in turn, the last for all that follow."""

    async def act(peer: Peer) -> None:
        await peer.request()
        answer = answers[min(len(peer.server.seen), len(answers)) - 1]
        await peer.send(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    return act


Ranges: TypeAlias = Literal[
    "good", "ignored", "416", "shifted", "longer", "unsaid", "unknown total", "in pieces", "blind"
]
"""How ranges are answered. `blind` means that If-Range is not looked at."""

TAG = 'ETag: "v{}"'
WEAK_TAG = 'ETag: W/"v{}"'
DATE = "Last-Modified: Mon, 0{} Jun 2026 10:00:00 GMT\r\nDate: Tue, 09 Jun 2026 10:00:00 GMT"
FRESH_DATE = "Last-Modified: Mon, 0{} Jun 2026 10:00:00 GMT\r\nDate: Mon, 01 Jun 2026 10:00:00 GMT"
"""A file that may have changed again in the second in which it was sent."""
LONE_DATE = "Last-Modified: Mon, 0{} Jun 2026 10:00:00 GMT"


@attrs.define
class FileHost:
    """Serves versions of one file; every answer is one connection."""

    versions: list[bytes] = attrs.field(factory=lambda: [VIDEO])
    """What the file is at each request in turn; the last is what it stays."""
    named_by: str = TAG
    """The header that names a version, by its number."""
    ranges: Ranges = "good"
    cuts: list[int] = attrs.field(factory=list[int])
    """After how many bytes of the body each answer in turn is cut; the others are whole."""
    is_reset: bool = False
    """Whether a cut is a reset."""
    is_chunked: bool = False
    patience: float = 10.0
    """Seconds that a cut waits at most for what was sent to arrive, see `watched`."""
    starts: list[int] = attrs.field(factory=list[int])
    """From which byte each answer went."""
    _arrived: int | None = None
    _news: asyncio.Event = attrs.field(factory=asyncio.Event)

    @contextmanager
    def watched(self) -> Iterator[Self]:
        """Lets this host cut only when what it sent is in the part: a reset may overtake bytes."""
        write = PartFile.write
        self._arrived = 0

        async def noted(part: PartFile, chunk: bytes) -> None:
            await write(part, chunk)
            self._arrived = (self._arrived or 0) + len(chunk)
            self._news.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PartFile, "write", noted)
            yield self

    async def _until_arrived(self, total: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                while self._arrived is not None and self._arrived < total:
                    self._news.clear()
                    await self._news.wait()

    async def act(self, peer: Peer) -> None:
        """Answers one request."""
        seen = await peer.request()
        number = len(peer.server.seen)
        body = self.versions[min(number, len(self.versions)) - 1]
        head, content = self._answer(seen, body, self.versions.index(body) + 1)
        if number > len(self.cuts):
            await peer.send(
                head + self._framed(content) + (b"0\r\n\r\n" if self.is_chunked else b"")
            )
            return
        content = content[: self.cuts[number - 1]]
        before = self._arrived or 0
        await peer.send(head + self._framed(content))
        await self._until_arrived(before + len(content))
        if self.is_reset:
            peer.reset()

    def _framed(self, content: bytes) -> bytes:
        if not self.is_chunked or not content:
            return content
        return b"%x\r\n%b\r\n" % (len(content), content)

    def _answer(self, seen: Seen, body: bytes, version: int) -> tuple[bytes, bytes]:
        name = self.named_by.format(version)
        start = self._start(seen, name)
        self.starts.append(start or 0)
        if start is None:
            return self._head("200 OK", name, len(body)), body
        if self.ranges == "416" or start >= len(body):
            return self._head("416 No", f"Content-Range: bytes */{len(body)}", 0), b""
        content, total, last = body[start:], str(len(body)), len(body) - 1
        match self.ranges:
            case "shifted":
                start, content = start - 1, body[start - 1 :]
            case "longer":
                total = str(len(body) + 1)
            case "unknown total":
                total = "*"
            case "in pieces":
                content = content[: max(1, len(content) // 2)]
                last = start + len(content) - 1
            case _:
                pass
        if self.ranges != "unsaid":
            name = f"Content-Range: bytes {start}-{last}/{total}\r\n{name}"
        return self._head("206 Partial", name, len(content)), content

    def _start(self, seen: Seen, name: str) -> int | None:
        """From where to send by Range and If-Range, `None` for a whole file."""
        match = re.fullmatch(r"bytes=(\d+)-", "".join(seen.values("range")))
        if match is None or self.ranges == "ignored":
            return None
        condition = "".join(seen.values("if-range"))
        fits = self.ranges == "blind" or f": {condition}" in name
        return int(match[1]) if fits else None

    def _head(self, status: str, names: str, length: int) -> bytes:
        framing = f"Content-Length: {length}"
        if self.is_chunked:
            framing = "Transfer-Encoding: chunked"
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {MP4}", "Connection: close", framing, names]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"
