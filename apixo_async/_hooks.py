"""Calling the user's hooks: their faults are their own, and never tear a step of ours in two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from apixo_async._logs import LOGGER, fields

Event = TypeVar("Event")


class Hook(Generic[Event]):
    """A callable of the user's that is told events, on the event loop, and may raise what it likes.

    Errors are logged. `SystemExit` and its like end the event loop as soon as it comes to that,
    which is outside of what is being told of.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[Event], object]) -> None:
        self._call = call

    def __call__(self, event: Event) -> None:
        """Tells one event."""
        try:
            self._call(event)
        # A paid task must not be lost to it. Nobody can cancel what does not wait.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # see above
            name = type(event).__name__
            LOGGER.exception(
                "on_event failed for %s", name, extra=fields("hook_failed", hook=name, error=error)
            )
        except BaseException as error:  # noqa: BLE001  # raised where nothing of ours is under way
            asyncio.get_running_loop().call_soon(_raise, error)


def _raise(error: BaseException) -> NoReturn:
    raise error
