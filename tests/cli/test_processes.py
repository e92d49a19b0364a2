"""Whole programs: signals, pipes, terminals and the private emulator, each as a user meets them."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import pytest

from apixo_async.testing import EmulatorThread
from tests.batch.journal.jobs import fill, opened
from tests.cli.conftest import FAST, Start, Started, json_lines, wait_for
from tests.hand import Hand

ENDLESS = {"speed": 50.0, "durations": "100000"}
LONG = "58"
"""Seconds that an answer takes for which nobody waits in these tests."""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def finish(process: Started) -> tuple[str, str, int]:
    """Output, errors and exit code."""
    output, errors = process.communicate(timeout=50)
    return output, errors, process.returncode


def begins_to_stop(process: Started) -> str:
    """Interrupts it, and waits until it has said what it waits for; returns what it has said."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = ""
    while "stopping; " not in said:
        line = process.stderr.readline()
        assert line, f"it has ended: {said}"
        said += line
    return said


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.apixo_emulator(**ENDLESS)
def test_an_interrupted_batch_names_every_task_that_still_runs(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path, number: int, code: int
) -> None:
    """The first signal ends the batch in good order: all paid ids, totals that add up, its code."""
    batch = start("batch", prompts, *FAST, "--concurrent-tasks", "3")
    wait_for(lambda: len(apixo_emulator.tasks()) == 3)

    batch.send_signal(number)
    output, errors, ended = finish(batch)

    assert ended == code
    for task in apixo_emulator.tasks():
        assert errors.count(str(task["id"])) == 1
        assert f"apixo wait {task['id']}" in errors
    assert output == ""
    assert "1 not started + 3 still running" in errors
    assert "Traceback" not in errors


@pytest.mark.apixo_emulator(**ENDLESS)
def test_an_interrupted_batch_tells_programs_the_same(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path
) -> None:
    """With `--json` the summary lists the tasks left behind and the signal."""
    batch = start("batch", prompts, *FAST, "--json")
    wait_for(lambda: len(apixo_emulator.tasks()) == 4)

    batch.send_signal(signal.SIGINT)
    output, _, _ = finish(batch)

    summary = json_lines(output)[-1]["summary"]
    left = {job["task_id"] for job in summary["left_behind"]}
    assert left == {task["id"] for task in apixo_emulator.tasks()}
    assert (summary["signal"], summary["exit_code"]) == ("SIGINT", 130)


@pytest.mark.apixo_emulator(**ENDLESS, latency="1")
def test_a_submit_under_way_is_answered_before_the_batch_leaves(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path
) -> None:
    """Interrupted between POST and answer, the batch still learns the id that was paid for."""
    batch = start("batch", prompts, *FAST, "--max-jobs", "1")
    wait_for(lambda: apixo_emulator.ledger.billed_total == 1)

    batch.send_signal(signal.SIGINT)
    _, errors, code = finish(batch)

    (task,) = apixo_emulator.tasks()
    assert code == 130
    assert f"apixo wait {task['id']}" in errors


@pytest.mark.apixo_emulator(**ENDLESS, latency=LONG)
def test_a_second_signal_ends_at_once(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path
) -> None:
    """Whoever insists need not wait for answers."""
    batch = start("batch", prompts, *FAST)
    wait_for(lambda: apixo_emulator.ledger.billed_total == 1)

    begins_to_stop(batch)
    assert batch.poll() is None
    batch.send_signal(signal.SIGINT)

    assert batch.wait(30) == 130


@pytest.mark.parametrize("is_to_file", [False, True])
@pytest.mark.apixo_emulator(**ENDLESS, latency=LONG)
def test_a_second_signal_leaves_a_cursor(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path, tmp_path: Path, is_to_file: bool
) -> None:
    """Whatever was drawn, and where, the shell can be seen to be typed in again."""
    master, slave = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "CI": ""}
    with (tmp_path / "out").open("w") as file:
        output = file if is_to_file else slave
        batch = start("batch", prompts, *FAST, stdout=output, stderr=slave, env=variables)
    os.close(slave)
    wait_for(lambda: apixo_emulator.ledger.billed_total == 1)
    batch.send_signal(signal.SIGINT)
    shown = read(master, until=lambda shown: "stopping; " in shown)
    batch.send_signal(signal.SIGINT)
    shown += read(master)
    os.close(master)

    assert batch.wait(30) == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


@pytest.mark.apixo_emulator(**ENDLESS, latency="0.5")
def test_an_interrupted_generate_names_its_task(
    apixo_emulator: EmulatorThread, start: Start
) -> None:
    """Also with the POST under way, the id of the paid task is told."""
    generate = start("generate", "a")
    wait_for(lambda: apixo_emulator.ledger.billed_total == 1)

    generate.send_signal(signal.SIGINT)
    _, errors, code = finish(generate)

    (task,) = apixo_emulator.tasks()
    assert code == 130
    assert f"apixo wait {task['id']}" in errors
    assert "Traceback" not in errors


@pytest.mark.apixo_emulator(speed=1, durations="uniform:5:200")
def test_a_reader_that_leaves_does_not_lose_tasks(
    hand: Hand, apixo_emulator: EmulatorThread, start: Start, prompts: Path
) -> None:
    """When nobody reads the results any more, the tasks under way are told on standard error."""
    batch = start("batch", prompts, *FAST, "--json")
    wait_for(lambda: len(apixo_emulator.tasks()) == 4)
    first, second, *others = ends(apixo_emulator)
    assert batch.stdout is not None
    hand.seconds = first
    batch.stdout.readline()
    batch.stdout.close()
    batch.stdout = None
    hand.seconds = second
    _, errors, code = finish(batch)

    assert others == [end for end in others if end > second]
    assert code == 128 + signal.SIGPIPE
    assert "interrupted by SIGPIPE" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["show", "export", "plan", "batch --help"])
def test_a_reader_that_has_left_ends_a_command_as_shells_count(
    start: Start, prompts: Path, tmp_path: Path, command: str
) -> None:
    """Without a word, as `cat` does: nothing has failed."""
    path = prompts
    if command in {"show", "export"}:
        path = tmp_path / "run.db"
        asyncio.run(make_journal(path))
    ours, theirs = os.pipe()
    os.close(ours)
    process = start(*command.split(), path, stdout=theirs)
    os.close(theirs)
    _, errors, code = finish(process)

    assert (code, errors) == (128 + signal.SIGPIPE, "")


async def make_journal(path: Path) -> None:
    """One job in every state."""
    async with opened(path) as journal:
        await fill(journal)


@pytest.mark.apixo_emulator(**ENDLESS, latency=LONG)
def test_the_first_signal_leaves_the_way_on_the_screen(
    apixo_emulator: EmulatorThread, start: Start, prompts: Path, tmp_path: Path
) -> None:
    """What is waited for, and the command to go on: a second one ends at once and says nothing."""
    batch = start("batch", prompts, *FAST, "--journal", tmp_path / "run.db")
    wait_for(lambda: apixo_emulator.ledger.billed_total == 1)  # the first goes alone

    errors = begins_to_stop(batch)
    batch.send_signal(signal.SIGINT)
    assert batch.stderr is not None
    errors += batch.stderr.read()

    assert batch.wait(30) == 130
    assert "stopping; waiting for 1 submit to be answered and recorded;" in errors
    assert errors.endswith(f"go on with: apixo resume {tmp_path / 'run.db'}\n")


# On a terminal


@attrs.frozen
class Screen:
    """What a program wrote to a terminal, and how it ended."""

    raw: str
    code: int

    @property
    def text(self) -> str:
        """Without colours and movements of the cursor."""
        return ESCAPE.sub("", self.raw)


def on_terminal(
    *arguments: str | Path,
    columns: int = 100,
    meanwhile: Callable[[int], str] = lambda _: "",
    **environment: str,
) -> Screen:
    """Runs `apixo` on a terminal of its own.

    `meanwhile` is given that terminal once, and returns what it has read there.
    """
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "apixo_async.cli", *map(str, arguments)]
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "CI": "", **environment}
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=variables) as process:
        os.close(slave)
        seen = meanwhile(master) + read(master)
        os.close(master)
        return Screen(seen, process.wait(30))


def read(master: int, *, until: Callable[[str], bool] = lambda _: False) -> str:
    """What a terminal gets until something is true of it, or until its program has ended."""
    seen, decoder = "", codecs.getincrementaldecoder("utf-8")()
    while not until(seen):
        assert select.select([master], [], [], 50)[0], seen
        try:
            piece = os.read(master, 65_536)
        except OSError:  # the other end has closed
            break
        if not piece:
            break
        seen += decoder.decode(piece)
    return seen


def shows(what: str, written: str) -> bool:
    """Whether that can be read in what was written to a terminal."""
    return what in ESCAPE.sub("", written)


def ends(emulator: EmulatorThread) -> list[float]:
    """At which second of its clock each task ends, if all were accepted at 0."""
    return sorted(
        (float(str(task["ends_at"])) - float(str(task["accepted_at"]))) / 1000 + 0.01
        for task in emulator.tasks()
    )


def one_by_one(emulator: EmulatorThread, hand: Hand) -> Callable[[int], str]:
    """Lets four tasks end, each once the end of the one before was drawn on a terminal."""

    def let_end(master: int) -> str:
        wait_for(lambda: len(emulator.tasks()) == 4)
        seen = ""
        for number, hand.seconds in enumerate(ends(emulator)):
            done = f" {number + 1} of 4"
            if number < 3:  # the last is not drawn, but summed up
                seen += read(master, until=partial(shows, done))
        return seen

    return let_end


@pytest.mark.apixo_emulator(speed=1, durations="uniform:5:60", faults={"failed_task": 0.3})
def test_a_terminal_shows_a_bar_both_limits_and_failures(
    hand: Hand, apixo_emulator: EmulatorThread, prompts: Path
) -> None:
    """The live display counts jobs, shows both limits, and keeps each failure on the screen."""
    meanwhile = one_by_one(apixo_emulator, hand)
    screen = on_terminal("batch", prompts, *FAST, meanwhile=meanwhile)

    failed = apixo_emulator.ledger.finished["failed"]
    assert 0 < failed < 4
    assert screen.code == 1
    assert "━" in screen.text
    assert " of 4" in screen.text
    assert re.search(r"requests +\S+ +[0-9]+ of 10,000 +in the last minute", screen.text)
    assert re.search(r"running +\S+ +[0-4] of 1,000 +tasks at a time", screen.text)
    assert "→ change the request, or send it again" in screen.text
    assert screen.text.count("GENERATION_FAILED") >= failed + 1
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.apixo_emulator(speed=1, durations="uniform:5:60", faults={"content_violation": 0.3})
def test_nothing_that_is_drawn_is_folded(
    hand: Hand, apixo_emulator: EmulatorThread, prompts: Path, tmp_path: Path, columns: int
) -> None:
    """A whole batch on a terminal of that width: each drawing takes back all of the one before."""
    options = ("--save-to", tmp_path / "v", *FAST)
    meanwhile = one_by_one(apixo_emulator, hand)
    screen = on_terminal("batch", prompts, *options, columns=columns, meanwhile=meanwhile)
    drawn = re.split(r"\r(?:\x1b\[1A|\x1b\[2K)+", screen.raw)
    boards = [ESCAPE.sub("", part) for part in drawn if " of 4" in part and "queued" in part]

    assert len(boards) > 2
    for board in boards:
        lines = board[board.index(" %") - 3 :].splitlines()
        assert max(map(len, lines)) <= columns
    assert screen.raw.count("\x1b[?25l") == screen.raw.count("\x1b[?25h")


@pytest.mark.apixo_emulator(speed=50, durations="5")
def test_a_log_has_lines_and_nothing_that_moves_a_cursor(
    apixo_emulator: EmulatorThread, prompts: Path
) -> None:
    """Continuous integration keeps all that is written, also where it looks like a terminal."""
    screen = on_terminal("batch", prompts, *FAST, CI="true")

    assert screen.code == 0
    assert "\x1b" not in screen.raw
    assert "\r" not in screen.raw.replace("\r\n", "")
    assert "4 jobs = 4 succeeded" in screen.text


@pytest.mark.parametrize("columns", [20, 200])
@pytest.mark.apixo_emulator(speed=50, durations="5")
def test_a_display_fits_the_terminal(
    apixo_emulator: EmulatorThread, prompts: Path, columns: int
) -> None:
    """On narrow and wide terminals the batch runs and the summary is complete."""
    screen = on_terminal("batch", prompts, *FAST, columns=columns)

    assert screen.code == 0
    assert "4 jobs = 4 succeeded" in screen.text


def test_a_journal_is_shown_in_the_width_of_the_terminal(tmp_path: Path) -> None:
    """Once and when it is followed: nothing is cut off."""
    asyncio.run(make_journal(tmp_path / "run.db"))
    for option in ([], ["--follow"]):
        screen = on_terminal("show", tmp_path / "run.db", *option, columns=40)

        assert "1 not started" in " ".join(screen.text.split())
        assert "\N{HORIZONTAL ELLIPSIS}" not in screen.text
        assert screen.code == 0


@pytest.mark.apixo_emulator(speed=50, durations="5", faults={"failed_task": 1})
def test_no_color_is_honoured(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """With NO_COLOR set no colour is sent to the terminal; without it there is some."""
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]m")

    assert colour.search(on_terminal("batch", prompts, *FAST).raw)
    assert not colour.search(on_terminal("batch", prompts, *FAST, NO_COLOR="1").raw)


@pytest.mark.apixo_emulator(speed=50, durations="5")
def test_a_dumb_terminal_gets_plain_lines(apixo_emulator: EmulatorThread, prompts: Path) -> None:
    """Where the cursor cannot be moved, nothing tries to."""
    screen = on_terminal("batch", prompts, *FAST, TERM="dumb")

    assert screen.code == 0
    assert "\x1b" not in screen.raw


# With an emulator of its own


@pytest.mark.parametrize("has_key", [False, True])
def test_a_batch_on_a_private_emulator_needs_no_key(
    start: Start, prompts: Path, tmp_path: Path, has_key: bool
) -> None:
    """The ledger agrees with the summary, nobody is billed twice, and no limit is broken."""
    keyless = {name: value for name, value in os.environ.items() if name != "APIXO_API_KEY"}
    environment = {**keyless, "APIXO_API_KEY": "apx_CANARY"} if has_key else keyless
    options = ("--emulator", "--emulator-speed", "200", "--save-to", tmp_path / "v")

    output, errors, code = finish(start("batch", prompts, *options, env=environment))

    assert code == 0
    assert "4 jobs = 4 succeeded" in output
    assert "emulator: 4 tasks billed, 0 prompts billed twice, 0 answered 429" in output
    assert "of 10,000 requests, at most 4 of 1,000 tasks unfinished" in output
    assert len(list((tmp_path / "v").iterdir())) == 4
    assert "CANARY" not in output + errors


def test_the_emulated_account_has_the_plan_that_was_named(start: Start, prompts: Path) -> None:
    """Small limits are those of the emulator, too, and are kept on its fast clock."""
    plan = ("--concurrent-tasks", "2", "--requests-per-minute", "60", "--json")

    output, _, code = finish(
        start("batch", prompts, "--emulator", "--emulator-speed", "200", *plan)
    )

    ledger = json_lines(output)[-1]["summary"]["emulator"]
    assert code == 0
    assert ledger["throttled"] == 0
    assert ledger["peak_unfinished"] == 2
    assert ledger["busiest_minute"] <= 60


def test_faults_can_be_asked_of_the_private_emulator(start: Start, prompts: Path) -> None:
    """`--emulator-fault` makes the emulator fail as often as it says."""
    options = ("--emulator", "--emulator-speed", "200", "--emulator-fault", "failed_task=1")

    _, errors, code = finish(start("batch", prompts, *options))

    assert code == 1
    assert "failed: 4 x GENERATION_FAILED" in errors


def test_no_emulator_is_left_behind(start: Start, prompts: Path) -> None:
    """The child has ended when the batch has, also when that was killed."""
    batch = start("batch", prompts, "--emulator", "--emulator-speed", "1")
    wait_for(lambda: children(batch.pid))
    (child,) = children(batch.pid)

    batch.kill()
    batch.wait()

    wait_for(lambda: not is_alive(child))


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


# apixo emulator


def test_an_emulator_says_in_json_where_it_is(start: Start) -> None:
    """`apixo emulator --json` prints one line with address and key, and both work."""
    emulator = start(
        "emulator", "--json", "--api-key", "apx_CANARY_1", "--balance", "0", "--speed", "7"
    )
    assert emulator.stdout is not None
    ready = json.loads(emulator.stdout.readline())

    variables = {"APIXO_BASE_URL": ready["base_url"], "APIXO_API_KEY": ready["api_key"]}
    output, _, _ = finish(start("balance", env={**os.environ, **variables}))

    assert output == "0.00 USD\n"
    assert ready["api_key"] == "apx_CANARY_1"
    assert ready["speed"] == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_emulator_tells_how_to_use_it_and_ends_well(start: Start, number: int) -> None:
    """It prints two lines for the shell, runs until a signal, and exits with 0."""
    emulator = start("emulator", "--port", "0")
    assert emulator.stdout is not None
    lines = [emulator.stdout.readline() for _ in range(3)]

    emulator.send_signal(number)
    output, errors, code = finish(emulator)

    assert lines[0].startswith("emulated APIXO at http://127.0.0.1:")
    assert lines[1].startswith("export APIXO_BASE_URL=http://127.0.0.1:")
    assert lines[2] == "export APIXO_API_KEY=test-key\n"
    assert (output, errors, code) == ("", "", 0)
