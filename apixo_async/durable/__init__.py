"""Jobs of many processes: each is submitted at most once, whoever carries it, and however often."""

from apixo_async.durable.jobs import DurableJobs
from apixo_async.durable.ledger import Ledger
from apixo_async.durable.rows import MemoryRows, Rows
from apixo_async.durable.steps import Step, reconciled, step_of

__all__ = [
    "DurableJobs",
    "Ledger",
    "MemoryRows",
    "Rows",
    "Step",
    "reconciled",
    "step_of",
]
