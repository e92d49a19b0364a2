"""Jobs in doubt whose process has gone: a callback or a broken answer may still name their task."""

from __future__ import annotations

from apixo_async.batch.carrying import Carrier
from apixo_async.batch.doubts import window_of
from apixo_async.batch.journal import Entry, may_be_called_back, open_candidate
from apixo_async.batch.outcomes import Outcome
from apixo_async.client.engine import Engine
from apixo_async.durable.ledger import Ledger
from apixo_async.errors import SubmitUncertainError


async def heard(
    engine: Engine, carrier: Carrier, ledger: Ledger, entry: Entry, deadline: float
) -> Outcome | None:
    """The outcome of a job in doubt; `None` if it is in doubt no more.

    Its slot is kept for a stated time, because its task may be running.
    """
    lease = engine.books.hold_for((ledger.name, entry.number), age=entry.doubt_age)
    outcome = entry.outcome(0)
    may_call_back = engine.callbacks is not None and may_be_called_back(entry)
    if not may_call_back and open_candidate(entry) is None:
        return outcome
    story = carrier.story(0, entry.job(), entry)
    if may_call_back:
        carrier.ticket(story)

    async def now() -> Entry:
        return await ledger.read(entry.key) or entry

    try:
        window = await window_of(engine.callbacks, story, entry, now, deadline=deadline)
        if window <= 0 or not isinstance(outcome.error, SubmitUncertainError):
            return outcome
        return await carrier.hear(story, outcome.error, lease, window)
    finally:
        if story.ticket is not None and story.task is None:
            story.ticket.close()
