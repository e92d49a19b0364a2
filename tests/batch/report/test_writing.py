"""Where a report may go, and that it is there as a whole or not at all."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from apixo_async.batch import events
from apixo_async.batch.report import write_report, writing
from apixo_async.batch.report.page import GENERATOR
from apixo_async.errors import InvalidSettingError, JournalError
from tests.batch.journal.jobs import age, opened
from tests.batch.report.journals import Batch, after, make, task, whole


async def one(batch: Batch) -> None:
    """A journal with one video."""
    await batch.succeed("a")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with one video."""
    return make(tmp_path_factory.mktemp("one") / "run.db", one)


def left_in(directory: Path) -> list[str]:
    """What lies in a directory, hidden or not."""
    return sorted(path.name for path in directory.iterdir())


def test_a_report_is_one_page_for_its_owner(journal: Path, tmp_path: Path) -> None:
    """Its path is returned; prompts are in it, so nobody else may read it."""
    page = write_report(journal, tmp_path / "report")

    assert page == tmp_path / "report" / "index.html"
    assert left_in(page.parent) == ["index.html"]
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.parent.stat().st_mode & 0o777 == 0o700


def test_an_earlier_report_is_replaced(journal: Path, tmp_path: Path) -> None:
    """Also an empty directory is taken; what else lies beside an earlier page stays."""
    target = tmp_path / "report"
    target.mkdir()
    write_report(journal, target)
    (target / "notes.txt").write_text("mine")
    first = (target / "index.html").read_text(encoding="utf-8")

    write_report(journal, target, prices={"fast": 1.5})

    assert left_in(target) == ["index.html", "notes.txt"]
    assert (target / "index.html").read_text(encoding="utf-8") != first


@pytest.mark.parametrize("name", ["notes.txt", "index.html"])
def test_a_directory_of_somebody_else_is_left_alone(
    journal: Path, tmp_path: Path, name: str
) -> None:
    """Whatever is in it, also a page that somebody else made."""
    (tmp_path / name).write_text("<!DOCTYPE html><title>mine</title>")

    with pytest.raises(InvalidSettingError, match="holds no report of ours; nothing was written"):
        write_report(journal, tmp_path)

    assert left_in(tmp_path) == [name]


def test_a_place_that_is_none_is_named(journal: Path, tmp_path: Path) -> None:
    """A file, and a directory whose parent is missing."""
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(InvalidSettingError, match="is no directory"):
        write_report(journal, file)
    with pytest.raises(InvalidSettingError, match="there is no directory"):
        write_report(journal, tmp_path / "a" / "b")


def test_what_cannot_be_written_to_its_end_leaves_nothing(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half page, no directory, and an earlier report as it was."""

    def page(_: object) -> Iterator[str]:
        yield GENERATOR
        raise OSError(28, "No space left on device")

    write_report(journal, tmp_path / "old")
    before = (tmp_path / "old" / "index.html").read_bytes()
    monkeypatch.setattr(writing, "page", page)

    for name in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            write_report(journal, tmp_path / name)

    assert left_in(tmp_path) == ["old"]
    assert left_in(tmp_path / "old") == ["index.html"]
    assert (tmp_path / "old" / "index.html").read_bytes() == before


def test_what_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    """Missing, empty, foreign: nothing is written."""
    (tmp_path / "empty.db").write_bytes(b"")
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be one")

    for name, rule in {
        "no.db": "there is no journal",
        "empty.db": "is empty",
        "text.db": "is not a journal",
    }.items():
        with pytest.raises(JournalError, match=rule):
            write_report(tmp_path / name, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_damaged_job_is_refused_in_words(tmp_path: Path) -> None:
    """A row that does not agree with its checksum, with what to do; nothing is written."""
    path = make(tmp_path / "run.db", one)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE jobs SET charges = 0")
        database.commit()

    with pytest.raises(JournalError, match=r"run.db is damaged: job 1 .*keep it as it is"):
        write_report(path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


async def test_a_running_batch_is_shown_as_it_stands(tmp_path: Path) -> None:
    """While its owner writes, whom a report does not hold up."""
    async with opened(tmp_path / "run.db") as journal:
        batch = Batch(journal)
        await batch.begin("a", at=0)
        await journal.set_options({})  # all is on disk

        page = write_report(tmp_path / "run.db", tmp_path / "report").read_text(encoding="utf-8")

        await batch.succeed("b")
    assert "Running, by process" in page
    assert "1 running" in page
    assert "Commands that change it are refused until that has ended" in page


def test_an_old_journal_says_that_traffic_was_not_recorded(tmp_path: Path) -> None:
    """All else is there."""
    path = make(tmp_path / "run.db", one)
    age(path)

    page = write_report(path, tmp_path / "report").read_text(encoding="utf-8")

    assert page.count("This was not recorded: the journal was begun by an older") == 2


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"is_emulated": True, "emulator_speed": 20.0}, "half within 20.0 s"),
        ({"is_emulated": True}, "How fast the clock of the emulator went is not recorded"),
        ({}, "1 end left out"),
    ],
)
def test_how_soon_an_end_was_seen_is_told_by_spans_of_time(
    tmp_path: Path, noted: dict[str, object], said: str
) -> None:
    """By a clock that is 20 times as fast, a task of 100 seconds is done after 5 of ours."""

    async def write(batch: Batch) -> None:
        number = await batch.begin("a", at=0)
        done = task("a", begun=5_000, took=100)
        batch.record(number, events.Succeeded(key="a", task=done, at=after(6)))
        await batch.journal.set_options(noted)

    text = write_report(make(tmp_path / "run.db", write), tmp_path / "report").read_text()

    assert said in text


def test_what_an_emulators_clock_took_is_marked(tmp_path: Path) -> None:
    """As the command line marks it, so that nobody adds minutes of two clocks."""

    async def write(batch: Batch) -> None:
        await whole(batch)
        await batch.journal.set_options({"is_emulated": True, "emulator_speed": 20.0})

    made = make(tmp_path / "run.db", write)
    emulated = write_report(made, tmp_path / "report").read_text()
    real = write_report(make(tmp_path / "real.db", whole), tmp_path / "real").read_text()

    assert re.search("95 of 100 within [^<]* \\(clock x20\\)", emulated)
    assert "clock x" not in real
