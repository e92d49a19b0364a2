"""The durable record of a batch: one SQLite file, written before anything happens that costs."""

from apixo_async.batch.journal.entries import ENDED, Entry, JobState
from apixo_async.batch.journal.store import CRASHED, Journal, Spent, check_same

__all__ = ["CRASHED", "ENDED", "Entry", "JobState", "Journal", "Spent", "check_same"]
