"""For tests of programs that use APIXO: an emulator as a fixture and as a context manager.

pytest loads this module in every run of an environment where the package is installed, so it
imports nothing heavy until an emulator is really started.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
    from types import TracebackType

    from apixo_async import emulator
    from apixo_async.emulator import Emulator, EmulatorSettings

__all__ = ["EmulatorThread", "apixo_emulator", "emulated", "pytest_configure"]

MARKER = "apixo_emulator"

T = TypeVar("T")


@contextlib.asynccontextmanager
async def emulated(**settings: Any) -> AsyncGenerator[Emulator]:  # noqa: ANN401 - as they are there
    """Run an emulator in this event loop, for ``async with``.

    Args:
        settings: The fields of `EmulatorSettings`.

    Raises:
        TypeError: There is no such field.
        ValueError: A value is out of its range; the message names the field and the rule.
    """
    from apixo_async.emulator import Emulator, EmulatorSettings  # noqa: PLC0415 - see above

    async with Emulator(EmulatorSettings(**settings)) as emulator:
        yield emulator


class EmulatorThread:
    """An emulator with an event loop of its own, for tests of any kind.

    It keeps answering while the test blocks, and every method may be called from any thread. Use it
    in a ``with`` block; before and after there is nothing to ask.

    Args:
        settings: What the emulator is started with.

    Raises:
        RuntimeError: It is asked for something outside of its ``with`` block.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        """Take the settings; the thread starts with the ``with`` block."""
        self._settings = settings
        self._runner = asyncio.Runner()
        self._emulator: Emulator | None = None
        self._thread = threading.Thread(target=self._run, name="apixo-emulator", daemon=True)
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._problem: BaseException | None = None

    def __enter__(self) -> Self:
        """Start, and return once the emulator can be reached."""
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            self._thread.join()
            raise self._problem
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the emulator and wait until its thread has ended."""
        if self._stop is not None:
            self._runner.get_loop().call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Where it listens: ``http://127.0.0.1:43117``."""
        return self._opened.base_url

    @property
    def api_key(self) -> str:
        """The only key that is accepted."""
        return self._opened.api_key

    @property
    def settings(self) -> EmulatorSettings:
        """What it was started with."""
        return self._settings

    @property
    def ledger(self) -> emulator.Ledger:  # by this name, as there are ledgers of jobs, too
        """What happened so far: a copy, which later requests do not change."""
        emulator = self._opened
        return self._call(emulator.ledger.snapshot)

    def bound(self) -> dict[str, Any]:
        """Return the shortest possible time beside the one that was needed, both in seconds."""
        return self._call(self._opened.bound)

    def tasks(self) -> list[dict[str, object]]:
        """Return every task in order of acceptance."""
        return self._call(self._opened.tasks)

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace all fault rates.

        Args:
            faults: Rates from 0 to 1 by the names in `apixo_async.emulator.FAULTS`.

        Raises:
            ValueError: There is no such fault, or a rate is no number from 0 to 1.
        """
        emulator = self._opened
        self._call(lambda: emulator.set_faults(faults))

    def reset(self) -> None:
        """Forget all tasks, counts and pending callbacks."""
        self._call(self._opened.reset)

    @property
    def _opened(self) -> Emulator:
        if self._emulator is None:
            raise RuntimeError("the emulator is not open: use it with 'with'")
        return self._emulator

    def _call(self, function: Callable[[], T]) -> T:
        """Run *function* in the emulator's loop and return what it returns."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._runner.get_loop()).result()

    def _run(self) -> None:
        with self._runner:
            try:
                self._runner.run(self._serve())
            except BaseException as problem:  # noqa: BLE001 - handed to the thread that waits
                self._problem = problem
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        from apixo_async.emulator import Emulator  # noqa: PLC0415 - see the module's docstring

        self._stop = asyncio.Event()
        async with Emulator(self._settings) as self._emulator:
            self._ready.set()
            await self._stop.wait()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that strict markers accept it."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**settings): settings of the apixo_emulator fixture, "
        "for example speed=60, faults={'submit_503_before': 0.1}",
    )


@pytest.fixture
def apixo_emulator(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatorThread]:
    """An APIXO of this test's own, a fixture; APIXO_BASE_URL and APIXO_API_KEY point to it.

    Settings come from the marker: ``@pytest.mark.apixo_emulator(speed=60)``. Those of the marker
    nearest to the test win over those on its class or module.
    """
    from apixo_async.emulator import EmulatorSettings  # noqa: PLC0415 - see the module's docstring

    settings: dict[str, Any] = {}
    node: pytest.Item = request.node
    for marker in reversed(list(node.iter_markers(MARKER))):
        settings.update(marker.kwargs)
    with EmulatorThread(EmulatorSettings(**settings)) as emulator:
        monkeypatch.setenv("APIXO_BASE_URL", emulator.base_url)
        monkeypatch.setenv("APIXO_API_KEY", emulator.api_key)
        yield emulator
