"""A directory for results is tried before anything is sent, and nothing is left by that."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from apixo_async import InvalidSettingError
from apixo_async.downloads import Directory
from apixo_async.downloads.parts import PartFile

PROC = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where nobody can write")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A place below a directory with a file `file` and a link `link` that leads nowhere."""
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    return tmp_path / str(request.param)


REFUSED = [
    ("file", "file is no directory"),
    ("file/below", "file is no directory"),
    ("link", "link is no directory"),
    ("x" * 300, "File name too long"),
    ("nu\0ll", "embedded null byte"),
    pytest.param("/proc/videos", "No such file or directory", marks=PROC),
]


async def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """So it is when the first result comes; the file that was tried is gone."""
    place = tmp_path / "a" / "b"
    await Directory(place).check()

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("place", "reason"), REFUSED, indirect=["place"])
def test_a_directory_that_nothing_can_be_saved_to(
    place: Path, reason: str, keep: bool, tmp_path: Path
) -> None:
    """The error names it, what is wrong, and what to do; all is as it was."""
    with pytest.raises(InvalidSettingError) as caught:
        Directory(place).check_now(keep=keep)

    assert str(caught.value).startswith(f"cannot save to {place}: ")
    assert str(caught.value).endswith(f"{reason}; name a directory that files can be written to")
    assert caught.value.__context__ is None
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
async def test_the_word_of_the_system_is_told(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can be begun and not be written to is found out, and removed."""

    def fail(_: PartFile) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(PartFile, "_settle", fail)
    with pytest.raises(InvalidSettingError, match=os.strerror(code)):
        await Directory(tmp_path).check()

    assert list(tmp_path.iterdir()) == []


def test_what_was_made_to_try_it_is_removed_again(tmp_path: Path) -> None:
    """But not what was there before, nor what others have put there meanwhile."""
    (tmp_path / "old").mkdir()
    Directory(tmp_path / "old").check_now(keep=False)
    Directory(tmp_path / "old" / "new" / "newer").check_now(keep=False)

    assert list((tmp_path / "old").iterdir()) == []


async def test_a_directory_is_tried_by_several_at_once(tmp_path: Path) -> None:
    """None is in another's way."""
    place = tmp_path / "videos"
    await asyncio.gather(*(Directory(place).check() for _ in range(20)))

    assert list(place.iterdir()) == []
