"""The clips that come with the package, read when the first one is asked for."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from importlib.resources import files

import attrs

from apixo_async.emulator.draws import pick


@attrs.frozen
class Video:
    """One clip."""

    name: str
    content: bytes = attrs.field(repr=False)
    etag: str
    """Quoted, ready for the header."""


@functools.cache
def library() -> tuple[tuple[Video, ...], tuple[Video, ...]]:
    """Return the wide and the tall clips, each sorted by name."""
    folder = files("apixo_async.emulator") / "videos"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".mp4"))
    videos = [_video(name, (folder / name).read_bytes()) for name in names]
    wide = tuple(video for video in videos if video.name.startswith("wide-"))
    tall = tuple(video for video in videos if video.name.startswith("tall-"))
    return wide, tall


async def load() -> None:
    """Read the clips without holding up the event loop; only the first call has anything to do."""
    if not library.cache_info().currsize:
        await asyncio.to_thread(library)


def _video(name: str, content: bytes) -> Video:
    return Video(name, content, f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"')


def choose(task_id: str, index: int, *, is_tall: bool) -> Video:
    """Return the clip that a task has as its result number *index*: always the same one."""
    wide, tall = library()
    shelf = tall if is_tall else wide
    return shelf[(pick(len(shelf), task_id) + index) % len(shelf)]
