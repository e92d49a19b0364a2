"""A server for status calls and jobs, as cheap as one can be in Python; run as a script.

The first part of a path says whose API it plays: `/apixo` answers as documented here, the others as
the SDK of that name expects. All of them say that the task has succeeded. `/slow` before it delays
the answer. Under `/jobs` tasks can be submitted, and the n-th look at one sees it succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

LATENCY: Final = 1.5
LOOKS: Final = 12
"""Looks at a task until it is seen to have ended."""
TASKS: Final = [f"task_{number:08}" for number in range(1_000)]
"""Looked at in turn, as in a batch: no client may know the URL from the call before."""

_ID: Final = re.compile(rb"task_\d{8}")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_URL: Final = "https://r2.apixo.ai/video.mp4"
_AT: Final = "2026-01-09T13:33:30.929Z"
_STAMP: Final = 1767965610


def _apixo(**data: object) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"taskId": TASKS[0], **data}}


_TIMES: Final = {"createTime": 1767965610929, "completeTime": 1767965730929, "costTime": 120000}
_RESULT: Final = json.dumps({"resultUrls": [_URL]})
_DONE: Final = _apixo(state="success", resultJson=_RESULT, **_TIMES)
_RUNNING: Final = _apixo(state="processing", createTime=1767965610929)
_OPENAI: Final = {
    "id": TASKS[0],
    "object": "video",
    "model": "sora-2",
    "status": "completed",
    "progress": 100,
    "created_at": _STAMP,
    "completed_at": _STAMP + 120,
    "seconds": "8",
    "size": "1280x720",
}
_RUNWAYML: Final = {
    "id": TASKS[0],
    "createdAt": _AT,
    "status": "SUCCEEDED",
    "output": [_URL],
    "cost": {"credits": 25},
}
_LUMAAI: Final = {
    "id": TASKS[0],
    "generation_type": "video",
    "state": "completed",
    "created_at": _AT,
    "model": "ray-2",
    "assets": {"video": _URL},
}
_REPLICATE: Final = {
    "id": TASKS[0],
    "model": "google/veo-3",
    "version": "1",
    "status": "succeeded",
    "input": {"prompt": "a calm ocean"},
    "output": _URL,
    "logs": "",
    "error": None,
    "metrics": {"predict_time": 120.0},
    "created_at": _AT,
    "started_at": _AT,
    "completed_at": _AT,
    "urls": {"get": _URL, "cancel": _URL},
}
_GENAI: Final = {
    "name": f"models/veo-3.1/operations/{TASKS[0]}",
    "done": True,
    "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": _URL}}]}},
}


def _answer(body: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """What comes before and after the task's id; all ids are equally long."""
    text = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    before, after = (head % len(text) + text).split(TASKS[0].encode())
    return before, after


_ANSWERS: Final = {
    b"apixo": _answer(_DONE),
    b"openai": _answer(_OPENAI),
    b"runwayml": _answer(_RUNWAYML),
    b"lumaai": _answer(_LUMAAI),
    b"replicate": _answer(_REPLICATE),
    b"genai": _answer(_GENAI),
}
_ACCEPTED: Final = _answer(_apixo())
_JOB_RUNS: Final = _answer(_RUNNING)
_JOB_IS_DONE: Final = _ANSWERS[b"apixo"]


class Answering(asyncio.Protocol):
    """One connection; it shares the looks at each task and the numbers of tasks with the others."""

    def __init__(self, looks: Counter[bytes], numbers: Iterator[int]) -> None:
        self._looks = looks
        self._numbers = numbers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answers the requests that are complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end + 2)
            end += 4 + (0 if length is None else int(length[1]))
            if len(self._received) < end:
                return
            request, self._received = self._received[:end], self._received[end:]
            self._respond(request)

    def _respond(self, request: bytes) -> None:
        path = request.split(b" ", 2)[1]
        if path.startswith(b"/slow/"):
            self._loop.call_later(LATENCY, self._transport.write, self._answer(path[5:]))
        else:
            self._transport.write(self._answer(path))

    def _answer(self, path: bytes) -> bytes:
        api = path[1 : path.index(b"/", 1)]
        found = _ID.search(path)
        if api != b"jobs":
            assert found is not None
            before, after = _ANSWERS[api]
            return before + found[0] + after
        return self._accepted() if found is None else self._looked_at(found[0])

    def _accepted(self) -> bytes:
        before, after = _ACCEPTED
        return before + b"task_%08d" % next(self._numbers) + after

    def _looked_at(self, task: bytes) -> bytes:
        self._looks[task] += 1
        is_done = self._looks[task] >= LOOKS
        if is_done:
            del self._looks[task]
        before, after = _JOB_IS_DONE if is_done else _JOB_RUNS
        return before + task + after


async def _serve() -> None:
    """Serves until the process is ended; says its port on standard output."""
    loop = asyncio.get_running_loop()
    connection = functools.partial(Answering, Counter(), itertools.count(1))
    listening = await loop.create_server(connection, "127.0.0.1", 0, backlog=2 * len(TASKS))
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


def _run() -> None:
    """Serves on uvloop, if it is there."""
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ImportError:
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The origin of a server in another process."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    _run()
