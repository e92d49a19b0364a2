"""One job of a batch from its lease to its outcome: submit, wait, save."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import attrs

from apixo_async import _killpoints
from apixo_async._logs import LOGGER, fields
from apixo_async._places import Place
from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch import events
from apixo_async.batch.admission import Admission, NotAdmittedError
from apixo_async.batch.endings import (
    BudgetError,
    StoppedWaitingError,
    UnexpectedError,
    stop_reason,
)
from apixo_async.batch.filing import missing_results
from apixo_async.batch.journal import Entry, Spent
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.batch.record import Record
from apixo_async.batch.settings import RunSettings
from apixo_async.batch.spending import Budget, times, total
from apixo_async.batch.story import Publish, Recorder, Story
from apixo_async.client import ApixoClient
from apixo_async.downloads import PlaceError
from apixo_async.errors import (
    ApixoError,
    AuthenticationError,
    BadRequestError,
    DownloadError,
    InvalidSettingError,
    JournalError,
    NotFoundError,
    SubmitUncertainError,
    TaskFailedError,
    UnexpectedAnswerError,
)
from apixo_async.limits import Lease
from apixo_async.retries import may_generate_again, may_submit_in_doubt, stops_batch
from apixo_async.tasks import RESULT_LIFETIME, Task

PATIENCE: Final = 300.0
"""Seconds for which a batch puts up with a host that was reached before and is gone now."""
PATIENCE_AT_START: Final = 15.0


class Carrier:
    """Carries jobs out. Whatever goes wrong with one job is its outcome, a bug of ours included."""

    def __init__(
        self,
        client: ApixoClient,
        settings: RunSettings,
        admission: Admission,
        publish: Publish,
        *,
        journal: Record | None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._admission = admission
        self._publish = publish
        self._journal = journal
        self.budget = Budget(settings.max_cost, settings.prices)
        self.given_up: list[Outcome] = []
        """Jobs that were cancelled and have a task, or may have one."""

    def note_spent(self, spent: Iterable[Spent]) -> None:
        """Counts what earlier processes spent; raises `InvalidSettingError` without its price."""
        if self._settings.max_cost is None:
            return
        spent_by_now = Decimal(0)
        for kind in spent:
            price = self._settings.prices.of_kind(kind.model, kind.mode)
            if price is None:
                msg = (
                    f"max_cost needs the price of mode {kind.mode!r} of {kind.model}: the journal "
                    f"has {kind.charges} such submits"
                )
                raise InvalidSettingError(msg)
            spent_by_now = total((spent_by_now, times(price, kind.charges)))
        self.budget = Budget(self._settings.max_cost, self._settings.prices, spent=spent_by_now)

    def is_to_repeat(self, story: Story, outcome: Outcome, done: int) -> bool:
        """Whether a job is submitted once more by a policy of the user, after `done` of this run.

        How often a failed task may be generated again counts over all runs.
        """
        settings = self._settings
        if self._admission.is_refusing or not self.budget.fits(outcome.job.request):
            return False
        if story.has_open_attempt or story.is_named:
            return False  # another task may have a result: somebody has to look before more is paid
        if outcome.status is OutcomeStatus.UNCERTAIN:
            return may_submit_in_doubt(policy=settings.uncertain, done=done, named=story.is_named)
        return may_generate_again(
            outcome.error, codes=settings.retry_codes, done=story.repeats, times=settings.retries
        )

    def story(self, index: int, job: Job, entry: Entry | None) -> Story:
        """A new account of what happens to this job, from what the journal has of it."""
        journal = self._journal
        recorder = Recorder(journal, 0 if entry is None else entry.number, self._publish)
        return Story(
            self._admission,
            recorder,
            job,
            index=index,
            entry=entry,
            is_known=(lambda _: False) if journal is None else journal.has_task,
        )

    async def carry_out(self, story: Story, lease: Lease) -> Outcome:
        """The outcome of one job from its submit on; its lease is settled whatever happens.

        Cancelled with a task accepted, or maybe accepted, it leaves the outcome in `given_up`.
        """
        return await self._guarded(story, self._submit_and_collect(story, lease), lease)

    def ticket(self, story: Story) -> None:
        """Gives the job a ticket for its callbacks, if there are to be any; known by its name.

        With a journal it is the same in all processes.
        """
        callbacks = self._client.engine.callbacks
        if callbacks is None:
            return
        if story.ticket is not None:
            callbacks.register(story.ticket)
            return
        journal = self._journal
        name = None if journal is None else f"{journal.name}-{story.number}"
        story.ticket = callbacks.ticket(
            name, attempts=story.attempts, record=story.called_back, owner=self
        )
        story.ticket.rule_out(story.past_tasks)

    def close_tickets(self) -> None:
        """What comes now is not for this run any more."""
        if self._client.engine.callbacks is not None:
            self._client.engine.callbacks.close_all_of(self)

    async def hear(
        self, story: Story, error: SubmitUncertainError, lease: Lease | None, window: float
    ) -> Outcome:
        """The outcome of a job whose submit's answer was lost in an earlier process."""
        story.doubt = error
        return await self._guarded(story, self._hear(story, error, lease, window), None)

    async def _hear(
        self, story: Story, error: SubmitUncertainError, lease: Lease | None, window: float
    ) -> Outcome:
        try:
            task = await self._client.engine.hear(
                story.job.request,
                error,
                lease=lease,
                observer=story,
                ticket=story.ticket,
                window=window,
                age=story.doubt_age,
                key=story.key,
            )
        except SubmitUncertainError as doubt:
            return story.uncertain_outcome(doubt)
        return await self._collect(story, task)

    async def carry_on(self, story: Story, task: Task) -> Outcome:
        """The outcome of a job whose task was submitted earlier."""
        story.task = task
        work = self._save(story, task) if task.has_succeeded else self._collect(story, task)
        return await self._guarded(story, work, None)

    async def _guarded(
        self, story: Story, work: Coroutine[Any, Any, Outcome], lease: Lease | None
    ) -> Outcome:
        try:
            return await work
        except asyncio.CancelledError:
            if story.task is not None:
                self.given_up.append(self._cut_short(story, StoppedWaitingError()))
            elif story.doubt is not None:
                self.given_up.append(story.uncertain_outcome(story.doubt))
            raise
        except JournalError as error:
            self._admission.stop(StopReason.JOURNAL, error)
            return self._cut_short(story, error)
        except Exception as error:  # noqa: BLE001  # it is the outcome of this job alone
            LOGGER.exception(
                "job %r met an error that is a bug",
                story.key,
                extra=fields(
                    "job_broke",
                    key=story.key,
                    model=story.job.request.model,
                    task_id=None if story.task is None else story.task.id,
                    error=error,
                ),
            )
            if lease is not None and story.is_untouched:
                lease.release()
                self.budget.release(story.job.request)
            return await self._after_bug(story, UnexpectedError(error))

    async def _submit_and_collect(self, story: Story, lease: Lease) -> Outcome:
        try:
            task = await self._submit(story, lease)
        except SubmitUncertainError as error:
            return story.uncertain_outcome(error)
        except JournalError as error:
            if not story.is_untouched:  # it was sent, and what came of it could not be recorded
                raise
            self.budget.release(story.job.request)
            self._admission.stop(StopReason.JOURNAL, error)
            return self.not_started(story.index, story.job, error)
        except NotAdmittedError:
            lease.release()
            why = self._admission.refusal or self._admission.error
            return self.not_started(story.index, story.job, why)
        except ApixoError as error:
            self.budget.release(story.job.request)
            if not stops_batch(error):
                return story.outcome(OutcomeStatus.FAILED, None, error)
            self._admission.stop(stop_reason(error), error)
            return self.not_started(story.index, story.job, error)
        return await self._collect(story, task)

    async def _submit(self, story: Story, lease: Lease) -> Task:
        """The accepted task; raises `NotAdmittedError` if the batch stopped before it was sent."""
        worked = self._client.engine.reader.key_worked
        with story.waiting_to_send() as asyncio_task:
            self._reserve(story.job)
            self.ticket(story)
            try:
                return await self._client.engine.submit(
                    story.job.request,
                    lease=lease,
                    observer=story,
                    ticket=story.ticket,
                    window=self._settings.deadline,
                    patience=PATIENCE if worked else PATIENCE_AT_START,
                    key=story.key,
                )
            except NotAdmittedError:
                self.budget.release(story.job.request)
                raise
            except asyncio.CancelledError:
                if not self._admission.has_called_back(asyncio_task):
                    raise
                self.budget.release(story.job.request)
                asyncio_task.uncancel()
                raise NotAdmittedError from None

    def _reserve(self, job: Job) -> None:
        """Takes a job's price out of the budget; the first that does not fit ends the batch."""
        is_over = self._admission.stopped is StopReason.BUDGET
        if is_over or not self.budget.reserve(job.request):
            self._admission.stop(StopReason.BUDGET, BudgetError(self.budget))
            raise NotAdmittedError

    async def _after_bug(self, story: Story, error: ApixoError) -> Outcome:
        if not story.is_sent:
            return self._cut_short(story, error)
        uncertain = SubmitUncertainError(model=story.job.request.model, reason=str(error))
        await story.uncertain(uncertain)
        return story.uncertain_outcome(uncertain)

    def _cut_short(self, story: Story, error: ApixoError) -> Outcome:
        """The outcome of a job that did not come to its end, by how far it came."""
        task = story.task
        if task is None:
            if story.doubt is not None:
                return story.uncertain_outcome(story.doubt)
            if isinstance(error, JournalError):
                return self.not_started(story.index, story.job, error)
            return story.outcome(OutcomeStatus.FAILED, None, error)
        if task.has_succeeded:
            lost = DownloadError(str(error), url="", reason="cut_short")
            return self._saved(story, task, lost)
        if task.is_terminal:
            return story.outcome(OutcomeStatus.FAILED, task, error)
        self._publish(events.TimedOut(key=story.key, task=task, reason=str(error)))
        return story.outcome(OutcomeStatus.TIMED_OUT, task, error)

    def not_started(self, index: int, job: Job, error: BaseException | None = None) -> Outcome:
        """The outcome of a job that the stop of the batch came before, for `error` or that."""
        error = error or self._admission.refusal
        why = error if isinstance(error, ApixoError) else NotAdmittedError()
        self._publish(events.NotStarted(key=job.key or "", reason=str(why)))
        return Outcome(job=job, index=index, status=OutcomeStatus.NOT_STARTED, error=why)

    async def _collect(self, story: Story, task: Task) -> Outcome:
        key, settings = story.key, self._settings
        try:
            task = await self._client.engine.wait(
                task,
                schedule=settings.schedule,
                timeout=settings.deadline,
                mode=story.job.request.mode,
            )
        except UnexpectedAnswerError as error:
            ended = error.task or task
            await story.recorder.write(events.Failed(key=key, task=ended, reason=str(error)))
            return story.outcome(OutcomeStatus.FAILED, ended, error)
        except (NotFoundError, BadRequestError) as error:
            return await self._unknown(story, task, error)
        except ApixoError as error:
            if isinstance(error, AuthenticationError):
                self._admission.stop(StopReason.KEY, error)
            last = getattr(error, "task", None) or task
            story.recorder.note(events.TimedOut(key=key, task=last, reason=str(error)))
            return story.outcome(OutcomeStatus.TIMED_OUT, last, error)
        story.task = task
        _killpoints.reached("K7")
        if not task.has_succeeded:
            return await self._failed(story, task, task_failure(task))
        await story.recorder.write(events.Succeeded(key=key, task=task))
        _killpoints.reached("K8")
        return await self._save(story, task)

    async def _unknown(self, story: Story, task: Task, error: ApixoError) -> Outcome:
        """The API denies the task again and again; one of an age at which results expire is lost.

        A younger one may come back, or somebody decides about it.
        """
        if story.age > RESULT_LIFETIME.total_seconds():
            await story.recorder.write(events.Failed(key=story.key, task=task, reason=str(error)))
            return story.outcome(OutcomeStatus.FAILED, task, error)
        story.recorder.note(events.TimedOut(key=story.key, task=task, reason=str(error)))
        return story.outcome(OutcomeStatus.TIMED_OUT, task, error)

    async def _failed(self, story: Story, task: Task, error: TaskFailedError) -> Outcome:
        if means_no_credits(task.fail_code):
            self._admission.stop(StopReason.BALANCE, error)
        await story.recorder.write(events.Failed(key=story.key, task=task, reason=str(error)))
        return story.outcome(OutcomeStatus.FAILED, task, error)

    async def _save(self, story: Story, task: Task) -> Outcome:
        place = self._settings.save_to
        if place is None:
            return story.outcome(OutcomeStatus.SUCCEEDED, task, None)
        failure: ApixoError | None = None
        try:
            only = await self._missing(story, task, place)
            if only:
                await self._client.save(task, place, name=story.key, only=only, observer=story)
            if self._journal is not None:
                await story.recorder.write(events.AllSaved(key=story.key))
        except JournalError:
            raise
        except ApixoError as error:
            failure = error
        return self._saved(story, task, failure)

    async def _missing(self, story: Story, task: Task, place: Place) -> Sequence[int]:
        destination = self._client.saver.destination(place)
        try:
            return await missing_results(self._journal, story, task, destination)
        except PlaceError as error:
            message = f"cannot look into {destination.place}: {error}"
        raise DownloadError(message, url="", reason="storage")

    def _saved(self, story: Story, task: Task, error: ApixoError | None) -> Outcome:
        """The outcome of a success with the files that were saved, all of them or not."""
        if error is not None:
            story.recorder.note(events.SaveFailed(key=story.key, reason=str(error)))
        done = story.outcome(OutcomeStatus.SUCCEEDED, task, error)
        return attrs.evolve(done, files=tuple(story.files))
