"""`apixo settle`: decisions about jobs of which nobody can say whether they were paid."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from apixo_async import Job, TextToVideo
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal.owner import OwnerLock, is_in_use
from apixo_async.batch.journal.reading import JournalReader
from tests.batch.journal.jobs import SENDING, fill, opened
from tests.cli.conftest import json_lines, run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with one job in every state, its key the name of the state; nobody owns it."""
    path = tmp_path / "run.db"

    async def make() -> None:
        async with opened(path) as made:
            await fill(made)

    asyncio.run(make())
    return path


def entries(journal: Path) -> dict[str, Entry]:
    """All jobs by key."""
    with JournalReader(journal) as reader:
        return {entry.key: entry for entry in reader.entries()}


def told(journal: Path) -> list[tuple[str, dict[str, object]]]:
    """Kinds and data of all events after those of the fixture."""
    with closing(sqlite3.connect(journal)) as database:
        rows = database.execute("SELECT kind, data FROM events ORDER BY number").fetchall()
    return [(kind, json.loads(data)) for kind, data in rows]


# Decisions


def test_an_uncertain_job_is_abandoned(journal: Path) -> None:
    """It is never sent again; there is nothing to go on with."""
    result = run("settle", journal, "uncertain", "--abandon")

    assert result.exit_code == 0
    assert result.stdout == (
        "uncertain: abandoned; if there is a task, it stays unseen and may be billed\n"
    )
    assert entries(journal)["uncertain"].state is JobState.ABANDONED
    assert told(journal)[-1] == ("Abandoned", {})


def test_an_uncertain_job_is_queued_again(journal: Path) -> None:
    """Who decides is told that it may be paid twice; the first charge stays counted."""
    result = run("settle", journal, "uncertain", "--resubmit")

    assert result.stdout.splitlines() == [
        "uncertain: queued again; its first task may exist, so it may be paid twice",
        f"go on with: apixo resume {journal}",
    ]
    entry = entries(journal)["uncertain"]
    assert (entry.state, entry.charges) == (JobState.QUEUED, 1)
    assert told(journal)[-1] == ("Resubmitted", {"reason": "settled"})


def test_an_uncertain_job_gets_its_task(journal: Path) -> None:
    """It is charged once, and waited for as if the answer had come."""
    result = run("settle", journal, "uncertain", "--task-id", "t9")

    assert result.stdout.splitlines() == [
        "uncertain: is task t9, which is waited for again",
        f"go on with: apixo resume {journal}",
    ]
    entry = entries(journal)["uncertain"]
    assert (entry.state, entry.task_id, entry.charges) == (JobState.ACCEPTED, "t9", 1)
    assert entry.accepted_at == entry.sending_at


def test_a_submit_of_a_crash_is_settled_like_any_other(journal: Path) -> None:
    """It was found on its way: first it becomes uncertain, then it is decided about."""
    assert run("settle", journal, "sending", "--task-id", "t9").exit_code == 0

    entry = entries(journal)["sending"]
    assert (entry.state, entry.charges) == (JobState.ACCEPTED, 1)
    assert [kind for kind, _ in told(journal)[-2:]] == ["Uncertain", "Identified"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("failed", "its failed task may be billed, so it may be paid twice"),
        ("rejected", "the API had refused it, so it is paid once"),
        ("abandoned", "its first task may exist, so it may be paid twice"),
    ],
)
def test_what_ended_badly_may_be_sent_again(journal: Path, key: str, said: str) -> None:
    """Each with what it may cost."""
    result = run("settle", journal, key, "--resubmit")

    assert result.stdout.splitlines()[0] == f"{key}: queued again; {said}"
    assert entries(journal)[key].state is JobState.QUEUED


def test_an_abandoned_job_may_still_get_its_task(journal: Path) -> None:
    """Evidence that comes late is better than none."""
    assert run("settle", journal, "abandoned", "--task-id", "t9").exit_code == 0
    assert entries(journal)["abandoned"].state is JobState.ACCEPTED


@pytest.mark.parametrize(
    ("option", "state"), [("--abandon", JobState.ABANDONED), ("--resubmit", JobState.QUEUED)]
)
def test_all_uncertain_jobs_are_settled_at_once(
    journal: Path, option: str, state: JobState
) -> None:
    """Those of a crash, too, and no others."""
    before = entries(journal)
    result = run("settle", journal, "--all", option)
    after = entries(journal)

    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == [
        "sending",
        "uncertain",
    ]
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"sending", "uncertain"}
    assert {after[key].state for key in changed} == {state}


def test_all_of_none_changes_nothing(journal: Path) -> None:
    """That is no error: the wish is fulfilled."""
    run("settle", journal, "--all", "--abandon")
    result = run("settle", journal, "--all", "--abandon")

    assert (result.exit_code, result.stdout) == (0, "no job is uncertain; nothing was changed\n")


def test_programs_get_no_decision_where_there_was_none(journal: Path) -> None:
    """It is said on standard error, so that output is an object for each decision."""
    run("settle", journal, "--all", "--abandon")
    result = run("settle", journal, "--all", "--abandon", "--json")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no job is uncertain; nothing was changed\n"


def test_json_tells_each_decision(journal: Path) -> None:
    """One object a line, with what a program must know before it goes on."""
    (queued,) = json_lines(run("settle", journal, "uncertain", "--resubmit", "--json").stdout)
    (left,) = json_lines(run("settle", journal, "sending", "--abandon", "--json").stdout)

    assert queued == {
        "key": "uncertain",
        "decision": "resubmit",
        "was": "uncertain",
        "state": "queued",
        "task_id": None,
        "may_pay_twice": True,
        "next": f"apixo resume {journal}",
    }
    assert (left["decision"], left["may_pay_twice"], left["next"]) == ("abandon", False, None)
    assert run("settle", journal, "--all", "--abandon", "--json").stdout == ""


# What is refused


@pytest.mark.parametrize(
    ("key", "option", "said"),
    [
        ("queued", "--abandon", "is queued: only a job that is uncertain, or whose task has no"),
        ("failed", "--abandon", "is failed: only"),
        ("succeeded", "--resubmit", "is succeeded: only a job that is uncertain, failed"),
        ("accepted", "--resubmit", "is accepted: only"),
        ("queued", "--resubmit", "is queued: only"),
        ("succeeded", "--task-id=t9", "is succeeded: only a job that is uncertain or was"),
        ("rejected", "--task-id=t9", "is rejected: only"),
    ],
)
def test_what_is_certain_cannot_be_settled(journal: Path, key: str, option: str, said: str) -> None:
    """Most of all, nothing that was paid is sent again."""
    before = entries(journal)[key]
    result = run("settle", journal, key, option)

    assert result.exit_code == 2
    assert f"error: job '{key}' {said}" in result.stderr
    assert entries(journal)[key] == before


def test_a_task_belongs_to_one_job(journal: Path) -> None:
    """A task id that another job has would be a result that is counted twice."""
    result = run("settle", journal, "uncertain", "--task-id", "t1")

    assert result.exit_code == 2
    assert "error: task t1 is another job's already; nothing was changed" in result.stderr
    assert entries(journal)["uncertain"].state is JobState.UNCERTAIN


@pytest.mark.parametrize("task_id", ["", "two words", "a\nb", "x" * 10_000])
def test_what_can_be_no_task_id_is_refused(journal: Path, task_id: str) -> None:
    """Before the journal is touched."""
    result = run("settle", journal, "uncertain", "--task-id", task_id)

    assert result.exit_code == 2
    assert "is no task id" in result.stderr
    assert entries(journal)["sending"].state is JobState.SENDING


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("uncertan", "did you mean 'uncertain'?"),
        ("faild", "did you mean 'failed'?"),
        ("xyz", "5 jobs can be settled, such as 'sending'"),
    ],
)
def test_a_mistyped_key_is_mended(journal: Path, key: str, advice: str) -> None:
    """Keys that are like it, among those of jobs that can be settled."""
    result = run("settle", journal, key, "--abandon")

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [f"error: no job has the key '{key}'", f"  {advice}"]


def test_a_key_that_nothing_is_like_has_no_suggestion(tmp_path: Path) -> None:
    """In a journal where all went well there is nothing to settle."""
    path = tmp_path / "run.db"

    async def make() -> None:
        async with opened(path) as made:
            await made.enqueue_all([Job(TextToVideo("a"), key="a")])

    asyncio.run(make())

    assert run("settle", path, "b", "--abandon").stderr == (
        "error: no job has the key 'b'\n"
        "  no job can be settled; apixo show RUN.DB tells how its jobs stand\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["uncertain"],
        ["uncertain", "--abandon", "--resubmit"],
        ["uncertain", "--abandon", "--task-id", "t9"],
        ["--abandon"],
        ["uncertain", "--all", "--abandon"],
        ["--all", "--task-id", "t9"],
    ],
)
def test_a_decision_is_one_about_one_or_all(journal: Path, arguments: list[str]) -> None:
    """Anything else is asked back, and nothing is changed."""
    before = journal.read_bytes()
    result = run("settle", journal, *arguments)

    assert result.exit_code == 2
    assert "apixo settle --help shows" in result.stderr
    assert journal.read_bytes() == before


def test_a_journal_in_use_is_left_to_its_owner(journal: Path) -> None:
    """A running batch must not have decisions made behind its back."""
    owner = OwnerLock(journal)
    try:
        result = run("settle", journal, "uncertain", "--abandon")
    finally:
        owner.release(is_clean=True)

    assert result.exit_code == 2
    assert "is in use by process" in result.stderr
    assert entries(journal)["uncertain"].state is JobState.UNCERTAIN


@pytest.mark.parametrize("content", [None, b"", b"a\n"])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Deciding about nothing makes no journal."""
    path = tmp_path / "run.db"
    if content is not None:
        path.write_bytes(content)
    result = run("settle", path, "a", "--abandon")

    assert result.exit_code == 2
    assert "run.db" in result.stderr
    assert path.exists() == (content is not None)


def test_the_journal_is_given_back(journal: Path) -> None:
    """After a decision and after an error, so that the batch can go on."""
    run("settle", journal, "uncertain", "--abandon")
    assert not is_in_use(journal)
    run("settle", journal, "uncertain", "--abandon")
    assert not is_in_use(journal)

    async def go_on() -> Entry:
        async with opened(journal) as again:
            found = again.find("queued")
            assert found is not None
            return await again.record(found.number, SENDING)

    assert asyncio.run(go_on()).state is JobState.SENDING
