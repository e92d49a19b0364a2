"""Clients whose status calls are compared, each as one call that takes a task id.

    python -m benchmarks._clients CLIENT CALLS ORIGIN

only makes that many calls, 50 in flight, for those who count from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from typing import Any, Final, TypeAlias

import aiohttp
import httpx

from apixo_async import ApixoClient, Limits
from apixo_async._wire import envelope
from apixo_async.events import ClientEvent
from benchmarks._server import TASKS

KEY: Final = "apx_CANARY_benchmark"
HEADERS: Final = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
BARE: Final = "bare aiohttp"
OURS: Final = "ApixoClient.status()"
PLAIN: Final = "ApixoClient.status() without speed"

Call: TypeAlias = Callable[[str], Awaitable[object]]
Client: TypeAlias = Callable[[str], contextlib.AbstractAsyncContextManager[Call]]
"""Takes the server's origin."""

_FASTER: Final = envelope.quick_loads


def use_orjson(*, wanted: bool) -> None:
    """Lets all clients of ours read JSON with or without orjson."""
    envelope.quick_loads = _FASTER if wanted else None


@contextlib.asynccontextmanager
async def bare_aiohttp(origin: str) -> AsyncIterator[Call]:
    """A GET of aiohttp, read and parsed as JSON."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def call(task: str) -> object:
            url = f"{origin}/apixo/api/v1/statusTask/veo-3-1?taskId={task}"
            async with session.get(url) as response:
                return json.loads(await response.read())

        yield call


@contextlib.asynccontextmanager
async def ours(origin: str) -> AsyncIterator[Call]:
    """`ApixoClient.status()`, with limits that are never reached."""
    limits = Limits(requests_per_minute=10_000_000, poll_share=1.0)
    async with ApixoClient(KEY, base_url=f"{origin}/apixo/api/v1", limits=limits) as client:
        yield client.status


def told(hook: Callable[[], Callable[[ClientEvent], object]]) -> Client:
    """The same, telling a hook of each call."""

    @contextlib.asynccontextmanager
    async def client_of(origin: str) -> AsyncIterator[Call]:
        limits = Limits(requests_per_minute=10_000_000, poll_share=1.0)
        url = f"{origin}/apixo/api/v1"
        async with ApixoClient(KEY, base_url=url, limits=limits, on_event=hook()) as client:
            yield client.status

    return client_of


def _empty_hook() -> Callable[[ClientEvent], object]:
    return lambda _: None


def _telemetry() -> Callable[[ClientEvent], object]:
    """Spans and metrics of every request, all sampled and dropped by the exporter."""
    adapter: Any = import_module("apixo_async.integrations.otel")
    sdk: Any = import_module("opentelemetry.sdk.trace")
    metrics: Any = import_module("opentelemetry.sdk.metrics")
    hook: Callable[[ClientEvent], object] = adapter.Telemetry(
        tracer_provider=sdk.TracerProvider(), meter_provider=metrics.MeterProvider()
    )
    return hook


@contextlib.asynccontextmanager
async def bare_httpx(origin: str) -> AsyncIterator[Call]:
    """A GET of httpx, parsed as JSON."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits, timeout=60) as client:

        async def call(task: str) -> object:
            url = f"{origin}/apixo/api/v1/statusTask/veo-3-1?taskId={task}"
            return json.loads((await client.get(url)).content)

        yield call


# SDKs of other vendors, as they come. They are not installed with the others (see the group
# `bench-peers`), and nothing here is checked against their types.


@contextlib.asynccontextmanager
async def _openai(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("openai")
    async with sdk.AsyncOpenAI(api_key=KEY, base_url=f"{origin}/openai/v1") as client:
        yield client.videos.retrieve


@contextlib.asynccontextmanager
async def _openai_aiohttp(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("openai")
    engine = sdk.DefaultAioHttpClient()
    url = f"{origin}/openai/v1"
    async with sdk.AsyncOpenAI(api_key=KEY, base_url=url, http_client=engine) as client:
        yield client.videos.retrieve


@contextlib.asynccontextmanager
async def _runwayml(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("runwayml")
    async with sdk.AsyncRunwayML(api_key=KEY, base_url=f"{origin}/runwayml") as client:
        yield client.tasks.retrieve


@contextlib.asynccontextmanager
async def _lumaai(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("lumaai")
    async with sdk.AsyncLumaAI(auth_token=KEY, base_url=f"{origin}/lumaai") as client:
        yield client.generations.get


@contextlib.asynccontextmanager
async def _replicate(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("replicate.client")  # the package's own module reads the environment
    yield sdk.Client(api_token=KEY, base_url=f"{origin}/replicate").predictions.async_get


@contextlib.asynccontextmanager
async def _genai(origin: str) -> AsyncIterator[Call]:
    sdk: Any = import_module("google.genai")
    types: Any = sdk.types
    client = sdk.Client(api_key=KEY, http_options=types.HttpOptions(base_url=f"{origin}/genai"))

    def call(task: str) -> Awaitable[object]:
        operation = types.GenerateVideosOperation(name=f"models/veo-3.1/operations/{task}")
        answer: Awaitable[object] = client.aio.operations.get(operation)
        return answer

    async with client.aio:
        yield call


CLIENTS: Final[dict[str, Client]] = {
    BARE: bare_aiohttp,
    OURS: ours,
    PLAIN: ours,
    "ApixoClient.status() with a hook": told(_empty_hook),
    "ApixoClient.status() with OpenTelemetry": told(_telemetry),
    "bare httpx": bare_httpx,
    "google-genai": _genai,
    "openai on aiohttp": _openai_aiohttp,
    "openai": _openai,
    "runwayml": _runwayml,
    "lumaai": _lumaai,
    "replicate": _replicate,
}
FAST: Final = frozenset({BARE, OURS, PLAIN})
"""Measured in every round; the others, many times slower, in a few."""
PACKAGES: Final = ("aiohttp", "httpx", "google-genai", "openai", "runwayml", "lumaai", "replicate")


# What they are made to do


async def cpu_of(call: Call, count: int, in_flight: int) -> tuple[float, int]:
    """Microseconds of this process's CPU for one of `count` calls, and how many failed."""
    left = itertools.islice(itertools.cycle(TASKS), count)
    errors = 0

    async def work() -> None:
        nonlocal errors
        for task in left:
            try:
                await call(task)
            except Exception:  # noqa: BLE001  # whatever an SDK raises
                errors += 1

    gc.collect()
    started = time.process_time()
    await asyncio.gather(*[work() for _ in range(in_flight)])
    return (time.process_time() - started) / count * 1e6, errors


async def _only_make_calls(client: str, count: int, origin: str) -> None:
    use_orjson(wanted=client != PLAIN)
    async with CLIENTS[client](origin) as call:
        _, errors = await cpu_of(call, count, in_flight=50)
    assert not errors


if __name__ == "__main__":
    _client, _count, _origin = sys.argv[1:]
    asyncio.run(_only_make_calls(_client, int(_count), _origin))
