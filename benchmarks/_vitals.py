"""What a process takes while it works, and what asyncio and Python complain of meanwhile."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import attrs

PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen(kw_only=True)
class Vitals:
    """One sample. `seconds` is since the start, `done` how many jobs had ended."""

    seconds: float
    done: int
    rss: int
    fds: int
    threads: int
    tasks: int
    objects: int


def resident_now() -> int:
    """Bytes of this process in memory; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def open_fds() -> int:
    """File descriptors of this process, but for the one that counting takes."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


def sample(*, started: float, done: int) -> Vitals:
    """Everything at this moment, on the event loop if there is one."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0
    return Vitals(
        seconds=round(time.monotonic() - started, 1),
        done=done,
        rss=resident_now(),
        fds=open_fds(),
        threads=threading.active_count(),
        tasks=tasks,
        objects=len(gc.get_objects()),
    )


async def sample_for_ever(every: float, take: Callable[[], None]) -> None:
    """Takes a sample every so many seconds until it is cancelled."""
    while True:
        take()
        await asyncio.sleep(every)


@attrs.frozen(kw_only=True)
class Growth:
    """Medians of a stretch after warming up and of the last one before the input was used up."""

    first: float
    last: float
    most: float

    @property
    def share(self) -> float:
        """By how much it grew, 0.05 being five percent."""
        return self.last / self.first - 1


def growth(
    samples: Sequence[Vitals], of: Callable[[Vitals], float], *, warm: int, full: int
) -> Growth:
    """Between the first and the last quarter of the jobs from `warm` to `full`."""
    quarter = (full - warm) / 4
    first = [of(one) for one in samples if warm <= one.done <= warm + quarter]
    last = [of(one) for one in samples if full - quarter <= one.done <= full]
    return Growth(first=median(first), last=median(last), most=max(map(of, samples)))


class _Kept(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def complaints_kept() -> Generator[list[str]]:
    """What asyncio and Python complain of in the block, warnings being errors.

    Tasks that were destroyed or whose errors nobody took are told to asyncio's logger; coroutines
    that were never awaited and files left open come as errors that nobody can catch.
    """
    kept: list[str] = []
    handler, hook = _Kept(kept), sys.unraisablehook

    def unraisable(what: Any) -> None:  # noqa: ANN401  # its type is not public
        kept.append(f"{what.err_msg or 'not raised'}: {what.exc_value!r} in {what.object!r}")

    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield kept
            gc.collect()
    finally:
        sys.unraisablehook = hook
        logger.removeHandler(handler)
