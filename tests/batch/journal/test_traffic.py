"""Samples of the traffic: few, and never in the way of what counts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from apixo_async.batch.journal import JournalReader, Traffic, until_next_sample
from apixo_async.errors import JournalError
from tests.batch.journal.jobs import SAMPLE, age, count_events, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


def samples(path: Path) -> list[Traffic] | None:
    """What is read back."""
    with JournalReader(path) as reader:
        return reader.traffic()


async def note(path: Path, *noted: Traffic) -> None:
    """Notes samples in a journal of its own."""
    async with opened(path) as journal:
        for sample in noted:
            journal.note_traffic(sample)


async def test_samples_are_kept_in_order_and_over_runs(path: Path) -> None:
    """They are no events: those are counted without gaps."""
    later = attrs.evolve(SAMPLE, running=3)

    await note(path, SAMPLE, later)
    await note(path, SAMPLE)

    assert samples(path) == [SAMPLE, later, SAMPLE]
    assert count_events(path) == 0


async def test_an_older_journal_does_without(path: Path) -> None:
    """It is used as before, and says that it has none."""
    await note(path)
    age(path)

    await note(path, SAMPLE)

    assert samples(path) is None


async def test_a_damaged_sample_is_left_out(path: Path) -> None:
    """Nothing relies on it, so the journal is as good as before."""
    await note(path, SAMPLE, SAMPLE)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE traffic SET running = 9 WHERE number = 1")
        database.commit()

    assert samples(path) == [SAMPLE]
    await note(path, SAMPLE)
    assert samples(path) == [SAMPLE, SAMPLE]


class FullDisk:
    """A connection that takes nothing."""

    def execute(self, query: str, *_: object) -> sqlite3.Cursor:
        raise sqlite3.OperationalError("database or disk is full")


async def test_a_sample_that_the_disk_refuses_is_no_trouble(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost, and nobody is told; the next one is written."""
    troubles: list[JournalError] = []
    async with opened(path) as journal:
        journal.on_trouble = troubles.append
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_database", FullDisk())
            journal.note_traffic(SAMPLE)
        await journal.set_options({})
        journal.note_traffic(SAMPLE)

    assert samples(path) == [SAMPLE]
    assert troubles == []


async def test_a_closed_journal_says_so(path: Path) -> None:
    """As it does for all else."""
    async with opened(path) as journal:
        pass

    with pytest.raises(JournalError, match="closed"):
        journal.note_traffic(SAMPLE)


@pytest.mark.parametrize(("hours", "most"), [(0.05, 120), (1, 270), (24, 430), (24 * 7, 530)])
def test_samples_stay_few(hours: float, most: int) -> None:
    """However long a run takes."""
    age_now, number = 0.0, 0
    while age_now < hours * 3_600:
        age_now += until_next_sample(age_now)
        number += 1

    assert most * 0.9 < number <= most
