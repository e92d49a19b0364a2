"""Noticing that an outage is over, so that nobody sleeps on. No clock: the time is passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from apixo_async.errors import ApixoError, ServerError, TransportError, UnexpectedAnswerError

FEWEST: Final = 2
"""Looks that fail in a row before it is called an outage; one may fail for any reason."""


@attrs.define(eq=False)
class Outages:
    """Takes note of all looks of a client. Times are loop times."""

    _answered_at: float = float("-inf")
    _failures: int = 0
    failed_at: float = float("-inf")
    """When the last look failed as in an outage."""

    def failed(self, error: ApixoError, *, now: float) -> None:
        """A look failed; a refusal by the API is a sign of life, but not of recovery."""
        if isinstance(error, (TransportError, ServerError, UnexpectedAnswerError)):
            self._failures += 1
            self.failed_at = now

    def answered(self, *, now: float, gap: float, hung: Callable[[], int]) -> bool:
        """A look was answered; whether it is the first after an outage of at least `gap` seconds.

        Where every other look fails there are answers all the time, so that it is none. `hung`
        counts looks that were not answered for so long.
        """
        is_late = now - self._answered_at >= gap
        is_over = is_late and self._failures + hung() >= FEWEST
        if is_over:
            self.failed_at = max(self.failed_at, now - gap)
        self._answered_at, self._failures = now, 0
        return is_over
