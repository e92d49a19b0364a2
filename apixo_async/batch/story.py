"""How far one job has come: the steps of its submit and its files, recorded and then told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from apixo_async import _killpoints
from apixo_async._logs import LOGGER, fields
from apixo_async._wire import excerpt
from apixo_async.batch import events
from apixo_async.batch.admission import Admission, NotAdmittedError
from apixo_async.batch.journal import (
    IDS_MAX,
    Entry,
    is_unheard_of,
    open_attempt,
    past_tasks,
)
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus
from apixo_async.batch.record import Record
from apixo_async.client import BY_CALLBACK, Answer, Ticket
from apixo_async.downloads import SavedFile
from apixo_async.errors import APIError, ApixoError, JournalError, SubmitUncertainError
from apixo_async.retries import stops_batch
from apixo_async.tasks import Task
from apixo_async.webhooks import Callback

Publish = Callable[[events.Event], None]


def warn_of_two(key: str, task_id: str | None, other: str) -> None:
    """A job was paid for twice, or somebody has forged a callback."""
    LOGGER.critical(
        "a callback for job %r names task %s beside its own %s: both may be billed",
        key,
        other,
        task_id,
        extra=fields("task_paid_twice", key=key, task_id=task_id, other_task_id=other),
    )


class Recorder:
    """Writes what happens to one job to the journal, if there is one, and then tells it."""

    def __init__(self, journal: Record | None, number: int, publish: Publish) -> None:
        self._journal = journal
        self._number = number
        self._publish = publish

    async def write(self, event: events.JobEvent, *, keep_trying: bool = True) -> None:
        """Returns when the event is on disk and told.

        Without `keep_trying`, raises `JournalError` if the disk refuses it; nobody is told then.
        """
        if self._journal is not None:
            await self._journal.record(self._number, event, keep_trying=keep_trying)
        self._publish(event)

    def tell(self, event: events.JobEvent) -> None:
        """For what the record need not know."""
        self._publish(event)

    def note(self, event: events.JobEvent) -> None:
        """For events that nothing waits for; they are on disk before what is written later."""
        if self._journal is not None:
            written = self._journal.record(self._number, event, keep_trying=True)
            written.add_done_callback(_seen)
        self._publish(event)


def _seen(written: asyncio.Future[Any]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        LOGGER.error(
            "an event could not be recorded: %s",
            error,
            extra=fields("event_unrecorded", error=error),
        )


class Story:
    """Told of every step of a job's submit and of its files."""

    def __init__(
        self,
        admission: Admission,
        recorder: Recorder,
        job: Job,
        *,
        index: int,
        entry: Entry | None,
        is_known: Callable[[str], bool],
    ) -> None:
        self._admission = admission
        self.recorder = recorder
        self.job = job
        self.key = job.key or ""
        self.index = index
        self.number = 0 if entry is None else entry.number
        self._is_known = is_known
        self.repeats = 0 if entry is None else entry.repeats
        """How often the job was generated again because its task had failed."""
        self.age = 0.0 if entry is None else entry.age
        """Seconds since its task was accepted, when this began."""
        self.doubt_age = 0.0 if entry is None else entry.doubt_age
        """Seconds since its last submit."""
        self.attempts = 0 if entry is None else entry.attempts
        """How often the job was submitted when this began."""
        self.ticket: Ticket | None = None
        """What callbacks for the job ring, if there will be any."""
        self._job: asyncio.Task[Any] | None = None
        self.is_sent = False
        """Whether a POST left that may have made a task, and nothing was recorded about it."""
        self.task: Task | None = None
        """The task as last seen, from its acceptance on."""
        self.past_tasks: set[str] = set() if entry is None else set(past_tasks(entry))
        """Tasks of the job that ended before it was submitted again."""
        self.has_open_attempt = entry is not None and open_attempt(entry) is not None
        """Whether a later submit than that which made its task may have made one, too."""
        self._kept: asyncio.Future[None] | None = None
        self._warned_of: set[str] = set()
        self.doubt: SubmitUncertainError | None = None
        """Why nobody can say whether there is a task."""
        self.files: list[SavedFile] = []
        """What was saved of its results."""

    def begin_again(self) -> None:
        """The job is submitted once more: what is known of its task was told before."""
        self.is_sent = False
        if self.task is not None:
            self.past_tasks.add(self.task.id)
            if self.ticket is not None:
                self.ticket.rule_out(self.past_tasks)
        self.task = self.doubt = None
        self.age = 0.0

    @property
    def is_untouched(self) -> bool:
        """Whether surely nothing came of this submit, or of what came before `begin_again`."""
        return not self.is_sent and self.task is None and self.doubt is None

    @property
    def is_named(self) -> bool:
        """Whether something names a task of the job, not its own, that is not denied or at its end.

        That is a callback, or the broken answer.
        """
        if self.doubt is not None and self.doubt.open_candidate is not None:
            return True
        own = () if self.task is None else (self.task.id,)
        return self.ticket is not None and self.ticket.named(but=own, of_any=True) is not None

    @contextmanager
    def waiting_to_send(self) -> Generator[asyncio.Task[Any]]:
        """The submit takes place in this block; gives the asyncio task that waits for it."""
        job = self._job = asyncio.current_task()
        if job is None:  # pragma: no cover  # there is always one in a coroutine
            raise NotAdmittedError
        self._admission.enter(job)
        try:
            yield job
        finally:
            self._admission.leave(job)

    def outcome(
        self, status: OutcomeStatus, task: Task | None, error: ApixoError | None
    ) -> Outcome:
        """How the job ended."""
        return Outcome(job=self.job, index=self.index, status=status, task=task, error=error)

    def uncertain_outcome(self, error: SubmitUncertainError) -> Outcome:
        """Nobody can say how it ended."""
        return self.outcome(OutcomeStatus.UNCERTAIN, None, error)

    # The submit

    def is_known(self, task_id: str) -> bool:
        """Whether a task id is that of another job of the journal."""
        try:
            return self._is_known(task_id)
        except JournalError as error:
            # An answer must not be lost because it cannot be compared with others.
            LOGGER.exception(
                "the journal cannot be asked for task %s",
                task_id,
                extra=fields("journal_unread", task_id=task_id, key=self.key, error=error),
            )
            return False

    async def sending(self, attempt: int) -> None:
        """A POST is about to leave: on disk before its first byte."""
        if self._job is not None:
            self._admission.begin(self._job)
        try:
            event = events.Sending(
                key=self.key, attempt=attempt, calls_back=self.ticket is not None
            )
            await self.recorder.write(event, keep_trying=False)
        except (JournalError, NotAdmittedError):
            self._end()
            raise
        except asyncio.CancelledError:  # the client is torn down: it does not leave after all
            self._note_in_passing(
                events.NotSent(key=self.key, attempt=attempt, reason="the client was closed")
            )
            raise
        self.is_sent = True
        _killpoints.reached("K2")

    async def not_sent(self, attempt: int, error: ApixoError) -> None:
        """It did not leave after all."""
        self.recorder.note(events.NotSent(key=self.key, attempt=attempt, reason=str(error)))
        self._end(will_wait=True)

    async def accepted(self, task: Task, answer: Answer) -> None:
        """The task exists: on disk before anyone sees it."""
        _killpoints.reached("K5")
        self.task = task
        event = events.Accepted(
            key=self.key,
            task_id=task.id,
            model=task.model,
            received=excerpt(answer.text.encode("utf-8", "replace")),
            answered_at=answer.sent_at,
        )
        try:
            await self._write_id(event)
        finally:
            self._end()
        self._admission.note_accepted()
        _killpoints.reached("K6")

    async def rejected(self, error: ApixoError) -> None:
        """There is no task."""
        answer = error if isinstance(error, APIError) else None
        event = events.Rejected(
            key=self.key,
            reason=str(error) if answer is None else answer.message,
            error=type(error).__name__,
            code=None if answer is None else answer.code,
            http_status=None if answer is None else answer.http_status,
            is_final=not stops_batch(error),
        )
        await self._write_end(event)

    async def uncertain(self, error: SubmitUncertainError) -> None:
        """Nobody can say whether there is one."""
        await self._write_end(self._uncertain(error))
        self._admission.note_doubt()

    async def held(self, error: SubmitUncertainError) -> None:
        """It did not leave again; the callback that told why is on record, or about to be."""
        if self._job is not None:
            self._admission.leave(self._job)
        self.recorder.tell(self._uncertain(error))

    async def denied(self, error: SubmitUncertainError) -> None:
        """The API does not know the task that the broken answer named."""
        self.doubt = error
        await self.recorder.write(
            events.Denied(key=self.key, task_id=error.candidate_task_id or "")
        )

    async def identified(self, task: Task) -> None:
        """Which task it is has turned out after all."""
        attempt, doubt = None, self.doubt
        self.task, self.doubt = task, None
        if self.ticket is not None:
            attempt = self.ticket.task_ids.get(task.id)
            was_sent = doubt is not None and doubt.phase != BY_CALLBACK
            self.has_open_attempt |= was_sent and self.ticket.is_of_earlier(task.id)
        event = events.Identified(key=self.key, task_id=task.id, attempt=attempt)
        await self._write_id(event)
        self._admission.note_accepted()

    async def _write_id(self, event: events.Accepted | events.Identified) -> None:
        """Writes the id of the task; callbacks that name it wait for that."""
        self._kept = kept = asyncio.get_running_loop().create_future()
        try:
            await self.recorder.write(event)
        except BaseException as error:
            kept.set_exception(JournalError(f"the task of job {self.key!r} is not recorded"))
            kept.exception()  # nobody has to wait for it
            raise error from None
        kept.set_result(None)

    async def called_back(self, callback: Callback) -> None:
        """A callback came; on return, what it tells of a task is on disk."""
        told = callback.claim.task_id
        event = events.CalledBack(
            key=self.key,
            attempt=callback.slip.attempt,
            task_id=told,
            state=callback.claim.state,
        )
        task = self.task
        own = None if task is None else task.id
        if is_unheard_of(told, own=own, past=self.past_tasks):
            await self.recorder.write(event, keep_trying=False)
            if task is not None and told not in self._warned_of and len(self._warned_of) < IDS_MAX:
                self._warned_of.add(told)
                warn_of_two(self.key, task.id, told)
            return
        if told is not None and told == own and self._kept is not None:
            await asyncio.shield(self._kept)
        self.recorder.tell(event)

    def cut(self, error: SubmitUncertainError) -> None:
        """The client was torn down with the POST on its way; nobody waits for this any more."""
        self._note_in_passing(self._uncertain(error))

    def _note_in_passing(self, event: events.JobEvent) -> None:
        """Notes how a POST ended that nobody waits for."""
        try:
            self.recorder.note(event)
        except JournalError as error:
            LOGGER.exception(
                "what came of job %r cannot be recorded",
                self.key,
                extra=fields(
                    "end_unrecorded",
                    key=self.key,
                    task_id=None if self.task is None else self.task.id,
                    error=error,
                ),
            )
        finally:
            self._end()

    def _uncertain(self, error: SubmitUncertainError) -> events.Uncertain:
        self.doubt = error
        return events.Uncertain(
            key=self.key,
            reason=error.reason,
            phase=error.phase,
            received=error.received,
            received_bytes=error.received_bytes,
            candidate_task_id=error.candidate_task_id,
            candidate_denied=error.candidate_denied,
        )

    async def _write_end(self, event: events.JobEvent) -> None:
        try:
            await self.recorder.write(event)
        finally:
            self._end()

    def _end(self, *, will_wait: bool = False) -> None:
        self.is_sent = False
        if self._job is not None:
            self._admission.end(self._job, will_wait=will_wait)

    # The files

    async def naming(self, file: SavedFile) -> None:
        """Notes what is about to get a name, so that after a crash it is known by its content."""
        event = events.Naming(key=self.key, path=str(file), size=file.size, sha256=file.sha256)
        await self.recorder.write(event)

    async def saved(self, file: SavedFile) -> None:
        """One file has its name."""
        _killpoints.reached("K10")
        self.files.append(file)
        event = events.Saved(key=self.key, path=str(file), size=file.size, sha256=file.sha256)
        await self.recorder.write(event)

    async def adopted(self, file: SavedFile) -> None:
        """A file of an earlier process was found complete under its name."""
        event = events.Saved(key=self.key, path=str(file), size=file.size, sha256=file.sha256)
        await self.recorder.write(event)
