"""A process that carries durable jobs until it is killed: `replica.py URL BASE_URL KEY`."""

import asyncio
import sys

from apixo_async import PollSchedule, Timeouts
from apixo_async.integrations.dbos import DurableVeo


async def main(url: str, base_url: str, key: str) -> None:
    """Says when it is ready."""
    async with DurableVeo(
        url,
        api_key=key,
        base_url=base_url,
        schedule=PollSchedule(first=1.0, interval=0.3, deadline=60.0),
        timeout=Timeouts(submit=2.0),
        lease=3.0,
        max_concurrent=20,
    ) as veo:
        print("ready", flush=True)  # noqa: T201  # for who started it
        await veo.serve()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
