"""The engine room behind the verbs: gate, transport, submits, looks and slots of one client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from apixo_async._hooks import Hook
from apixo_async._logs import LOGGER, fields
from apixo_async._transport import Transport
from apixo_async.client.books import Books
from apixo_async.client.callbacks import Callbacks, Ticket
from apixo_async.client.closing import Closing, all_done, listed
from apixo_async.client.reading import Reader
from apixo_async.client.reclaiming import Reclaimer
from apixo_async.client.submission import Submission, SubmitObserver
from apixo_async.client.submitting import Submitter
from apixo_async.client.telling import Teller
from apixo_async.client.tracking import Tracker
from apixo_async.client.watches import Watch
from apixo_async.client.watching import Watcher
from apixo_async.errors import (
    ApixoError,
    ClientUsageError,
    SubmitUncertainError,
    TaskTimeoutError,
)
from apixo_async.events import ClientEvent, Closed, TimedOut
from apixo_async.limits import Gate, Lease, Limits
from apixo_async.polling import (
    DOCUMENTED_SHARE,
    LearnedSchedule,
    Look,
    Pacer,
    PollSchedule,
)
from apixo_async.tasks import Task
from apixo_async.veo import Request

if TYPE_CHECKING:
    from apixo_async.webhooks import WebhookReceiver

SUBMIT_PATIENCE: Final = 15.0
"""Seconds for which a single call goes on trying to reach a host before it says so."""
_ELSEWHERE: Final = "this client belongs to another event loop; open one client per loop"


class Engine:
    """Everything one client does. Bound to the event loop that first uses it."""

    def __init__(
        self,
        open_transport: Callable[[], Transport],
        *,
        limits: Limits,
        schedule: PollSchedule,
        gate: Gate | None = None,
        webhook: WebhookReceiver | None = None,
        rng: random.Random | None = None,
        hook: Hook[ClientEvent] | None = None,
        base_url: str = "",
    ) -> None:
        self._teller = None if hook is None else Teller(hook, base_url)
        self._open_transport = open_transport
        self._rng = rng or random.Random()  # noqa: S311  # jitter, not secrets
        self.schedule = schedule
        self.gate = Gate(limits) if gate is None else gate
        self.gate.belong_to(self._rng, hook)
        self.tracker = Tracker()
        if self._teller is not None:
            self.tracker.released = self._teller.released
        self.books = Books(self.gate, self.tracker, schedule, self._teller)
        self.closing = Closing()
        self.callbacks: Callbacks | None = None
        """Where submits get their callbacks from, if they ask for any."""
        if webhook is not None:
            self.callbacks = Callbacks(webhook, pause=schedule.interval)
            if self._teller is not None:
                self.callbacks.tell = self._teller.called_back
        self.reader = Reader(self.gate, self._teller)
        self._pacer = Pacer(self.gate.poll_budget)
        self._watcher = Watcher(
            self.look,
            self.closing,
            pacer=self._pacer,
            polls_per_second=lambda: self.gate.poll_budget(DOCUMENTED_SHARE),
            key_worked=lambda: self.reader.key_worked,
            rng=self._rng,
        )
        self._transport: Transport | None = None
        self._submitter: Submitter | None = None
        self._reclaimer = Reclaimer(self.gate, self.tracker, self.look, schedule, rng=self._rng)
        self.gate.ran_short = self._reclaimer.start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_down = asyncio.Event()
        self._outliving: set[asyncio.Task[Any]] = set()

    # Opening and closing

    def open(self) -> Transport:
        """The transport, opened at first use; says so when the client is closed or elsewhere."""
        self.closing.check()
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._loop = loop
            self._transport = self._open_transport()
            if self.callbacks is not None:
                self.callbacks.open()
            if self._teller is not None:
                self._teller.opened(self.gate.limits)
        elif self._loop is not loop:
            raise ClientUsageError(_ELSEWHERE)
        return self._transport

    def check_loop(self) -> None:
        """Raises `ClientUsageError` on another event loop than the client's, while that runs."""
        loop = self._loop
        if loop is not None and loop is not asyncio.get_running_loop() and loop.is_running():
            raise ClientUsageError(_ELSEWHERE)

    @property
    def is_open(self) -> bool:
        """Whether something was opened that has to be closed."""
        return self._transport is not None and not self.closing.is_closed

    @property
    def submitter(self) -> Submitter:
        """What sends submits; made with the transport."""
        transport = self.open()
        if self._submitter is None:
            self._submitter = Submitter(
                transport,
                self.gate,
                self.books,
                self.closing,
                confirm=self._confirm,
                rng=self._rng,
                teller=self._teller,
            )
        return self._submitter

    @property
    def submits_in_flight(self) -> int:
        """POSTs that are not yet answered and recorded."""
        return 0 if self._submitter is None else len(self._submitter.posts)

    async def aclose(self) -> None:
        """Ends all waiting, lets POSTs in flight be answered, then closes; cancelled, it cuts them.

        Whoever calls it again waits for the first to be done.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            await self._close_from_elsewhere()
            return
        if self.closing.is_closed:
            await self._is_down.wait()
            return
        self.closing.close()
        try:
            posts: set[asyncio.Task[Task]] = set()
            if self._submitter is not None:
                posts = self._submitter.posts
            await all_done(posts, self._outliving)
        finally:
            try:
                await self._close_rest()
            finally:
                self._is_down.set()

    def outlives(self, work: asyncio.Task[Any]) -> None:
        """This goes on when whoever began it has left; closing waits for it, or cancels it."""
        self._outliving.add(work)
        work.add_done_callback(self._outliving.discard)

    async def _close_from_elsewhere(self) -> None:
        """Nobody runs any more who waited on a loop that has ended: only what it left is closed."""
        if self.closing.is_closed:
            return
        self.closing.is_closed = True
        ids, submits = self.tracker.ids(), self.submits_in_flight
        if ids or submits:
            LOGGER.warning(
                "the event loop ended before this client was closed: %d submits were cut, and %d "
                "tasks go on at the server: ids %s",
                submits,
                len(ids),
                listed(ids) or "none",
                extra=fields("client_left_open", task_ids=ids, count=submits),
            )
        try:
            await self.gate.aclose()
        finally:
            await self._close_network()

    async def _close_rest(self) -> None:
        # Whoever is cancelled here leaves nothing open.
        try:
            await self._reclaimer.aclose()
        finally:
            try:
                await self.gate.aclose()  # before the books give back what tasks still hold
            finally:
                self.books.close()
                await self._close_network()

    async def _close_network(self) -> None:
        if self.callbacks is not None:
            self.callbacks.close()
        if self._transport is not None:
            try:
                await self._transport.aclose()
            finally:
                if self._teller is not None:
                    self._teller.tell(Closed())

    # Slots

    async def lease(self) -> Lease:
        """Waits for a slot; while it waits, tasks that nobody watches are looked at."""
        self.open()
        if self.gate.slots.held >= self.gate.slots.cap:
            self._reclaimer.start()
        with self.closing.waiting():
            return await self.gate.lease()

    # Calls

    async def submit(
        self,
        request: Request,
        *,
        lease: Lease,
        observer: SubmitObserver | None = None,
        callback_url: str | None = None,
        ticket: Ticket | None = None,
        patience: float = SUBMIT_PATIENCE,
        window: float | None = None,
        key: str | None = None,
    ) -> Task:
        """Submits once; the lease is settled whatever happens (see `Submitter.submit`).

        `ticket` is there where callbacks are wanted, `window` how long the task is looked for after
        the answer was lost, by default the schedule's deadline. `key` is that of a batch's job.
        """
        try:
            submitter = self.submitter
        except BaseException:
            lease.release()
            raise
        submission = Submission(
            request,
            lease,
            patience,
            observer=observer,
            callback_url=callback_url,
            ticket=ticket,
            window=self.schedule.deadline if window is None else window,
            key=key,
        )
        task = await submitter.submit(submission)
        self.reader.key_worked = True
        return task

    async def hear(
        self,
        request: Request,
        error: SubmitUncertainError,
        *,
        lease: Lease | None,
        observer: SubmitObserver,
        ticket: Ticket | None,
        window: float,
        age: float,
        key: str | None = None,
    ) -> Task:
        """The task of a submit made `age` seconds ago, in an earlier process (see `Hearing`).

        Raises the doubt if it is not found within `window` seconds.
        """
        if lease is None:  # one that is not held any more
            lease = self.gate.occupy()
            lease.release()
        submission = Submission(
            request,
            lease,
            0.0,
            observer=observer,
            ticket=ticket,
            window=window,
            sent_at=asyncio.get_running_loop().time() - age,
            key=key,
        )
        return await self.submitter.hearing.task_of(submission, error)

    async def look(self, task_id: str, model: str) -> Task:
        """One status call. A task seen to end gives its slot back."""
        task = await self.reader.task(self.open(), task_id, model)
        if task.is_terminal:
            tracked = self.tracker.get(task_id)
            self.tracker.end(task_id)
            if tracked is not None and self._teller is not None:
                self._teller.ended(task, tracked)
        return task

    async def balance(self) -> float:
        """The USD left on this key."""
        return await self.reader.balance(self.open())

    async def _confirm(self, task_id: str, model: str) -> bool | None:
        """Whether the API knows a task id that was seen in a broken answer or a callback.

        Also while closing. `None` if it could not be asked.
        """
        if self._transport is None:
            return None
        return await self.reader.knows(
            self._transport, task_id, model, pause=self.schedule.interval
        )

    # Waiting

    async def wait(
        self, task: Task, *, schedule: PollSchedule, timeout: float, mode: str | None = None
    ) -> Task:
        """The terminal snapshot, success or failure. A schedule learns for each `mode`."""
        with self._watch(task, schedule, timeout, mode) as watch, self._told_end_of(task) as told:
            try:
                ended = await self._watcher.end(watch)
            except ApixoError as error:
                error.task_id = task.id  # whatever ends a wait, the id is never lost
                raise
            told(ended)
            return ended

    async def changes(
        self, task: Task, *, schedule: PollSchedule, timeout: float
    ) -> AsyncIterator[Task]:
        """One snapshot per change of state, the terminal one last."""
        with self._watch(task, schedule, timeout) as watch, self._told_end_of(task) as told:
            try:
                async for snapshot in self._watcher.changes(watch):
                    told(snapshot)
                    yield snapshot
            except ApixoError as error:
                error.task_id = task.id
                raise

    @contextmanager
    def _told_end_of(self, task: Task) -> Generator[Callable[[Task], None]]:
        """Tells that a wait timed out; gives what tells the end of a task that we do not track."""
        teller = self._teller
        is_ours = teller is None or self.tracker.is_known(task.id)

        def told(snapshot: Task) -> None:
            if not is_ours and teller is not None and snapshot.is_terminal:
                teller.ended(snapshot, None)

        try:
            yield told
        except TaskTimeoutError as error:
            if teller is not None:
                teller.tell(TimedOut(task=error.task, reason=str(error)))
            raise

    @contextmanager
    def _watch(
        self, task: Task, schedule: PollSchedule, timeout: float, mode: str | None = None
    ) -> Generator[Watch]:
        self.open()
        now = asyncio.get_running_loop().time()
        tracked = self.tracker.get(task.id)
        born = None if tracked is None else tracked.accepted_at
        ticket = None if tracked is None else tracked.ticket
        if tracked is not None:
            tracked.watchers += 1
        paced: Look | None = None
        if born is not None and isinstance(schedule, LearnedSchedule):
            paced = Look((task.model, mode), schedule, born, is_told=ticket is not None)
            self._pacer.watch(paced)
        watch = Watch(
            task,
            schedule,
            started=now,
            deadline=now + timeout,
            born=born,
            paced=paced,
            ticket=ticket,
        )
        try:
            yield watch
        finally:
            if paced is not None:
                self._pacer.leave(paced)
            if tracked is not None:
                tracked.watchers -= 1
                tracked.next_look = asyncio.get_running_loop().time() + schedule.interval
