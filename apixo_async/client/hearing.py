"""Finding the task of a submit whose answer was lost, by what names it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async.client.callbacks import Ticket
from apixo_async.client.closing import Closing
from apixo_async.client.doubts import denied
from apixo_async.client.judging import is_denied
from apixo_async.client.submission import Bookkeeper, Confirm, Submission
from apixo_async.client.telling import Teller
from apixo_async.errors import ClientUsageError, SubmitUncertainError
from apixo_async.tasks import Task

PAUSE: Final = 5.0
"""Seconds before an id is asked about again that the API neither knew nor denied."""
EARLY_GRACE: Final = 2.0
"""Seconds that a submit's answer may come after the callback of its task."""
DENIED_PAUSE: Final = 30.0
"""Seconds before an id is asked about again that the API has denied so far."""


class Hearing:
    """Asks about what callbacks and a broken answer name, and waits for more callbacks.

    It is ours once the API confirms it and nobody has it.
    """

    def __init__(
        self,
        closing: Closing,
        books: Bookkeeper,
        *,
        confirm: Confirm,
        is_known: Callable[[Submission, str], bool],
        teller: Teller | None = None,
    ) -> None:
        self._teller = teller
        self._closing = closing
        self._books = books
        self._confirm = confirm
        self._is_known = is_known

    async def task_of(self, submission: Submission, error: SubmitUncertainError) -> Task:
        """The task, from the moment its slot is its own; after the window, raises the doubt.

        That is `error`, or the same with its candidate denied. Without callbacks it is raised as
        soon as there is nothing left to ask about.
        """
        ticket, submission.doubt = submission.ticket, error
        if ticket is None:
            if error.open_candidate is None:
                raise error
            ticket = Ticket("", lambda _: "")  # nothing rings it: it holds the candidate alone
        ticket.candidate = error.open_candidate
        task: Task | None = None
        try:
            with contextlib.suppress(ClientUsageError, TimeoutError):
                async with asyncio.timeout(submission.window):
                    with self._closing.waiting():
                        task = await self._found(submission, ticket)
        except asyncio.CancelledError:
            ticket.leave()
            LOGGER.warning(
                "a submit whose caller was cancelled is in doubt: %s",
                submission.doubt,
                extra=fields(
                    "orphan_in_doubt",
                    model=submission.request.model,
                    key=submission.key,
                    error=submission.doubt,
                ),
            )
            raise
        if task is None:
            ticket.leave()
            raise submission.doubt
        LOGGER.info(
            "task %s (%s) is that of a submit whose answer was lost",
            task.id,
            task.model,
            extra=fields("task_identified", task_id=task.id, model=task.model, key=submission.key),
        )
        if self._teller is not None:
            self._teller.identified(submission, task.id)
        if submission.observer is not None:
            await submission.observer.identified(task)
        return task

    async def confirmed(self, submission: Submission, ticket: Ticket) -> str:
        """A task of the attempt under way, once a callback has named it and the API knows it."""
        asked = set[str]()
        await ticket.naming()
        await asyncio.sleep(EARLY_GRACE)
        while True:
            task_id = await _next_named(ticket, asked, PAUSE, of_any=False)
            asked.add(task_id)
            if await self.is_there(submission, task_id):
                return task_id

    async def _found(self, submission: Submission, ticket: Ticket) -> Task | None:
        """`None` if what was named is denied, and nobody will name anything else."""
        asked, denied_since = set[str](), dict[str, float]()
        while True:
            pause = DENIED_PAUSE if asked <= denied_since.keys() else PAUSE
            task_id = await _next_named(ticket, asked, pause)
            asked.add(task_id)
            is_there = await self.is_there(submission, task_id)
            now = asyncio.get_running_loop().time()
            age, span = now - submission.sent_at, now - denied_since.get(task_id, now)
            is_anothers = self._is_known(submission, task_id)
            if is_anothers or is_denied(is_there=is_there, age=age, span=span):
                await self._deny(submission, ticket, task_id)
                if submission.ticket is None:
                    return None
            elif is_there:
                return self._take(submission, ticket, task_id, age)
            elif is_there is None:
                denied_since.pop(task_id, None)
            else:
                denied_since.setdefault(task_id, now)
                ticket.doubted.add(task_id)

    def _take(self, submission: Submission, ticket: Ticket, task_id: str, age: float) -> Task:
        """The task that was found; that of an earlier attempt leaves the last one its slot."""
        task = Task(id=task_id, model=submission.request.model)
        if ticket.is_of_earlier(task_id) and submission.is_in_doubt:
            self._books.adopt(task, age=age, ticket=ticket)
        else:
            self._books.task_started(task, submission.lease, ticket=ticket, age=age)
        return task

    async def is_there(self, submission: Submission, task_id: str) -> bool | None:
        """Whether the API knows this id as nobody else's; `None` if it could not be asked."""
        if self._is_known(submission, task_id):
            return False
        return await self._confirm(task_id, submission.request.model)

    async def _deny(self, submission: Submission, ticket: Ticket, task_id: str) -> None:
        doubt, is_candidate = submission.doubt, task_id == ticket.candidate
        ticket.deny(task_id)
        if doubt is None or not is_candidate:
            return
        submission.doubt = denied(doubt)
        if submission.observer is not None:
            await submission.observer.denied(submission.doubt)


async def _next_named(ticket: Ticket, asked: set[str], pause: float, *, of_any: bool = True) -> str:
    """What is to be asked about: anything new at once, the rest in turn after a pause.

    That is what is named for any attempt, or for the last one alone.
    """
    if asked:
        try:
            async with asyncio.timeout(pause):
                return await ticket.naming(but=asked, of_any=of_any)
        except TimeoutError:
            asked.clear()
    return await ticket.naming(of_any=of_any)
