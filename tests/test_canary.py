"""The API key is in nothing that a run leaves behind, and the watch that says so is awake."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import click
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from apixo_async.cli.app import apixo
from apixo_async.testing import EmulatorThread
from tests import canary
from tests.canary import CANARY, EMULATOR_KEY, NEEDLES, Watch, file_holds_key, holds_key
from tests.faults import FaultServer, reply, saying
from tests.ports import kept_port

HERE = Path(__file__).parent
KEY = f"{CANARY}/7f3b+29d1=c85e"
ECHO = f"you sent Authorization: Bearer {KEY}".encode()
FAULTS = {
    "submit_502_html_after": 0.2,
    "submit_truncated_json_after": 0.1,
    "status_502_html": 0.2,
    "failed_task": 0.2,
    "content_violation": 0.1,
    "download_503": 0.2,
    "callback_forged": 0.2,
}
SENDERS_BACK = [
    saying(reply(json.dumps({"code": 401, "message": ECHO.decode()}).encode(), status="401 No")),
    saying(reply(b"<p>" + ECHO, status="502 Bad", content_type="text/html")),
    saying(reply(b"", status="307 X", headers=[f"Location: /{KEY}"])),
    saying(reply(ECHO, length=999)),
]
"""Servers that send the key back: in JSON, on a page, as another place, cut."""

SPELLINGS = {
    "plain": KEY.encode(),
    "in a header": f"Authorization: Bearer {KEY}".encode(),
    "base64": base64.b64encode(f"Bearer {KEY}".encode()),
    "base64 of all offsets": base64.b64encode(f"x{KEY}".encode()),
    "base64 for URLs": base64.urlsafe_b64encode(f"xx{KEY}".encode()),
    "basic authentication": base64.b64encode(f"user:{KEY}".encode()),
    "hex": KEY.encode().hex().encode(),
    "per cent": "".join(f"%{byte:02X}" for byte in KEY.encode()).encode(),
    "escaped": "".join(f"\\u{ord(mark):04x}" for mark in KEY).encode(),
    "two bytes a character": KEY.encode("utf-16-le"),
    "the emulator's own": f"Bearer {EMULATOR_KEY}".encode(),
}


# The watch


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_key_is_seen_in_every_spelling(spelled: bytes) -> None:
    """Plain, or encoded in a way that anybody can undo, in the middle of anything."""
    assert holds_key(b"\x00\xff..." + spelled + b"...\xfe")


@pytest.mark.parametrize("innocent", [b"", b"apx_", b"CANARY", b"test key", b"YXB4"])
def test_nothing_else_is_taken_for_a_key(innocent: bytes) -> None:
    """Parts of a key, or words like it, are no leak."""
    assert not holds_key(innocent * 100)


@pytest.mark.writes_key("files", reason="planted, to be found")
@pytest.mark.parametrize("needle", sorted(NEEDLES))
def test_a_key_is_seen_across_the_pieces_of_a_large_file(
    needle: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read piece by piece, and a key may lie on the border of two."""
    monkeypatch.setattr(canary, "_PIECE", 128)
    for before in range(128 - len(needle), 128):
        (tmp_path / "file").write_bytes(b"." * before + needle + b"." * 300)

        assert file_holds_key(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"." * 120 + needle[:-1] + b"." * 300)
    assert not file_holds_key(tmp_path / "file")


@pytest.mark.writes_key("files", reason="planted, to be found")
def test_a_key_is_seen_in_a_packed_file(tmp_path: Path) -> None:
    """Logs that are put away are packed; one that is cut is looked at as far as it goes."""
    path = tmp_path / "log.1"
    path.write_bytes(gzip.compress(b"no key here"))
    assert not file_holds_key(path)

    path.write_bytes(gzip.compress(ECHO))

    assert file_holds_key(path)


def said(message: object, *args: object, **more: object) -> Watch:
    """A watch that heard one log record."""
    watch = Watch()
    logger = logging.getLogger("tests.planted")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.handlers.clear()
    logger.addHandler(watch)
    logger.log(logging.DEBUG, message, *args, **more)  # type: ignore[arg-type]
    return watch


def refused_by_aiohttp() -> aiohttp.ClientResponseError:
    """What `raise_for_status()` raises: its text is clean, its fields are not."""
    headers = CIMultiDict(Authorization=f"Bearer {KEY}")
    asked = aiohttp.RequestInfo(URL("http://h"), "GET", CIMultiDictProxy(headers), URL("http://h"))
    return aiohttp.ClientResponseError(asked, (), status=401, message="no")


def caused(by: Exception) -> Exception:
    """An error of ours that another one led to."""
    error = RuntimeError("clean")
    error.__cause__ = by
    return error


def test_a_key_is_heard_in_a_log_record() -> None:
    """In the message, its arguments, its fields, and the errors that come with it."""
    refused = refused_by_aiohttp()
    assert KEY not in str(refused)

    for watch in [
        said(f"the key is {KEY}"),
        said("the key is %s", KEY),
        said("never formatted", {"deep": [KEY]}),
        said("see fields", extra={"headers": {"Authorization": KEY}}),
        said("failed: %r", refused),
        said("failed", exc_info=refused),
        said("failed", exc_info=caused(refused)),
        said("failed", exc_info=ExceptionGroup("several", [refused])),
    ]:
        assert [place for place, _ in watch.found] == ["log"]
    assert not said("nothing", exc_info=caused(ValueError("clean"))).found


def test_what_was_found_is_told_once_and_not_where_it_is_allowed() -> None:
    """A marker excuses one place; a leak elsewhere is a leak."""
    watch = said("%s", KEY)
    watch.text("output", "output", KEY)

    assert watch.findings(frozenset({"log"})) == ["output"]
    assert watch.findings() == []


LEAKS = """
import logging, subprocess, sys, warnings
import pytest

KEY = "apx_" + "CANARY_1"
CHILD = "print('apx_' + 'CANARY_1')"

def test_clean(tmp_path):
    (tmp_path / "file").write_text("nothing")

def test_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.db-wal").write_text(KEY)

def test_shared(tmp_path_factory):
    (tmp_path_factory.mktemp("shared") / "file").write_text(KEY)

def test_log():
    logging.getLogger("aiohttp.client").debug("headers: %s", {"Authorization": KEY})

def test_printed():
    print(KEY)

def test_read(capsys):
    print(KEY, file=sys.stderr)
    capsys.readouterr()

def test_child():
    subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True)

async def test_child_of_a_loop():
    import asyncio
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdout=pipe)
    await child.communicate()

def test_warning():
    with pytest.warns(UserWarning):
        warnings.warn(f"bad key {KEY}")

@pytest.mark.writes_key("files", reason="on purpose")
def test_allowed(tmp_path):
    (tmp_path / "key").write_text(KEY)

@pytest.mark.writes_key("files", reason="on purpose")
def test_allowed_elsewhere():
    print(KEY)
"""
LEAKY = {"child", "child_of_a_loop", "file", "log", "printed", "read", "warning"}


@pytest.mark.slow
@pytest.mark.writes_key("files", "output", reason="a run of tests that leak")
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_a_test_that_leaks_fails(workers: Sequence[str], tmp_path: Path) -> None:
    """The run ends with 1 and names the test, also where a worker ran it."""
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "canary.py", "conftest.py"):
        shutil.copy(HERE / name, tmp_path / "tests")
    (tmp_path / "tests" / "test_leaks.py").write_text(LEAKS)
    settings = [
        *("--import-mode=importlib", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
        *("--basetemp", str(tmp_path / "temporary")),
    ]
    command = [sys.executable, "-Im", "pytest", "-q", "-rA", *settings, *workers, "tests"]

    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, check=False, text=True)

    lines = done.stdout.splitlines()
    erred = {line.split("::")[1].split()[0] for line in lines if line.startswith("ERROR ")}
    assert done.returncode == 1
    assert erred >= {f"test_{name}" for name in LEAKY | {"allowed_elsewhere"}}
    assert not erred & {"test_clean", "test_allowed"}
    assert any("shared0" in line for line in lines), "files of no test are looked at, too"
    assert any(line.endswith("run.db-wal") for line in lines), "the file is named"


# A run from beginning to end


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the programs run, with prompts to work on."""
    rows = [{"key": f"job-{number}", "prompt": f"scene {number}"} for number in range(16)]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


@pytest.fixture
def port() -> Iterator[int]:
    """Where callbacks are received."""
    with kept_port() as port:
        yield port


async def ran(place: Path, name: str, *arguments: str, **environment: str) -> str:
    """Runs `apixo` at its most talkative; what it prints is in files and returned."""
    command = [sys.executable, "-X", "dev", "-m", "apixo_async.cli", *arguments]
    out, err = place / f"{name}.out", place / f"{name}.err"
    with out.open("wb") as output, err.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=place, env={**os.environ, **environment}, stdout=output, stderr=errors
        )
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert not holds_key(shown), "all users of a machine can see how a program was started"
        try:
            await asyncio.wait_for(process.wait(), 120)
        finally:
            if process.returncode is None:
                process.kill()
    return out.read_text() + err.read_text()


FAST = ("--first-poll", "0.05", "--poll-every", "0.05", "-vv")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.apixo_emulator(api_key=KEY, speed=100, durations="uniform:5:60", faults=FAULTS)
async def test_no_artefact_holds_the_key(
    apixo_emulator: EmulatorThread, place: Path, port: int
) -> None:
    """Journal, inbox, videos, receipts, logs and advice of a batch on which all goes wrong."""
    hooks = ("--webhook-url", f"http://127.0.0.1:{port}/cb", "--webhook-port", str(port))
    batch = ("batch", "prompts.jsonl", "--journal", "run.db", "--save-to", "videos")

    await ran(place, "plan", "plan", "prompts.jsonl", "--price", "default=0.2", "-vv")
    log = await ran(place, "batch", *batch, *hooks, *FAST, "--json")
    shown = await ran(place, "show", "show", "run.db")
    await ran(place, "show-json", "show", "run.db", "--json")
    await ran(place, "export", "export", "run.db", "--prompts")
    await ran(place, "settle", "settle", "run.db", "--all", "--resubmit")
    await ran(place, "resume", "resume", "run.db", *hooks, *FAST)
    await ran(place, "wrong", "balance", "-vv", APIXO_API_KEY=f"{CANARY}_wrong")
    await ran(place, "broken", "balance", "-vv", APIXO_API_KEY=f"{KEY}\N{BULLET}")

    assert apixo_emulator.ledger.billed_total > 10, "the key was used"
    assert " DEBUG " in log + (place / "resume.err").read_text()
    assert "uncertain" in shown
    assert list((place / "videos").iterdir())
    for path in place.rglob("*"):
        assert path.is_dir() or not file_holds_key(path), path


@pytest.mark.slow
async def test_what_a_server_sends_back_is_not_told_on(place: Path) -> None:
    """Whatever way the key comes back, neither log, nor advice, nor journal has it."""
    for number, act in enumerate(SENDERS_BACK):
        async with FaultServer(act) as server:
            name = f"echo-{number}"
            told = await ran(
                place,
                name,
                *("batch", "prompts.jsonl", "--max-jobs", "1", "--journal", f"{name}.db", "-vv"),
                APIXO_API_KEY=KEY,
                APIXO_BASE_URL=server.url,
            )
            assert server.seen[0].values("authorization") == [f"Bearer {KEY}"]
            assert told
    for path in place.rglob("*"):
        assert path.is_dir() or not file_holds_key(path), path


def test_no_command_takes_the_key_as_an_argument() -> None:
    """Other users see arguments, and shells remember them: only a made-up key may be one."""
    assert isinstance(apixo, click.Group)
    context = click.Context(apixo)
    options = {
        (name, option)
        for name in apixo.list_commands(context)
        if (command := apixo.get_command(context, name)) is not None
        for parameter in command.params
        for option in parameter.opts
        if "key" in option and option.startswith("-")
    }

    assert {option for name, option in options if name != "emulator"} == {"--api-key-file"}
    assert {option for name, option in options if name == "emulator"} == {"--api-key"}
