import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.batch.journal import Journal, JournalReader
from apixo_async.batch.journal.owner import lock_path
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import count_events, fill, opened, small_pages, told
from tests.thorough import every

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners are killed as POSIX does")

CHUNKS = 16
SAMPLE = 40
"""How many places of a file the quick tests look at."""

LEFT_BEHIND = """
import asyncio, os, signal, sys
from pathlib import Path
from apixo_async.batch.journal import Journal
from tests.batch.journal.jobs import fill, small_pages

async def main():
    with small_pages():
        journal = await Journal.open(Path(sys.argv[1]))
    await fill(journal)
    await journal.set_options({"rate": 3})
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@attrs.frozen
class Sample:
    """The files of a journal, and what it tells."""

    files: dict[str, bytes]
    told: dict[str, Any]

    def put(self, directory: Path, **changed: bytes) -> Path:
        """The files with one of them changed."""
        for name, data in {**self.files, **changed}.items():
            (directory / name).write_bytes(data)
        return directory / "run.db"


async def sample_of(path: Path) -> Sample:
    """What is there, read from a copy."""
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    files.pop("run.db-shm", None)  # SQLite makes it anew
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(path.parent, copy, dirs_exist_ok=True)
        return Sample(files, await everything(Path(copy) / "run.db"))


async def everything(path: Path) -> dict[str, Any]:
    """All that is told of a journal, by itself and by the file."""
    async with opened(path) as journal:
        found = await told(journal)
        return {**found, "events": count_events(path)}


@pytest.fixture(scope="module")
def ended() -> Sample:
    """A journal after a clean end, with a job in every state."""

    async def make(path: Path) -> Sample:
        with small_pages():
            await (await Journal.open(path)).aclose()
        async with opened(path) as journal:
            await fill(journal)
            await journal.set_options({"rate": 3})
        return await sample_of(path)

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(make(Path(directory) / "run.db"))


@pytest.fixture(scope="module")
def killed() -> Sample:
    """The same as a killed owner leaves it: everything is in the log."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.db"
        run = subprocess.run([sys.executable, "-c", LEFT_BEHIND, str(path)], check=False)
        assert run.returncode == -signal.SIGKILL
        return asyncio.run(sample_of(path))


async def check(sample: Sample, name: str, data: bytes, what: str) -> None:
    """Either the damage is told, or there is none to be seen."""
    with tempfile.TemporaryDirectory() as directory:
        path = sample.put(Path(directory), **{name: data})
        try:
            found = await everything(path)
        except JournalError:
            return
        assert found == sample.told, what


def flipped(data: bytes, place: int, bits: int) -> bytes:
    """One byte changed."""
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def places(data: bytes, chunk: int | None) -> Iterator[int]:
    """The places of a part of a file that are tried, or a sample of all of it."""
    if chunk is None:
        yield from random.Random(7).sample(range(len(data)), SAMPLE)
    else:
        yield from range(chunk, len(data), CHUNKS * every(16))


chunks = pytest.mark.parametrize(
    "chunk",
    [
        None,
        *(
            pytest.param(chunk, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])
            for chunk in range(CHUNKS)
        ),
    ],
)


@chunks
async def test_a_flipped_byte_is_loud_or_harmless(ended: Sample, chunk: int | None) -> None:
    """One byte of the file changed is told by the opening, or nothing else is told than before."""
    data = ended.files["run.db"]
    for place in places(data, chunk):
        bits = 1 << place % 8
        await check(ended, "run.db", flipped(data, place, bits), f"byte {place} ^ {bits}")


@chunks
async def test_a_flipped_byte_of_the_log_is_loud_or_harmless(
    killed: Sample, chunk: int | None
) -> None:
    """SQLite drops a damaged end of its log without a word; the mark beside it is not content."""
    data = killed.files["run.db-wal"]
    for place in places(data, chunk):
        bits = 1 << place % 8
        await check(killed, "run.db-wal", flipped(data, place, bits), f"byte {place} ^ {bits}")


@chunks
async def test_a_flipped_byte_under_a_log_is_loud_or_harmless(
    killed: Sample, chunk: int | None
) -> None:
    """The same for the file that the log has not been moved into yet."""
    data = killed.files["run.db"]
    for place in places(data, chunk):
        bits = 1 << place % 8
        await check(killed, "run.db", flipped(data, place, bits), f"byte {place} ^ {bits}")


@pytest.mark.parametrize("name", ["run.db", "run.db-wal"])
@pytest.mark.parametrize(
    "chunk", [None, pytest.param(0, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_a_beginning_alone_is_loud_or_whole(
    ended: Sample, killed: Sample, name: str, chunk: int | None
) -> None:
    """A file cut off anywhere is told; a log too, except behind its last commit."""
    sample = ended if name == "run.db" else killed
    data = sample.files[name]
    for size in places(data, chunk):
        await check(sample, name, data[:size], f"{size} of {len(data)} bytes")


async def test_a_log_that_is_gone_is_told(killed: Sample, tmp_path: Path) -> None:
    """Without the log everything since the last checkpoint is missing, and the mark says so."""
    path = killed.put(tmp_path)
    path.with_name("run.db-wal").unlink()

    with pytest.raises(JournalError, match="events that were written are missing"):
        await everything(path)


async def test_a_log_cut_at_a_commit_is_told(killed: Sample, tmp_path: Path) -> None:
    """A log that is whole but short is the most silent of all damages."""
    data = killed.files["run.db-wal"]
    path = killed.put(tmp_path)
    path.with_name("run.db-wal").write_bytes(data[: len(data) // 2])

    with pytest.raises(JournalError, match="events that were written are missing"):
        await everything(path)


async def test_garbage_behind_the_log_is_harmless(killed: Sample, tmp_path: Path) -> None:
    """What a crash left of a commit that nobody was told of does not count."""
    garbage = random.Random(7).randbytes(5000)

    path = killed.put(tmp_path, **{"run.db-wal": killed.files["run.db-wal"] + garbage})
    assert await everything(path) == killed.told


def test_a_look_misses_no_job(ended: Sample, tmp_path: Path) -> None:
    """One number that leads to another page hides jobs behind those before them; a look tells."""
    path = ended.put(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'"
        ).fetchone()
    table = (root - 1) * 512
    data = bytearray(path.read_bytes())
    assert data[table] == 5, "a page that leads to others"
    last, first = slice(table + 8, table + 12), int.from_bytes(data[table + 12 : table + 14])
    data[last] = data[table + first : table + first + 4]
    path.write_bytes(data)

    with pytest.raises(JournalError, match="is damaged"), JournalReader(path) as reader:
        list(reader.entries())


async def test_what_was_refused_is_refused_again(ended: Sample, tmp_path: Path) -> None:
    """An opening that fails changes nothing, so that a damaged journal stays as it is."""
    data = ended.files["run.db"]
    place = data.index(b"accepted")
    damaged = flipped(data, place, 1)
    path = ended.put(tmp_path, **{"run.db": damaged})
    for _ in range(2):
        with pytest.raises(JournalError, match="damaged"):
            await everything(path)

    assert path.read_bytes() == damaged
    with contextlib.suppress(FileNotFoundError):
        assert lock_path(path).stat().st_size
