"""Where results go: what is a directory, what a URL, and what neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from apixo_async import ClientUsageError, InvalidSettingError
from apixo_async._places import file_name, joined, name_in, place_of, read_place
from apixo_async.downloads import SavedFile


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("videos", Path("videos")),
        ("videos/", Path("videos")),
        ("C:/videos", Path("C:/videos")),
        (Path("videos"), Path("videos")),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("S3://Bucket/Prefix//", "s3://Bucket/Prefix"),
        ("memory://", "memory://"),
        ("sftp://user@host:2222/videos", "sftp://user@host:2222/videos"),
        ("file:///videos", Path("/videos")),
        ("file:///my%20videos/", Path("/my videos")),
        ("local://localhost/videos", Path("/videos")),
        ("a/s3://b", Path("a/s3:/b")),
    ],
)
def test_a_place_is_a_directory_or_a_url(given: str | Path, place: Path | str) -> None:
    """A scheme makes a URL, in one spelling; a `file://` URL is its directory."""
    assert read_place(given) == place


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("sftp://user:hunter2@host/videos", "no password may be in it"),
        ("s3://bucket/a?X-Signature=hunter2", "no query or fragment"),
        ("s3://bucket/a#hunter2", "no query or fragment"),
        ("simplecache::s3://bucket/a", "chain of storages"),
        ("s3://", "names no bucket: s3://BUCKET/PREFIX"),
        ("gs:///a", "names no bucket: gs://BUCKET/PREFIX"),
        ("s3://bucket/a\nb", "holds characters that no URL has"),
        ("s3://[bucket", "is no URL"),
        ("file://host/videos", "names no directory of this machine"),
        ("file://", "names no directory of this machine"),
        (Path("s3://bucket/prefix"), "give the URL as text"),
        (7, "must be a directory or a URL, got 7"),
    ],
)
def test_what_can_be_no_place_is_refused(given: str, problem: str) -> None:
    """The error names the place, the rule and what to do, and shows no password."""
    with pytest.raises(InvalidSettingError, match=problem) as caught:
        read_place(given, name="--save-to")

    assert str(caught.value).startswith("--save-to ")
    assert "hunter2" not in str(caught.value)


def test_a_recorded_place_is_what_it_was() -> None:
    """An absolute path is no URL, and a URL is no path."""
    assert place_of("/videos/a.mp4") == Path("/videos/a.mp4")
    assert place_of("s3://bucket/a.mp4") == "s3://bucket/a.mp4"


def test_names_in_a_storage() -> None:
    """A name is right below the URL; what is deeper or elsewhere is none."""
    assert joined("memory://", "a.mp4") == "memory://a.mp4"
    assert joined("s3://bucket/x", "a.mp4") == "s3://bucket/x/a.mp4"
    assert name_in("s3://bucket/x", "s3://bucket/x/a.mp4") == "a.mp4"
    assert name_in("s3://bucket/x", "s3://bucket/x/y/a.mp4") is None
    assert name_in("s3://bucket/x", "s3://bucket/xa.mp4") is None
    assert name_in("s3://bucket/x", Path("s3://bucket/x/a.mp4")) is None
    assert file_name("s3://bucket/x/a.mp4") == file_name(Path("/x/a.mp4")) == "a.mp4"


def test_a_saved_file_is_used_as_what_it_is() -> None:
    """What opens paths opens it; a URL stays what fsspec opens."""
    there = SavedFile("s3://bucket/a.mp4", 1, "00")

    assert SavedFile(Path("a.mp4"), 1, "00").path == Path(SavedFile(Path("a.mp4"), 1, "00"))
    with pytest.raises(ClientUsageError, match=r"s3://bucket/a.mp4 has no path"):
        _ = there.path
    assert str(there) == there.__fspath__() == "s3://bucket/a.mp4"
