"""How often a callback that ought to come does not, learned from the tasks that ended."""

from __future__ import annotations

from typing import Final

PRIOR_LOST: Final = 1.0
PRIOR: Final = 20.0
"""Before anything was seen, one in twenty is taken to get lost."""
LEAST: Final = 0.03
"""What is lost is seen later than what is not, so that little seems to be lost at first."""
MEMORY: Final = 200
"""Ends after which one that was seen counts a third."""


class Arrivals:
    """Counts ends that a callback told and those that only a look did."""

    def __init__(self) -> None:
        self._lost = PRIOR_LOST
        self._seen = PRIOR

    def saw(self, *, was_told: bool) -> None:
        """A task ended, and a callback had told so, or none had come."""
        self._lost *= 1 - 1 / MEMORY
        self._seen *= 1 - 1 / MEMORY
        self._seen += 1
        self._lost += not was_told

    @property
    def lost(self) -> float:
        """The part of callbacks that get lost, above 0 and at most 1."""
        return max(LEAST, min(1.0, self._lost / self._seen))
