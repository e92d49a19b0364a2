from __future__ import annotations

import asyncio
import gzip
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async import DownloadError
from apixo_async.downloads import ATTEMPTS, MOST_ATTEMPTS, Downloader
from apixo_async.downloads.resuming import Transfer, validator_of
from tests.faults import FaultServer, Peer, reply
from tests.filehost import (
    DATE,
    FRESH_DATE,
    LONE_DATE,
    MP4,
    OTHER,
    TAG,
    VIDEO,
    WEAK_TAG,
    FileHost,
    NoJitter,
    Ranges,
    files_in,
    until,
)

HALF = len(VIDEO) // 2
NEW = "Mon, 01 Jun 2026 10:00:00 GMT"
LATER = "Mon, 01 Jun 2026 10:00:01 GMT"


@pytest.fixture
async def loader() -> AsyncIterator[Downloader]:
    """A downloader that does not wait between attempts."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


async def saved(loader: Downloader, host: FileHost, directory: Path) -> FaultServer:
    """Saves what the host has; checks size, hash and content against the version it ends with."""
    with host.watched():
        async with FaultServer(host.act) as server:
            file = await loader.save(server.url, directory, "job", overwrite=False)
    whole = host.versions[-1]
    assert (file.size, file.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert files_in(directory) == {"job.mp4": whole}
    return server


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    ("named_by", "condition"), [(TAG, '"v1"'), (DATE, "Mon, 01 Jun 2026 10:00:00 GMT")]
)
async def test_a_transfer_that_broke_off_goes_on_where_it_was(
    named_by: str, condition: str, is_reset: bool, loader: Downloader, tmp_path: Path
) -> None:
    """Only the rest is asked for, under the condition that the file is still the same."""
    host = FileHost(named_by=named_by, cuts=[150_000], is_reset=is_reset)
    server = await saved(loader, host, tmp_path)

    first, second = server.seen
    assert first.values("range") == first.values("if-range") == []
    assert host.starts == [0, 150_000]
    assert second.values("range") == ["bytes=150000-"]
    assert second.values("if-range") == [condition]
    assert second.values("accept-encoding") == ["identity"]


async def test_a_file_that_changed_meanwhile_begins_anew(
    loader: Downloader, tmp_path: Path
) -> None:
    """The host sends the whole of the new version, and nothing of the old one is left in it."""
    host = FileHost(versions=[VIDEO, OTHER], cuts=[150_000])
    server = await saved(loader, host, tmp_path)

    assert server.seen[1].values("if-range") == ['"v1"']
    assert host.starts == [0, 0]


@pytest.mark.parametrize("ranges", ["416", "shifted", "longer", "unsaid", "unknown total"])
async def test_an_answer_that_does_not_fit_begins_anew(
    ranges: Ranges, loader: Downloader, tmp_path: Path
) -> None:
    """The whole is asked for, and this host is not asked for a rest again."""
    host = FileHost(ranges=ranges, cuts=[150_000, len(VIDEO), 150_000])
    server = await saved(loader, host, tmp_path)

    assert [bool(seen.values("range")) for seen in server.seen] == [False, True, False, False]


async def test_a_host_that_does_not_look_at_the_condition(
    loader: Downloader, tmp_path: Path
) -> None:
    """The rest of another version is known by its name and not appended."""
    host = FileHost(versions=[VIDEO, OTHER], ranges="blind", cuts=[100_000])
    server = await saved(loader, host, tmp_path)

    assert [bool(seen.values("range")) for seen in server.seen] == [False, True, False]


async def test_a_rest_that_comes_in_pieces(loader: Downloader, tmp_path: Path) -> None:
    """A host may send less than was asked for; the rest of that is asked for next."""
    host = FileHost(ranges="in pieces", cuts=[100_000])
    await saved(loader, host, tmp_path)

    assert host.starts == sorted(set(host.starts))
    assert len(host.starts) > ATTEMPTS + 2  # each piece is progress


@pytest.mark.parametrize("named_by", [WEAK_TAG, FRESH_DATE, LONE_DATE, "X-Nothing: {}"])
async def test_a_file_without_a_sure_name_begins_anew(
    named_by: str, loader: Downloader, tmp_path: Path
) -> None:
    """Where two versions could have the same name, the whole is asked for again."""
    host = FileHost(named_by=named_by, cuts=[150_000])
    server = await saved(loader, host, tmp_path)

    assert [seen.values("range") for seen in server.seen] == [[], []]


async def test_a_packed_file_is_not_resumed(loader: Downloader, tmp_path: Path) -> None:
    """Part of the package is no part of the file."""
    packed = gzip.compress(VIDEO, compresslevel=0)
    headers = ['ETag: "v1"', "Content-Encoding: gzip", "Connection: close"]

    async def act(peer: Peer) -> None:
        await peer.request()
        is_first = len(peer.server.seen) == 1
        body = packed[:150_000] if is_first else packed
        await peer.send(reply(body, content_type=MP4, headers=headers, length=len(packed)))
        if is_first:
            await until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))

    async with FaultServer(act) as server:
        await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert [seen.values("range") for seen in server.seen] == [[], []]
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_an_error_between_two_pieces_keeps_the_first(
    loader: Downloader, tmp_path: Path
) -> None:
    """A host that is busy for a moment does not cost what has arrived."""
    host = FileHost(cuts=[150_000])

    async def act(peer: Peer) -> None:
        if peer.server.connections == 2:
            await peer.request()
            await peer.send(reply(b"", status="503 Busy", headers=["Connection: close"]))
        else:
            await host.act(peer)

    with host.watched():
        async with FaultServer(act) as server:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert host.starts == [0, 150_000]
    assert server.seen[1].values("range") == server.seen[2].values("range")
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_progress_does_not_use_up_the_attempts(loader: Downloader, tmp_path: Path) -> None:
    """A file that comes in more pieces than there are attempts is complete in the end."""
    pieces = 3 * ATTEMPTS
    body = VIDEO[:12] + bytes(pieces * 100_000)
    host = FileHost(versions=[body], cuts=[100_000] * pieces)
    await saved(loader, host, tmp_path)

    assert len(host.starts) > 2 * ATTEMPTS


async def test_progress_without_end_is_given_up(loader: Downloader, tmp_path: Path) -> None:
    """A host that gives a byte at a time does not keep a place for ever."""
    total = 10**9

    async def act(peer: Peer) -> None:
        seen = await peer.request()
        (start,) = [value[6:-1] for value in seen.values("range")] or ["0"]
        status = "206 Partial" if seen.values("range") else "200 OK"
        place = f"Content-Range: bytes {start}-{total - 1}/{total}"
        headers = ['ETag: "v1"', place, "Connection: close"]
        length = total - int(start)
        await peer.send(reply(VIDEO[:1], status=status, headers=headers, length=length))
        await asyncio.sleep(0.005)

    async with FaultServer(act) as server:
        with pytest.raises(DownloadError) as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert ATTEMPTS < len(server.seen) <= MOST_ATTEMPTS
    assert caught.value.reason == "network"
    assert files_in(tmp_path) == {}


async def test_beginning_anew_each_time_is_no_progress(loader: Downloader, tmp_path: Path) -> None:
    """A host that knows no ranges and breaks off in the same place is given up as ever."""
    host = FileHost(ranges="ignored", cuts=[50_000] * 50)
    async with FaultServer(host.act) as server:
        with host.watched(), pytest.raises(DownloadError):
            await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) == ATTEMPTS + 1  # the first did bring something
    assert files_in(tmp_path) == {}


async def test_a_new_version_that_is_shorter(loader: Downloader, tmp_path: Path) -> None:
    """Nothing of the longer one that was on the disk before follows it."""
    host = FileHost(versions=[VIDEO, VIDEO[:100_000]], cuts=[180_000])

    await saved(loader, host, tmp_path)


async def test_a_page_in_place_of_the_file_is_no_progress(
    loader: Downloader, tmp_path: Path
) -> None:
    """However long each is, and longer than the one before: it is given up as ever."""

    async def act(peer: Peer) -> None:
        await peer.request()
        page = b"<p>" + b"wait " * len(peer.server.seen)
        await peer.send(reply(page, headers=['ETag: "v1"', "Connection: close"]))

    async with FaultServer(act) as server:
        with pytest.raises(DownloadError) as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) == ATTEMPTS
    assert caught.value.reason == "not_media"


async def test_a_rest_that_is_longer_than_it_says(loader: Downloader, tmp_path: Path) -> None:
    """A body that does not end where the file does is not trusted; the whole is asked for."""
    host = FileHost(cuts=[150_000], is_chunked=True)

    async def act(peer: Peer) -> None:
        if peer.server.connections != 2:
            await host.act(peer)
            return
        await peer.request()
        place = f"Content-Range: bytes 150000-{len(VIDEO) - 1}/{len(VIDEO)}"
        headers = [place, 'ETag: "v1"', "Connection: close"]
        rest = VIDEO[150_000:] + b"more"
        await peer.send(reply(rest, status="206 Partial", content_type=MP4, headers=headers))

    with host.watched():
        async with FaultServer(act) as server:
            await loader.save(server.url, tmp_path, "job", overwrite=False)

    assert [bool(seen.values("range")) for seen in server.seen] == [False, True, False]
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_rest_larger_than_allowed(tmp_path: Path) -> None:
    """The limit holds for the whole file, however it comes, and what was kept is removed."""
    loader = Downloader(allow_private_hosts=True, max_bytes=len(VIDEO) - 1, rng=NoJitter())
    host = FileHost(cuts=[150_000], is_chunked=True)
    async with FaultServer(host.act) as server:
        with host.watched(), pytest.raises(DownloadError) as caught:
            await loader.save(server.url, tmp_path, "job", overwrite=False)
        await loader.aclose()

    assert caught.value.reason == "too_large"
    assert files_in(tmp_path) == {}


# Open inputs

SMALL = VIDEO[:6_000]
SMALL_OTHER = OTHER[:5_000]
CUTS = st.lists(st.integers(0, len(SMALL) - 1), max_size=ATTEMPTS - 1)
REASONS = {"network", "short", "server", "not_media"}


def outcome(host: FileHost) -> bytes | str:
    """The bytes that a download ends with, or the reason why there are none; nothing else stays."""

    async def run(directory: Path) -> bytes | str:
        loader = Downloader(allow_private_hosts=True, rng=NoJitter())
        host.patience = 0.03
        async with FaultServer(host.act) as server:
            try:
                with host.watched():
                    file = await loader.save(server.url, directory, "job", overwrite=False)
            except DownloadError as error:
                assert files_in(directory) == {}
                return error.reason
            finally:
                await loader.aclose()
        content = file.path.read_bytes()
        assert files_in(directory) == {"job.mp4": content}
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert file.size == len(content)
        return content

    with tempfile.TemporaryDirectory() as place:
        return asyncio.run(run(Path(place)))


@given(CUTS, st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_wherever_it_breaks_off_the_file_is_whole_in_the_end(
    cuts: list[int], is_reset: bool, is_chunked: bool
) -> None:
    """Fewer breaks than attempts, at any byte, of any kind, leave no trace in the file."""
    host = FileHost([SMALL], cuts=cuts, is_reset=is_reset, is_chunked=is_chunked)

    assert outcome(host) == SMALL


@given(
    versions=st.lists(st.sampled_from([SMALL, SMALL_OTHER]), min_size=1, max_size=4),
    named_by=st.sampled_from([TAG, WEAK_TAG, DATE, FRESH_DATE, LONE_DATE, "X-Nothing: {}"]),
    ranges=st.sampled_from([*get_args(Ranges)]),
    cuts=st.lists(st.integers(0, len(SMALL_OTHER) - 1), max_size=2 * ATTEMPTS),
    is_reset=st.booleans(),
    is_chunked=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_whatever_the_host_can_do_the_bytes_are_right_or_there_are_none(
    versions: list[bytes],
    *,
    named_by: str,
    ranges: Ranges,
    cuts: list[int],
    is_reset: bool,
    is_chunked: bool,
) -> None:
    """Every mix of abilities, changes and breaks ends in one version's bytes or a stated error."""
    host = FileHost(versions, named_by, ranges, cuts, is_reset, is_chunked)

    assert outcome(host) in {SMALL, SMALL_OTHER} | REASONS


# The rules as tables


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"a-1"'}, '"a-1"'),
        ({"ETag": '""'}, '""'),
        ({"ETag": 'W/"a"'}, None),
        ({"ETag": "a"}, None),
        ({"ETag": '"a'}, None),
        ({"ETag": '"a\tb"'}, None),
        ({"ETag": '"é"'}, None),
        ({"ETag": 'W/"a"', "Last-Modified": NEW, "Date": LATER}, None),
        ({"ETag": '"a"', "Last-Modified": NEW, "Date": LATER}, '"a"'),
        ({"Last-Modified": NEW, "Date": LATER}, NEW),
        ({"Last-Modified": NEW, "Date": NEW}, None),
        ({"Last-Modified": NEW}, None),
        ({"Last-Modified": "yesterday", "Date": LATER}, None),
        ({"Last-Modified": NEW.replace("GMT", "-0000"), "Date": LATER}, None),
        ({"Last-Modified": NEW, "Date": "Mon, 99 Jun 2026 10:00:01 GMT"}, None),
        ({}, None),
    ],
)
def test_what_names_a_version(headers: dict[str, str], validator: str | None) -> None:
    """A strong tag; without any tag a date that is a second older than the answer; else nothing."""
    assert validator_of(headers) == validator


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({"Content-Range": "bytes 10-99/100"}, True),
        ({"Content-Range": "bytes 10-10/100"}, True),
        ({"Content-Range": "bytes 10-99/100", "ETag": '"v1"'}, True),
        ({"Content-Range": "bytes 10-99/100", "ETag": '"v2"'}, False),
        ({"Content-Range": "bytes 10-99/100", "ETag": 'W/"v1"'}, False),
        ({"Content-Range": "bytes 10-99/100", "Content-Encoding": "gzip"}, False),
        ({"Content-Range": "bytes 10-99/100", "Content-Encoding": "identity"}, True),
        ({"Content-Range": "bytes 9-99/100"}, False),
        ({"Content-Range": "bytes 11-99/100"}, False),
        ({"Content-Range": "bytes 10-100/100"}, False),
        ({"Content-Range": "bytes 10-9/100"}, False),
        ({"Content-Range": "bytes 10-99/101"}, False),
        ({"Content-Range": "bytes 10-99/*"}, False),
        ({"Content-Range": "bytes */100"}, False),
        ({"Content-Range": "lines 10-99/100"}, False),
        ({"Content-Range": "bytes \u0661\u0660-99/100"}, False),
        ({"Content-Range": "bytes 10-99/" + "9" * 5_000}, False),
        ({}, False),
    ],
)
def test_when_an_answer_is_the_rest(headers: dict[str, str], fits: bool) -> None:
    """It begins where the part ends, belongs to a file of the same size and the same version."""
    transfer = Transfer()
    transfer.start({"ETag": '"v1"'}, 100)

    assert transfer.goes_on(headers, 10) is fits


def test_the_size_of_a_file_may_show_only_in_its_rest() -> None:
    """A file that began without a length is held to the one that its rest states."""
    transfer = Transfer()
    transfer.start({"ETag": '"v1"'}, None)

    assert transfer.goes_on({"Content-Range": "bytes 10-99/100"}, 10)
    assert transfer.total == 100
