"""What the emulator costs: status requests beside those to a server that does nothing.

    python -m benchmarks.emulator [--json FILE]

Both servers answer the same aiohttp client over 127.0.0.1, in this process, in turns. Counted is
CPU time of both ends. Exits with 1 when the emulator's requests need more than twice that of the
bare ones: a demo or test of 1,000 running tasks has to leave the machine to the program it is for.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Final

import aiohttp
import attrs
from aiohttp import web

from apixo_async import ApixoClient, TextToVideo
from apixo_async.testing import emulated
from benchmarks._report import Table, options, verdict, write_json

ROUNDS: Final = 7
REQUESTS: Final = 1_000
AT_ONCE: Final = 50
MOST: Final = 2.0
BODY: Final = b'{"code":200,"message":"success","data":{"taskId":"task_1","state":"processing"}}'


@attrs.frozen
class Figure:
    """CPU of one status request, client and server; `ratio` is to the bare server."""

    server: str
    ratio: float
    cpu_us: float


async def _answer(_: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type="application/json")


async def cpu_of(session: aiohttp.ClientSession, url: str) -> float:
    """Microseconds of CPU for one request."""

    async def ask() -> None:
        async with session.get(url) as response:
            assert response.status == 200
            await response.read()

    began = time.process_time()
    for _ in range(REQUESTS // AT_ONCE):
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return 1e6 * (time.process_time() - began) / REQUESTS


async def measure() -> list[Figure]:
    """Both servers in turns."""
    app = web.Application()
    app.router.add_get("/status", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with emulated(requests_per_minute=10_000_000) as emulator:
        async with ApixoClient(emulator.api_key, base_url=emulator.base_url) as client:
            task = await client.submit(TextToVideo("a calm ocean"))
        urls = {
            "bare aiohttp": f"http://127.0.0.1:{runner.addresses[0][1]}/status",
            "emulator": f"{emulator.base_url}/api/v1/statusTask/veo-3-1?taskId={task.id}",
        }
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            rounds = [
                {server: await cpu_of(session, url) for server, url in urls.items()}
                for _ in range(ROUNDS)
            ]
    await runner.cleanup()
    cpu = {server: statistics.median(one[server] for one in rounds) for server in urls}
    return [Figure(server, used / cpu["bare aiohttp"], used) for server, used in cpu.items()]


def main() -> int:
    """Measures, prints, and judges."""
    asked = options(__doc__).parse_args()
    figures = asyncio.run(measure())
    table = Table({"server": -12, "ratio": 6, "CPU us": 7})
    table.begin()
    for one in figures:
        table.row(one.server, f"{one.ratio:.2f}", f"{one.cpu_us:.0f}")
    if asked.json is not None:
        write_json(asked.json, [attrs.asdict(figure) for figure in figures])
    ratio = figures[-1].ratio
    return verdict([f"the emulator takes {ratio:.2f} of it"] if ratio > MOST else [])


if __name__ == "__main__":
    sys.exit(main())
