"""How rates are judged: by their worst window, with more workers than can be served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence


def worst_window(moments: Sequence[float], seconds: float) -> int:
    """The most moments that lie within any window of this length."""
    worst = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


async def saturate(
    enter: Callable[[int], Awaitable[object]], *, workers: int, seconds: float
) -> list[float]:
    """The moments at which workers that always want to get through did, over this time."""
    loop = asyncio.get_running_loop()
    begin, moments = loop.time(), list[float]()

    async def worker(number: int) -> None:
        while True:
            await enter(number)
            moments.append(loop.time() - begin)

    tasks = [asyncio.create_task(worker(number)) for number in range(workers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return moments
