"""One process of a durable service, as a user would write it; run as a script.

    python -m benchmarks._replica SETTINGS

SETTINGS is JSON, the fields of `Script`. Each line on standard input is a name and a number: so
many jobs, whose keys begin with that name, are enqueued and waited for. What has happened is said
on standard output, a JSON object a line. The process ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, Final

import attrs

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Job,
    LearnedSchedule,
    Limits,
    TextToVideo,
    Timeouts,
)
from apixo_async.errors import StoreError
from apixo_async.integrations.dbos import DurableJob, DurableVeo

AT_ONCE: Final = 16
"""Jobs that are enqueued at once."""
RETRY: Final = 0.5
"""Seconds after which a database that is away is tried again."""


@attrs.frozen(kw_only=True)
class Script:
    """What a process is started with."""

    database: str
    base_url: str
    api_key: str = attrs.field(repr=False)
    max_concurrent: int
    first: float
    """Seconds until the first look at a task."""
    interval: float
    """Seconds between looks."""
    lease: float = 60.0
    submit_timeout: float = 60.0
    is_worker: bool = True
    is_plain: bool = False
    """Whether it carries its jobs by a `BatchRunner`, alone and without a record."""

    def argument(self) -> str:
        """As it is passed on."""
        return json.dumps(attrs.asdict(self))

    def schedule(self) -> LearnedSchedule:
        """When to look."""
        return LearnedSchedule(first=self.first, interval=self.interval, deadline=600.0)


def keys(name: str, count: int) -> Iterator[str]:
    """Of the jobs of one line; each is its job's prompt, too."""
    return (f"{name}-{number:05}" for number in range(count))


def say(**facts: object) -> None:
    """One line for whoever started this process."""
    print(json.dumps(facts), flush=True)


async def lines() -> AsyncIterator[tuple[str, int]]:
    """What is asked for, until the input ends."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        name, count = line.decode().split()
        yield name, int(count)


async def serve(script: Script) -> None:
    """Carries jobs, or has others carry them."""
    veo = DurableVeo(
        script.database,
        api_key=script.api_key,
        max_concurrent=script.max_concurrent,
        lease=script.lease,
        works=script.is_worker,
        base_url=script.base_url,
        schedule=script.schedule(),
        timeout=Timeouts(submit=script.submit_timeout),
    )
    async with veo:
        say(ready=True)
        waiting: set[asyncio.Task[None]] = set()
        async for name, count in lines():
            waiting.add(asyncio.create_task(jobs_of(veo, name, count)))
        for task in waiting:
            task.cancel()


async def jobs_of(veo: DurableVeo, name: str, count: int) -> None:
    """Enqueues jobs and waits for all of them, whatever becomes of the database meanwhile."""
    jobs: dict[str, DurableJob] = {}
    for some in batched_keys(name, count):
        enqueued = await asyncio.gather(*(enqueue(veo, key) for key in some))
        jobs |= {job.key: job for job in enqueued}
    say(enqueued=name)
    statuses = Counter[str]()
    while jobs:
        try:
            async for outcome in veo.as_completed(jobs.values()):
                del jobs[outcome.job.key or ""]
                statuses[outcome.status.value] += 1
        except StoreError:
            await asyncio.sleep(RETRY)
    say(done=name, outcomes=statuses)


def batched_keys(name: str, count: int) -> Iterator[tuple[str, ...]]:
    """The keys of a line, so many at a time as are enqueued at once."""
    left = keys(name, count)
    return iter(lambda: tuple(islice(left, AT_ONCE)), ())


async def enqueue(veo: DurableVeo, key: str) -> DurableJob:
    """One job; an outage of the database is waited out."""
    while True:
        try:
            return await veo.enqueue(key, TextToVideo(key, mode="fast"))
        except StoreError:
            await asyncio.sleep(RETRY)


async def carry_alone(script: Script) -> None:
    """The same jobs without any of it, for comparison."""
    limits = Limits(concurrent_tasks=script.max_concurrent)
    client = ApixoClient(
        script.api_key, base_url=script.base_url, limits=limits, schedule=script.schedule()
    )
    async with client:
        say(ready=True)
        async for name, count in lines():
            jobs = (Job(TextToVideo(key, mode="fast"), key=key) for key in keys(name, count))
            async with BatchRunner(client).stream(jobs) as outcomes:
                statuses = Counter([outcome.status.value async for outcome in outcomes])
            say(done=name, outcomes=statuses)


def main() -> None:
    """Runs as the settings say."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    script = Script(**given)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.Formatter.converter = time.gmtime
    asyncio.run(carry_alone(script) if script.is_plain else serve(script))


if __name__ == "__main__":
    main()
