"""What the server saw and did, kept for whoever wants to check a client against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs


def _nothing() -> None:
    """Stand in for `refresh` in a copy, which no longer changes."""


@attrs.define(eq=False)
class Ledger:
    """Counts since the start or the last reset; reading it costs nobody a request.

    A live object: its numbers move while the emulator runs. `snapshot` returns one that stays.
    """

    refresh: Callable[[], None] = attrs.field(default=_nothing, repr=False)
    """Brings the numbers that depend on the clock up to date."""

    billed: Counter[str] = attrs.field(factory=Counter[str])
    """Accepted, and therefore billed, tasks by prompt."""
    submits_seen: Counter[str] = attrs.field(factory=Counter[str])
    """POSTs whose body arrived by prompt, accepted or not."""
    cost_usd: float = 0.0
    """US dollars that were billed."""
    rejected: Counter[str] = attrs.field(factory=Counter[str])
    """Refused submits by the envelope's code, as text."""
    requests: Counter[str] = attrs.field(factory=Counter[str])
    """API requests by kind: submit, status, balance, other."""
    throttled: Counter[str] = attrs.field(factory=Counter[str])
    """429 answers by cause: rate, concurrency, injected."""
    unauthorized: int = 0
    """Requests without the right key."""
    peak_requests_per_window: int = 0
    """Most requests in any minute of API time, refused ones included."""
    peak_unfinished: int = 0
    """Most unfinished tasks at once."""
    unfinished: int = 0
    """Unfinished tasks at this moment."""
    finished: Counter[str] = attrs.field(factory=Counter[str])
    """Ended tasks by outcome."""
    files_served: int = 0
    """Answers with a file or a part of one; a HEAD does not count."""
    files_asked_with_key: int = 0
    """File requests that came with an Authorization header; there must be none."""
    redirects_followed: int = 0
    """Requests that arrived behind a 307; there must be none."""
    redirects_followed_with_key: int = 0
    """Those of them that carried the key; there must be none."""
    callbacks: Counter[str] = attrs.field(factory=Counter[str])
    """Callbacks: delivered, failed, retried, lost, doubled, early, forged, reordered."""
    faults: Counter[str] = attrs.field(factory=Counter[str])
    """Faults injected by name; one that stays with a task counts once."""
    makespan_s: float = 0.0
    """Real seconds from the first acceptance to the last end of a task."""
    bound_s: float = 0.0
    """Real seconds the same tasks would have taken on the same slots without any delay."""

    @property
    def billed_total(self) -> int:
        """How many tasks were billed."""
        return self.billed.total()

    @property
    def accepted(self) -> int:
        """How many submits were accepted; each was billed."""
        return self.billed.total()

    @property
    def billed_twice(self) -> list[str]:
        """Prompts that were billed more than once."""
        return sorted(prompt for prompt, count in self.billed.items() if count > 1)

    @property
    def requests_total(self) -> int:
        """How many API requests came in, refused ones included."""
        return self.requests.total()

    def snapshot(self) -> Ledger:
        """Return a copy that no longer changes, brought up to date."""
        self.refresh()
        copy = attrs.evolve(self, refresh=_nothing)
        for field in attrs.fields(Ledger):
            value = getattr(copy, field.name)
            if isinstance(value, Counter):
                setattr(copy, field.name, value.copy())
        return copy

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        self.refresh()
        return {
            "billed": dict(self.billed),
            "billed_total": self.billed_total,
            "billed_twice": self.billed_twice,
            "cost_usd": self.cost_usd,
            "accepted": self.accepted,
            "rejected": dict(self.rejected),
            "submits_seen": dict(self.submits_seen),
            "requests_total": self.requests_total,
            "requests": _with_zeros(self.requests, "submit", "status", "balance"),
            "peak_requests_per_window": self.peak_requests_per_window,
            "peak_unfinished": self.peak_unfinished,
            "unfinished": self.unfinished,
            "throttled": _with_zeros(self.throttled, "rate", "concurrency", "injected"),
            "unauthorized": self.unauthorized,
            "finished": _with_zeros(self.finished, "success", "failed"),
            "files_served": self.files_served,
            "files_asked_with_key": self.files_asked_with_key,
            "redirects_followed": self.redirects_followed,
            "redirects_followed_with_key": self.redirects_followed_with_key,
            "callbacks": _with_zeros(self.callbacks, "delivered", "failed", "retried"),
            "faults": dict(self.faults),
            "makespan_s": self.makespan_s,
            "bound_s": self.bound_s,
        }


def _with_zeros(counts: Counter[str], *always: str) -> dict[str, int]:
    return {**dict.fromkeys(always, 0), **counts}
