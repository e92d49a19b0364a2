"""What one status call costs, and whether 1,000 of them at once get through: ours beside others.

    python benchmarks/overhead.py [--json FILE]

A server in a process of its own answers with the documented success body. All clients are measured
in one run, in rounds that take turns, so that a busy machine is equally unkind to each. It exits
with 1 when ours needs more than 1.3 times the CPU of bare aiohttp, or when 1,000 calls at once
take more than 3.5 s or fail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import aiohttp
import attrs
import httpx

from apixo_async import ApixoClient, Limits

KEY: Final = "benchmark-key"
TASKS: Final = [f"task_{number:08}" for number in range(1_000)]
"""Looked at in turn, as in a batch: no client may know the URL from the call before."""
QUICK: Final = "/api/v1"
SLOW: Final = "/slow/api/v1"
LATENCY: Final = 1.5

IN_FLIGHT: Final = 50
ROUNDS: Final = 31
CALLS: Final = {"aiohttp": 500, "ours": 500, "httpx": 50}
"""Calls in one round: short, so that all meet the same weather and no connection gets too old."""
AT_ONCE: Final = 1_000

MOST_CPU: Final = 1.3
MOST_SECONDS: Final = 3.5

_DATA: Final = {
    "taskId": TASKS[0],
    "state": "success",
    "resultJson": json.dumps({"resultUrls": ["https://r2.apixo.ai/video.mp4"]}),
    "createTime": 1767965610929,
    "completeTime": 1767965730929,
    "costTime": 120000,
}
_BODY: Final = json.dumps({"code": 200, "message": "success", "data": _DATA}).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BEFORE_ID, AFTER_ID = (_HEAD % len(_BODY) + _BODY).split(TASKS[0].encode())
LONG_ID: Final = len(TASKS[0])

Call: TypeAlias = Callable[[str], Awaitable[object]]


# The server


class Answering(asyncio.Protocol):
    """Answers each GET, at once or after the latency; as cheap as a server can be in Python."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Answers a request; a client that waits for its answer sends one at a time, unsplit."""
        found = data.index(b"taskId=") + len(b"taskId=")
        answer = BEFORE_ID + data[found : found + LONG_ID] + AFTER_ID
        if data.startswith(b"GET " + SLOW.encode()):
            self._loop.call_later(LATENCY, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def serve() -> None:
    """Serves until the process is ended; says its port on standard output."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=2 * AT_ONCE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def run_server() -> None:
    """Serves on uvloop, if it is there."""
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The origin of a server in another process."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def allow_connections() -> None:
    """Lets this process and the server have a file descriptor for each of the calls at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * AT_ONCE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


# The clients, each as one call that takes a task id


@contextlib.asynccontextmanager
async def bare_aiohttp(base: str) -> AsyncIterator[Call]:
    """A GET of aiohttp, read and parsed as JSON."""
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def call(task: str) -> object:
            url = f"{base}/statusTask/veo-3-1?taskId={task}"
            async with session.get(url) as response:
                return json.loads(await response.read())

        yield call


@contextlib.asynccontextmanager
async def ours(base: str) -> AsyncIterator[Call]:
    """`ApixoClient.status()`, with limits that are never reached."""
    limits = Limits(requests_per_minute=10_000_000, poll_share=1.0)
    async with ApixoClient(KEY, base_url=base, limits=limits) as client:
        yield client.status


@contextlib.asynccontextmanager
async def bare_httpx(base: str) -> AsyncIterator[Call]:
    """A GET of httpx, parsed as JSON."""
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=60) as client:

        async def call(task: str) -> object:
            url = f"{base}/statusTask/veo-3-1?taskId={task}"
            return json.loads((await client.get(url)).content)

        yield call


CLIENTS: Final = {"aiohttp": bare_aiohttp, "ours": ours, "httpx": bare_httpx}
NAMES: Final = {"aiohttp": "bare aiohttp", "ours": "ApixoClient.status()", "httpx": "bare httpx"}


# CPU of one call


async def cpu_of(call: Call, count: int) -> float:
    """Microseconds of this process's CPU for one of `count` calls, `IN_FLIGHT` at a time."""
    left = itertools.islice(itertools.cycle(TASKS), count)

    async def work() -> None:
        for task in left:
            await call(task)

    gc.collect()
    started = time.process_time()
    await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])
    return (time.process_time() - started) / count * 1e6


async def measure_cpu(origin: str) -> dict[str, list[float]]:
    """For each client its figure in every round; the order changes from round to round."""
    figures: dict[str, list[float]] = {name: [] for name in CLIENTS}
    async with contextlib.AsyncExitStack() as stack:
        calls = {
            name: await stack.enter_async_context(client(origin + QUICK))
            for name, client in CLIENTS.items()
        }
        for call in calls.values():  # connections, caches
            await cpu_of(call, 2 * IN_FLIGHT)
        for number in range(ROUNDS):
            names = list(calls) if number % 2 else list(reversed(calls))
            for name in names:
                figures[name].append(await cpu_of(calls[name], CALLS[name]))
    return figures


# Many calls at once


@attrs.frozen
class AtOnce:
    """How `AT_ONCE` calls at once went: wall time in seconds, and how many of them failed."""

    seconds: float
    errors: int


async def measure_at_once(origin: str, name: str) -> AtOnce:
    """A fresh client makes all calls at once."""
    async with CLIENTS[name](origin + SLOW) as call:
        started = time.perf_counter()
        results = await asyncio.gather(*map(call, TASKS[:AT_ONCE]), return_exceptions=True)
        seconds = time.perf_counter() - started
    return AtOnce(seconds, sum(isinstance(result, BaseException) for result in results))


# What comes out


@attrs.frozen
class Result:
    """All figures of one run."""

    cpu: dict[str, list[float]]
    at_once: dict[str, AtOnce]

    def median(self, name: str) -> float:
        """Microseconds of CPU per call."""
        return statistics.median(self.cpu[name])

    def ratio(self, name: str) -> float:
        """The median of the ratios to bare aiohttp in the same round."""
        pairs = zip(self.cpu[name], self.cpu["aiohttp"], strict=True)
        return statistics.median(mine / bare for mine, bare in pairs)

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found: list[str] = []
        if (ratio := self.ratio("ours")) > MOST_CPU:
            found.append(f"a status call costs {ratio:.2f} x bare aiohttp, more than {MOST_CPU}")
        if (mine := self.at_once["ours"]).seconds > MOST_SECONDS:
            found.append(f"{AT_ONCE:,} calls took {mine.seconds:.2f} s, more than {MOST_SECONDS}")
        if mine.errors:
            found.append(f"{mine.errors} of {AT_ONCE:,} calls at once failed")
        return found

    def table(self) -> str:
        """For people."""
        lines = [
            f"one status call, {IN_FLIGHT} in flight: median of {ROUNDS} rounds",
            f"{'':24}{'ratio':>8}{'CPU us':>10}{'calls/s/core':>14}",
        ]
        lines += [
            f"{NAMES[name]:24}{self.ratio(name):8.2f}{self.median(name):10.0f}"
            f"{1e6 / self.median(name):14,.0f}"
            for name in CLIENTS
        ]
        lines += [
            "",
            f"{AT_ONCE:,} calls at once, answered after {LATENCY} s",
            f"{'':24}{'seconds':>8}{'errors':>10}",
        ]
        lines += [
            f"{NAMES[name]:24}{run.seconds:8.2f}{run.errors:10}"
            for name, run in self.at_once.items()
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        libraries = ("aiohttp", "httpx")
        return {
            "python": platform.python_version(),
            "versions": {name: version(name) for name in libraries},
            "cpu": {
                name: {
                    "ratio": self.ratio(name),
                    "median_us": self.median(name),
                    "rounds_us": rounds,
                }
                for name, rounds in self.cpu.items()
            },
            "at_once": {name: attrs.asdict(run) for name, run in self.at_once.items()},
            "complaints": self.complaints(),
        }


def measure() -> Result:
    """One whole run."""
    allow_connections()
    with server() as origin:
        cpu = asyncio.run(measure_cpu(origin))
        at_once = {name: asyncio.run(measure_at_once(origin, name)) for name in CLIENTS}
    return Result(cpu, at_once)


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_server()
        return 0
    result = measure()
    print(result.table())
    if options.json is not None:
        options.json.write_text(json.dumps(result.as_json(), indent=2) + "\n")
    for complaint in result.complaints():
        print(f"NOT GOOD ENOUGH: {complaint}", file=sys.stderr)
    return 1 if result.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
