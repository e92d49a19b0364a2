"""A process that sends requests as fast as shared limits let it; run as a script.

    python -m benchmarks._replicas_gate SETTINGS

SETTINGS is JSON, the fields of `Sender`. A line on standard input begins it; what it sent is said
on standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import attrs

from apixo_async import ApixoClient, Gate, Limits, TextToVideo
from apixo_async.limits.sharing import SharedLimits
from benchmarks._replica import lines, say

AT_ONCE: Final = 40
"""Requests under way at most: more than one process needs for all of the rate."""


@attrs.frozen(kw_only=True)
class Sender:
    """What a process is started with."""

    store: str
    prefix: str
    base_url: str
    api_key: str = attrs.field(repr=False)
    requests_per_minute: int

    def argument(self) -> str:
        """As it is passed on."""
        return json.dumps(attrs.asdict(self))

    def shared(self) -> SharedLimits:
        """The store by its URL."""
        if self.store.startswith("redis"):
            from apixo_async.integrations.redis import RedisLimits  # noqa: PLC0415  # of one of two

            return RedisLimits(self.store, prefix=self.prefix)
        from apixo_async.integrations.postgres import PostgresLimits  # noqa: PLC0415  # as above

        return PostgresLimits(self.store)


async def send(sender: Sender) -> None:
    """Looks at one task for so many seconds, by as many at once as it takes."""
    gate = Gate(Limits(requests_per_minute=sender.requests_per_minute), shared=sender.shared())
    async with ApixoClient(sender.api_key, base_url=sender.base_url, gate=gate) as client:
        task = await client.submit(TextToVideo("a calm ocean", mode="fast"))
        say(ready=True)
        async for name, seconds in lines():
            sent = 0

            async def look() -> None:
                nonlocal sent
                while True:
                    await client.status(task)
                    sent += 1

            looking = [asyncio.create_task(look()) for _ in range(AT_ONCE)]
            done, _ = await asyncio.wait(
                looking, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
            )
            for one in looking:
                one.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
            errors = [repr(one.exception()) for one in done]
            say(done=name, sent=sent, errors=errors)


if __name__ == "__main__":
    asyncio.run(send(Sender(**json.loads(sys.argv[1]))))
