"""Loops that cancel a task before a chosen step, and runs of one scene for every such step.

A step is one callback that the loop runs while the task under test has not ended: one of its own
steps, or of anybody else's. Blocking work is done on the loop, in one step, and told in the next,
so that a run has the same steps each time.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

import attrs

from tests.thorough import every
from tests.virtual import VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Steps: TypeAlias = tuple[int, ...]
_LOGGER = logging.getLogger("apixo_async")


class _Stepping(asyncio.SelectorEventLoop):
    """Counts its steps, the first being 0."""

    victim: asyncio.Task[Any] | None = None
    at: Steps = ()
    step = 0
    cancelled_at: list[float]

    def _stepped(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        if self.victim is not None and not self.victim.done():
            if self.step in self.at:
                self.cancelled_at.append(self.time())
                self.victim.cancel()
            self.step += 1
        callback(*args)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(self._stepped, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon_threadsafe(self._stepped, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(when, self._stepped, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Once begun, the work is done, also when nobody waits for it any more."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(self._work, partial(func, *args), future)
        return future

    def _work(self, work: Callable[[], T], future: asyncio.Future[T]) -> None:
        try:
            tell = partial(future.set_result, work())
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            tell = partial(future.set_exception, error)
        self.call_soon(lambda: future.done() or tell())

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """What is to be called later."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]


class VirtualSteps(_Stepping, VirtualLoop):
    """In virtual time."""


class RealSteps(_Stepping):
    """In real time, for sockets."""


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@attrs.define
class Stage:
    """One run of a scene; `at` are the steps before which its task is cancelled."""

    at: Steps
    loop: _Stepping
    heard: _Heard = attrs.field(factory=_Heard)
    left_after: float = 0.0
    """Seconds from the last cancellation to the end of the task."""

    async def cancelled(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` to its end, cancelling it on the way."""
        loop = self.loop
        task = asyncio.create_task(work)
        loop.victim, loop.at, loop.step, loop.cancelled_at = task, self.at, 0, []
        await asyncio.wait([task])
        loop.victim = None
        if loop.cancelled_at:
            self.left_after = loop.time() - loop.cancelled_at[-1]
        if not task.cancelled():
            task.exception()  # whoever wants to know it asks again
        return task

    @property
    def cancels(self) -> int:
        """How often the task was cancelled before it had ended."""
        return len(self.loop.cancelled_at)

    @property
    def was_cancelled(self) -> bool:
        """Whether the task was still there at all of its steps."""
        return self.cancels == len(self.at)

    @property
    def log(self) -> str:
        """What was logged."""
        return self.heard.text


Scene: TypeAlias = Callable[[Stage], Coroutine[Any, Any, None]]
"""Sets something up, has `Stage.cancelled` run what is under test, and checks what is left."""


@contextmanager
def _judged(loop: _Stepping) -> Iterator[None]:
    """Fails for what asyncio or the garbage collector complain of, and for what is left behind."""
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(str(context)))
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: faults.append(repr(args))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not faults, "\n".join(faults)


def play(scene: Scene, at: Steps, *, kind: type[_Stepping] = VirtualSteps) -> Stage:
    """Runs a scene once on a loop of its own."""
    loop = kind()
    stage = Stage(at, loop)
    _LOGGER.addHandler(stage.heard)
    try:
        with _judged(loop):
            _run(loop, scene(stage))
    except BaseException as error:
        error.add_note(f"cancelled at {at}; the log: {stage.log}")
        raise
    finally:
        _LOGGER.removeHandler(stage.heard)
    return stage


def _run(loop: _Stepping, main: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        await main
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(whole())
        assert not loop.timers, f"timers left behind: {loop.timers}"


@contextmanager
def _all_frozen() -> Iterator[None]:
    """Makes it cheap to look for garbage after each run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def sweep(scene: Scene, *, kind: type[_Stepping] = VirtualSteps) -> Sequence[int]:
    """Plays a scene cancelled at each of its steps; tells how many steps each run had."""
    lengths: list[int] = []
    with _all_frozen():
        play(scene, (), kind=kind)
        for step in itertools.count():
            stage = play(scene, (step,), kind=kind)
            if not stage.was_cancelled:
                return lengths
            lengths.append(stage.loop.step)
    raise AssertionError


def sweep_again(
    scene: Scene, lengths: Sequence[int], *, most: int, kind: type[_Stepping] = VirtualSteps
) -> None:
    """Plays a scene cancelled twice: at each pair of steps, or at a sample of `most` pairs.

    `lengths` are those of runs that were cancelled once.
    """
    pairs = [(first, then) for first, end in enumerate(lengths) for then in range(first + 1, end)]
    chosen = random.Random(1).sample(pairs, most) if len(pairs) > most else pairs
    with _all_frozen():
        for pair in chosen:
            play(scene, pair, kind=kind)


def sweep_hasty(scene: Scene, lengths: Sequence[int]) -> None:
    """Plays a scene cancelled at a step, and twice more within a few steps."""
    rng = random.Random(2)
    with _all_frozen():
        for first in range(0, len(lengths), every(8)):
            then = first + rng.randint(1, 6)
            play(scene, (first, then, then + rng.randint(1, 6)))


def open_files() -> int:
    """File descriptors that this process has open."""
    return len(list(Path("/dev/fd").iterdir()))
