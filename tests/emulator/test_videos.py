import struct
from collections.abc import Iterator

import pytest

from apixo_async.emulator.videos import Video, choose, library, load

WIDE, TALL = library()


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Walk the boxes of an MP4 file: four bytes of length, four of name, the content."""
    while data:
        size, name = struct.unpack(">I4s", data[:8])
        yield name.decode(), data[8:size]
        data = data[size:]


@pytest.mark.parametrize("video", WIDE + TALL, ids=lambda video: video.name)
def test_every_clip_is_an_mp4_that_starts_at_once(video: Video) -> None:
    """A brand a player knows comes first, then the index, then the pictures; the size is small."""
    names = [name for name, _ in boxes(video.content)]

    assert video.content[4:12] in {b"ftypisom", b"ftypmp42"}
    assert names.index("moov") < names.index("mdat")
    assert b"avc1" in video.content[video.content.index(b"stsd") :]
    assert 2_000 < len(video.content) < 40_000


@pytest.mark.parametrize("video", WIDE + TALL, ids=lambda video: video.name)
def test_a_clip_has_the_shape_in_its_name(video: Video) -> None:
    """Wide ones are 320x180, tall ones 180x320."""
    start = video.content.index(b"avc1", video.content.index(b"stsd")) + 28

    assert struct.unpack(">HH", video.content[start : start + 4]) == (
        (320, 180) if video.name.startswith("wide") else (180, 320)
    )


def test_there_are_enough_clips_to_tell_tasks_apart() -> None:
    """No two clips are the same, and one of them has sound."""
    everything = WIDE + TALL

    assert (len(WIDE), len(TALL)) == (5, 3)
    assert len({video.content for video in everything}) == 8
    assert len({video.etag for video in everything}) == 8
    assert any(b"mp4a" in video.content for video in everything)


def test_a_task_always_has_the_same_clip() -> None:
    """The choice depends on the task alone, has the shape asked for, and reaches every clip."""
    assert choose("a" * 32, 0, is_tall=False) is choose("a" * 32, 0, is_tall=False)
    assert {choose(str(index), 0, is_tall=False) for index in range(100)} == set(WIDE)
    assert {choose(str(index), 0, is_tall=True) for index in range(100)} == set(TALL)


def test_results_of_one_task_differ() -> None:
    """A task with several URLs does not offer one clip several times."""
    assert len({choose("x", index, is_tall=False) for index in range(5)}) == 5


async def test_clips_are_read_once() -> None:
    """The first call reads, the next ones find everything there."""
    library.cache_clear()
    await load()
    first = library()
    await load()

    assert library() is first
    assert first == (WIDE, TALL)
