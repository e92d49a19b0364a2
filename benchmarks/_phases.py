"""What a client on a small account does: minute by minute, and before and after an upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

LEAST_FINISHED: Final = 0.8
"""Of what the slots allow without any delay: ten requests a minute leave few looks for a task."""
MOST_REFUSED: Final = 0.05
"""Of all requests, while the limits have to be found."""


@attrs.frozen(kw_only=True)
class Minute:
    """What one minute saw. Requests are answered or refused; `jobs` counts since the start."""

    minute: int
    answered: int
    refused: int
    jobs: int
    jobs_allowed: int
    tasks_cap: int
    requests_cap: int


@attrs.frozen(kw_only=True)
class Phase:
    """One row of the table: what was finished and refused between two moments, in minutes."""

    client: str
    begins: int
    ends: int
    jobs: int
    jobs_allowed: int
    requests: int
    refused: int

    @property
    def of_allowed(self) -> float:
        """The part that was finished of what could have been."""
        return self.jobs / self.jobs_allowed

    @property
    def refused_share(self) -> float:
        """The part of the requests that was answered 429."""
        return self.refused / self.requests if self.requests else 0.0

    def complaints(self) -> list[str]:
        """What is not as it should be."""
        found: list[str] = []
        where = f"{self.client}, minutes {self.begins} to {self.ends}"
        if self.of_allowed < LEAST_FINISHED:
            found.append(f"{where}: {self.jobs} jobs of {self.jobs_allowed}")
        if self.refused > (0 if self.client.startswith("set") else MOST_REFUSED * self.requests):
            found.append(f"{where}: {self.refused} of {self.requests} requests were answered 429")
        return found


@attrs.frozen(kw_only=True)
class Story:
    """One client on one account."""

    client: str
    minutes: Sequence[Minute]

    def phases(self, length: int) -> list[Phase]:
        """The parts of so many minutes each."""
        starts = range(0, len(self.minutes), length)
        return [self._phase(begins, begins + length) for begins in starts]

    def _phase(self, begins: int, ends: int) -> Phase:
        """What happened between two moments, in minutes."""
        part = self.minutes[begins:ends]
        last, before = self.minutes[ends - 1], self.minutes[begins - 1] if begins else None
        refused = sum(minute.refused for minute in part)
        return Phase(
            client=self.client,
            begins=begins,
            ends=ends,
            jobs=last.jobs - (before.jobs if before else 0),
            jobs_allowed=last.jobs_allowed - (before.jobs_allowed if before else 0),
            requests=refused + sum(minute.answered for minute in part),
            refused=refused,
        )
