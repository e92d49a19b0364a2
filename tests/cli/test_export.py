"""`apixo export`: a receipt for every job, for programs and for tables."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async import Job, ModelRequest, TextToVideo
from apixo_async.batch import events
from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.owner import OwnerLock
from apixo_async.cli.receipts import FIELDS, csv_rows, harmless
from tests.batch.journal.jobs import ACCEPTED, SENDING, SUCCEEDED, fill, opened
from tests.cli.conftest import Start, json_lines, run

PROMPT = "=HYPERLINK(1), a fox\nin \u2028snow"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """One job in every state, then one that has everything a job can have."""
    path = tmp_path / "run.db"

    async def make() -> None:
        async with opened(path) as made:
            await fill(made)
            request = TextToVideo(PROMPT, mode="fast", seed=12_345)
            number = made.enqueue(Job(request, key="-full", metadata={"shot": 1})).number
            accepted = attrs.evolve(ACCEPTED, task_id="t1")
            done = attrs.evolve(SUCCEEDED, at=accepted.at + timedelta(seconds=90))
            saved = events.Saved(key="-full", path="out/full.mp4", size=7, sha256="ab" * 32)
            for event in (SENDING, accepted, done, saved, events.AllSaved(key="-full")):
                await made.record(number, event)

    asyncio.run(make())
    return path


def receipts(journal: Path, *options: str) -> list[dict[str, Any]]:
    """The receipts as JSON."""
    result = run("export", journal, *options)
    assert result.exit_code == 0
    return json_lines(result.stdout)


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a table by the names of its header."""
    return list(csv.DictReader(io.StringIO(text)))


# Receipts


def test_every_job_has_a_receipt_in_order(journal: Path) -> None:
    """Every field is always there, in the same order."""
    found = receipts(journal)

    assert [one["key"] for one in found] == [*(state.value for state in JobState), "-full"]
    assert all(tuple(one) == FIELDS for one in found)
    assert [one["state"] for one in found] == [*(state.value for state in JobState), "succeeded"]


def test_a_receipt_has_all_that_is_worth_keeping(journal: Path) -> None:
    """What was asked for, what it cost, when, how it ended, and what is on disk."""
    full = receipts(journal)[-1]
    times = {name: full.pop(name) for name in FIELDS if name.endswith("_at")}

    assert len(full.pop("fingerprint")) == 64
    assert full == {
        "key": "-full",
        "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(),
        "seed": 12_345,
        "model": "veo-3-1",
        "mode": "fast",
        "status": "succeeded",
        "state": "succeeded",
        "task_id": "t1",
        "seconds": 90.0,
        "attempts": 1,
        "charges": 1,
        "fail_code": None,
        "reason": None,
        "urls": ["https://a/1.mp4"],
        "files": [{"path": "out/full.mp4", "size": 7, "sha256": "ab" * 32}],
        "metadata": {"shot": 1},
    }
    assert all(times.values())
    assert times["expires_at"] > times["ended_at"] > times["accepted_at"]


def test_a_receipt_says_why_a_job_did_not_succeed(journal: Path) -> None:
    """Code and reason for what ended badly or is in doubt, neither for what simply goes on."""
    why = {one["key"]: (one["fail_code"], one["reason"]) for one in receipts(journal)}

    assert why["failed"] == ("E1", "no")
    assert why["rejected"] == ("400", "bad")
    assert why["uncertain"] == (None, "reset")
    assert "abandoned" in why["abandoned"][1]
    assert why["queued"] == why["accepted"] == why["succeeded"] == (None, None)


def test_what_was_on_its_way_depends_on_its_process(journal: Path) -> None:
    """Running while somebody owns the journal, uncertain when nobody does."""
    alone = {one["key"]: one["status"] for one in receipts(journal)}
    owner = OwnerLock(journal)
    try:
        owned = {one["key"]: one["status"] for one in receipts(journal)}
    finally:
        owner.release(is_clean=True)

    assert (alone["sending"], owned["sending"]) == ("uncertain", "running")
    assert alone["queued"] == "not_started"


def test_prompts_are_written_only_if_asked_for(journal: Path) -> None:
    """They may be secret; a hash is enough to find one again."""
    assert PROMPT not in [one.get("prompt") for one in receipts(journal)]
    assert "a fox" not in run("export", journal).stdout
    assert receipts(journal, "--prompts")[-1]["prompt"] == PROMPT


def test_a_request_without_a_prompt_has_no_hash(tmp_path: Path) -> None:
    """Other models may ask for something else."""
    path = tmp_path / "run.db"

    async def make() -> None:
        async with opened(path) as made:
            await made.enqueue_all([Job(ModelRequest("other", {"text": "a"}), key="a")])

    asyncio.run(make())
    (found,) = receipts(path, "--prompts")

    assert (found["prompt"], found["prompt_sha256"], found["seed"]) == (None, None, None)


def test_no_key_is_ever_written(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key of the environment nor what the batch was started with."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_secret")

    async def note() -> None:
        async with opened(journal) as made:
            await made.set_options({"base_url": "http://noted.example"})

    asyncio.run(note())
    for form in ("jsonl", "csv"):
        text = run("export", journal, "--format", form, "--prompts").stdout
        assert "secret" not in text
        assert "noted.example" not in text


# Tables


def test_a_table_says_the_same(journal: Path) -> None:
    """One row a job; numbers are numbers, nothing is empty text, lists are JSON."""
    table = rows(run("export", journal, "--format", "csv").stdout)
    full = table[-1]

    assert len(table) == 9
    assert tuple(full) == FIELDS
    assert (full["seed"], full["seconds"], full["fail_code"]) == ("12345", "90.0", "")
    assert json.loads(full["urls"]) == ["https://a/1.mp4"]
    assert json.loads(full["files"])[0]["size"] == 7
    assert json.loads(full["metadata"]) == {"shot": 1}


def test_a_table_cannot_hurt_who_opens_it(journal: Path) -> None:
    """Text that a spreadsheet would run gets an apostrophe; line breaks stay in their cell."""
    full = rows(run("export", journal, "--format", "csv", "--prompts").stdout)[-1]

    assert full["key"] == "'-full"
    assert full["prompt"] == f"'{PROMPT}"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_what_begins_a_formula_is_made_harmless(start: str) -> None:
    """Only at the beginning does it matter."""
    assert harmless(f"{start}1") == f"'{start}1"
    assert harmless(f"a{start}") == f"a{start}"
    assert harmless("") == ""


def test_numbers_stay_numbers() -> None:
    """A negative number is no formula, and adding an apostrophe would make it text."""
    assert (
        list(csv_rows([{"a": -1, "b": -0.5, "c": None, "d": True}], "abcd"))[1] == "-1,-0.5,,True\n"
    )


# Files


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_has_what_standard_output_would_have(journal: Path, form: str) -> None:
    """Written whole, and nothing else is left beside it."""
    target = journal.parent / "sub" / "out.txt"
    target.parent.mkdir()
    result = run("export", journal, "--format", form, "--output", target)

    assert result.exit_code == 0
    assert (result.stdout, result.stderr) == ("", f"9 receipts in {target}\n")
    assert target.read_bytes() == run("export", journal, "--format", form).stdout_bytes
    assert list(target.parent.iterdir()) == [target]


def test_a_file_is_not_overwritten_unasked(journal: Path) -> None:
    """It may be the only record of something that was paid for."""
    target = journal.parent / "out.jsonl"
    target.write_text("mine")
    refused = run("export", journal, "--output", target)

    assert refused.exit_code == 2
    assert "is there already; nothing was written" in refused.stderr
    assert target.read_text() == "mine"
    assert run("export", journal, "--output", target, "--overwrite").exit_code == 0
    assert len(target.read_text().splitlines()) == 9


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_that_comes_meanwhile_is_kept(
    journal: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    """What appeared under the name while we wrote is somebody else's."""
    target = journal.parent / "out.jsonl"

    def link(source: str, path: Path) -> None:
        target.write_text("theirs")
        raise FileExistsError(path) if can_link else PermissionError

    monkeypatch.setattr(os, "link", link)
    result = run("export", journal, "--output", target)

    assert result.exit_code == 2
    assert target.read_text() == "theirs"
    assert not list(journal.parent.glob(".out*"))


def test_without_second_names_a_file_is_renamed(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have no links."""

    def link(source: str, path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    target = journal.parent / "out.jsonl"

    assert run("export", journal, "--output", target).exit_code == 0
    assert len(target.read_text().splitlines()) == 9


def test_a_journal_that_breaks_half_way_leaves_no_file(journal: Path) -> None:
    """Half a set of books is none; the old one stays."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute("UPDATE jobs SET charges = 5 WHERE number = 7")
    target = journal.parent / "out.jsonl"
    target.write_text("old")
    result = run("export", journal, "--output", target, "--overwrite")

    assert result.exit_code == 2
    assert "damaged" in result.stderr
    assert target.read_text() == "old"
    assert not list(journal.parent.glob(".out*"))


@pytest.mark.parametrize("name", ["none/out.jsonl", "run.db/out.jsonl"])
def test_a_place_that_cannot_be_written_is_named(journal: Path, name: str) -> None:
    """Before anything is read."""
    result = run("export", journal, "--output", journal.parent / name)

    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """And no file is made of it."""
    result = run("export", tmp_path / "none.db", "--output", tmp_path / "out.jsonl")

    assert result.exit_code == 2
    assert "there is no journal" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_half_characters_are_written_as_their_numbers(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No UTF-8 can hold them, and one odd name must not cost the export of all others."""
    odd = os.fsdecode(b"odd-\xff.mp4")

    async def save() -> None:
        async with opened(journal) as made:
            await made.record(9, events.Saved(key="-full", path=odd, size=1, sha256="cd"))

    asyncio.run(save())
    table = run("export", journal, "--format", "csv").stdout
    paths = [one["path"] for one in receipts(journal)[-1]["files"]]

    assert odd in paths
    assert "odd-" in table


def test_a_reader_that_leaves_early_is_no_error(journal: Path, start: Start) -> None:
    """As in `apixo export run.db | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start("export", journal, stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=50)

    assert process.returncode in {1, 128 + signal.SIGPIPE}
    assert errors == ""
