"""The programs in examples/ run as they stand, against the emulator.

At its speed a task takes a second or two, and a client looks at it after 90: what ends in time was
told by a callback.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import attrs
import pytest

from apixo_async.testing import EmulatorThread
from tests.filehost import until

EXAMPLES = Path(__file__).parent.parent / "examples"
SERVICES = {
    "fastapi_service.py": "Application shutdown complete",
    "aiohttp_service.py": "GET /videos/",
}
"""The services, and what the log of each shows only when it has ended in good order."""
VIDEO = {"prompt": "a calm ocean"}

pytestmark = pytest.mark.apixo_emulator(speed=60, durations="60")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port. The variables that the examples read lead to it and to the emulator."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setenv("APIXO_WEBHOOK_URL", f"http://127.0.0.1:{port}/apixo")
    monkeypatch.setenv("APIXO_WEBHOOK_SECRET", "the secret of these tests")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    return port


async def start(name: str, *arguments: str) -> asyncio.subprocess.Process:
    """Runs an example; all that it prints can be read."""
    pipe = asyncio.subprocess.PIPE
    out = asyncio.subprocess.STDOUT
    command = [sys.executable, str(EXAMPLES / name), *arguments]
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
        async with asyncio.timeout(20):
            out, _ = await self.process.communicate()
        self.printed += out.decode()


@asynccontextmanager
async def running(name: str, port: int) -> AsyncIterator[Service]:
    """A service from its first answer on."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        service = Service(await start(name), browser)
        try:
            async with asyncio.timeout(30):
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
    assert apixo_emulator.ledger.callbacks["delivered"] == 1
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

    for callbacks in (5, 0):
        process = await start("callbacks.py", str(prompts))
        printed = (await process.communicate())[0].decode()
        lines = printed.splitlines()

        assert os.environ["APIXO_API_KEY"] not in printed
        assert process.returncode == 0, lines
        assert len(lines) == 6
        assert all(" succeeded http://" in line for line in lines[:5])
        assert lines[5].startswith(f"{callbacks} callbacks; 0 ")

    assert len(list((tmp_path / "prompts.videos").glob("*.mp4"))) == 5
    assert apixo_emulator.ledger.callbacks["delivered"] == 5
    assert apixo_emulator.ledger.billed_total == 5
