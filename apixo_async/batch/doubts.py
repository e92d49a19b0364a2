"""For how long the task of a submit whose process has gone is looked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from apixo_async.batch.journal import CALLED_BACK, EARLIER, Entry, open_candidate
from apixo_async.batch.story import Story
from apixo_async.client.callbacks import Callbacks

CONFIRM_SECONDS: Final = 240.0
"""What the API may take to say whether it knows a task that was named long ago."""


async def window_of(
    callbacks: Callbacks | None,
    story: Story,
    entry: Entry,
    now: Callable[[], Awaitable[Entry]],
    *,
    deadline: float,
) -> float:
    """Seconds, 0 or less for none; its ticket learns what was named before.

    `now` gives the job by its record, once what callbacks have said until then is in it.
    """
    window, is_named = 0.0, open_candidate(entry) is not None
    ticket = story.ticket
    if callbacks is not None and ticket is not None:
        await callbacks.take_orphans(ticket)
        why = (await now()).why()
        for name, attempt in ((CALLED_BACK, entry.attempts), (EARLIER, entry.attempts - 1)):
            for task_id in why.get(name, ()):
                ticket.task_ids.setdefault(task_id, attempt)
        window = deadline - entry.doubt_age
        is_named = is_named or ticket.named(of_any=True) is not None
    return max(window, CONFIRM_SECONDS) if is_named else window
