from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st

from apixo_async.batch.journal import Journal, JournalReader
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import count_events, fill, opened, small_pages, told
from tests.batch.journal.test_damage import LEFT_BEHIND
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import Choices

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners are killed as POSIX does")

PAGE = 512
FRAME = 24 + PAGE
"""What is moved about: a page of the file, and one of the log with its header."""


@attrs.frozen
class Sample:
    """The files of a journal, and what was written into it."""

    files: Mapping[str, bytes]
    told: Mapping[str, Any]
    seen: Mapping[int, Any]
    """What a look shows: each job with its files, by number."""


class Samples:
    """Journals that are damaged, and where that is done."""

    ended: Sample
    killed: Sample
    beginnings: list[Sample]
    """What a killed owner would have left at each commit before."""
    directory: Path
    runner: asyncio.Runner


@pytest.fixture(scope="module", autouse=True)
def _samples() -> Iterator[None]:
    """One that was closed, and one that a killed owner left."""
    with tempfile.TemporaryDirectory() as place, asyncio.Runner() as Samples.runner:
        Samples.directory = Path(place) / "try"
        for name in ("ended", "killed", "try"):
            (Path(place) / name).mkdir()
        closed, left = Path(place) / "ended" / "run.db", Path(place) / "killed" / "run.db"
        Samples.runner.run(make(closed))
        run = subprocess.run([sys.executable, "-c", LEFT_BEHIND, str(left)], check=False)
        assert run.returncode == -signal.SIGKILL
        Samples.ended, Samples.killed = sample_of(files_of(closed)), sample_of(files_of(left))
        Samples.beginnings = list(map(sample_of, beginnings(Samples.killed.files)))
        yield


async def make(path: Path) -> None:
    """A journal with a job in every state, closed."""
    with small_pages():
        await (await Journal.open(path)).aclose()
    async with opened(path) as journal:
        await fill(journal)
        await journal.set_options({"rate": 3})


async def everything(path: Path) -> Mapping[str, Any]:
    """All that its owner is told."""
    async with opened(path) as journal:
        found = await told(journal)
        return {**found, "events": count_events(path)}


def look(path: Path) -> Mapping[int, Any]:
    """All that a look shows, which must agree with itself."""
    with JournalReader(path) as reader:
        reader.overview()
        assert reader.options() in ({"rate": 3}, {})
        seen = list(reader.with_files())
        assert [entry for entry, _ in seen] == list(reader.entries())
        for entry, _ in seen:
            entry.outcome(0)
    by_number = {entry.number: (entry, files) for entry, files in seen}
    assert len(by_number) == len(seen), "a job twice"
    return by_number


def files_of(path: Path) -> dict[str, bytes]:
    """All that makes up a journal."""
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    files.pop("run.db-shm", None)  # SQLite makes it anew
    return files


def beginnings(files: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """The log cut off behind each of its commits, and no mark that tells."""
    main, log = files["run.db"], files["run.db-wal"]
    yield {"run.db": main}
    for end in range(32 + FRAME, len(log), FRAME):
        if any(log[end - FRAME + 4 : end - FRAME + 8]):
            yield {"run.db": main, "run.db-wal": log[:end]}


def sample_of(files: Mapping[str, bytes]) -> Sample:
    """What these files tell."""
    put(files)
    seen = look(Samples.directory / "run.db")
    put(files)
    return Sample(files, Samples.runner.run(everything(Samples.directory / "run.db")), seen)


def put(files: Mapping[str, bytes]) -> Path:
    """Writes these files, and nothing else, into the directory of trials."""
    shutil.rmtree(Samples.directory)
    Samples.directory.mkdir()
    for name, data in files.items():
        (Samples.directory / name).write_bytes(data)
    return Samples.directory / "run.db"


# Damage


def flipped(data: bytes, choices: Choices) -> bytes:
    """One byte is another one."""
    place = choices.below(len(data))
    return data[:place] + bytes([data[place] ^ (1 + choices.below(255))]) + data[place + 1 :]


def cut(data: bytes, choices: Choices) -> bytes:
    """The end is missing."""
    return data[: choices.below(len(data))]


def removed(data: bytes, choices: Choices) -> bytes:
    """Some bytes within are missing."""
    place = choices.below(len(data))
    return data[:place] + data[place + 1 + choices.below(PAGE) :]


def inserted(data: bytes, choices: Choices) -> bytes:
    """Some bytes came in."""
    place = choices.below(len(data))
    return data[:place] + bytes([choices.below(256)]) * (1 + choices.below(PAGE)) + data[place:]


def overwritten(data: bytes, choices: Choices) -> bytes:
    """A part is zero, or something else."""
    place, size = choices.below(len(data)), 1 + choices.below(2 * PAGE)
    filled = bytes([choices.of([0, 255, 1, 13])]) * size
    return (data[:place] + filled + data[place + size :])[: len(data)]


def tailed(data: bytes, choices: Choices) -> bytes:
    """There is garbage at the end."""
    return data + bytes([choices.below(256)]) * (1 + choices.below(3 * FRAME))


def _pages(data: bytes, *, size: int, header: int) -> tuple[bytes, list[bytes]]:
    body = data[header:]
    return data[:header], [body[place : place + size] for place in range(0, len(body), size)]


def moved(data: bytes, choices: Choices) -> bytes:
    """A page has gone to the place of another, which is lost or in its place."""
    is_log = choices.below(2)
    head, pages = _pages(data, size=FRAME if is_log else PAGE, header=32 if is_log else 0)
    if not pages:
        return data
    one, other = choices.below(len(pages)), choices.below(len(pages))
    kept = pages[other] if choices.below(2) else pages[one]
    pages[other], pages[one] = pages[one], kept
    return head + b"".join(pages)


DAMAGES = [flipped, cut, removed, inserted, overwritten, tailed, moved]


def damaged(sample: Sample, script: bytes) -> dict[str, bytes]:
    """The files with up to three damages; one may be gone."""
    choices = Choices(script)
    files = dict(sample.files)
    for _ in range(1 + choices.below(3)):
        name = choices.of([*sample.files, "run.db"])
        if files.get(name):
            files[name] = choices.of(DAMAGES)(files[name], choices)
    if choices.below(16) == 15 and len(files) > 1:
        del files[choices.of([name for name in files if name != "run.db"])]
    return files


scripts = st.binary(min_size=6, max_size=24)
SCHEMA_LOST = [(True, b"\x00\x02mw&\x00U\x01")]
PAGE_LOST = (False, b"\x00\x00\x14\x00L\x02")


def is_mark_whole(files: Mapping[str, bytes], sample: Sample) -> bool:
    """Whether the number of the last event survived, which tells that the log is short."""
    start, end = 512, 524
    mark = sample.files.get("run.db.lock", b"")[start:end]
    return files.get("run.db.lock", b"")[start:end] == mark


@fuzzed(st.booleans(), scripts, slow=1_000, quick=60, examples=SCHEMA_LOST)
def test_a_damaged_journal_is_refused_or_whole(is_killed: bool, script: bytes) -> None:
    """Its owner is told all that was written, or of the damage; never of another state.

    Where nothing tells any more how long the log was, it may be shorter.
    """
    sample = Samples.killed if is_killed else Samples.ended
    files = damaged(sample, script)
    try:
        found = Samples.runner.run(everything(put(files)))
    except JournalError as error:
        assert str(Samples.directory) in str(error)
        return

    beginnings = Samples.beginnings if is_killed and not is_mark_whole(files, sample) else []
    assert found == sample.told or found in [beginning.told for beginning in beginnings]


@fuzzed(st.booleans(), scripts, slow=2_000, quick=60, examples=[*SCHEMA_LOST, PAGE_LOST])
def test_a_look_at_a_damaged_journal(is_killed: bool, script: bytes) -> None:
    """A look shows what was written, or tells of the damage; and it changes nothing."""
    sample = Samples.killed if is_killed else Samples.ended
    files = damaged(sample, script)
    path = put(files)
    try:
        seen = look(path)
    except JournalError as error:
        assert str(path) in str(error)
        seen = None

    assert {name: (path.parent / name).read_bytes() for name in files} == files
    beginnings = Samples.beginnings if is_killed and not is_mark_whole(files, sample) else []
    assert seen in (None, sample.seen, *(beginning.seen for beginning in beginnings))
