"""What a gate tells of itself."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class GateStatistics:
    """A snapshot of the gate. The caps are what the account was found to allow."""

    requests: int
    """Requests so far."""
    requests_last_minute: int
    """Requests in the last 60 seconds, exact to the second."""
    tasks: int
    """Slots that are taken: tasks that run or may run, and jobs that are about to be sent."""
    tasks_peak: int
    """The most slots that were taken at once."""
    tasks_cap: int
    """Unfinished tasks that are allowed at present; `Limits.concurrent_tasks` at most."""
    requests_cap: int
    """Requests a minute that are allowed at present; `Limits.requests_per_minute` at most."""
    waiting: int
    """Callers that wait for a slot."""
    throttled: int
    """Answers with 429 so far."""
    closed_for: float
    """Seconds for which nothing is sent because of a 429; 0 while the gate is open."""
    is_shared: bool = False
    """Whether other processes hold the limits together with this one."""
    tasks_granted: int | None = None
    """Slots that this process may have at present as its share, 0 if its lease has ended; `None`
    where nothing is shared. All other numbers but `tasks_cap` are of this process alone, too."""
    is_store_reachable: bool = True
    """Whether the store of shared limits answered when it was last asked. While it does not,
    nothing is sent."""
