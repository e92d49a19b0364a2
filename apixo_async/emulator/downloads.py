"""Result files: which bytes of which clip answer a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from apixo_async.emulator.replies import Reply, error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apixo_async.emulator.videos import Video

MP4 = "video/mp4"

_PATH = re.compile(r"/files/(?P<task>[0-9a-f]{32})/(?P<index>\d{1,4})\.mp4")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@attrs.frozen
class FileName:
    """Which result of which task a path asks for."""

    task_id: str
    index: int

    @classmethod
    def parse(cls, path: str) -> FileName | None:
        """Return what *path* asks for, None if it is no result file's path."""
        match = _PATH.fullmatch(path)
        return cls(match["task"], int(match["index"])) if match else None


def read_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a Range header asks for.

    None if there is no range to obey (absent, several ranges, other units), which means the whole
    file. A range beyond the end comes back empty.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, min(int(last) + 1, size) if last else size


def serve_video(video: Video, headers: Mapping[str, str]) -> Reply:
    """Answer a request for *video* with the whole of it or the range asked for."""
    size = len(video.content)
    common = {"ETag": video.etag, "Accept-Ranges": "bytes"}
    wanted = read_range(headers.get("Range", ""), size)
    # If-Range: a range of another version would not fit what the client has, so it gets it all.
    if wanted is None or headers.get("If-Range", video.etag) != video.etag:
        return Reply(video.content, content_type=MP4, headers=common)
    start, end = wanted
    if start >= end:
        return attrs.evolve(
            error(400, "Range not satisfiable", status=416),
            headers={**common, "Content-Range": f"bytes */{size}"},
        )
    common["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Reply(video.content[start:end], status=206, content_type=MP4, headers=common)
