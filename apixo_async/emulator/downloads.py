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
LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
"""When every clip was last changed: they come with the package and stay as they are."""

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


def serve_video(video: Video, headers: Mapping[str, str], *, has_ranges: bool = True) -> Reply:
    """Answer a request for *video* with the whole of it or the range asked for.

    A HEAD has none (RFC 9110, 14.2: only GET knows ranges); its body is left out when it is sent.
    """
    size = len(video.content)
    common = {"ETag": video.etag, "Last-Modified": LAST_MODIFIED, "Accept-Ranges": "bytes"}
    wanted = read_range(headers.get("Range", ""), size) if has_ranges else None
    if wanted is None or not _is_same(headers.get("If-Range"), video):
        return Reply(video.content, content_type=MP4, headers=common)
    start, end = wanted
    if start >= end:
        return attrs.evolve(
            error(400, "Range not satisfiable", status=416),
            headers={**common, "Content-Range": f"bytes */{size}"},
        )
    common["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Reply(video.content[start:end], status=206, content_type=MP4, headers=common)


def _is_same(condition: str | None, video: Video) -> bool:
    """Whether If-Range is absent or names this version exactly, by its tag or its date.

    A range of another version would not fit what the client has, so it gets it all.
    """
    return condition is None or condition.strip() in {video.etag, LAST_MODIFIED}
