import pytest

from apixo_async.emulator.downloads import FileName, read_range, serve_video
from apixo_async.emulator.videos import Video

TASK = "0123456789abcdef" * 2
VIDEO = Video("wide-test.mp4", b"0123456789", '"tag"')


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/files/{TASK}/0.mp4", FileName(TASK, 0)),
        (f"/files/{TASK}/12.mp4", FileName(TASK, 12)),
        (f"/files/{TASK}/0.mov", None),
        (f"/files/{TASK}/-1.mp4", None),
        (f"/files/{TASK}/99999.mp4", None),
        ("/files/../secret/0.mp4", None),
        ("/files/", None),
    ],
)
def test_a_path_names_a_result(path: str, name: FileName | None) -> None:
    """Only the form in which URLs are given out is understood."""
    assert FileName.parse(path) == name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=4-", (4, 10)),
        ("bytes=4-100", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=10-", (10, 10)),
        ("bytes=-0", (10, 10)),
        ("", None),
        ("bytes=-", None),
        ("bytes=3-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
    ],
)
def test_a_range_is_read(text: str, wanted: tuple[int, int] | None) -> None:
    """First byte and the one after the last; what cannot be obeyed means the whole file."""
    assert read_range(text, 10) == wanted


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        pytest.param({}, 200, b"0123456789", id="whole"),
        pytest.param({"Range": "bytes=4-"}, 206, b"456789", id="rest"),
        pytest.param({"Range": "bytes=4-", "If-Range": '"tag"'}, 206, b"456789", id="same"),
        pytest.param({"Range": "bytes=4-", "If-Range": '"old"'}, 200, b"0123456789", id="changed"),
    ],
)
def test_a_download_can_be_resumed(headers: dict[str, str], status: int, body: bytes) -> None:
    """The rest is sent if the file is still the one the client has begun with."""
    reply = serve_video(VIDEO, headers)

    assert (reply.status, reply.body) == (status, body)
    assert reply.content_type == "video/mp4"
    assert reply.headers["ETag"] == '"tag"'


def test_a_part_says_where_it_belongs() -> None:
    """Content-Range holds first and last byte and the size of the whole."""
    reply = serve_video(VIDEO, {"Range": "bytes=4-7"})

    assert reply.headers["Content-Range"] == "bytes 4-7/10"


def test_a_range_beyond_the_end_is_refused() -> None:
    """The answer is 416 and tells the size."""
    reply = serve_video(VIDEO, {"Range": "bytes=10-"})

    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */10")
