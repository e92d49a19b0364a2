"""What is shown of a batch at one moment: values, whoever counted them."""

from __future__ import annotations

import attrs

from apixo_async.cli.money import Cost
from apixo_async.cli.reasons import Reason


@attrs.frozen
class Traffic:
    """Both limits and how much of them is used, as the client counts."""

    requests_last_minute: int
    requests_per_minute: int
    unfinished_tasks: int
    task_cap: int
    closed_for: float = 0.0
    """Seconds for which nothing is sent because the API answered 429."""
    speed: float = 1.0
    """How fast the API's clock goes; the requests are those of a real minute."""
    task_limit: int | None = None
    """The tasks that were asked for; the cap is lower where the account was found to allow less."""


@attrs.frozen(kw_only=True)
class Figures:
    """What a display shows at one moment. `total` and `eta` are `None` while unknown."""

    total: int | None
    done: int
    running: int
    queued: int
    saving: int
    succeeded: int
    failed: int
    uncertain: int
    eta: float | None
    timed_out: int = 0
    doubtful: int = 0
    """Jobs whose submit was not answered, and whose callback may still come."""
    trouble: str = ""
    """Why submits do not leave at the moment."""
    late: int = 0
    """Tasks that run longer than any that has ended."""
    per_minute: float | None = None
    """Tasks that ended, over the last minutes; `None` before the first submit."""
    saves: bool = False
    """Whether results are downloaded."""
    cost: Cost | None = None
    """`None` where nobody gave prices."""
    reasons: tuple[Reason, ...] = ()
    """What went wrong lately, the latest first."""

    @property
    def share(self) -> float:
        """The part of the jobs that is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0
