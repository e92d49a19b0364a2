"""One run of a batch: one task per job that a feeder starts, and outcomes in a queue."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import attrs

from apixo_async._logs import LOGGER, fields
from apixo_async.batch import events
from apixo_async.batch.admission import Admission
from apixo_async.batch.carrying import Carrier
from apixo_async.batch.continuing import UNCLAIMED, Continuation
from apixo_async.batch.feeding import BACKLOG, Feeder
from apixo_async.batch.journal import Entry, Journal, may_be_called_back, open_candidate
from apixo_async.batch.outcomes import Outcome, OutcomeStatus, StopReason
from apixo_async.batch.sampling import Sampler
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.source import Source
from apixo_async.batch.story import Story
from apixo_async.client import ApixoClient
from apixo_async.client.closing import end_all, listed
from apixo_async.errors import ApixoError, JournalError, SubmitUncertainError
from apixo_async.limits import Lease
from apixo_async.tasks import Task


class Run:
    """One run. `start` it, read `outcomes` until `None`, and `aclose` it whatever happened."""

    def __init__(
        self,
        client: ApixoClient,
        source: Source | None,
        settings: RunSettings,
        *,
        journal: Journal | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self.admission = Admission(self._stopped)
        self._carrier = Carrier(client, settings, self.admission, self.publish, journal=journal)
        self._past: Continuation | None = None
        self._sampler: Sampler | None = None
        if journal is not None:
            self._past = Continuation(journal, client.engine, settings, self._carry_on, self)
            journal.on_trouble = self._journal_failed
            self._sampler = Sampler(journal, client.engine.gate.statistics)
        self._feeder = Feeder(source, client.engine, self._carrier, self._past, self)
        self._jobs: set[asyncio.Task[None]] = set()
        self._unbegun: dict[int, Lease] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue(BACKLOG)
        self.left: list[Outcome] = []
        """After `aclose`: outcomes that nobody took, and those of the jobs that were given up."""
        self.bug: BaseException | None = None
        """An error that no job is responsible for, to be raised at the end."""
        self.interrupt: BaseException | None = None
        """What the user's code ended everything with, to be raised at once."""

    # Life of the run

    def start(self) -> None:
        """Begins to pull items and submit them."""
        if self._sampler is not None:
            self._sampler.start()
        feeding = self._feeder.start()
        self._tasks = [feeding, asyncio.create_task(self._run(feeding))]

    def _stopped(self, reason: StopReason, error: BaseException | None) -> None:
        self.publish(events.Stopped(reason=reason, message=str(error or "")))
        self._feeder.stop()

    async def aclose(self) -> None:
        """Ends the run at once: POSTs in flight are answered and recorded, then waiting stops."""
        if self._sampler is not None:
            self._sampler.stop()
        if not all(task.done() for task in self._tasks):
            self.admission.stop(StopReason.REQUESTED)
        self.admission.close()
        self._feeder.close()
        try:
            await self.admission.wait_none_sending()
        finally:
            try:
                await end_all({*self._tasks, *self._jobs})
            finally:
                self._gather_left()
                self._carrier.close_tickets()
                if self._past is not None:
                    self._past.close()
                await self._feeder.aclose()

    def _gather_left(self) -> None:
        """Takes what nobody took."""
        while not self.outcomes.empty():
            outcome = self.outcomes.get_nowait()
            if outcome is not None:
                self.left.append(outcome)
        if (untold := self._feeder.take_untold()) is not None:
            self.left.append(untold)
        given_up, self._carrier.given_up = self._carrier.given_up, []
        self.left += [outcome for outcome in given_up if outcome.index != UNCLAIMED]
        running = [done for done in given_up if done.status is OutcomeStatus.TIMED_OUT]
        if running:
            ids = [done.task.id for done in running if done.task is not None]
            LOGGER.warning(
                "%d tasks go on at the server: ids %s",
                len(running),
                listed(ids),
                extra=fields("tasks_left", task_ids=ids, count=len(running)),
            )

    async def _run(self, feeding: asyncio.Task[None]) -> None:
        await asyncio.wait([feeding])
        while self._jobs:
            await asyncio.wait(self._jobs)
        await self.outcomes.put(None)

    def tell_end(self) -> None:
        """Whoever waits for an outcome is told that there is none, if there is none."""
        with contextlib.suppress(asyncio.QueueFull):  # then the mark is there
            self.outcomes.put_nowait(None)

    def publish(self, event: events.Event) -> None:
        """Hands an event to the user's callback, whose faults are its own."""
        if self._settings.on_event is None:
            return
        try:
            self._settings.on_event(event)
        # The user's code must not cost anyone a paid task. Nobody can cancel what does not wait.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # see above
            name = type(event).__name__
            LOGGER.exception(
                "on_event failed for %s",
                name,
                extra=fields(
                    "hook_failed", hook=name, key=getattr(event, "key", None), error=error
                ),
            )
        except BaseException as error:  # noqa: BLE001  # raised to whoever reads the outcomes
            self.end_at_once(error)

    def end_at_once(self, error: BaseException) -> None:
        """`SystemExit` and its like go to whoever reads the outcomes.

        Raised where they came up, they would tear a step of a job in two.
        """
        self.interrupt = self.interrupt or error
        self.admission.stop(StopReason.REQUESTED)
        self.tell_end()

    def _journal_failed(self, error: JournalError) -> None:
        self.admission.stop(StopReason.JOURNAL, error)

    # What the feeder tells

    def start_job(self, story: Story, lease: Lease) -> None:
        """Carries a job out, in a task of its own; callbacks for it ring from this moment on."""
        if story.attempts:
            self._carrier.ticket(story)
        self._unbegun[story.index] = lease
        self._start(self._job(story), functools.partial(self._leave, story.index))

    async def tell(self, outcome: Outcome) -> None:
        """An outcome that nothing has to be done for."""
        await self.outcomes.put(outcome)

    def stop(self, reason: StopReason, error: BaseException) -> None:
        """The input has an error, or the journal has."""
        self.admission.stop(reason, error)

    def break_down(self, error: BaseException) -> None:
        """The input was refused as a whole."""
        self.bug = error

    # Jobs

    def _start(self, work: Coroutine[Any, Any, None], leave: Callable[[], None] | None) -> None:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(functools.partial(self._job_done, leave))

    def _leave(self, index: int) -> None:
        self._feeder.leave()
        lease = self._unbegun.pop(index, None)
        if lease is not None:  # cancelled before its first step
            lease.release()

    def _job_done(self, leave: Callable[[], None] | None, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if leave is not None:
            leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error(
                "a job of the batch broke", exc_info=error, extra=fields("batch_broke", error=error)
            )
            self.bug = self.bug or error

    async def _job(self, story: Story) -> None:
        lease = self._unbegun.pop(story.index)
        job = story.job
        self.publish(
            events.Queued(
                key=story.key, index=story.index, model=job.request.model, mode=job.request.mode
            )
        )
        await self._put(await self._repeated(story, await self._carrier.carry_out(story, lease)))

    async def _repeated(self, story: Story, outcome: Outcome) -> Outcome:
        """The outcome once what a policy of the user repeats was repeated."""
        again = 0
        while self._carrier.is_to_repeat(story, outcome, again):
            again += 1
            repeat = await self._again(story, outcome)
            if repeat is None:
                break
            outcome = repeat
        return outcome

    async def _again(self, story: Story, outcome: Outcome) -> Outcome | None:
        """Pays for a job once more, by a policy of its user; `None` if it is too late for that."""
        has_begun = False
        try:
            lease = await self._lease_again(story, outcome)
            if lease is None:
                return None
            has_begun = True
            repeat = await self._carrier.carry_out(story, lease)
        except ApixoError:
            return None
        except asyncio.CancelledError:
            is_as_before = story.is_untouched or not has_begun
            if is_as_before and story.index != UNCLAIMED:
                self.left.append(attrs.evolve(outcome, index=story.index))
            raise
        # What was paid for before is told as it ended if nothing came of the repeat.
        return None if repeat.status is OutcomeStatus.NOT_STARTED else repeat

    async def _lease_again(self, story: Story, outcome: Outcome) -> Lease | None:
        lease = await self._client.engine.lease()
        is_retry = outcome.status is not OutcomeStatus.UNCERTAIN
        try:
            # Meanwhile a callback may have named the task that is to be made again.
            if self.admission.is_refusing or story.is_named:
                lease.release()
                return None
            reason = "retry" if is_retry else "policy"
            await story.recorder.write(events.Resubmitted(key=story.key, reason=reason))
        except BaseException:
            lease.release()
            raise
        story.begin_again()
        story.repeats += is_retry
        return lease

    async def _put(self, outcome: Outcome) -> None:
        try:
            await self.outcomes.put(outcome)
        except asyncio.CancelledError:
            self.left.append(outcome)
            raise

    # Jobs of earlier processes

    def _carry_on(self, entry: Entry, task: Task, index: int, *, has_place: bool) -> Story:
        """Waits for a task of an earlier process, or saves what it made.

        `has_place` says whether the feeder has to be told when that is done.
        """
        story = self._carrier.story(index, entry.job(), entry)
        if not task.is_terminal:
            self._carrier.ticket(story)
        if entry.accepted_at is not None and not task.is_terminal:
            accepted = datetime.fromisoformat(entry.accepted_at)
            self.publish(
                events.Accepted(key=entry.key, at=accepted, task_id=task.id, model=task.model)
            )
        work = functools.partial(self._carrier.carry_on, story, task)
        self._start(self._carried(story, work), self._feeder.leave if has_place else None)
        return story

    def story_of(self, entry: Entry) -> Story | None:
        """A job of an earlier process whose submit was not answered, if it may be found."""
        may_call_back = self._client.engine.callbacks is not None and may_be_called_back(entry)
        if not may_call_back and open_candidate(entry) is None:
            return None
        story = self._carrier.story(UNCLAIMED, entry.job(), entry)
        if may_call_back:
            self._carrier.ticket(story)
        return story

    def hear(self, story: Story, entry: Entry, lease: Lease | None, window: float) -> None:
        """Looks for its task."""
        error = entry.outcome(UNCLAIMED).error
        if isinstance(error, SubmitUncertainError):
            self.publish(
                events.Uncertain(
                    key=story.key,
                    reason=error.reason,
                    phase=error.phase,
                    candidate_task_id=error.candidate_task_id,
                    candidate_denied=error.candidate_denied,
                )
            )
            work = functools.partial(self._carrier.hear, story, error, lease, window)
            self._start(self._carried(story, work), None)

    async def _carried(
        self, story: Story, work: Callable[[], Coroutine[Any, Any, Outcome]]
    ) -> None:
        outcome = await self._repeated(story, await work())
        if self._past is not None:
            self._past.ended(story.number)
        if story.index != UNCLAIMED:
            await self._put(attrs.evolve(outcome, index=story.index))
