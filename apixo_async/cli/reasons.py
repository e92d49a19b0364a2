"""What went wrong lately, each reason with its meaning: a few lines, in bounded memory."""

from __future__ import annotations

from typing import Final

import attrs

from apixo_async.batch.outcomes import Outcome, OutcomeStatus
from apixo_async.cli.results import is_saved, outcome_advice, reason_of

REASONS_MAX: Final = 20
OTHERS: Final = "other reasons"


@attrs.frozen
class Reason:
    """Jobs that ended badly for the same reason."""

    status: str
    """`failed`, `timed out`, `uncertain`, `not saved`."""
    count: int
    why: str
    advice: str
    """What to do about it; may be empty."""
    last: str = ""
    """The key of the last of them."""


class Reasons:
    """Takes in outcomes; what never began is left out, since its reason is the batch's."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], Reason] = {}

    def add(self, outcome: Outcome) -> None:
        """Takes in an outcome, also one without any fault."""
        if is_saved(outcome) or outcome.status is OutcomeStatus.NOT_STARTED:
            return
        status = "not saved" if outcome.status is OutcomeStatus.SUCCEEDED else outcome.status
        name = (status.replace("_", " "), reason_of(outcome))
        if name not in self._reasons and len(self._reasons) >= REASONS_MAX:
            name = (name[0], OTHERS)
        before = self._reasons.pop(name, None)
        self._reasons[name] = Reason(
            status=name[0],
            count=1 if before is None else before.count + 1,
            why=name[1],
            advice="" if name[1] == OTHERS else outcome_advice(outcome.error),
            last=outcome.key,
        )

    @property
    def latest(self) -> tuple[Reason, ...]:
        """The reasons, the one that was met last first."""
        return tuple(reversed(self._reasons.values()))
