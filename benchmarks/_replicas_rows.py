"""How large the cases are, and what is told of each."""

from __future__ import annotations

from typing import Any, Final

import attrs

from benchmarks._replicas_stage import Account

ROUNDS: Final = 20
JOBS: Final = 3_000


@attrs.frozen(kw_only=True)
class Scale:
    """By default as the cases are meant."""

    jobs: int = JOBS
    rounds: int = ROUNDS
    is_quick: bool = False
    """Whether all is small, so that it is over in two minutes, and side by side, so that no time
    that it takes is judged."""

    def of(self, account: Account) -> Account:
        """The account of a case."""
        return attrs.evolve(account, cap=min(account.cap, 20)) if self.is_quick else account

    def of_round(self, jobs: int) -> int:
        """Jobs of a round."""
        return jobs // 3 if self.is_quick else jobs


@attrs.define
class Row:
    """What one case showed."""

    case: int
    title: str
    seconds: float
    facts: list[str]
    """In words, for the table."""
    complaints: list[str]
    """What is not as it must be."""
    figures: dict[str, Any]

    @property
    def has_passed(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.complaints
