"""Why a job or a batch was ended by us: errors of our own, and the reasons that errors give."""

from __future__ import annotations

from apixo_async.batch.outcomes import StopReason
from apixo_async.batch.spending import Budget, in_usd
from apixo_async.errors import (
    ApixoError,
    AuthenticationError,
    InsufficientCreditsError,
    JournalError,
)


class StoppedWaitingError(ApixoError):
    """We left while the task was still running."""

    def __init__(self) -> None:
        super().__init__(
            "the batch was ended before this task was; it goes on: wait for it by its id"
        )


class UnexpectedError(ApixoError):
    """An error that nothing here provides for; the log has its traceback.

    It is not chained to its cause, which may be an aiohttp error, whose repr holds the API key.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"unexpected {type(cause).__name__}: {cause}")


class BudgetError(ApixoError):
    """The next job would pass the cap."""

    def __init__(self, budget: Budget) -> None:
        left = "" if budget.left is None else f", {in_usd(budget.left)} are left"
        super().__init__(
            f"the next job would cost more than max_cost allows ({in_usd(budget.spent)} may be "
            f"spent by now{left}); raise it to go on"
        )


def stop_reason(error: ApixoError) -> StopReason:
    """What a batch is stopped for when a submit raises this."""
    match error:
        case AuthenticationError():
            return StopReason.KEY
        case InsufficientCreditsError():
            return StopReason.BALANCE
        case JournalError():
            return StopReason.JOURNAL
        case _:
            return StopReason.UNREACHABLE
