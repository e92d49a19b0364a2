"""Jobs of many processes: each is submitted at most once, whoever carries it, and however often."""

from apixo_async.batch.journal import JobState
from apixo_async.durable.jobs import DurableJobs
from apixo_async.durable.ledger import Ledger
from apixo_async.durable.rows import MemoryRows, Rows

__all__ = ["DurableJobs", "JobState", "Ledger", "MemoryRows", "Rows"]
