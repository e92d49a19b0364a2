"""`apixo resume`, and `apixo batch` on a journal that has jobs: totals, exit codes, policies."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apixo_async import ApixoClient
from apixo_async.batch.journal import read_noted
from apixo_async.cli.options import Options
from apixo_async.cli.resume import with_noted
from apixo_async.client.settings import DEFAULT_BASE_URL
from apixo_async.testing import EmulatorThread
from tests.batch.journal.jobs import ACCEPTED, SENDING, fill, job, opened
from tests.cli.conftest import FAST, json_lines, run

QUICK = {"speed": 50.0, "durations": "5"}
ALL_DONE = "4 succeeded + 0 failed + 0 uncertain + 0 timed out + 0 not started, in"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "run.db"


def summary_of(output: str) -> dict[str, Any]:
    """The last line of `--json`."""
    found: dict[str, Any] = json_lines(output)[-1]["summary"]
    return found


# Totals


@pytest.mark.apixo_emulator(**QUICK)
def test_files_that_are_missing_are_fetched_and_counted(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path, tmp_path: Path
) -> None:
    """However many are gone: the total is what had to be done, and all went well."""
    videos = tmp_path / "v"
    run("batch", prompts, *FAST, "--journal", db, "--save-to", videos)
    (videos / "a.mp4").unlink()
    one = run("resume", db)
    shutil.rmtree(videos)
    all_of_them = run("resume", db)

    assert one.exit_code == all_of_them.exit_code == 0
    assert "1 job = 1 succeeded + 0 failed" in one.stdout
    assert f"{db} as a whole: 4 jobs = 4 succeeded + 0 failed + 0 running" in one.stdout
    assert f"4 jobs = {ALL_DONE}" in all_of_them.stdout
    assert "go on with" not in one.output + all_of_them.output
    assert len(list(videos.iterdir())) == 4
    assert apixo_emulator.ledger.billed_total == 4


@pytest.mark.apixo_emulator(**QUICK)
def test_results_can_be_saved_afterwards(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path, tmp_path: Path
) -> None:
    """A directory that is named only now is one that all results are missing in."""
    run("batch", prompts, *FAST, "--journal", db)
    result = run("resume", db, "--save-to", tmp_path / "v")

    assert result.exit_code == 0
    assert "4 jobs not ended yet, by the record" in result.stderr
    assert f"4 jobs = {ALL_DONE}" in result.stdout


@pytest.mark.parametrize("option", [(), ("--json",)])
@pytest.mark.apixo_emulator(**QUICK)
def test_with_nothing_left_it_says_so(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path, option: tuple[str, ...]
) -> None:
    """In the journal's own numbers, for people and for programs."""
    run("batch", prompts, *FAST, "--journal", db)
    result = run("resume", db, *option)

    assert result.exit_code == 0
    assert f"all 4 jobs have ended: 4 succeeded; apixo show {db}" in result.stderr
    if option:
        assert summary_of(result.stdout)["whole_journal"]["succeeded"] == 4
    assert apixo_emulator.ledger.billed_total == 4


@pytest.mark.apixo_emulator(**QUICK, faults={"content_violation": 1})
def test_its_exit_code_is_that_of_the_whole_journal(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path
) -> None:
    """What failed in an earlier run has failed."""
    assert run("batch", prompts, *FAST, "--journal", db).exit_code == 1
    result = run("resume", db)

    assert result.exit_code == 1
    assert "all 4 jobs have ended: 4 failed; " in result.stderr
    assert apixo_emulator.ledger.billed_total == 4


def test_jobs_that_it_did_not_come_to_are_not_started(
    apixo_emulator: EmulatorThread, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is refused stops it at the first job; the others are counted all the same."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_wrong")

    async def make() -> None:
        async with opened(db) as journal:
            for key in "abc":
                journal.enqueue(job(key))
            await journal.set_options({})

    asyncio.run(make())
    result = run("resume", db, "--json", "--base-url", apixo_emulator.base_url)
    summary = summary_of(result.stdout)

    assert result.exit_code == 4
    assert (summary["jobs"], summary["not_started"]) == (3, 3)


ELSEWHERE = "https://api.elsewhere.example/api/v1"


def journal_from(url: str, db: Path) -> None:
    """A journal of somebody's, with a job left to do, whose batch ran against that API."""

    async def make() -> None:
        async with opened(db) as journal:
            journal.enqueue(job("a"))
            await journal.set_options({"base_url": url})

    asyncio.run(make())


@pytest.mark.parametrize(
    "url",
    [
        ELSEWHERE,
        "http://10.0.0.1/api/v1",
        "https://localhost.example",
        "http://127.0.0.1@b.example",
    ],
    ids=["public", "private", "like this machine", "behind an @"],
)
def test_a_journal_does_not_say_where_the_key_goes(
    url: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came from somebody else could name a host that only waits for keys."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_1")
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    monkeypatch.setattr(ApixoClient, "__init__", lambda *_, **__: pytest.fail("about to be sent"))
    journal_from(url, db)

    result = run("resume", db)

    assert result.exit_code == 2
    assert f"by {db}, this batch ran against {url}" in " ".join(result.stderr.split())
    assert f"--base-url {url}" in result.stderr


@pytest.mark.parametrize("said", ["--base-url", "APIXO_BASE_URL", "this machine", "the usual one"])
def test_the_api_of_a_journal_is_asked_if_it_is_known_otherwise(
    said: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option, by the environment, as the public API, or on this machine, as in a test."""
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    noted = {"this machine": "http://127.0.0.1:9/api/v1", "the usual one": DEFAULT_BASE_URL}
    url = noted.get(said, ELSEWHERE)
    if said == "APIXO_BASE_URL":
        monkeypatch.setenv(said, ELSEWHERE.removesuffix("/api/v1"))
    options = Options(base_url=ELSEWHERE if said == "--base-url" else None)

    assert with_noted(options, {"base_url": url}, db).base_url == url


@pytest.mark.apixo_emulator(**QUICK)
def test_tasks_of_another_input_are_told_apart(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path
) -> None:
    """They are waited for, too, and no total is below nought."""

    async def make() -> None:
        async with opened(db) as journal:
            entry = journal.enqueue(job("other"))
            await journal.record(entry.number, SENDING)
            await journal.record(entry.number, ACCEPTED)

    asyncio.run(make())
    result = run("batch", prompts, *FAST, "--journal", db, "--deadline", "0.5")

    assert result.exit_code == 0
    assert f"4 jobs = {ALL_DONE}" in result.stderr
    assert "beside these, 1 task of other inputs with this journal: 0 ended, 1 still" in (
        result.stderr
    )
    assert f"go on with: apixo resume {db}" in result.stderr


# Policies


@pytest.mark.apixo_emulator(**QUICK)
def test_where_the_api_is_is_said_again(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command to go on can be copied as it stands, from a batch and from a resumed one."""
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    where = ("--base-url", apixo_emulator.base_url)
    cap = ("--max-cost", "1", "--price", "quality=1")
    first = run("batch", prompts, *FAST, "--journal", db, *cap, *where)
    second = run("resume", db, *where)

    for result in (first, second):
        again = f"apixo resume {db} --base-url {apixo_emulator.base_url} --max-cost USD"
        assert f"go on with: {again}\n" in result.stderr


@pytest.mark.apixo_emulator(**QUICK)
def test_a_cap_is_kept_raised_and_lifted(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path
) -> None:
    """What stops a batch is named as the command line names it, with the command to go on."""
    cap = ("--max-cost", "2", "--price", "quality=1")
    first = run("batch", prompts, *FAST, "--journal", db, *cap)
    second = run("batch", prompts, *FAST, "--journal", db)
    third = run("resume", db, "--max-cost", "3")
    shown = run("show", db).stdout
    last = run("batch", prompts, *FAST, "--journal", db, "--max-cost", "none")

    assert [one.exit_code for one in (first, second, third, last)] == [1, 1, 1, 0]
    for result in (first, second, third):
        assert f"go on with: apixo resume {db} --max-cost USD" in result.stderr
        assert " max_cost" not in result.stderr
    assert f"as noted in {db}: --max-cost 2, --price quality=1" in second.stderr
    assert f"as noted in {db}: --price quality=1\n" in third.stderr
    assert "cost       3.00 USD, of at most 3.00 USD" in shown
    assert f"go on with apixo resume {db} --max-cost USD" in shown
    assert read_noted(db).options["max_cost"] is None
    assert apixo_emulator.ledger.billed_total == 4


def test_all_missing_prices_are_named_before_anything_is_sent(
    apixo_emulator: EmulatorThread, tmp_path: Path, db: Path
) -> None:
    """Once, with what to give; no journal is made."""
    path = tmp_path / "mixed.jsonl"
    rows = [{"prompt": "a", "mode": mode} for mode in ("fast", "quality")]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result = run("batch", path, "--journal", db, "--max-cost", "1", "--price", "fst=1")

    assert result.exit_code == 2
    assert result.stderr.count("give --price fast=USD --price quality=USD") == 1
    assert "warning: --price fst=... is the price of no job here" in result.stderr
    assert not db.exists()
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.apixo_emulator(**QUICK, faults={"submit_500_after": 1})
def test_resubmitting_is_for_one_run_and_is_told(
    apixo_emulator: EmulatorThread, prompts: Path, db: Path
) -> None:
    """How often doubtful jobs were sent is said; a later run without the option sends nothing."""
    first = run("batch", prompts, *FAST, "--journal", db)
    second = run("resume", db, "--uncertain", "resubmit")
    billed = apixo_emulator.ledger.billed_total
    third = run("resume", db)

    assert [one.exit_code for one in (first, second, third)] == [3, 3, 3]
    assert "they were not sent again" in first.stderr
    assert "--uncertain resubmit is in force: they were sent 12 times in this run" in second.stderr
    assert "sends one job at most 3 times" in second.stderr
    assert "not sent again" not in second.stderr
    assert billed == apixo_emulator.ledger.billed_total == 16
    assert "they were not sent again" in third.stderr


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (["CONTENT_VIOLATION"], "is a content violation, which is never generated again"),
        (["SensitiveContent"], "is a content violation"),
        ([""], "it is empty"),
        (["E1", "none"], "cannot be beside others"),
    ],
)
def test_codes_that_are_never_retried_are_refused(
    prompts: Path, codes: list[str], said: str
) -> None:
    """With the reason, before anything is sent."""
    options = [word for code in codes for word in ("--retry-code", code)]
    result = run("batch", prompts, *options, "--base-url", "http://127.0.0.1:9")

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


# What is refused


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "."],
        ["show", ""],
        ["export", "/"],
        ["settle", ".", "--all", "--abandon"],
        ["resume", ".."],
        ["batch", "p.jsonl", "--journal", ""],
    ],
    ids=" ".join,
)
def test_a_directory_is_no_journal(arguments: list[str]) -> None:
    """A line and an exit code, for every command."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.splitlines()[0].endswith("is a directory, not a journal")


def test_a_directory_that_is_missing_is_named(prompts: Path, tmp_path: Path) -> None:
    """Instead of a file beside the journal that nobody has asked for."""
    result = run("batch", prompts, "--journal", tmp_path / "nodir/x.db")

    assert result.exit_code == 2
    assert f"there is no directory {tmp_path / 'nodir'}" in result.stderr


def test_what_is_refused_as_a_whole_is_told_once(
    apixo_emulator: EmulatorThread, tmp_path: Path, db: Path
) -> None:
    """A key of the journal that now asks for something else."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"key": "succeeded", "prompt": "another"}\n')

    async def make() -> None:
        async with opened(db) as journal:
            await fill(journal)

    asyncio.run(make())
    result = run("batch", path, *FAST, "--journal", db)

    assert result.exit_code == 2
    assert result.stderr.count("'succeeded'") == 1
    assert "stopping" not in result.stderr
    assert apixo_emulator.ledger.requests_total == 0
