"""Thousands of generations: the runner, its events, its outcomes."""

from apixo_async.batch.outcomes import BatchReport, Job, Outcome, OutcomeStatus, StopReason
from apixo_async.batch.runner import BatchRunner
from apixo_async.batch.stream import OutcomeStream

__all__ = [
    "BatchReport",
    "BatchRunner",
    "Job",
    "Outcome",
    "OutcomeStatus",
    "OutcomeStream",
    "StopReason",
]
