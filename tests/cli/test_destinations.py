"""`--save-to` with a URL: what is refused at once, what is done, what is shown afterwards."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async.testing import EmulatorThread
from tests.batch.journal.jobs import opened
from tests.buckets import Bucket, registered
from tests.cli.conftest import FAST, json_lines, run

quick = pytest.mark.apixo_emulator(speed=50.0, durations="5")
PROC = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where nobody can write")
PLACE = "s3://videos/run"
NAMES = {f"videos/run/{key}.mp4" for key in "abcd"}


@pytest.fixture(autouse=True)
def bucket() -> Iterator[Bucket]:
    """The bucket behind `s3://videos`."""
    with registered() as bucket:
        yield bucket


@quick
def test_a_batch_goes_to_a_bucket_and_on_from_its_journal(
    apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path, bucket: Bucket
) -> None:
    """The place is named at the end, by `show`, in receipts, and when it is resumed."""
    db = tmp_path / "run.db"
    first = run(
        "batch", prompts, *FAST, "--journal", db, "--save-to", f"{PLACE}/", "--max-jobs", "2"
    )
    run("batch", prompts, *FAST, "--journal", db)
    shown = run("show", db)
    resumed = run("resume", db)
    receipts = json_lines(run("export", db).stdout)

    assert first.exit_code == resumed.exit_code == 0
    assert f"2 files in {PLACE}" in first.stdout
    assert f"saves to   {PLACE}" in shown.stdout
    assert json.loads(run("show", db, "--json").stdout)["save_to"] == PLACE
    assert f"as noted in {db}: --save-to {PLACE}" in resumed.stderr
    assert bucket.objects.keys() == NAMES
    paths = {file["path"] for receipt in receipts for file in receipt["files"]}
    assert paths == {f"s3://{name}" for name in NAMES}
    assert apixo_emulator.ledger.billed_total == 4


@quick
def test_single_videos_go_to_a_bucket(apixo_emulator: EmulatorThread, bucket: Bucket) -> None:
    """Their URLs are printed, one a line."""
    made = run("generate", "a calm ocean", *FAST, "--save-to", PLACE)
    task = next(iter(bucket.objects)).removeprefix("videos/run/").removesuffix(".mp4")
    again = run("download", task, "--save-to", "s3://videos/again")

    assert made.stdout.splitlines() == [f"{PLACE}/{task}.mp4"]
    assert again.stdout.splitlines() == [f"s3://videos/again/{task}.mp4"]


@quick
@pytest.mark.parametrize("command", ["batch", "plan"])
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("s3://none/a", "The specified bucket does not exist"),
        ("nonsense://a", "fsspec knows no storage called nonsense"),
        ("ftp://me:hunter2@host/a", "no password may be in it"),
        pytest.param("/proc/videos", "cannot save to /proc/videos: No such file", marks=PROC),
    ],
)
def test_a_place_is_refused_before_anything_is_sent(
    command: str, place: str, problem: str, apixo_emulator: EmulatorThread, prompts: Path
) -> None:
    """It counts as wrong usage, and the place and the reason are told."""
    result = run(command, prompts, "--save-to", place)

    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())
    assert "hunter2" not in result.output
    assert apixo_emulator.ledger.requests_total == 0


def test_a_plan_tries_the_place(
    prompts: Path, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without leaving anything there, be it a bucket or a directory."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    text = run("plan", prompts, "--save-to", PLACE)
    directory = tmp_path / "not" / "yet"
    as_json = run("plan", prompts, "--save-to", directory, "--json")
    refused = run("plan", prompts, "--save-to", prompts / "below")

    assert text.stdout.splitlines()[-1] == f"saves to  {PLACE}"
    assert bucket.calls.count("create") == bucket.calls.count("abort") == 1
    assert json.loads(as_json.stdout)["save_to"] == str(directory)
    assert not directory.parent.exists()
    assert refused.exit_code == 2
    assert f"{prompts} is no directory" in refused.stderr


@quick
@pytest.mark.parametrize("place", ["sftp://stranger.test/a", "s3://videos/a?sig=hunter2"])
def test_a_journal_does_not_choose_where_credentials_go(
    place: str, apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path
) -> None:
    """A host that only the journal names has to be named by the user."""
    db = tmp_path / "run.db"
    run("batch", prompts, *FAST, "--journal", db)

    async def forge() -> None:
        async with opened(db) as journal:
            await journal.set_options({"base_url": apixo_emulator.base_url, "save_to": place})

    asyncio.run(forge())
    result = run("resume", db)

    assert result.exit_code == 2
    assert "hunter2" not in result.output
    if place.startswith("sftp"):
        assert f"apixo resume {db} --save-to {place}" in result.stderr
