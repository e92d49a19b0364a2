"""What a 429 means, as pure decisions: how long everybody pauses, and whose limit it was.

The API answers 429 for both of its limits and does not say which one was hit.
"""

from __future__ import annotations

from typing import Final

import attrs

from apixo_async._timing import full_jitter

PAUSE_BASE: Final = 1.0
PAUSE_CAP: Final = 60.0
RETRY_AFTER_CAP: Final = 120.0
"""A longer `Retry-After` is cut to this: a broken header must not stop a batch for a year."""
RETRY_AFTER_JITTER: Final = 0.1
"""Callers come back spread over this part of the pause, never all in one instant."""

LOW_RATE: Final = 0.5
"""Below this part of our request limit a 429 on a submit is not about the request rate."""

PROBE_FIRST: Final = 5.0
PROBE_LAST: Final = 300.0
"""Seconds between attempts to raise a lowered task cap: first, and at most after doubling."""


def pause_seconds(retry_after: float | None, *, episode: int, unit: float) -> float:
    """How long the gate stays closed after the `episode`-th 429 in a row (from 1).

    The server's `Retry-After` counts where given, cut to 0-120 s and lengthened by up to a tenth.
    Otherwise, and beside a `Retry-After` of nearly nothing, exponential backoff with full jitter.
    """
    backoff = full_jitter(unit, base=PAUSE_BASE, cap=PAUSE_CAP, attempt=episode - 1)
    if retry_after is None:
        return backoff
    asked = min(max(retry_after, 0.0), RETRY_AFTER_CAP) * (1 + RETRY_AFTER_JITTER * unit)
    return asked if episode == 1 else max(asked, backoff)


def is_task_limit(*, episode: int, rate: float, running: int, is_lowered: bool) -> bool:
    """Whether a 429 on a submit is about unfinished tasks and not about the request rate.

    `rate` is the part of our own request limit in use. One 429 may be a passing fault, so it takes
    two in a row (no submit accepted in between), or one while the cap is lowered already.
    """
    return running > 0 and rate < LOW_RATE and (episode > 1 or is_lowered)


@attrs.frozen
class CapFinder:
    """Finds the account's real task limit below the configured one; every step gives a new value.

    When `is_task_limit` blames the account's task limit, `cap` drops to what is running. It grows
    back by probing: one step when someone waits and `probe_every` seconds have passed, the step
    doubling while it goes well, the interval doubling each time it does not.
    """

    limit: int
    cap: int
    step: int = 1
    probe_every: float = PROBE_FIRST
    next_probe: float = 0.0

    def refused(self, *, running: int, now: float) -> CapFinder:
        """The account refused a task beside `running` unfinished ones."""
        return attrs.evolve(
            self,
            cap=max(1, min(running, self.limit)),
            step=1,
            next_probe=now + self.probe_every,
            probe_every=min(self.probe_every * 2, PROBE_LAST),
        )

    def accepted(self, *, running: int, now: float) -> CapFinder:
        """A task was accepted; if it fills the cap, the last probe was right: go on faster."""
        if self.cap >= self.limit or running < self.cap or self.step == 1:
            return self
        soon = min(self.next_probe, now + PROBE_FIRST)
        return attrs.evolve(self, probe_every=PROBE_FIRST, next_probe=soon)

    def probed(self, *, now: float) -> CapFinder:
        """Raises the cap by one step if it is time to try."""
        if self.cap >= self.limit or now < self.next_probe:
            return self
        return attrs.evolve(
            self,
            cap=min(self.limit, self.cap + self.step),
            step=min(self.step * 2, self.limit),
            next_probe=now + self.probe_every,
        )
