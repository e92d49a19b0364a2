"""The page about the journal: its queries run, and it names all that a journal has."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.schema import (
    APPLICATION_ID,
    JOB_COLUMNS,
    MAJOR,
    TRAFFIC_COLUMNS,
    checksum,
)
from tests.batch.journal.jobs import SAMPLE, fill, opened

PAGE = (Path(__file__).parent.parent / "docs/journal.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^([^\n]+):\n\n```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROWS = {
    "How many": 8,
    "What was charged": 1,
    "What is uncertain": 2,
    "Why jobs failed": 2,
    "Seconds from": 1,
    "Results that": 0,
    "All that happened": 6,
    "How much of": 1,
    "Which job": 1,
}


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
async def test_every_query_finds_something(title: str, query: str, tmp_path: Path) -> None:
    """Each runs on a journal with a job in every state, while its owner has it open."""
    path = tmp_path / "run.db"
    expected = next(rows for start, rows in ROWS.items() if title.startswith(start))
    async with opened(path) as journal:
        await fill(journal)
        journal.note_traffic(SAMPLE)
        await journal.set_options({})  # on disk with what was noted before
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(query).fetchall()

    assert len(found) == expected


def test_queries_tell_what_they_promise() -> None:
    """None is missing from the table above."""
    assert len(QUERIES) == len(ROWS) == PAGE.count("```sql")


def test_the_checksum_rule_is_the_real_one() -> None:
    """The code of the page gives the same sums as ours, also for null and odd names."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    theirs: dict[str, object] = {}
    exec(compile(code, "page", "exec"), theirs)  # noqa: S102  # our own page

    rule = theirs["checksum"]
    assert callable(rule)
    for row in [("minor", "0"), (1, None, "é", 0.5), ("odd-\udcff.mp4",)]:
        assert rule(row) == checksum(row)


def test_the_page_names_everything() -> None:
    """All states, columns and kinds of events, and the numbers that tell a journal."""
    named = set(re.findall(r"`(\w+)`", PAGE))
    kinds = {kind.__name__ for kind in get_args(events.JobEvent)}

    assert {state.value for state in JobState} <= named
    assert set(JOB_COLUMNS) <= named
    assert set(TRAFFIC_COLUMNS) <= named
    assert kinds <= named
    assert f"`PRAGMA application_id` is {APPLICATION_ID} " in PAGE
    assert f"major version of the format, now {MAJOR}." in PAGE
