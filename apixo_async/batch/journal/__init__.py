"""The durable record of a batch: one SQLite file, written before anything happens that costs."""

from apixo_async.batch.journal.entries import ENDED, Entry, JobState, stamp
from apixo_async.batch.journal.history import (
    CALLED_BACK,
    EARLIER,
    IDS_MAX,
    OTHER_TASKS,
    after,
    is_unheard_of,
    open_attempt,
    past_tasks,
)
from apixo_async.batch.journal.ledger import check_same
from apixo_async.batch.journal.leftovers import (
    CRASHED,
    doubt_after_crash,
    is_to_submit,
    is_to_submit_again,
    may_be_called_back,
    open_candidate,
)
from apixo_async.batch.journal.noted import Noted, read_noted
from apixo_async.batch.journal.overview import Overview
from apixo_async.batch.journal.reading import JournalReader
from apixo_async.batch.journal.reads import Spent
from apixo_async.batch.journal.store import Journal
from apixo_async.batch.journal.traffic import Traffic, until_next_sample

__all__ = [
    "CALLED_BACK",
    "CRASHED",
    "EARLIER",
    "ENDED",
    "IDS_MAX",
    "OTHER_TASKS",
    "Entry",
    "JobState",
    "Journal",
    "JournalReader",
    "Noted",
    "Overview",
    "Spent",
    "Traffic",
    "after",
    "check_same",
    "doubt_after_crash",
    "is_to_submit",
    "is_to_submit_again",
    "is_unheard_of",
    "may_be_called_back",
    "open_attempt",
    "open_candidate",
    "past_tasks",
    "read_noted",
    "stamp",
    "until_next_sample",
]
