"""Tickets: one for each submit that asks to be called back, rung when a callback for it comes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final, TypeAlias

import attrs

from apixo_async._logs import LOGGER, fields
from apixo_async.webhooks import Callback, Slip, WebhookReceiver

RINGS_MAX: Final = 16
"""How often callbacks make us look at one task; a URL that leaked may be called for ever."""
IDS_MAX: Final = 8
"""Task ids that are remembered of one job; a second one is a paid task too many already."""
LEFT_MAX: Final = 10_000
"""Tickets from which on the oldest of those are dropped that nobody waits for any more."""
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
    """What callbacks have named, and for which attempt."""
    denied: set[str] = attrs.field(factory=set[str], init=False)
    """Those of them that the API does not know, or that are of another job."""
    _arriving: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    """What callbacks name that are being recorded."""
    doubted: set[str] = attrs.field(factory=set[str], init=False)
    """Those that it did not know when it was asked last; one of its servers may be behind."""
    candidate: str | None = attrs.field(default=None, init=False)
    """What a broken answer names as the task of the last attempt, if not denied."""
    task_id: str | None = attrs.field(default=None, init=False)
    """The task that the last attempt is known to have made."""
    is_left: bool = attrs.field(default=False, init=False)
    """Whether nobody waits for the callback any more."""
    has_news: bool = attrs.field(default=False, init=False)
    """Whether a callback said something that nobody has looked at yet."""
    _waiting: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    rings: int = attrs.field(default=0, init=False)
    rung_at: float = attrs.field(default=float("-inf"), init=False)

    def next_url(self) -> str:
        """The URL of one more attempt."""
        self.attempts += 1
        self.candidate = None
        return self.url(Slip(self.job, self.attempts))

    def named(self, *, but: Collection[str] = (), of_any: bool = False) -> str | None:
        """What is named as the task of the last attempt, if not denied and none of `but`.

        With `of_any`, as that of any attempt: what an earlier one made is the job's, too.
        """
        known = self._arriving | self.task_ids
        told = (name for name, at in known.items() if of_any or at == self.attempts)
        names = [name for name in told if name not in self.denied]
        if self.candidate is not None:
            names.append(self.candidate)
        return next((name for name in names if name not in but), None)

    def is_of_earlier(self, task_id: str) -> bool:
        """Whether what is named is the task of an attempt before the last one."""
        return self.task_ids.get(task_id, self.attempts) < self.attempts

    async def naming(self, *, but: Collection[str] = (), of_any: bool = False) -> str:
        """Waits until it is named."""
        while (task_id := self.named(but=but, of_any=of_any)) is None:
            self._waiting.clear()
            await self._waiting.wait()
        return task_id

    def deny(self, task_id: str) -> None:
        """This id is not that of our task.

        A candidate is asked about once more if a callback names it later.
        """
        if task_id == self.candidate:
            self.candidate = None
        if task_id in self.task_ids:
            self.denied.add(task_id)

    async def keep(self, callback: Callback) -> None:
        """Has it recorded, if there is a record. What it names counts from this moment on."""
        if self.record is None:
            return
        told = callback.claim.task_id
        if told is not None:
            self._arriving[told] = callback.slip.attempt
        try:
            await self.record(callback)
        finally:
            if told is not None:
                self._arriving.pop(told, None)

    def rule_out(self, task_ids: Collection[str]) -> None:
        """These have ended, and the job was submitted again: they are not looked for."""
        self.denied.update(task_ids)

    async def news(self) -> bool:
        """Waits for a callback that says something new; false if it was woken for nothing."""
        if not self.has_news:
            self._waiting.clear()
            await self._waiting.wait()
        has_news, self.has_news = self.has_news, False
        return has_news

    def leave(self) -> None:
        """Nobody waits any more: what a callback has named, or names later, is told to the log."""
        self.is_left = True
        self.candidate = None  # whoever leaves is told of it
        named = self.named() if self.task_id is None else None
        if named is not None and self.record is None:
            warn_of_left(named)

    def wake(self) -> None:
        """Ends a wait for news."""
        self._waiting.set()

    def know(self, task_id: str) -> None:
        """This is the task of the last attempt: callbacks tell something new if they end it."""
        self.task_id, self.candidate = task_id, None
        if task_id in self.task_ids:  # one has told of it before its submit was answered
            self.has_news = True
        else:
            self.task_ids[task_id] = self.attempts

    def take(self, callback: Callback, *, now: float, pause: float) -> bool:
        """Rings, at most every `pause` seconds for a task whose id is known already.

        Returns whether it names a task that nothing was known of.
        """
        task_id = callback.claim.task_id
        has_room = len(self.task_ids.keys() - self.denied - self.doubted) < IDS_MAX
        is_new = task_id is not None and has_room and task_id not in self.task_ids
        if is_new and task_id is not None:
            self.task_ids[task_id] = callback.slip.attempt
            self.wake()  # whoever looks for the id is told however often it rang
        is_quiet = not callback.claim.may_be_end or now < self.rung_at + pause
        if (is_new or not is_quiet) and self.rings < RINGS_MAX:
            self.rings += 1
            self.rung_at = now
            self.has_news = True
            self.wake()
        return is_new


class Callbacks:
    """The tickets of one client, by job; listens to a receiver while the client is open."""

    def __init__(self, receiver: WebhookReceiver, *, pause: float) -> None:
        self._receiver = receiver
        self._pause = pause
        self._tickets: dict[str, Ticket] = {}
        self.tell: Callable[[Callback], None] | None = None
        """Is told of what comes for a ticket that is there."""

    def open(self) -> None:
        """Is told of callbacks from now on, on the running event loop."""
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
        job = job or secrets.token_hex(_NAME_BYTES)  # no dash, which is for those of journals
        ticket = Ticket(job, self._receiver.url, attempts=attempts, record=record, owner=owner)
        ticket.close = partial(self._leave, ticket)
        self.register(ticket)
        return ticket

    def register(self, ticket: Ticket) -> None:
        """This ticket is rung from now on, (again) until it is closed."""
        self._tickets[ticket.job] = ticket
        if len(self._tickets) > LEFT_MAX:
            self._forget_left()

    def _forget_left(self) -> None:
        """Submits that stayed in doubt are not waited for until the end of all days."""
        left = [ticket for ticket in self._tickets.values() if ticket.is_left]
        for ticket in left[: max(0, len(left) - LEFT_MAX // 2)]:
            ticket.close()

    def close_all_of(self, owner: object) -> None:
        """Closes every ticket of this owner."""
        for ticket in list(self._tickets.values()):
            if ticket.owner is owner:
                ticket.close()

    async def orphaned(self) -> Collection[str]:
        """Jobs that something came for that nobody has taken."""
        return await self._receiver.orphaned()

    async def take_orphans(self, ticket: Ticket) -> None:
        """Takes what came for a ticket's job before it was here."""
        for callback in await self._receiver.orphans_of(ticket.job):
            if await self._take(callback):
                await self._receiver.drop_orphan(callback)

    def _leave(self, ticket: Ticket) -> None:
        if self._tickets.get(ticket.job) is ticket:
            del self._tickets[ticket.job]

    async def _take(self, callback: Callback) -> bool:
        ticket = self._tickets.get(callback.slip.job)
        if ticket is None or callback.slip.attempt > ticket.attempts:
            return False
        if self.tell is not None:
            self.tell(callback)
        await ticket.keep(callback)
        is_new = self.ring(ticket, callback)
        if is_new and ticket.record is None:
            _warn(ticket, callback)
        return True

    def ring(self, ticket: Ticket, callback: Callback) -> bool:
        """Tells whoever waits; returns whether the callback names a task that is new."""
        now = asyncio.get_running_loop().time()
        return ticket.take(callback, now=now, pause=self._pause)


def _warn(ticket: Ticket, callback: Callback) -> None:
    """What no journal keeps is told to the log: tasks that are billed and that nobody waits for."""
    told = callback.claim.task_id
    if ticket.task_id is not None:
        LOGGER.critical(
            "a callback names task %s beside %s, for one submit: both may be billed",
            told,
            ticket.task_id,
            extra=fields("task_paid_twice", task_id=ticket.task_id, other_task_id=told),
        )
    elif ticket.is_left:
        warn_of_left(told)


def warn_of_left(task_id: str | None) -> None:
    """A callback has named a task, and whoever waited for it has left."""
    LOGGER.warning(
        "task %s is that of a submit that nobody waits for any more; it is billed",
        task_id,
        extra=fields("task_left", task_id=task_id),
    )
