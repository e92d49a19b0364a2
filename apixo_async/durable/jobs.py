"""`DurableJobs`: carries jobs of a ledger, whichever process began them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from apixo_async._logs import LOGGER, fields
from apixo_async.batch import events
from apixo_async.batch.admission import Admission
from apixo_async.batch.carrying import Carrier
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.story import Story
from apixo_async.client import ApixoClient
from apixo_async.durable.hearing import heard
from apixo_async.durable.ledger import Hand, Ledger, TakenError
from apixo_async.durable.steps import TO_CARRY, Step, step_of, untouched
from apixo_async.errors import (
    ApixoError,
    AuthenticationError,
    JournalError,
    StoreError,
    TaskTimeoutError,
)

ANSWER_GRACE: Final = 15.0
"""Seconds beyond the timeout of a submit that another process is given to record its answer."""
LOOK_EVERY: Final = 1.0
"""Seconds between looks into the ledger for what another process may have written."""
GRACE: Final = 60.0
"""Seconds that a process is given between recording a job and putting it into a queue."""
_OWN: Final = frozenset({StopReason.UNREACHABLE, StopReason.KEY, StopReason.DOUBT})
"""Reasons that may be those of one process alone."""
_PAUSES: Final[Mapping[StopReason, float]] = {
    StopReason.JOURNAL: 1.0,
    StopReason.UNREACHABLE: 15.0,
    StopReason.KEY: 60.0,
    StopReason.BALANCE: 60.0,
}
"""Seconds until a submit is tried again after one that every other job would fail by, too."""


class DurableJobs:
    """Carries jobs of a ledger to their end, each submitted at most once by all processes together.

    What an engine needs: `add` a job, then have `carry` run by whichever worker takes it, as often
    as the engine likes. It may run again after a crash, beside another one that was thought dead,
    or twice at once: the ledger lets one alone submit, and the rest follow its task.

    Args:
        client: What it submits and looks with; its owner closes it.
        ledger: The record of all jobs; its owner closes it.
        patience: Seconds after which a submit whose process has not said what came of it is called
            uncertain; `None` is 15 more than the client's timeout of a submit.
        on_event: Called with every event of a job that this process carries (see
            `apixo_async.batch.events`).
    """

    def __init__(
        self,
        client: ApixoClient,
        ledger: Ledger,
        *,
        patience: float | None = None,
        on_event: Callable[[events.Event], object] | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._patience = client.timeouts.submit + ANSWER_GRACE if patience is None else patience
        self._on_event = on_event
        schedule = client.engine.schedule
        self._settings = RunSettings(
            schedule=schedule, deadline=schedule.deadline, save_to=None, on_event=None
        )
        self._admission = Admission(self._stopped)
        self._until = 0.0
        self._told_of: StopReason | None = None

    def _carrier(self) -> Carrier:
        """For one carrying of a job."""
        hand = Hand(self._ledger)
        return Carrier(self._client, self._settings, self._admission, self._publish, journal=hand)

    # Jobs

    async def add(self, job: Job) -> Entry:
        """Records a job; the same key again is the same job. It is sent by `carry` alone.

        Args:
            job: Its key must be set.

        Raises:
            InvalidRequestError: The key was used for another request.
            StoreError: The ledger is away; nothing was added.
        """
        return await self._ledger.add(job)

    async def state(self, key: str) -> JobState | None:
        """Where a job stands by the record; `None` if there is no such job.

        Args:
            key: That of the job.

        Raises:
            StoreError: The ledger is away.
        """
        entry = await self._ledger.read(key)
        return None if entry is None else entry.state

    async def outcome(self, key: str) -> Outcome | None:
        """How a job would have ended if it ended now; `None` if there is no such job.

        One that waits is not started, one that is being sent is uncertain, one whose task runs is
        timed out: `state` tells them from those that nobody carries any more.

        Args:
            key: That of the job.

        Raises:
            StoreError: The ledger is away.
        """
        entry = await self._ledger.read(key)
        return None if entry is None else entry.outcome(0)

    async def uncertain(self) -> AsyncIterator[Outcome]:
        """Jobs of which nobody can say whether they have a task; each waits for a decision.

        Raises:
            StoreError: The ledger is away.
        """
        async for entry in self._ledger.entries(JobState.UNCERTAIN):
            yield entry.outcome(0)

    async def left(self, *, untouched_for: float = GRACE) -> AsyncIterator[str]:
        """Keys of jobs that somebody has to carry: an engine puts back what is in no queue.

        Whoever recorded a job, or a decision about one, may have died before it was in the queue,
        and an engine may have lost one. Not among them are jobs that ended or are uncertain, and
        those whose task was waited for until its deadline: ask `carry` for such a one by its key.

        Args:
            untouched_for: Seconds since the last step of a job, so that who is about to put it into
                the queue comes first.

        Raises:
            StoreError: The ledger is away.
        """
        now = datetime.now(UTC)
        async for entry in self._ledger.entries(*TO_CARRY):
            if untouched(entry, now) > untouched_for and not self.is_overdue(entry):
                yield entry.key

    def is_overdue(self, entry: Entry) -> bool:
        """Whether its task runs for longer than one wait lasts; `carry` waits for it once more.

        Args:
            entry: A job, as `add` returns it.
        """
        deadline = self._settings.deadline
        return entry.state is JobState.ACCEPTED and untouched(entry, datetime.now(UTC)) > deadline

    async def settle(
        self, key: str, *, task_id: str | None = None, resubmit: bool = False, abandon: bool = False
    ) -> None:
        """Records a decision about an uncertain job; have `carry` run again unless it is abandoned.

        Args:
            key: That of the job.
            task_id: Its task, as your account's history tells it: that is waited for.
            resubmit: Send it again. If its first task exists, it is paid twice.
            abandon: Leave it at that.

        Raises:
            ValueError: Not exactly one of the three was said.
            JournalError: There is no such job, or that cannot be decided about it as it stands.
        """
        if (task_id is not None) + resubmit + abandon != 1:
            raise ValueError("say one of task_id=, resubmit=True and abandon=True")
        event: events.Resubmitted | events.Abandoned | events.Identified
        if task_id is not None:
            event = events.Identified(key=key, task_id=task_id)
        elif resubmit:
            event = events.Resubmitted(key=key, reason="decision")
        else:
            event = events.Abandoned(key=key)
        await self._ledger.decide(key, event)

    # Carrying

    async def carry(self, key: str, *, leave_after: float = math.inf) -> Outcome:
        """The outcome of a job: submits it if nobody has, and waits for its task.

        May be called at any time, in any process, more than once. It waits out what stops every
        submit alike (a refused key, an empty balance, a host or a ledger that is away), and tries
        again; `stopped` says so meanwhile. Cancelled, it lets a POST in flight be answered and
        recorded, and the task goes on.

        Args:
            key: That of the job, which was added before.
            leave_after: Seconds after which a job that this process cannot submit, for a reason
                that may be its own (it reaches no host, its key is refused, too many of its submits
                got no answer), is returned as not started: another process may be better off.

        Raises:
            JournalError: There is no such job.
        """
        until = asyncio.get_running_loop().time() + leave_after
        while True:
            try:
                entry = await self._ledger.read(key)
                if entry is None:
                    raise JournalError(f"there is no job {key!r} in the ledger: add it first")
                outcome = await self._step(entry, until)
            except StoreError as error:
                self._admission.stop(StopReason.JOURNAL, error)
                await self._pause()
                continue
            if self._told_of is StopReason.JOURNAL:
                self._told_of = None
            if outcome is not None:
                return outcome

    async def _step(self, entry: Entry, until: float) -> Outcome | None:
        """Does what the job needs next; its outcome if that was the last."""
        match step_of(entry, patience=self._patience):
            case Step.NOTHING:
                return entry.outcome(0)
            case Step.SUBMIT:
                return await self._submit(entry, until)
            case Step.FOLLOW:
                return await self._follow(entry)
            case Step.HEAR:
                return await heard(
                    self._client.engine,
                    self._carrier(),
                    self._ledger,
                    entry,
                    self._settings.deadline,
                )
            case Step.DOUBT:
                await self._ledger.doubt(entry)
            case Step.LET_BE:
                await asyncio.sleep(LOOK_EVERY)
        return None

    async def _submit(self, entry: Entry, until: float) -> Outcome | None:
        await self._pause(until)
        if self._admission.stopped is not None:
            return entry.outcome(0)
        lease = await self._client.engine.lease()
        carrier = self._carrier()
        story = carrier.story(0, entry.job(), entry)
        outcome = await self._told(story, carrier.carry_out(story, lease))
        if outcome.status is not OutcomeStatus.NOT_STARTED:
            return self._unless_interrupted(outcome)
        if isinstance(outcome.error, TakenError):
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def _follow(self, entry: Entry) -> Outcome | None:
        task = entry.snapshot()
        if task is None:  # pragma: no cover  # what is accepted has an id
            return None
        carrier = self._carrier()
        story = carrier.story(0, entry.job(), entry)
        if not task.is_terminal:
            carrier.ticket(story)
        self._client.engine.books.adopt(task, age=entry.age, ticket=story.ticket)
        return self._unless_interrupted(await self._told(story, carrier.carry_on(story, task)))

    async def _told(self, story: Story, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """The outcome; what is called back for the job from then on is nobody's here."""
        outcome = await work
        if story.ticket is not None:
            story.ticket.close()
        return outcome

    def _unless_interrupted(self, outcome: Outcome) -> Outcome | None:
        """`None` for a wait that was ended by what will pass: it begins anew."""
        if outcome.status is not OutcomeStatus.TIMED_OUT:
            return outcome
        is_over = isinstance(outcome.error, TaskTimeoutError)
        is_passing = isinstance(outcome.error, (AuthenticationError, JournalError))
        return outcome if is_over or not is_passing else None

    # What stops every submit alike

    @property
    def stopped(self) -> tuple[StopReason, ApixoError | None] | None:
        """Why nothing is submitted at the moment, and the error behind it; `None` if all is well.

        All but `StopReason.DOUBT` is tried again after a pause. That one means that many submits
        in a row got no usable answer, each of which may be billed: nothing more is sent by this
        object until somebody has looked.
        """
        reason = self._admission.stopped
        error = self._admission.error
        return (
            None if reason is None else (reason, error if isinstance(error, ApixoError) else None)
        )

    def _stopped(self, reason: StopReason, error: BaseException | None) -> None:
        pause = _PAUSES.get(reason, math.inf)
        self._until = asyncio.get_running_loop().time() + pause
        if reason is self._told_of is StopReason.JOURNAL:
            return  # once an outage, though it is tried every second
        self._told_of = reason
        LOGGER.error(
            "nothing is submitted for %.0f s (%s): %s",
            pause,
            reason,
            error,
            extra=fields("submits_stopped", error=error),
        )
        self._publish(events.Stopped(reason=reason, message=str(error or "")))

    async def _pause(self, until: float = math.inf) -> None:
        """Waits while nothing is submitted; then a new try may begin.

        After `until` it waits no longer for what may not be better soon, and better elsewhere.
        """
        loop = asyncio.get_running_loop()
        while (reason := self._admission.stopped) is not None:
            if reason in _OWN and loop.time() >= until:
                return
            left = self._until - loop.time()
            if left <= 0:
                self._admission = Admission(self._stopped)
                return
            await asyncio.sleep(min(left, LOOK_EVERY))

    def _publish(self, event: events.Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001  # the user's code must not cost a paid task
            name = type(event).__name__
            key = getattr(event, "key", None)
            LOGGER.exception(
                "on_event failed for %s",
                name,
                extra=fields("hook_failed", hook=name, key=key, error=error),
            )
