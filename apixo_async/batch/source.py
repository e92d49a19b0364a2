"""What a batch is fed with: anything that gives requests or jobs, now or by and by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TypeAlias

from apixo_async.batch.outcomes import Job
from apixo_async.veo import Request, is_request

Item: TypeAlias = Request | Job
Source: TypeAlias = Iterable[Item] | AsyncIterable[Item]


def as_job(item: object) -> Job:
    """A job from what the input held; `TypeError` for what is neither a request nor a job."""
    if is_request(item):
        return Job(item)
    if isinstance(item, Job) and is_request(item.request):
        return item
    msg = f"expected a request or a Job, got {type(item).__name__}"
    raise TypeError(msg)


async def next_of(source: Iterator[Item] | AsyncIterator[Item]) -> Item:
    """The next item; raises `StopAsyncIteration` at the end."""
    if isinstance(source, AsyncIterator):
        return await anext(source)
    try:
        return next(source)
    except StopIteration:
        pass
    raise StopAsyncIteration


async def item_of(source: Iterator[Item] | AsyncIterator[Item]) -> Item:
    """As `next_of`; a cancellation that comes from the source itself is an error of it."""
    try:
        return await next_of(source)
    except asyncio.CancelledError as error:
        feeder = asyncio.current_task()
        if feeder is not None and feeder.cancelling():
            raise
        msg = "the input ended with CancelledError, though nobody cancelled the batch"
        raise RuntimeError(msg) from error
