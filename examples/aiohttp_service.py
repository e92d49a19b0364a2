"""A web service that makes videos and shows how far they are, with aiohttp and callbacks.

There is no login: put one before it, as each POST costs money.

    pip install apixo-async
    python examples/aiohttp_service.py    # then open http://127.0.0.1:8080

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
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from aiohttp import web

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


CLIENT = web.AppKey("client", ApixoClient)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    """Keeps one client for all, because it holds the account's limits over everything it does."""
    async with ApixoClient(webhook=receiver) as client:
        app[CLIENT] = client
        # Nothing is submitted in here: the server takes callbacks only after this `yield`.
        yield


async def close(app: web.Application) -> None:
    """Ends all waiting first, so that browsers which follow a video do not hold up the end."""
    await app[CLIENT].aclose()
    await asyncio.gather(*running)


routes = web.RouteTableDef()


@routes.get("/")
async def page(_: web.Request) -> web.FileResponse:
    """The page."""
    return web.FileResponse(Path(__file__).with_name("page.html"))


@routes.post("/videos")
async def generate(request: web.Request) -> web.Response:
    """Begins a video, and does not wait for it."""
    try:
        video = TextToVideo((await request.json())["prompt"], mode="fast")
    except (InvalidRequestError, ValueError, KeyError, TypeError) as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from None
    name = uuid4().hex
    generations[name] = Generation()
    # A task of its own: it goes on when the browser leaves. The set keeps it alive.
    task = asyncio.create_task(generations[name].run(request.app[CLIENT], video))
    running.add(task)
    task.add_done_callback(lambda _: ended(name, task))
    return web.json_response({"id": name}, status=202)


@routes.get("/videos/{name}/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Follows a video. When the browser leaves, only this ends."""
    generation = generations.get(request.match_info["name"])
    if generation is None:
        raise web.HTTPNotFound
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx passes them on at once
        }
    )
    await response.prepare(request)
    with suppress(ConnectionError):  # the browser has left
        async for event in generation.follow():
            await response.write(event.encode())
    return response


def make_app() -> web.Application:
    """The whole service."""
    app = web.Application()
    app.add_routes(routes)
    app.add_subapp("/apixo/", receiver.aiohttp_app())
    app.cleanup_ctx.append(lifespan)
    app.on_shutdown.append(close)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # Who reads the URLs of callbacks can make some, so they stay out of the log.
    logging.getLogger("aiohttp.access").addFilter(
        lambda record: "/apixo/" not in record.getMessage()
    )
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
