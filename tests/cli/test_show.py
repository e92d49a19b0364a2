"""`apixo show`: the state of a batch for people and for programs, once or until it has ended."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async import Job, Task, TextToVideo
from apixo_async.batch import events
from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.overview import Doubt, Durations, Expiry, Failure, Kind, Overview
from apixo_async.batch.journal.owner import OwnerLock
from apixo_async.batch.journal.reading import JournalReader
from apixo_async.batch.meanings import meaning
from apixo_async.batch.spending import Prices
from apixo_async.cli import show as module
from apixo_async.cli.journals import said_again
from apixo_async.cli.show import changes
from apixo_async.cli.shown import show_lines, sum_line
from apixo_async.cli.shown_json import show_as_json
from tests.batch.journal.jobs import FAILED, WAYS, fill, opened
from tests.cli.conftest import Start, run

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
RUN = Path("run.db")
ROOT = Path(__file__).parent.parent.parent
NOTHING = Overview(
    at=NOW,
    owner=None,
    has_crashed=False,
    states={JobState.SUCCEEDED: 4},
    submits=4,
    retries=0,
    kinds=(),
    failures=(),
    doubts=(),
    expiring_count=0,
    expiring=(),
    expired_count=0,
    expired=(),
    unsaved=0,
    recent_rate=0.0,
    overall_rate=None,
)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with one job in every state; nobody owns it."""
    path = tmp_path / "run.db"

    async def make() -> None:
        async with opened(path) as made:
            await fill(made)

    asyncio.run(make())
    return path


def lines(**changes: Any) -> list[str]:  # noqa: ANN401  # fields of an overview
    """What is shown of an overview that differs so much from one where all went well."""
    return list(show_lines(attrs.evolve(NOTHING, **changes), journal=RUN))


def fact(title: str, **changes: Any) -> str:  # noqa: ANN401  # fields of an overview
    """What is said under one title."""
    found = [line[11:] for line in lines(**changes) if line[:11].strip() == title]
    assert len(found) == 1, title
    return found[0]


# Once


def test_a_journal_is_shown_as_a_sum_a_table_and_facts(tmp_path: Path) -> None:
    """Everything that one asks after a batch, in the order in which one asks."""
    path = tmp_path / "run.db"
    asyncio.run(make_day(path))
    result = run("show", path, "--price", "fast=0.20")
    far = "its answer of 1 byte cannot be used"
    choices = "KEY (or --all) --abandon | --resubmit, or KEY --task-id ID"

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"{path}: 6 jobs = 3 succeeded + 1 failed + 0 running + 1 uncertain + 1 not started",
        "",
        "  model    mode  jobs  charges   USD         p50         p95         p99",
        "  veo-3-1  fast     6        5  1.00  1 min 30 s  2 min 00 s  2 min 00 s",
        "",
        "owner      none",
        "submits    5; 5 tasks made, or perhaps made, and billed",
        "cost       1.00 USD, estimated from your prices",
        "rate       2.0 overall (jobs ended, a minute)",
        "failed     1 x E1: no",
        "           d",
        f"           {meaning(JobState.FAILED, 'E1')}",
        f"           to send one again: apixo settle {path} KEY --resubmit",
        "not saved  3 results, because nobody asked for it; to have them:",
        f"           apixo resume {path} --save-to DIR",
        f"uncertain  e: reset; {far}; sent {BEGAN:%Y-%m-%d %H:%M:%S} UTC; it may be task t9",
        "           nobody can say whether these were accepted, so they may be running and billed;",
        "           look at your account's history, then decide:",
        f"           apixo settle {path} {choices}",
        f"go on with apixo resume {path}",
    ]


async def make_day(path: Path, began: datetime = BEGAN) -> None:
    """Six jobs of two minutes: three done, one failed, one in doubt, one not sent."""
    async with opened(path) as journal:
        for key, seconds in [("a", 60), ("b", 90), ("c", 120), ("d", 90), ("e", None), ("f", 0)]:
            request = TextToVideo(f"prompt {key}", mode="fast")
            number = journal.enqueue(Job(request, key=key)).number
            if seconds == 0:
                continue
            await journal.record(number, events.Sending(key=key, attempt=1, at=began))
            if seconds is None:
                doubt = attrs.evolve(WAYS[JobState.UNCERTAIN][1], key=key)
                await journal.record(number, doubt)
                continue
            accepted = events.Accepted(key=key, task_id=f"t-{key}", model="veo-3-1", at=began)
            await journal.record(number, accepted)
            await journal.record(number, ending(key, began + timedelta(seconds=seconds)))


def ending(key: str, at: datetime) -> events.JobEvent:
    """Job d fails, all others succeed."""
    if key == "d":
        return events.Failed(key=key, task=FAILED, reason="no", at=at)
    return events.Succeeded(key=key, task=Task(id=f"t-{key}", model="veo-3-1"), at=at)


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    """The example in the documentation is a real one, of a day in May."""
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    asyncio.run(make_day(tmp_path / "run.db", noon))
    with JournalReader(tmp_path / "run.db") as reader:
        seen = reader.overview(Prices({"fast": "0.20"}), now=noon + timedelta(hours=1))
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^\$ apixo show .*\n((?s:.*?))^```$", page, re.MULTILINE)

    assert shown.splitlines() == list(show_lines(seen, journal=RUN))


def test_the_exit_code_says_only_whether_it_could_be_read(journal: Path) -> None:
    """Failures and doubts are answers; a batch's own exit code told of them."""
    assert run("show", journal).exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "error: there is no journal "), (b"", "is empty"), (b"a\n", "is not a journal")],
)
def test_what_cannot_be_read_is_said_in_a_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """No traceback, exit code 2."""
    path = tmp_path / "run.db"
    if content is not None:
        path.write_bytes(content)
    result = run("show", path)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.splitlines()[1:] == [
        "  nothing was sent or changed"
        + "; name a journal that apixo batch made" * (content != b"")
    ]


@pytest.mark.parametrize(
    ("code", "words", "is_sent_again"),
    [
        ("CONTENT_VIOLATION", "against the content policy", False),
        ("GENERATION_FAILED", "could not make the video", True),
    ],
)
def test_a_failure_is_shown_with_its_meaning(code: str, words: str, is_sent_again: bool) -> None:
    """And sending it again is advised only where the same prompt may do better."""
    failure = Failure(state=JobState.FAILED, code=code, reason="no", count=1, keys=("a",))
    text = "\n".join(lines(failures=(failure,)))

    assert words in text
    assert ("--resubmit" in text) is is_sent_again


def test_json_has_the_same_numbers_and_adds_up(journal: Path) -> None:
    """One object; the five standings are the sum, and doubts come with all that is known."""
    shown = json.loads(run("show", journal, "--json", "--price", "quality=2").stdout)
    standings = ("succeeded", "failed", "running", "uncertain", "not_started")

    assert shown["jobs"] == sum(shown[name] for name in standings) == sum(shown["states"].values())
    assert shown["cost_usd"] == 2 * shown["charges"] == 12
    assert {one["key"] for one in shown["uncertain_jobs"]} == {"sending", "uncertain"}
    assert shown["uncertain_jobs"][1]["candidate_task_id"] == "t9"
    assert {one["state"] for one in shown["failures"]} == {"failed", "rejected", "abandoned"}
    assert shown["kinds"][0]["timed"] == 2


def test_prices_of_the_batch_count_unless_others_are_given(journal: Path) -> None:
    """They were noted when it was started, so one need not repeat them."""

    async def note() -> None:
        async with opened(journal) as made:
            await made.set_options({"prices": {"quality": "3"}})

    asyncio.run(note())

    assert json.loads(run("show", journal, "--json").stdout)["cost_usd"] == 18
    given = run("show", journal, "--json", "--price", "quality=1").stdout
    assert json.loads(given)["cost_usd"] == 6


def test_show_needs_no_key_and_changes_nothing(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be run at any time by anybody who can read the file."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    before = journal.read_bytes()

    assert run("show", journal).exit_code == 0
    assert journal.read_bytes() == before


@pytest.mark.parametrize("command", ["show", "export"])
def test_damage_is_told_with_the_file_and_what_to_do(journal: Path, command: str) -> None:
    """As for those who want to go on with it."""
    write(journal, "UPDATE jobs SET charges = 0 WHERE key = 'succeeded'")
    result = run(command, journal)

    assert result.exit_code == 2
    assert f"error: {journal} is damaged: job 5 ('succeeded') has a wrong" in result.stderr
    assert "keep it as it is; restore a copy" in result.stderr


def test_what_is_no_database_is_perhaps_another_file(tmp_path: Path) -> None:
    """Nobody is told to restore what never was a journal; what lies beside one tells it."""
    path = tmp_path / "run.db"
    path.write_text("key,prompt")
    said = run("show", path).stderr.splitlines()[0]
    assert said == f"error: {path} is not a journal; is this the right path?"

    path.with_name("run.db-wal").touch()
    assert "is damaged" in run("show", path).stderr


# Lines


def test_what_did_not_happen_is_not_shown() -> None:
    """A batch that went well is three facts."""
    assert lines() == [
        "run.db: 4 jobs = 4 succeeded + 0 failed + 0 running + 0 uncertain + 0 not started",
        "",
        "owner      none",
        "submits    4; 0 tasks made, or perhaps made, and billed",
        "cost       0.00 USD, estimated from your prices",
    ]


def test_the_owner_is_named() -> None:
    """While it lives there is nothing to go on with."""
    shown = lines(owner="process 7 on here", states={JobState.QUEUED: 1})

    assert "owner      process 7 on here" in shown
    assert not any("apixo resume" in line for line in shown)


def test_after_a_crash_the_next_command_is_shown() -> None:
    """To be copied as it stands, also where the name has spaces."""
    crash = attrs.evolve(NOTHING, has_crashed=True, states={JobState.ACCEPTED: 1})
    shown = list(show_lines(crash, journal=Path("my run.db")))

    assert "owner      none; the last process ended without closing the journal" in shown
    assert shown[-1] == "go on with apixo resume 'my run.db'"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_shows_everything(width: int) -> None:
    """Lines are folded between words, a table that is too wide becomes lines; nothing is cut."""
    kind = Kind(
        model="veo-3-1",
        mode="fast",
        jobs=5,
        charges=5,
        price=Decimal(1),
        durations=Durations(count=5, p50=90, p95=120, p99=120),
    )
    changed = attrs.evolve(NOTHING, kinds=(kind,), states={JobState.QUEUED: 1})
    wide = list(show_lines(changed, journal=RUN))
    narrow = list(show_lines(changed, journal=RUN, width=width))
    folding = [line for line in narrow if "apixo " not in line]

    assert max(map(len, folding)) <= width
    assert "0 not started" not in folding[0]
    told = " ".join(" ".join(narrow).split())
    assert " ".join(wide[0].split()) in told
    assert ("p95 2 min 00 s" in told) is (width < max(map(len, wide[2:4])))
    assert narrow[-1] == wide[-1] == "go on with apixo resume run.db"


def test_a_batch_of_an_emulator_that_is_gone_goes_on_with_a_new_one() -> None:
    """The command is one that works; without the option it would be refused."""
    queued = {"states": {JobState.QUEUED: 1}, "is_emulated": True}

    assert fact("go on with", **queued) == "apixo resume run.db --emulator"
    assert fact("emulator", **queued).startswith("gone")


def test_where_the_api_is_is_said_again(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word about the key: a journal may be somebody else's. Unless it is asked anyway."""
    again = "--base-url http://127.0.0.1:9/api/v1"

    async def note() -> None:
        async with opened(journal) as made:
            await made.set_options({"base_url": "http://127.0.0.1:9/api/v1"})

    asyncio.run(note())
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    shown = run("show", journal).stdout.splitlines()
    settled = run("settle", journal, "failed", "--resubmit").stdout.splitlines()
    monkeypatch.setenv("APIXO_BASE_URL", "http://127.0.0.1:9")

    assert shown[-1] == f"go on with apixo resume {journal} {again}"
    assert any("your key goes there" in line for line in shown)
    assert settled[-1] == f"go on with: apixo resume {journal} {again}"
    assert "--base-url" not in run("show", journal).stdout


@pytest.mark.parametrize("noted", [None, 7, "no address", "ftp://a"])
def test_an_address_that_is_none_is_not_said_again(noted: object) -> None:
    """A journal may hold anything."""
    assert said_again(noted, is_emulated=False) == ()
    assert said_again("http://127.0.0.1:9", is_emulated=True) == ()


def test_the_noted_cap_is_named_when_it_is_what_stops_the_batch() -> None:
    """With the option that goes on; a cap that leaves room for the next job is only told."""
    fast = Kind(model="veo-3-1", mode="fast", jobs=5, charges=5, price=Decimal(1), durations=None)
    capped = {
        "kinds": (fast,),
        "states": {JobState.SUCCEEDED: 5, JobState.QUEUED: 2},
        "next_price": Decimal(1),
    }

    assert fact("go on with", **capped, max_cost=Decimal(5)) == (
        "apixo resume run.db --max-cost USD"
    )
    assert "--max-cost" in fact("stopped", **capped, max_cost=Decimal(5))
    assert fact("go on with", **capped, max_cost=Decimal(6)) == "apixo resume run.db"
    assert fact("cost", **capped, max_cost=Decimal(6)).startswith("5.00 USD, of at most 6.00 USD")


def test_tries_that_did_not_get_through_are_no_submits() -> None:
    """They read like double billing otherwise."""
    assert fact("submits", submits=12, not_sent=44) == (
        "12; 0 tasks made, or perhaps made, and billed; "
        "44 more tries did not get through, and made no task"
    )


def test_results_that_were_to_be_saved_are_something_to_go_on_with() -> None:
    """Those that nobody asked for are not, but for the directory that is named."""
    assert fact("not saved", unsaved=2, save_to="v") == "2 results by the journal's record"
    assert fact("go on with", unsaved=2, save_to="v") == "apixo resume run.db"
    assert not any(line.startswith("go on") for line in lines(unsaved=2))
    assert "           apixo resume run.db --save-to DIR" in lines(unsaved=2)


def test_retries_and_rates_are_told() -> None:
    """The rate of the last minutes comes first, because it says how it goes now."""
    assert fact("submits", submits=9, retries=5) == (
        "9; 0 tasks made, or perhaps made, and billed; 5 were further ones of the same job"
    )
    assert fact("rate", recent_rate=61.23, overall_rate=1_058.0) == (
        "61.2 over the last 5 minutes, 1,058.0 overall (jobs ended, a minute)"
    )


def test_missing_prices_are_asked_for() -> None:
    """No price is assumed; what is sure is said."""
    fast = Kind(model="veo-3-1", mode="fast", jobs=5, charges=5, price=Decimal(1), durations=None)
    slow = attrs.evolve(fast, mode="quality", price=None)

    assert fact("cost", kinds=(slow,)) == "unknown: prices are missing, give --price quality=USD"
    assert fact("cost", kinds=(fast, slow)).startswith("at least 5.00 USD: prices are missing")
    assert lines(kinds=(slow,))[3] == "  veo-3-1  quality     5        5    ?"


def test_the_most_frequent_reasons_are_shown() -> None:
    """Text of the API is made safe for a terminal; what is left out is counted."""
    failures = [
        Failure(state=JobState.FAILED, code=None, reason=f"bad\x1b[2J {n}", count=30 - n)
        for n in range(23)
    ]
    shown = [line for line in lines(failures=tuple(failures)) if line.startswith("failed")]

    assert len(shown) == 20
    assert shown[0].startswith("failed     30 x bad")
    assert "\x1b" not in "".join(shown)
    assert "           and 3 other reasons" in lines(failures=tuple(failures))


def test_doubts_are_shown_with_all_that_is_known() -> None:
    """And how to decide about them; those beyond a screen are counted."""
    doubt = Doubt(
        key="a",
        sent_at=NOW,
        phase="answering",
        reason="reset",
        received="{}",
        received_bytes=2,
        candidate_task_id=None,
        attempts=2,
    )
    shown = lines(states={JobState.UNCERTAIN: 25}, doubts=(doubt,) * 25)

    assert (
        shown.count(
            f"{'':11}a: reset; its answer broke off after 2 bytes; "
            "sent 2026-05-20 12:00:00 UTC; submit 2"
        )
        == 19
    )
    assert f"{'':11}and 5 more; --json names up to 1,000" in shown
    assert any(line.strip().startswith("apixo settle run.db KEY") for line in shown)


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("sent", "it was sent, and nothing came back"),
        ("answering", "its answer broke off after 7 bytes"),
        ("answer", "its answer of 7 bytes cannot be used"),
        ("headers", "it came as far as 'headers', 7 bytes arrived"),
        ("crash", ""),
    ],
)
def test_how_far_a_submit_came_is_told_in_words(phase: str, said: str) -> None:
    """With the bytes that arrived; phases of other versions as they are called."""
    doubt = Doubt(
        key="a",
        sent_at=None,
        phase=phase,
        reason="why",
        received="",
        received_bytes=7,
        candidate_task_id=None,
        attempts=1,
    )

    assert fact("uncertain", states={JobState.UNCERTAIN: 1}, doubts=(doubt,)) == (
        f"a: why; {said}" if said else "a: why"
    )


@pytest.mark.parametrize(
    ("denied", "said"),
    [(False, "it may be task t9"), (True, "it may be task t9, which the API does not know")],
    ids=["open", "denied"],
)
def test_what_is_known_of_a_candidate_is_shown(denied: bool, said: str) -> None:
    """One that the API denies need not be looked for."""
    doubt = Doubt(
        key="a",
        sent_at=None,
        phase="answer",
        reason="why",
        received="",
        received_bytes=7,
        candidate_task_id="t9",
        attempts=1,
        candidate_denied=denied,
    )

    shown = fact("uncertain", states={JobState.UNCERTAIN: 1}, doubts=(doubt,))
    assert shown.split("; ")[-1] == said


def test_results_that_expire_are_shown_with_what_saves_them() -> None:
    """The first end decides how much time is left; what has gone is told apart."""
    soon = tuple(Expiry(key=f"k{n}", at=NOW + timedelta(hours=30 + n)) for n in range(7))
    gone = (Expiry(key="old", at=NOW - timedelta(days=1)),)
    shown = {"unsaved": 8, "expiring": soon, "expiring_count": 7}

    assert (
        fact("expiring", **shown) == "7 results, from 30 h 00 min on: k0, k1, k2, k3, k4 and 2 more"
    )
    assert "           save them with: apixo resume run.db --save-to DIR" in lines(**shown)
    assert fact("expired", expired=gone, expired_count=1) == "1 result can no longer be had: old"


def test_json_of_results_that_expire() -> None:
    """Counts and names apart, because not all are named."""
    soon = (Expiry(key="k", at=NOW),)
    shown = show_as_json(attrs.evolve(NOTHING, expiring=soon, expiring_count=9), journal=RUN)

    assert (shown["expiring"], shown["expired"]) == (9, 0)
    assert shown["expiring_jobs"] == [{"key": "k", "expires_at": "2026-05-20T12:00:00+00:00"}]
    assert json.dumps(shown)


# Following


class Night:
    """What happens between two looks, instead of a pause."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.pauses: list[float] = []
        self._steps = list(steps)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._steps.pop(0)()


def write(journal: Path, sql: str) -> None:
    """Somebody writes to the journal."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute(sql)


def test_following_tells_changes_until_the_owner_has_ended(journal: Path) -> None:
    """Nothing is read twice that has not changed, and the last look is of an end."""
    owner = OwnerLock(journal)
    change = "INSERT INTO events VALUES (99, 1, '', 'Note', '{}', 0)"
    night = Night(
        lambda: None, lambda: write(journal, change), lambda: owner.release(is_clean=True)
    )
    with JournalReader(journal) as reader:
        seen = list(changes(reader, Prices(), every=1.0, sleep=night.sleep))

    assert [one.owner is not None for one in seen] == [True, True, False]
    assert len(night.pauses) == 3
    assert all(pause >= 1 for pause in night.pauses)


def test_a_journal_that_takes_long_to_read_is_read_less_often(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following never takes more than a quarter of the time."""
    clock = iter([0.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    owner = OwnerLock(journal)
    night = Night(lambda: owner.release(is_clean=True))
    with JournalReader(journal) as reader:
        assert len(list(changes(reader, Prices(), every=1.0, sleep=night.sleep))) == 2

    assert night.pauses == [30.0]


def test_following_what_nobody_owns_shows_it_once(journal: Path) -> None:
    """There is nothing to wait for, which is said."""
    # Of yesterday: the rate of a batch that has begun just now changes with every look.
    asyncio.run(make_day(journal.with_name("old.db"), BEGAN - timedelta(days=1)))
    old = journal.with_name("old.db")
    followed = run("show", old, "--follow")

    assert followed.stdout == run("show", old).stdout
    assert followed.stderr == f"nobody runs {old} any more\n"


def test_after_a_crash_following_says_so(journal: Path) -> None:
    """What a dead process leaves behind is no end in good order."""
    OwnerLock(journal).release(is_clean=False)

    assert run("show", journal, "--follow").stderr == (
        f"nobody runs {journal} any more: its process ended without closing it\n"
    )


def test_ctrl_c_is_a_good_way_to_stop_following(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0: nothing failed, and the batch goes on."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.changes, "__kwdefaults__", {"sleep": interrupt})
    owner = OwnerLock(journal)
    try:
        result = run("show", journal, "--follow")
        as_json = run("show", journal, "--follow", "--json")
    finally:
        owner.release(is_clean=True)

    assert (result.exit_code, as_json.exit_code) == (0, 0)
    assert result.stdout.startswith("8 jobs = ")
    assert len(as_json.stdout.splitlines()) == 1


OWNER = """
import asyncio, sys
from pathlib import Path
from apixo_async.batch.journal import Journal
from tests.batch.journal.jobs import SENDING, job
async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    print("open", flush=True)
    for line in sys.stdin:
        await journal.record(journal.enqueue(job(line.strip())).number, SENDING)
    await journal.aclose()
asyncio.run(main())
"""


@pytest.fixture
def owner(journal: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the journal, adds a job for each line, and ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(journal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_batch_of_another_process_is_followed_in_a_pipe(
    journal: Path,
    owner: subprocess.Popen[str],
    start: Start,
) -> None:
    """A line for each change, then the whole, and the end comes with the owner's."""
    following = start("show", journal, "--follow", "--every", "0.1")
    assert following.stdout is not None
    first = following.stdout.readline()
    assert owner.stdin is not None
    print("late", file=owner.stdin, flush=True)
    second = following.stdout.readline()
    owner.stdin.close()
    rest, errors = following.communicate(timeout=50)

    assert first.startswith("8 jobs = ")
    assert second.startswith("9 jobs = ")
    assert f"{journal}: 9 jobs = " in rest
    assert (following.returncode, errors) == (0, f"nobody runs {journal} any more\n")


def test_a_batch_is_followed_on_a_terminal(
    journal: Path,
    owner: subprocess.Popen[str],
    start: Start,
) -> None:
    """The board is drawn while it runs; in the end the whole stays, and the cursor is back."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", "CI": ""}
    following = start("show", journal, "--follow", "--every", "0.1", stdout=theirs, env=environment)
    os.close(theirs)
    drawn = read_until(ours, "queued")
    assert owner.stdin is not None
    owner.stdin.close()
    drawn += read_until(ours, None)
    os.close(ours)

    assert following.wait(timeout=50) == 0
    assert re.search(r"done +\S+ +[0-9] of 8 +", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn))
    assert "\x1b[?25l" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).splitlines()[-1]
    assert last == f"go on with apixo resume {journal}"


def read_until(terminal: int, text: str | None) -> str:
    """What a terminal shows until a text comes, or to its end."""
    shown = ""
    while text is None or text not in shown:
        assert select.select([terminal], [], [], 50)[0], shown
        try:
            data = os.read(terminal, 65_536)
        except OSError:
            break
        if not data:
            break
        shown += data.decode()
    return shown


def test_the_sum_is_a_line() -> None:
    """The same words as a batch has at its end."""
    assert sum_line(NOTHING).startswith("4 jobs = 4 succeeded + 0 failed")
