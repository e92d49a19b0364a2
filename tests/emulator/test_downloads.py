from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apixo_async.emulator.downloads import LAST_MODIFIED, FileName, read_range, serve_video
from apixo_async.emulator.videos import Video

if TYPE_CHECKING:
    import aiohttp

    from tests.emulator.conftest import Caller, Start

TASK = "0123456789abcdef" * 2
WHOLE = b"0123456789"
DATE, OLD = LAST_MODIFIED, "Wed, 31 Dec 2025 00:00:00 GMT"
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
        pytest.param({"Range": "bytes=4-", "If-Range": DATE}, 206, b"456789", id="same date"),
        pytest.param({"Range": "bytes=4-", "If-Range": '"old"'}, 200, WHOLE, id="changed"),
        pytest.param({"Range": "bytes=4-", "If-Range": 'W/"tag"'}, 200, WHOLE, id="weak"),
        pytest.param({"Range": "bytes=4-", "If-Range": OLD}, 200, WHOLE, id="other date"),
    ],
)
def test_a_download_can_be_resumed(headers: dict[str, str], status: int, body: bytes) -> None:
    """The rest is sent if the file is still the one the client has begun with."""
    reply = serve_video(VIDEO, headers)

    assert (reply.status, reply.body) == (status, body)
    assert reply.content_type == "video/mp4"
    assert reply.headers["ETag"] == '"tag"'
    assert reply.headers["Last-Modified"] == LAST_MODIFIED
    assert reply.headers["Accept-Ranges"] == "bytes"


def test_a_part_says_where_it_belongs() -> None:
    """Content-Range holds first and last byte and the size of the whole."""
    reply = serve_video(VIDEO, {"Range": "bytes=4-7"})

    assert reply.headers["Content-Range"] == "bytes 4-7/10"


def test_a_range_beyond_the_end_is_refused() -> None:
    """The answer is 416 and tells the size."""
    reply = serve_video(VIDEO, {"Range": "bytes=10-"})

    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */10")


def test_a_file_without_ranges() -> None:
    """The whole of it is sent, whatever is asked for."""
    reply = serve_video(VIDEO, {"Range": "bytes=4-"}, has_ranges=False)

    assert (reply.status, reply.body) == (200, WHOLE)


async def file_of(
    caller: Caller, url: str, method: str = "GET", **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """The answer to a request for a file, with its body."""
    async with caller.session.request(method, url, headers=headers) as response:
        return response, await response.read()


async def test_a_head_is_answered_like_a_get_without_its_body(start: Start) -> None:
    """Size and version can be asked for beforehand; it does not count as a file served."""
    caller = await start()
    url = await caller.url()
    head, nothing = await file_of(caller, url, "HEAD", Range="bytes=4-")
    assert caller.emulator.ledger.files_served == 0
    whole, body = await file_of(caller, url)

    assert (head.status, nothing) == (200, b"")
    assert head.content_length == len(body)
    for name in ("ETag", "Last-Modified", "Accept-Ranges", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
    assert caller.emulator.ledger.files_served == 1


@pytest.mark.parametrize("fault", ["short_download", "download_html", "download_503"])
async def test_a_head_has_no_body_in_any_fault(fault: str, start: Start) -> None:
    """There is nothing to cut off, and no page to send."""
    caller = await start(faults={fault: 1})
    url = await caller.url()
    _, nothing = await file_of(caller, url, "HEAD")

    assert nothing == b""


async def test_a_host_without_ranges(start: Start) -> None:
    """It says so and sends the whole file."""
    caller = await start()
    url = await caller.url()
    _, body = await file_of(caller, url)
    caller.emulator.set_faults({"download_no_range": 1})
    answer, again = await file_of(caller, url, Range="bytes=4-")

    assert (answer.status, again) == (200, body)
    assert answer.headers["Accept-Ranges"] == "none"
    assert "Content-Range" not in answer.headers


async def test_a_file_that_is_refused(start: Start) -> None:
    """403, while the status goes on giving the URL."""
    caller = await start(faults={"download_403": 1})
    url = await caller.url()
    answer, _ = await file_of(caller, url)

    assert answer.status == 403
    assert caller.emulator.ledger.faults["download_403"] == 1
