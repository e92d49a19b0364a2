"""A web service that makes videos and shows how far they are, with FastAPI and callbacks.

There is no login: put one before it, as each POST costs money.

    pip install apixo-async fastapi uvicorn
    python examples/fastapi_service.py    # then open http://127.0.0.1:8080

It reads from the environment:

    APIXO_API_KEY
    APIXO_WEBHOOK_URL       where APIXO reaches /apixo of this service, for example
                            https://videos.example.com/apixo
    APIXO_WEBHOOK_SECRET    as from: python -c "import secrets; print(secrets.token_urlsafe())"
    PORT                    if it is not 8080
    APIXO_BASE_URL          if it is not APIXO itself, but an emulator
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from apixo_async import (
    ApixoClient,
    ApixoError,
    InvalidRequestError,
    SubmitUncertainError,
    TextToVideo,
    WebhookReceiver,
)


class Generation:
    """One video on its way, and what is known of it so far, for any number of browsers."""

    def __init__(self) -> None:
        self._told: list[dict[str, object]] = []
        self._news = asyncio.Event()

    async def run(self, client: ApixoClient, request: TextToVideo) -> None:
        """Generates the video, whoever may be watching."""
        try:
            self._tell("waiting for its turn")
            task = await client.submit(request)
            # It is paid from here on. To go on with it after a restart, store `task.id` now and
            # give it to `client.watch()` then.
            self._tell("accepted")
            # A callback says no more than that it is time to look: its body is not believed, and
            # these snapshots are what the API itself has answered.
            async for now in client.watch(task):
                self._tell(now.fail_message or now.state, now.urls, is_end=now.is_terminal)
        except SubmitUncertainError as error:
            # It may be running, and billed, so nothing sends it again by itself. A real service
            # stores this, and somebody looks at the account's history.
            self._tell(f"nobody can say whether it was accepted: {error}", is_end=True)
        except ApixoError as error:  # also when the client is closed while this waits
            self._tell(str(error), is_end=True)

    def _tell(self, state: str, urls: Sequence[str] = (), *, is_end: bool = False) -> None:
        self._told.append({"state": state, "urls": urls, "is_end": is_end})
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self) -> AsyncIterator[str]:
        """Server-sent events, all from the first on, also for a browser that comes late."""
        told = 0
        while True:
            news = self._news
            for event in self._told[told:]:
                yield f"data: {json.dumps(event)}\n\n"
                if event["is_end"]:
                    return
            told = len(self._told)
            await news.wait()


# The secret must be the same after a restart. With another one, callbacks of videos that are under
# way look forged.
receiver = WebhookReceiver(
    os.environ["APIXO_WEBHOOK_URL"], secret=os.environ["APIXO_WEBHOOK_SECRET"]
)
generations: dict[str, Generation] = {}  # a real service keeps them in its database
running: set[asyncio.Task[None]] = set()


KEPT = 3600.0
"""Seconds for which the end of a video can still be asked for."""


def ended(name: str, task: asyncio.Task[None]) -> None:
    """Forgets a video some time after its end, or the memory would fill up."""
    running.discard(task)
    asyncio.get_running_loop().call_later(KEPT, generations.pop, name, None)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, ApixoClient]]:
    """Keeps one client for all, because it holds the account's limits over everything it does."""
    async with ApixoClient(webhook=receiver) as client:
        # Nothing is submitted in here: the server takes callbacks only after this `yield`.
        yield {"client": client}
    await asyncio.gather(*running)  # the client has ended their waiting


app = FastAPI(lifespan=lifespan)
app.mount("/apixo", receiver.asgi_app())


class Wanted(BaseModel):
    """What is posted to /videos."""

    prompt: str


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/videos", status_code=202)
async def generate(wanted: Wanted, request: Request) -> dict[str, str]:
    """Begins a video, and does not wait for it."""
    try:
        video = TextToVideo(wanted.prompt, mode="fast")
    except InvalidRequestError as error:
        raise HTTPException(422, str(error)) from None
    name = uuid4().hex
    generations[name] = Generation()
    # A task of its own: it goes on when the browser leaves. The set keeps it alive.
    task = asyncio.create_task(generations[name].run(request.state.client, video))
    running.add(task)
    task.add_done_callback(lambda _: ended(name, task))
    return {"id": name}


@app.get("/videos/{name}/events")
async def events(name: str) -> StreamingResponse:
    """Follows a video. When the browser leaves, only this ends."""
    if name not in generations:
        raise HTTPException(404)
    headers = {
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx passes them on at once
    }
    return StreamingResponse(generations[name].follow(), 200, headers, "text/event-stream")


if __name__ == "__main__":
    # Who reads the URLs of callbacks can make some, so they stay out of the log.
    logging.getLogger("uvicorn.access").addFilter(
        lambda record: "/apixo/" not in record.getMessage()
    )
    # One process, because a callback must come to the client that waits for it. The timeout is for
    # browsers that still follow a video when the service is to end.
    uvicorn.run(app, port=int(os.environ.get("PORT", "8080")), timeout_graceful_shutdown=2)
