"""Running a coroutine for a command: the event loop, and what Ctrl-C and SIGTERM do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from apixo_async.cli.exits import SIGNAL_BASE
from apixo_async.cli.faults import Interrupted

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = b"\x1b[?25h\n"


def run(work: Coroutine[Any, Any, T], *, on_interrupt: Callable[[], None] | None = None) -> T:
    """What `work` returns. The first signal cancels it, the second ends the process at once.

    `on_interrupt` is called at the first signal. Raises `Interrupted` when that ended the work.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_supervised(work, on_interrupt))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _supervised(work: Coroutine[Any, Any, T], on_interrupt: Callable[[], None] | None) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if caught:
            _end_at_once(number)
        caught.append(number)
        if on_interrupt is not None:
            on_interrupt()
        task.cancel()

    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, on_signal, number)
        except (NotImplementedError, RuntimeError, ValueError):
            break  # Windows, or not the main thread: there the loop's own Ctrl-C has to do
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            raise Interrupted(caught[0]) from None
        raise


def _end_at_once(number: int) -> None:
    """Leaves without waiting for anything; a display may have hidden the cursor."""
    # Not by what a display has put in their place, which takes such characters away.
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and stream.isatty():
            os.write(stream.fileno(), _SHOW_CURSOR)
            break
    os._exit(SIGNAL_BASE + number)
