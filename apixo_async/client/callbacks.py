"""Tickets: one for each submit that asks to be called back, rung when a callback for it comes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs

from apixo_async.webhooks import Callback, Slip, WebhookReceiver

_LOGGER = logging.getLogger("apixo_async")

RINGS_MAX: Final = 16
"""How often callbacks make us look at one task; a URL that leaked may be called for ever."""
IDS_MAX: Final = 8
"""Task ids that are remembered of one job; a second one is a paid task too many already."""
_NAME_BYTES: Final = 16

Record: TypeAlias = Callable[[Callback], Awaitable[None]]
"""Makes durable what a callback says; an error raised there makes its sender come again."""


@attrs.define(eq=False)
class Ticket:
    """What is known by callbacks of one job. `attempts` were made so far, in all processes."""

    job: str
    url: Callable[[Slip], str]
    close: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    """Nothing more is to be known of this job."""
    attempts: int = 0
    record: Record | None = None
    owner: object = None
    task_ids: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    """The attempts that callbacks have named a task for."""
    has_news: bool = attrs.field(default=False, init=False)
    """Whether a callback said something that nobody has looked at yet."""
    _waiting: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    rings: int = attrs.field(default=0, init=False)
    rung_at: float = attrs.field(default=float("-inf"), init=False)

    def next_url(self) -> str:
        """The URL of one more attempt."""
        self.attempts += 1
        return self.url(Slip(self.job, self.attempts))

    def named(self, *, but: Collection[str] = ()) -> str | None:
        """What callbacks name as the task of the last attempt, if none of `but`."""
        names = (name for name, attempt in self.task_ids.items() if attempt == self.attempts)
        return next((name for name in names if name not in but), None)

    async def naming(self, *, but: Collection[str] = ()) -> str:
        """Waits for a callback that names it."""
        while (task_id := self.named(but=but)) is None:
            await self.news()
        return task_id

    async def news(self) -> bool:
        """Waits for a callback that says something new; false if it was woken for nothing."""
        if not self.has_news:
            self._waiting.clear()
            await self._waiting.wait()
        has_news, self.has_news = self.has_news, False
        return has_news

    def wake(self) -> None:
        """Ends a wait for news."""
        self._waiting.set()

    def know(self, task_id: str) -> None:
        """This is the task of the last attempt: callbacks tell something new if they end it."""
        if task_id in self.task_ids:  # one has told of it before its submit was answered
            self.has_news = True
        else:
            self.task_ids[task_id] = self.attempts

    def take(self, callback: Callback, *, now: float, pause: float) -> None:
        """Rings, at most every `pause` seconds for a task whose id is known already."""
        task_id = callback.claim.task_id
        is_new = task_id is not None and task_id not in self.task_ids
        if is_new and task_id is not None and len(self.task_ids) < IDS_MAX:
            self.task_ids[task_id] = callback.slip.attempt
        if not is_new and (not callback.claim.may_be_end or now < self.rung_at + pause):
            return
        if self.rings < RINGS_MAX:
            self.rings += 1
            self.rung_at = now
            self.has_news = True
            self.wake()


class Callbacks:
    """The tickets of one client, by job; listens to a receiver while the client is open."""

    def __init__(self, receiver: WebhookReceiver, *, pause: float) -> None:
        self._receiver = receiver
        self._pause = pause
        self._tickets: dict[str, Ticket] = {}
        self._is_open = False

    def open(self) -> None:
        """Is told of callbacks from now on, on the running event loop."""
        if not self._is_open:
            self._is_open = True
            self._receiver.connect(self._take)

    def close(self) -> None:
        """Is told no more."""
        self._receiver.disconnect(self._take)
        self._tickets.clear()

    def connect(self, listener: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells `listener` of callbacks that none of our tickets is for."""
        self._receiver.connect(listener)

    def disconnect(self, listener: Callable[[Callback], Awaitable[bool]]) -> None:
        """Tells it no more."""
        self._receiver.disconnect(listener)

    def ticket(
        self,
        job: str | None = None,
        *,
        attempts: int = 0,
        record: Record | None = None,
        owner: object = None,
    ) -> Ticket:
        """A new ticket; without `job`, of a name that nobody has or can guess."""
        job = job or secrets.token_urlsafe(_NAME_BYTES)
        ticket = Ticket(job, self._receiver.url, attempts=attempts, record=record, owner=owner)
        ticket.close = partial(self._leave, ticket)
        self.register(ticket)
        return ticket

    def register(self, ticket: Ticket) -> None:
        """This ticket is rung from now on, (again) until it is closed."""
        self._tickets[ticket.job] = ticket

    def close_all_of(self, owner: object) -> None:
        """Closes every ticket of this owner."""
        for ticket in list(self._tickets.values()):
            if ticket.owner is owner:
                ticket.close()

    async def orphans_of(self, job: str) -> Sequence[Callback]:
        """What came for a job before it had a ticket; it is given away."""
        return await self._receiver.orphans_of(job)

    async def take_orphans(self, ticket: Ticket) -> None:
        """Takes what came for a ticket's job before it was here."""
        for callback in await self.orphans_of(ticket.job):
            await self._take(callback)

    def _leave(self, ticket: Ticket) -> None:
        if self._tickets.get(ticket.job) is ticket:
            del self._tickets[ticket.job]

    async def _take(self, callback: Callback) -> bool:
        ticket = self._tickets.get(callback.slip.job)
        if ticket is None or callback.slip.attempt > ticket.attempts:
            return False
        if ticket.record is not None:
            await ticket.record(callback)
        ticket.take(callback, now=asyncio.get_running_loop().time(), pause=self._pause)
        return True
