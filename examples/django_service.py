"""A Django service that makes videos in asynchronous views, and goes on with them after a restart.

    pip install apixo-async django uvicorn
    python examples/django_service.py
    curl -d '{"prompt": "a calm ocean"}' http://127.0.0.1:8080/videos
    curl http://127.0.0.1:8080/videos/1

POST /videos begins a video and answers with its place, where GET tells how far it is. The model,
`Videos` and the views are for a project of yours; around them is what a single file needs to be
one. There is no login: put one before it, as each POST costs money.

It reads from the environment:

    APIXO_API_KEY
    DATABASE          a file of SQLite, if it is not videos.sqlite3
    PORT              if it is not 8080
    APIXO_BASE_URL    if it is not APIXO itself, but an emulator
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (what a model has, Django adds at run time)

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection, models
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from apixo_async import (
    ApixoClient,
    ApixoError,
    InvalidRequestError,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TextToVideo,
)

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE", "videos.sqlite3"),
        }
    },
    ROOT_URLCONF=__name__,
    USE_TZ=True,
)
django.setup()
logger = logging.getLogger("videos")


class Video(models.Model):
    """A video and where it stands: what a restart has to know."""

    prompt = models.TextField()
    state = models.CharField(max_length=20, default="sending")
    """`sending`, `accepted`; then `success`, `failed`, `refused`, or `uncertain`."""
    task_id = models.TextField(default="")
    url = models.TextField(default="")
    reason = models.TextField(default="")

    class Meta:
        """It belongs to no installed app: this file is all there is."""

        app_label = "videos"

    def __str__(self) -> str:
        return f"video {self.pk}: {self.state}"


class Videos:
    """Everything under way in this process, over one client: it holds the account's limits."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._client: ApixoClient | None = None

    async def open(self) -> None:
        """Goes on with what an earlier process left."""
        self._client = ApixoClient()
        # Its submit was on the way when the process ended: it may be running, and billed. Somebody
        # has to look at the account's history; to send it again might pay twice.
        lost = Video.objects.filter(state="sending")
        await lost.aupdate(state="uncertain", reason="the service ended while it was sent")
        async for video in Video.objects.filter(state="accepted"):
            self._start(video)

    async def close(self) -> None:
        """Lets submits on their way be answered; all else goes on at APIXO, and with the next."""
        if self._client is not None:
            await self._client.aclose()
        await asyncio.gather(*self._running)

    async def make(self, prompt: str) -> Video:
        """Begins a video that goes on when the browser leaves."""
        TextToVideo(prompt, mode="fast")  # raises what is wrong before there is anything to undo
        video = await Video.objects.acreate(prompt=prompt)
        self._start(video)
        return video

    def _start(self, video: Video) -> None:
        # The set keeps the task alive: the loop itself holds it only weakly.
        task = asyncio.create_task(self._carry(video))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _carry(self, video: Video) -> None:
        try:
            task = await self._accepted(video)
            if task is not None:
                await self._ended(video, task)
        except Exception:
            logger.exception("video %s met an error that is a bug", video.pk)

    async def _accepted(self, video: Video) -> Task | None:
        assert self._client is not None
        if video.state == "accepted":
            return Task(id=video.task_id, model=TextToVideo.model)
        try:
            task = await self._client.submit(TextToVideo(video.prompt, mode="fast"))
        except SubmitUncertainError as error:
            await _note(video, state="uncertain", reason=str(error))
        except ApixoError as error:  # surely not sent, or refused: it costs nothing
            await _note(video, state="refused", reason=str(error))
        else:
            await _note(video, state="accepted", task_id=task.id)  # paid from here on
            return task
        return None

    async def _ended(self, video: Video, task: Task) -> None:
        assert self._client is not None
        try:
            task = await self._client.wait(task)
        except TaskFailedError as error:
            await _note(video, state="failed", reason=str(error))
        except ApixoError as error:  # it stays `accepted`: the next process waits for it again
            await _note(video, reason=str(error))
        else:
            await _note(video, state="success", url=task.urls[0], reason="")


async def _note(video: Video, **changes: str) -> None:
    for name, value in changes.items():
        setattr(video, name, value)
    await video.asave(update_fields=[*changes])


videos = Videos()

# Views


@csrf_exempt
@require_POST
async def generate(request: HttpRequest) -> JsonResponse:
    """Begins a video, and does not wait for it."""
    try:
        video = await videos.make(json.loads(request.body)["prompt"])
    except (InvalidRequestError, ValueError, KeyError, TypeError) as error:
        return JsonResponse({"error": str(error)}, status=422)
    return JsonResponse({"video": f"/videos/{video.pk}"}, status=202)


@require_GET
async def show(_: HttpRequest, number: int) -> JsonResponse:
    """Tells how far a video is."""
    found = Video.objects.filter(pk=number).values("prompt", "state", "url", "reason")
    video = await found.afirst()
    return JsonResponse(video or {"error": "there is no such video"}, status=200 if video else 404)


urlpatterns = [path("videos", generate), path("videos/<int:number>", show)]

# The server


def make_table() -> None:
    """What migrations do in a project."""
    if Video._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Video)


django_app = get_asgi_application()
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Django, and around it what Django has no place for: begin and end of the process."""
    if scope["type"] != "lifespan":
        await django_app(scope, receive, send)
        return
    await receive()
    await videos.open()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await videos.close()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    make_table()
    # One process, because each one's client would hold the account's limits for itself.
    uvicorn.run(app, port=int(os.environ.get("PORT", "8080")), timeout_graceful_shutdown=2)
