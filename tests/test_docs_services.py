"""The services that guides show in a few lines answer requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer

from apixo_async import ApixoClient, PollSchedule, TextToVideo
from apixo_async._transport import HttpTransport, Method
from apixo_async._wire import Reply
from apixo_async.client import verbs
from apixo_async.testing import EmulatorThread
from tests.filehost import until
from tests.pages import blocks, execute

PAGE = "docs/how-to/applications.md"
DURABLE = "docs/how-to/durable.md"

pytestmark = pytest.mark.apixo_emulator(speed=600)


def app_of(framework: str, page: str = PAGE) -> dict[str, object]:
    """What the block of a framework defines."""
    (block,) = [block for block in blocks(page) if f"from {framework} import" in block.text]
    return execute(block)


@pytest.fixture(autouse=True)
def _quick(apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks go as fast as the emulator's clock, or nearly so."""
    monkeypatch.setattr(verbs, "PollSchedule", lambda: PollSchedule(first=0.1, interval=0.02))


@asynccontextmanager
async def served(app: object) -> AsyncIterator[aiohttp.ClientSession]:
    """An ASGI application on a port of its own, and somebody who asks it."""
    config = uvicorn.Config(app, port=0, lifespan="on", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    assert not serving.done(), "it has to start"
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
        yield browser
    server.should_exit = True
    await serving


async def look(browser: aiohttp.ClientSession, place: str) -> dict[str, object]:
    """What a service answers."""
    async with browser.get(place) as answer:
        assert answer.status == 200
        found: dict[str, object] = await answer.json()
    return found


async def begin(browser: aiohttp.ClientSession, prompt: str) -> str:
    """Asks for a video; returns where it can be looked at."""
    async with browser.post("/videos", params={"prompt": prompt}) as answer:
        assert answer.status == 202
        return f"/videos/{(await answer.json())['id']}"


def known(service: dict[str, object], place: str) -> dict[str, object]:
    """What the service itself knows of a video, without being asked by HTTP."""
    videos = service["videos"]
    assert isinstance(videos, dict)
    video: dict[str, object] = videos[place.rpartition("/")[2]]
    return video


async def ended(browser: aiohttp.ClientSession, place: str) -> dict[str, object]:
    """What is known of a video at its end."""
    async with asyncio.timeout(40):
        # A service has no event to wait for.
        while not {"urls", "error"} & (found := await look(browser, place)).keys():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def test_the_fastapi_service_makes_a_video(apixo_emulator: EmulatorThread) -> None:
    """It answers at once, then tells the task and its URL; a wrong prompt is told, too."""
    async with served(app_of("fastapi")["app"]) as browser:
        good = await ended(browser, await begin(browser, "a calm ocean"))
        bad = await ended(browser, await begin(browser, ""))
        async with browser.get("/videos/none") as answer:
            status = answer.status

    assert good.keys() == {"prompt", "task_id", "urls"}
    assert bad.keys() == {"prompt", "error"}
    assert status == 404
    assert apixo_emulator.ledger.billed_total == 1


async def test_a_video_of_the_fastapi_service_outlives_its_browser(
    apixo_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves before the task is accepted leaves nothing unknown behind."""
    has_left, send = asyncio.Event(), HttpTransport.send

    async def late(
        self: HttpTransport, method: Method, path: str, *, body: bytes | None = None
    ) -> Reply:
        answer = await send(self, method, path, body=body)
        if method == "POST":
            await has_left.wait()
        return answer

    monkeypatch.setattr(HttpTransport, "send", late)
    service = app_of("fastapi")
    async with served(service["app"]) as browser:
        video = known(service, await begin(browser, "a calm ocean"))
        assert video.keys() == {"prompt"}, "it does not wait for the submit"
        await browser.close()
        has_left.set()
        await until(lambda: "urls" in video)

    assert apixo_emulator.ledger.billed_total == 1


@pytest.mark.apixo_emulator(speed=1)
async def test_the_fastapi_service_ends_while_a_video_runs(
    apixo_emulator: EmulatorThread,
) -> None:
    """It waits for no task, and what it knew has the id."""
    service = app_of("fastapi")
    async with served(service["app"]) as browser:
        video = known(service, await begin(browser, "a calm ocean"))
        await until(lambda: "task_id" in video)

    assert video.keys() == {"prompt", "task_id", "error"}


async def test_a_service_with_durable_jobs_goes_on_after_a_restart(
    apixo_emulator: EmulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that was asked for is there later, and paid once; a wrong prompt is told at once."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'site.db'}")
    video = {"prompt": "a calm ocean", "name": "ocean"}
    async with served(app_of("fastapi", DURABLE)["app"]) as browser:
        async with browser.post("/videos", params={"prompt": ""}) as answer:
            bad = answer.status
        for _ in range(2):
            async with browser.post("/videos", params=video) as answer:
                assert (answer.status, await answer.json()) == (202, {"id": "ocean"})
    async with served(app_of("fastapi", DURABLE)["app"]) as browser, asyncio.timeout(45):
        # A service has no event to wait for.
        while (found := await look(browser, "/videos/ocean"))["state"] != "succeeded":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        async with browser.get("/videos/none") as answer:
            unknown = answer.status

    assert (bad, unknown) == (422, 404)
    assert str(found["urls"]).endswith(".mp4']")
    assert apixo_emulator.ledger.billed == {"a calm ocean": 1}


async def test_the_aiohttp_service_tells_of_a_task(apixo_emulator: EmulatorThread) -> None:
    """Its client is open while it runs, and asks the API."""
    async with ApixoClient() as client:
        task = await client.generate(TextToVideo("a calm ocean", mode="fast"))
    app = app_of("aiohttp")["app"]
    assert isinstance(app, web.Application)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as browser:
        found = await look(browser, f"/tasks/{task.id}")

    assert found == {"state": "success", "urls": list(task.urls)}
