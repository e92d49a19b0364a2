"""An event loop on which waiting costs nothing: hours of schedule pass in milliseconds.

The loop's clock moves only when nothing is left to do, straight to the next timer. The same
scenario gives the same trace every time. No sockets: bytes in flight would look like idleness. Nor
threads, for the same reason: `InlineLoop` does their work itself, and `tests.inline` a journal's.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

START = 1_000.0
TICK = 1e-6
"""Every pass moves the clock at least this far, as work does in reality. aiolimiter would spin for
ever on a clock that stands still just before a deadline lost in rounding."""


class _Clock(selectors.SelectSelector):
    """A selector that, asked to wait, moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            msg = "nothing is scheduled and nobody can wake the loop: deadlock"
            raise RuntimeError(msg)
        self.now += max(timeout, TICK)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` is the virtual clock."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def freeze(self, seconds: float) -> None:
        """The process stands still for so long: its clock goes on, and its timers come late."""
        self._clock.now += seconds


class InlineLoop(VirtualLoop):
    """A virtual loop without threads: what is given to one is done at once."""

    def run_in_executor(  # type: ignore[override]  # typeshed names the function otherwise
        self,
        executor: object,
        function: Callable[..., Any],
        *arguments: Any,  # noqa: ANN401  # those of the function
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001  # handed on
            self.call_soon(_unless_done, future, future.set_exception, error)
        else:
            self.call_soon(_unless_done, future, future.set_result, result)
        return future


def _unless_done(
    future: asyncio.Future[Any], call: Callable[[Any], None], argument: object
) -> None:
    if not future.done():
        call(argument)


def run_virtual(
    main: Coroutine[Any, Any, T], *, loop_factory: Callable[[], VirtualLoop] = VirtualLoop
) -> T:
    """Runs a coroutine to its end in virtual time; leftover tasks are an error."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:

        async def checked() -> T:
            result = await main
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left behind: {left}"
            return result

        return runner.run(checked())


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Makes a test function run in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run
