"""The programs in examples/ run as they stand, against the emulator.

At its speed a task takes a second or two, and a client looks at it after 90: what ends in time was
told by a callback.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from importlib import import_module
from pathlib import Path
from signal import Signals

import aiohttp
import attrs
import pytest

from apixo_async.emulator import callbacks
from apixo_async.testing import EmulatorThread
from tests.filehost import until
from tests.ports import kept_port

EXAMPLES = Path(__file__).parent.parent / "examples"
SERVICES = {
    "fastapi_service.py": "Application shutdown complete",
    "aiohttp_service.py": "GET /videos/",
}
"""The services, and what the log of each shows only when it has ended in good order."""
VIDEO = {"prompt": "a calm ocean"}

pytestmark = pytest.mark.apixo_emulator(speed=60, durations="60")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A free port. The variables that the examples read lead to it and to the emulator."""
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 30.0)
    with kept_port() as port:
        monkeypatch.setenv("PORT", str(port))
        monkeypatch.setenv("APIXO_WEBHOOK_URL", f"http://127.0.0.1:{port}/apixo")
        monkeypatch.setenv("APIXO_WEBHOOK_SECRET", "the secret of these tests")
        monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        yield port


RUN = """
import runpy, sys
from apixo_async import PollSchedule
from apixo_async.client import verbs
from apixo_async.webhooks import reception
reception.RECORD_SECONDS = 30.0
if sys.argv[1] == "quick":
    verbs.PollSchedule = lambda: PollSchedule(first=0.1, interval=0.05)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs an example, for which the machine may be slow.

If it is quick, its looks are as much faster as the emulator's clock.
"""


async def start(name: str, *arguments: str, quick: bool = False) -> asyncio.subprocess.Process:
    """Runs an example; all that it prints can be read."""
    pipe = asyncio.subprocess.PIPE
    out = asyncio.subprocess.STDOUT
    begin = [sys.executable, "-P", "-c", RUN, "quick" if quick else "as it is"]
    command = [*begin, str(EXAMPLES / name), *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=out)


@attrs.define
class Service:
    """One that runs. `printed` is there when it has ended."""

    process: asyncio.subprocess.Process
    browser: aiohttp.ClientSession
    printed: str = ""

    async def generate(self) -> str:
        """Asks for a video, as the page does; returns where it can be followed."""
        async with self.browser.post("/videos", json=VIDEO) as answer:
            assert answer.status == 202
            return f"/videos/{(await answer.json())['id']}/events"

    async def end(self) -> None:
        """Ends it as a supervisor does."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        async with asyncio.timeout(40):
            out, _ = await self.process.communicate()
        self.printed += out.decode()


@asynccontextmanager
async def running(name: str, port: int) -> AsyncIterator[Service]:
    """A service from its first answer on."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        service = Service(await start(name), browser)
        try:
            async with asyncio.timeout(40):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        async with browser.get("/") as answer:
                            assert "EventSource" in await answer.text()
                            break
                    assert service.process.returncode is None
                    await asyncio.sleep(0.02)
            yield service
        finally:
            await service.end()


async def following(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, object]]:
    """The events of a stream."""
    assert answer.content_type == "text/event-stream"
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_shows_the_video_that_a_callback_told_of(
    name: str, port: int, apixo_emulator: EmulatorThread
) -> None:
    """The last event has the URL of the video; the log has no URL of a callback."""
    async with (
        running(name, port) as service,
        service.browser.get(await service.generate()) as answer,
    ):
        events = [event async for event in following(answer)]

    assert [event["state"] for event in events][1:] == ["accepted", "success"]
    assert [event["is_end"] for event in events] == [False, False, True]
    assert str(events[-1]["urls"]).endswith(".mp4']")
    await until(lambda: apixo_emulator.ledger.callbacks["delivered"] == 1)
    assert apixo_emulator.ledger.billed_total == 1
    assert "POST /videos" in service.printed
    assert "/apixo/" not in service.printed
    assert "Traceback" not in service.printed


@pytest.mark.parametrize("name", SERVICES)
async def test_a_video_goes_on_when_its_browser_leaves(
    name: str, port: int, apixo_emulator: EmulatorThread
) -> None:
    """Who comes back finds the whole story, and the end that was told meanwhile."""
    async with running(name, port) as service:
        place = await service.generate()
        async with service.browser.get(place) as answer:
            first = await anext(following(answer))  # and away
        await until(lambda: apixo_emulator.ledger.callbacks["delivered"] == 1)
        async with service.browser.get(place) as answer:
            events = [event async for event in following(answer)]

    assert events[0] == first
    assert events[-1]["state"] == "success"
    assert "Traceback" not in service.printed


@pytest.mark.slow
@pytest.mark.apixo_emulator(durations="6000")
@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_ends_though_a_browser_follows(
    name: str, port: int, apixo_emulator: EmulatorThread
) -> None:
    """A stream that is open does not keep a service from ending in good order."""
    async with (
        running(name, port) as service,
        service.browser.get(await service.generate()) as answer,
    ):
        events = following(answer)
        while (await anext(events))["state"] != "accepted":
            pass
        await service.end()

    assert SERVICES[name] in service.printed
    assert apixo_emulator.ledger.billed_total == 1


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_refuses_what_it_cannot_do(
    name: str, port: int, apixo_emulator: EmulatorThread
) -> None:
    """A prompt that breaks a rule and a video that is not there are errors of the browser."""
    async with running(name, port) as service:
        async with service.browser.post("/videos", json={"prompt": ""}) as answer:
            refused = answer.status
        async with service.browser.get("/videos/none/events") as answer:
            missing = answer.status

    assert (refused, missing) == (422, 404)
    assert apixo_emulator.ledger.requests_total == 0


async def test_the_batch_is_called_back_and_goes_on(
    port: int, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """Every line becomes a video, each told by a callback; run again, nothing is paid again."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"river number {number}" for number in range(5)))

    for count in (5, 0):
        process = await start("callbacks.py", str(prompts))
        printed = (await process.communicate())[0].decode()
        lines = printed.splitlines()

        assert os.environ["APIXO_API_KEY"] not in printed
        assert process.returncode == 0, lines
        assert len(lines) == 6
        assert all(" succeeded http://" in line for line in lines[:5])
        assert lines[5].startswith(f"{count} callbacks; 0 ")

    assert len(list((tmp_path / "prompts.videos").glob("*.mp4"))) == 5
    await until(lambda: apixo_emulator.ledger.callbacks["delivered"] == 5)
    assert apixo_emulator.ledger.billed_total == 5


async def ended(name: str, *arguments: str | Path) -> tuple[int, str]:
    """The exit code of an example, and what it printed."""
    process = await start(name, *map(str, arguments), quick=True)
    printed = (await process.communicate())[0].decode()
    assert os.environ["APIXO_API_KEY"] not in printed
    assert process.returncode is not None
    return process.returncode, printed


async def test_the_batch_says_how_it_went(
    port: int, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """A line that breaks a rule is named, and nothing is sent."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"a river\n\n{'x' * 100_000}\n")
    code, printed = await ended("callbacks.py", prompts)

    assert code == 1
    assert printed.startswith(f"{prompts}:3: ")
    assert printed.endswith("nothing was sent\n")
    assert apixo_emulator.ledger.requests_total == 0


# The cron script


async def test_the_cron_script_makes_what_is_new(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """It says nothing when all went well, and makes lines that were added since."""
    prompts, videos = tmp_path / "prompts.txt", tmp_path / "videos"
    for number, text in enumerate(("one\n", "one\ntwo\n"), 1):
        prompts.write_text(text)

        assert await ended("cron_script.py", prompts, videos) == (0, "")
        assert apixo_emulator.ledger.billed_total == number

    assert len(list(videos.glob("*.mp4"))) == 2


async def test_the_cron_script_tells_what_somebody_has_to_decide(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """A submit whose answer was lost is told with the command, each time, and never sent again."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\n")
    apixo_emulator.set_faults({"submit_cut_after": 1.0})
    first = await ended("cron_script.py", prompts, tmp_path / "videos")
    apixo_emulator.set_faults({})
    second = await ended("cron_script.py", prompts, tmp_path / "videos")

    for code, printed in (first, second):
        assert code == 3
        assert "uncertain: " in printed
        assert f"apixo settle {tmp_path / 'prompts.db'} " in printed
    assert apixo_emulator.ledger.billed_total == 1


@pytest.mark.slow
@pytest.mark.apixo_emulator(durations="600")
async def test_the_cron_script_is_ended_and_goes_on(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """What was running when the machine shut down is collected by the next run."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\n")
    process = await start("cron_script.py", str(prompts), str(tmp_path / "videos"), quick=True)
    await until(lambda: apixo_emulator.ledger.billed_total == 2)
    process.terminate()
    printed = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert "Traceback" not in printed
    assert await ended("cron_script.py", prompts, tmp_path / "videos") == (0, "")
    assert apixo_emulator.ledger.billed_total == 2


async def test_the_cron_script_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apixo_emulator: EmulatorThread
) -> None:
    """What keeps it from doing anything is one line."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\n")
    process = await start("cron_script.py", str(prompts), "nonsense://videos", quick=True)
    printed = (await process.communicate())[0].decode()

    assert process.returncode == 2
    assert printed.startswith("nothing was done: cannot save to nonsense://videos")
    assert apixo_emulator.ledger.requests_total == 0


# The pipeline


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """A table as others make it."""
    if path.suffix == ".parquet":
        parquet = import_module("pyarrow.parquet")
        parquet.write_table(import_module("pyarrow").Table.from_pylist(rows), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, object]]:
    """Its rows."""
    if path.suffix == ".parquet":
        parquet = import_module("pyarrow.parquet")
        rows: list[dict[str, object]] = parquet.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_the_pipeline_writes_a_receipt_for_every_row(
    form: str, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """Each has its file with size and hash; run again, all are the same and nothing is paid."""
    table, receipts = tmp_path / f"prompts.{form}", tmp_path / f"receipts.{form}"
    write_table(table, [{"id": f"row-{n}", "prompt": f"river {n}"} for n in range(4)])
    first = await ended("pipeline.py", table, receipts, tmp_path / "videos")
    rows = read_table(receipts)
    second = await ended("pipeline.py", table, receipts, tmp_path / "videos")

    assert first == second == (0, "4 saved\n")
    assert sorted(str(row["id"]) for row in rows) == [f"row-{n}" for n in range(4)]
    for row in rows:
        content = Path(str(row["file"])).read_bytes()
        assert row["status"] == "succeeded"
        assert int(str(row["size"])) == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert not row["error"]
    assert sorted(map(str, read_table(receipts))) == sorted(map(str, rows))
    assert apixo_emulator.ledger.billed_total == 4


async def test_the_pipeline_sends_nothing_of_a_table_that_is_wrong(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """All that is wrong is named, row by row."""
    table = tmp_path / "prompts.csv"
    rows = [{"id": "a", "prompt": "river"}, {"id": "b", "prompt": ""}, {"id": "a", "prompt": "sea"}]
    write_table(table, rows)
    code, printed = await ended("pipeline.py", table, tmp_path / "r.csv", tmp_path / "videos")

    assert code == 2
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        "row 2",
        *(["row 3", "nothing was sent"]),
    ]
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.apixo_emulator(balance=0.0)
async def test_the_pipeline_keeps_its_receipts_until_there_are_better_ones(
    tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """When it stops before the end of the table, the last ones stay."""
    table, receipts = tmp_path / "prompts.csv", tmp_path / "receipts.csv"
    receipts.write_text("the last ones")
    write_table(table, [{"id": f"row-{n}", "prompt": f"river {n}"} for n in range(4)])
    code, printed = await ended("pipeline.py", table, receipts, tmp_path / "videos")

    assert code == 1
    assert printed.startswith("stopped early: ")
    assert receipts.read_text() == "the last ones"
    assert {path.name for path in tmp_path.iterdir()} >= {"prompts.csv", "receipts.csv"}
    assert not list(tmp_path.glob("*.part"))


# Jobs that outlive processes


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three lines for `durable.py`, whose dead processes are noticed after two seconds."""
    monkeypatch.setenv("APIXO_LEASE", "2")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    file = tmp_path / "prompts.txt"
    file.write_text("a river\n\na sea\na lake\n")
    return file


def accepted(prompts: Path) -> int:
    """How many tasks are on record; a submit without one is in doubt when its process is killed."""
    with closing(sqlite3.connect(prompts.with_suffix(".jobs.db"))) as ledger:
        found = ledger.execute("SELECT count(task_id) FROM jobs").fetchone()
    return int(found[0])


SAVED = ["prompts-0001: saved", "prompts-0003: saved", "prompts-0004: saved"]


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
@pytest.mark.slow
@pytest.mark.apixo_emulator(durations="600")
async def test_jobs_outlive_the_process_that_made_them(
    signal: str, prompts: Path, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """Killed while all lines run, and run again: each has its video, and was paid once."""
    videos = tmp_path / "videos"
    process = await start("durable.py", str(prompts), str(videos), quick=True)
    await until(lambda: apixo_emulator.ledger.billed_total == 3 == accepted(prompts))
    process.send_signal(Signals[signal])
    printed = (await process.communicate())[0].decode()
    code, printed_then = await ended("durable.py", prompts, videos)

    assert (process.returncode, "Traceback" in printed) == (0 if signal == "SIGTERM" else -9, False)
    assert (code, sorted(printed_then.splitlines())) == (0, SAVED)
    assert len(list(videos.glob("*.mp4"))) == 3
    assert apixo_emulator.ledger.billed_total == 3
    assert not apixo_emulator.ledger.billed_twice


@pytest.mark.slow
async def test_what_a_durable_job_needs_decided_is_told_and_taken(
    prompts: Path, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """Lost answers are told by the exit code; one line is given up, the others are sent again."""
    videos = tmp_path / "videos"
    apixo_emulator.set_faults({"submit_cut_after": 1.0})
    code, printed = await ended("durable.py", prompts, videos)
    apixo_emulator.set_faults({})

    assert (code, printed.count(": uncertain: ")) == (3, 3)
    for key, decision in zip(
        ("0001", "0003", "0004"), ("abandon", "resubmit", "resubmit"), strict=True
    ):
        assert await ended("durable.py", prompts, videos, f"prompts-{key}", decision) == (0, "")
    code, printed = await ended("durable.py", prompts, videos)
    assert code == 1
    assert "prompts-0001: failed: " in printed
    assert sorted(line for line in printed.splitlines() if "saved" in line) == SAVED[1:]
    assert apixo_emulator.ledger.billed == {"a river": 1, "a sea": 2, "a lake": 2}


async def test_a_line_that_breaks_a_rule_keeps_durable_jobs_from_beginning(
    prompts: Path, tmp_path: Path, apixo_emulator: EmulatorThread
) -> None:
    """It says so in a line."""
    prompts.write_text(f"a river\n{'x' * 100_000}\n")
    code, printed = await ended("durable.py", prompts, tmp_path / "videos")

    assert code == 2
    assert printed.startswith("stopped: ")
    assert apixo_emulator.ledger.requests_total == 0


# The Django service


@pytest.fixture
def database(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the Django service keeps its videos."""
    monkeypatch.setenv("DATABASE", str(tmp_path / "videos.sqlite3"))
    return tmp_path / "videos.sqlite3"


@asynccontextmanager
async def django(port: int) -> AsyncIterator[Service]:
    """The Django service from its first answer on."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        service = Service(await start("django_service.py", quick=True), browser)
        try:
            async with asyncio.timeout(40):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        async with browser.get("/videos/0") as answer:
                            assert answer.status == 404
                            break
                    assert service.process.returncode is None
                    await asyncio.sleep(0.02)
            yield service
        finally:
            await service.end()
    assert "Traceback" not in service.printed


async def asked(service: Service, prompt: object) -> tuple[int, dict[str, str]]:
    """What a POST is answered with."""
    async with service.browser.post("/videos", json={"prompt": prompt}) as answer:
        return answer.status, await answer.json()


async def state_of(service: Service, place: str, *states: str) -> dict[str, str]:
    """A video once it has one of these states."""
    async with asyncio.timeout(40):
        while True:
            async with service.browser.get(place) as answer:
                told: dict[str, str] = await answer.json()
            if told["state"] in states:
                return told
            await asyncio.sleep(0.05)


async def test_the_django_service_makes_a_video(
    database: Path, port: int, apixo_emulator: EmulatorThread
) -> None:
    """Its place tells where it stands; a prompt that breaks a rule is the browser's error."""
    async with django(port) as service:
        refused, _ = await asked(service, "")
        status, told = await asked(service, "a calm ocean")
        video = await state_of(service, told["video"], "success")

    assert (refused, status) == (422, 202)
    assert video["prompt"] == "a calm ocean"
    assert video["url"].endswith(".mp4")
    assert apixo_emulator.ledger.billed_total == 1


@pytest.mark.slow
@pytest.mark.apixo_emulator(durations="300")
async def test_the_django_service_goes_on_after_a_restart(
    database: Path, port: int, apixo_emulator: EmulatorThread
) -> None:
    """A video that is paid is waited for by the next process; one in doubt is said to be."""
    async with django(port) as service:
        _, told = await asked(service, "a calm ocean")
        await state_of(service, told["video"], "accepted")
        apixo_emulator.set_faults({"submit_cut_after": 1.0})
        _, lost = await asked(service, "a lost ocean")
        await state_of(service, lost["video"], "uncertain")
        apixo_emulator.set_faults({})
    with closing(sqlite3.connect(database)) as file:
        file.execute("INSERT INTO videos_video VALUES (9, 'killed', 'sending', '', '', '')")
        file.commit()
    async with django(port) as service:
        found = await state_of(service, told["video"], "success")
        killed = await state_of(service, "/videos/9", "uncertain")

    assert found["url"].endswith(".mp4")
    assert killed["reason"] == "the service ended while it was sent"
    assert apixo_emulator.ledger.billed_total == 2
