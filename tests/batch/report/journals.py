"""Journals for reports: a batch of an hour ago with all that a page shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from apixo_async import Job, Task, TextToVideo
from apixo_async.batch import events
from apixo_async.batch.journal import Journal, Traffic
from apixo_async.emulator import videos
from apixo_async.veo import Mode
from tests.batch.journal.jobs import opened

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
CLIP = videos.library()[0][0].content
PROMPT = "A red fox walks through fresh snow"


def after(seconds: float) -> datetime:
    """A moment of the batch."""
    return BEGAN + timedelta(seconds=seconds)


def task(key: str, *, begun: float, took: float, urls: Sequence[str] = (), **more: Any) -> Task:  # noqa: ANN401  # those of a task
    """A task that has ended, as the API told it."""
    stamps = {"createTime": after(begun), "completeTime": after(begun + took)}
    raw: dict[str, Any] = {
        "taskId": f"t-{key}",
        "state": more.get("state", "success"),
        **{name: int(at.timestamp() * 1000) for name, at in stamps.items()},
        **({"resultJson": json.dumps({"resultUrls": list(urls)})} if urls else {}),
        **{
            name: more[field]
            for name, field in (("failCode", "fail_code"), ("failMsg", "fail_message"))
            if field in more
        },
    }
    return Task(
        id=f"t-{key}", model="veo-3-1", urls=tuple(urls), raw=raw, **{"state": "success", **more}
    )


@attrs.define
class Batch:
    """Writes what happens to jobs into a journal, one after the other."""

    journal: Journal
    videos: Path | None = None

    async def begin(
        self,
        key: str,
        prompt: str = PROMPT,
        *,
        at: float,
        mode: Mode = "fast",
        metadata: Mapping[str, object] | None = None,
    ) -> int:
        """A job whose task was accepted."""
        job = Job(TextToVideo(prompt, mode=mode), key=key, metadata=metadata or {})
        number = self.journal.enqueue(job).number
        self.record(number, events.Sending(key=key, attempt=1, at=after(at)))
        self.record(
            number, events.Accepted(key=key, task_id=f"t-{key}", model="veo-3-1", at=after(at + 1))
        )
        return number

    async def succeed(
        self,
        key: str,
        prompt: str = PROMPT,
        *,
        at: float = 0,
        took: float = 100,
        urls: Sequence[str] = ("https://results.example/a.mp4",),
        files: Sequence[str] | None = None,
        seen: float = 2,
        **more: Any,  # noqa: ANN401  # those of `begin`
    ) -> None:
        """A job with a video, saved under these names if there is a directory for them."""
        number = await self.begin(key, prompt, at=at, **more)
        done = task(key, begun=at + 1, took=took, urls=urls)
        self.record(number, events.Succeeded(key=key, task=done, at=after(at + 1 + took + seen)))
        if self.videos is not None:
            for name in [f"{key}.mp4"] if files is None else files:
                path = self.videos / name
                path.write_bytes(CLIP)
                saved = events.Saved(key=key, path=str(path), size=len(CLIP), sha256="ab" * 32)
                self.record(number, saved)
            self.record(number, events.AllSaved(key=key))

    async def fail(
        self, key: str, code: str, message: str, prompt: str = PROMPT, *, at: float = 0
    ) -> None:
        """A job whose task failed."""
        number = await self.begin(key, prompt, at=at)
        ended = task(key, begun=at, took=60, state="failed", fail_code=code, fail_message=message)
        self.record(number, events.Failed(key=key, task=ended, reason=message, at=after(at + 63)))

    async def doubt(self, key: str, prompt: str = PROMPT, *, named: str | None = None) -> None:
        """A job of which nobody can say whether it has a task."""
        number = self.journal.enqueue(Job(TextToVideo(prompt, mode="fast"), key=key)).number
        self.record(number, events.Sending(key=key, attempt=1, at=after(5)))
        doubt = events.Uncertain(
            key=key, reason="the answer was cut", phase="answer", candidate_task_id=named
        )
        self.record(number, doubt)

    def record(self, number: int, event: events.JobEvent) -> None:
        """Writes it, some time before the journal is closed."""
        _ = self.journal.record(number, event)

    def traffic(self, *samples: tuple[float, int, int]) -> None:
        """Notes samples: seconds, running tasks, requests of the last minute."""
        for seconds, running, requests in samples:
            self.journal.note_traffic(
                Traffic(
                    at=after(seconds),
                    running=running,
                    task_cap=10,
                    requests=requests,
                    request_limit=60,
                )
            )


def make(
    path: Path, write: Callable[[Batch], Coroutine[Any, Any, None]], *, videos: Path | None = None
) -> Path:
    """A journal with what `write` tells, closed; also where an event loop runs."""

    async def written() -> None:
        async with opened(path) as journal:
            await write(Batch(journal, videos))

    if videos is not None:
        videos.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, written()).result()
    return path


async def whole(batch: Batch) -> None:
    """Twelve videos of two modes, some failures, a doubt, one that is running."""
    for number in range(12):
        mode: Mode = "quality" if number % 3 == 0 else "fast"
        await batch.succeed(
            f"shot-{number:02}",
            f"{PROMPT}, take {number}",
            at=number,
            took=80 + 5 * number,
            mode=mode,
        )
    await batch.fail("bad-words", "CONTENT_VIOLATION", "not allowed", "something rude", at=3)
    await batch.fail("broken-1", "GENERATION_FAILED", "could not be made", at=4)
    await batch.fail("broken-2", "GENERATION_FAILED", "could not be made", at=5)
    await batch.doubt("lost", named="t-lost")
    await batch.begin("going-on", at=20)
    batch.traffic((0, 0, 0), *((at, 10, 45) for at in range(10, 130, 10)), (140, 4, 30))
    await batch.journal.set_options({"prices": {"fast": "0.2", "quality": "1.5"}})
