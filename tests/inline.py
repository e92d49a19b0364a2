"""Virtual time for batches with a journal: what its thread would write is a step of the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.simulation.disks import inline_journals
from tests.virtual import InlineLoop, run_virtual

P = ParamSpec("P")


class _Sound:
    """A process that nothing happens to."""

    @property
    def is_dead(self) -> bool:
        """It goes on."""
        return False

    @property
    def refuses(self) -> bool:
        """Its disk takes everything."""
        return False

    def reached(self, moment: str) -> None:
        """Goes on."""


def virtual_with_journal(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Makes a test function run in virtual time, with journals that are real files.

    What was in the hands of threads takes no time, and a commit as long as `COMMIT_SECONDS`.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with inline_journals(_Sound()):
            run_virtual(test(*args, **kwargs), loop_factory=InlineLoop)

    return run
