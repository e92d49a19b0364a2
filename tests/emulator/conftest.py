from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import aiohttp.web
import attrs
import pytest

from apixo_async.emulator import Emulator, EmulatorSettings
from tests.hand import Hand, move_by_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from apixo_async.emulator import Ledger

    Start = Callable[..., Awaitable["Caller"]]

VEO = "veo-3-1"


@attrs.frozen
class Answer:
    """An answer of the API: HTTP status, headers and envelope."""

    http_status: int
    headers: dict[str, str]
    envelope: Any

    @property
    def code(self) -> int:
        code: int = self.envelope["code"]
        return code

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON
        return self.envelope["data"]


@attrs.frozen
class Caller:
    """A client without opinions: one request for one call, the answer as it came."""

    emulator: Emulator
    session: aiohttp.ClientSession

    async def request(
        self,
        method: str,
        path: str,
        **options: Any,  # noqa: ANN401 - as aiohttp takes them
    ) -> Answer:
        async with self.session.request(method, path, allow_redirects=False, **options) as response:
            return Answer(
                response.status, dict(response.headers), json.loads(await response.read())
            )

    async def submit(
        self,
        prompt: str = "a calm ocean",
        *,
        model: str = VEO,
        top: dict[str, str] | None = None,
        **changes: object,
    ) -> Answer:
        given = {"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO", **changes}
        body = {"input": given, **(top or {})}
        return await self.request("POST", f"/api/v1/generateTask/{model}", json=body)

    async def accepted(
        self,
        prompt: str = "a calm ocean",
        **changes: Any,  # noqa: ANN401 - handed on
    ) -> str:
        """Submit, and return the id of the task."""
        task_id: str = (await self.submit(prompt, **changes)).data["taskId"]
        return task_id

    async def status(self, task_id: str, *, model: str = VEO) -> Answer:
        path = f"/api/v1/statusTask/{model}"
        return await self.request("GET", path, params={"taskId": task_id})

    async def finished(self, task_id: str) -> dict[str, Any]:
        """Poll until the task has ended; return the last answer's data."""
        async with asyncio.timeout(30):
            while True:
                data: dict[str, Any] = (await self.status(task_id)).data
                if data["state"] in {"success", "failed"}:
                    return data
                await asyncio.sleep(0.005)

    async def until(self, condition: Callable[[Ledger], bool]) -> None:
        """Wait until the ledger shows something."""
        async with asyncio.timeout(30):
            while not condition(self.emulator.ledger):  # noqa: ASYNC110 - a ledger has no event
                await asyncio.sleep(0.005)

    async def url(self, prompt: str = "a calm ocean", **changes: object) -> str:
        """Generate, and return the URL of the first result."""
        data = await self.finished(await self.accepted(prompt, **changes))
        url: str = json.loads(data["resultJson"])["resultUrls"][0]
        return url


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start emulators with settings; all are closed when the test ends.

    Unless the test says otherwise a minute passes in 10 ms and a task takes 5 ms.
    """
    async with AsyncExitStack() as stack:

        async def starter(**settings: object) -> Caller:
            chosen: dict[str, Any] = {"speed": 6_000, "durations": "30", **settings}
            emulator = await stack.enter_async_context(Emulator(EmulatorSettings(**chosen)))
            session = aiohttp.ClientSession(
                emulator.base_url, headers={"Authorization": f"Bearer {emulator.api_key}"}
            )
            return Caller(emulator, await stack.enter_async_context(session))

        yield starter


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Moves the clocks of emulators."""
    return move_by_hand(monkeypatch)


@attrs.define
class Receiver:
    """A receiver of callbacks that notes what it got."""

    url: str
    got: list[tuple[str, Any]] = attrs.field(factory=list)
    """Path and body, in order of arrival."""
    times: list[float] = attrs.field(factory=list)
    """When each arrived, on the event loop's clock."""
    statuses: list[int] = attrs.field(factory=list)
    """What to answer, one after another; then 200."""
    delay: float = 0.0
    _arrived: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def handle(self, request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        self.times.append(asyncio.get_running_loop().time())
        self.got.append((request.path, await request.json()))
        self._arrived.set()
        await asyncio.sleep(self.delay)
        return aiohttp.web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    @property
    def top(self) -> dict[str, str]:
        """What a submit must hold beside its input."""
        return {"request_type": "callback", "callback_url": self.url}

    async def wait_for(self, count: int) -> list[Any]:
        """Wait until so many callbacks are here; return their bodies."""
        async with asyncio.timeout(30):
            while len(self.got) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return [body for _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on this machine."""
    receiver = Receiver("")
    runner = aiohttp.web.ServerRunner(
        aiohttp.web.Server(receiver.handle, access_log=None), shutdown_timeout=0.1
    )
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook/secret"
    yield receiver
    await runner.cleanup()
