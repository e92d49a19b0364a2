"""Bugs of the protocol that are put into the library on purpose: the simulation must find each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final
from unittest import mock

from apixo_async import NotFoundError, NotSentError, RateLimitedError, UnansweredError
from apixo_async._transport import Transport
from apixo_async.batch import OutcomeStatus, carrying, events
from apixo_async.batch import story as story_module
from apixo_async.batch.admission import Admission
from apixo_async.batch.carrying import Carrier
from apixo_async.batch.continuing import Continuation
from apixo_async.batch.journal import JobState, Journal
from apixo_async.batch.running import Run
from apixo_async.batch.story import Recorder, Story
from apixo_async.client import hearing, judging, reading, watching
from apixo_async.client.books import Books
from apixo_async.client.engine import Engine
from apixo_async.client.reading import Reader
from apixo_async.client.submitting import Submitter
from apixo_async.client.tracking import Tracker
from apixo_async.errors import ApixoError, ServerError
from apixo_async.limits import gate
from apixo_async.limits.rate import RateGate
from apixo_async.retries import SubmitVerdict, is_look_fatal, may_generate_again, submit_verdict

Bug = Callable[[], AbstractContextManager[object]]

BUGS: Final[dict[str, Bug]] = {}


def planted(bug: Bug) -> Bug:
    """Registers a bug under its name."""
    BUGS[bug.__name__] = bug
    return bug


def swapped(owner: object, **others: object) -> AbstractContextManager[object]:
    """Other attributes for as long as the block lasts."""
    return both(*(mock.patch.object(owner, name, other) for name, other in others.items()))


def both(*managers: AbstractContextManager[object]) -> AbstractContextManager[object]:
    """Several blocks at once."""

    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            for manager in managers:
                stack.enter_context(manager)
            yield

    return entered()


def _sent_again(
    kind: type[ApixoError], instead: Callable[[str], ApixoError]
) -> AbstractContextManager[object]:
    """Errors of this kind are taken for others, which are safe to repeat."""
    refused = Submitter._refused

    def verdict(error: ApixoError) -> SubmitVerdict:
        return SubmitVerdict.NOT_SENT if isinstance(error, kind) else submit_verdict(error)

    async def lax(self: Submitter, submission: Any, failure: ApixoError, *others: Any) -> Any:
        failure = instead(str(failure)) if isinstance(failure, kind) else failure
        return await refused(self, submission, failure, *others)

    return both(swapped(judging, submit_verdict=verdict), swapped(Submitter, _refused=lax))


# What is sent again


@planted
def a_submit_is_repeated_after_a_timeout() -> AbstractContextManager[object]:
    """As every client does that knows idempotency keys."""
    return _sent_again(UnansweredError, lambda text: NotSentError(text, host="", reason="timeout"))


@planted
def a_submit_is_repeated_after_5xx() -> AbstractContextManager[object]:
    """As SDKs do by default."""
    return _sent_again(ServerError, lambda text: RateLimitedError(text, retry_after=1.0))


@planted
def what_a_crash_cut_is_sent_again() -> AbstractContextManager[object]:
    """A submit that was on its way when the process died is taken for one that was not sent."""

    async def recover(self: Journal) -> int:
        async for entry in self.entries(JobState.SENDING):
            await self.record(entry.number, events.NotSent(key=entry.key, attempt=1, reason=""))
        return 0

    return swapped(Journal, recover=recover)


@planted
def failed_tasks_are_made_again_without_end() -> AbstractContextManager[object]:
    """Retries are counted for each try, not for the job."""

    def lax(error: ApixoError | None, **rules: Any) -> bool:
        return may_generate_again(error, **{**rules, "done": 0})

    return swapped(carrying, may_generate_again=lax)


# What is on record, and when


def _written(write: Callable[..., Any], kind: type[Any]) -> AbstractContextManager[object]:
    """Another way to write events of this kind."""
    usual = Recorder.write

    async def one(self: Recorder, event: Any, *, keep_trying: bool = True) -> None:
        if isinstance(event, kind):
            await write(self, event)
        else:
            await usual(self, event, keep_trying=keep_trying)

    return swapped(Recorder, write=one)


@planted
def nothing_is_on_record_before_a_submit() -> AbstractContextManager[object]:
    """There is no `Sending`."""

    async def nothing(_: Recorder, __: object) -> None:
        pass

    return _written(nothing, events.Sending)


@planted
def a_submit_leaves_before_its_record_is_durable() -> AbstractContextManager[object]:
    """`Sending` is written, but not waited for."""

    async def note(self: Recorder, event: Any) -> None:
        self.note(event)

    return _written(note, events.Sending)


@planted
def an_id_is_told_before_it_is_durable() -> AbstractContextManager[object]:
    """The user sees the task, and then the process dies."""

    async def note(self: Recorder, event: Any) -> None:
        self.note(event)

    return _written(note, events.Accepted)


@planted
def an_id_is_dropped_when_the_disk_refuses_it() -> AbstractContextManager[object]:
    """Its record is not tried again."""
    usual = Recorder.write

    async def once(self: Recorder, event: Any) -> None:
        await usual(self, event, keep_trying=False)

    return _written(once, events.Accepted)


@planted
def an_answer_is_lost_with_its_caller() -> AbstractContextManager[object]:
    """Cancelling a batch cancels its POSTs, too, and waits for none of them."""

    async def at_once(_: Admission) -> None:
        pass

    return both(
        swapped(asyncio, shield=lambda awaited: awaited),
        swapped(Admission, wait_none_sending=at_once),
    )


# Whose task it is


@planted
def one_id_is_taken_for_two_jobs() -> AbstractContextManager[object]:
    """An answer that names another job's task is believed."""
    return swapped(Submitter, _new_id=lambda _, __, task_id: task_id)


@planted
def a_candidate_that_could_not_be_asked_about_is_taken_for_denied() -> AbstractContextManager[
    object
]:
    """The id in a damaged answer counts for nothing if the API was away at that moment."""

    def lax(*, is_there: bool | None, **_: object) -> bool:
        return not is_there

    return swapped(hearing, is_denied=lax)


@planted
def one_denial_among_failures_denies() -> AbstractContextManager[object]:
    """One 404 counts for more than the looks that had no answer, and for good."""

    async def knows(
        self: Reader, transport: Transport, task_id: str, model: str, *, pause: float
    ) -> bool | None:
        is_denied = False
        for looks in range(reading.CONFIRM_LOOKS):
            await asyncio.sleep(pause if looks else 0)
            try:
                await self.task(transport, task_id, model)
            except NotFoundError:
                is_denied = True
            except ApixoError:
                pass
            else:
                return True
        return False if is_denied else None

    def at_once(*, is_there: bool | None, **_: object) -> bool:
        return is_there is False

    return both(swapped(Reader, knows=knows), swapped(hearing, is_denied=at_once))


@planted
def a_success_without_a_url_is_believed_at_once() -> AbstractContextManager[object]:
    """Its copy may still be under way."""
    return swapped(watching, UNUSABLE_LOOKS=1)


@planted
def a_callback_is_believed() -> AbstractContextManager[object]:
    """The API is not asked whether it knows the id."""

    async def yes(_: Engine, __: str, ___: str) -> bool:
        return True

    return swapped(Engine, _confirm=yes)


@planted
def a_callback_is_confirmed_before_it_is_on_record() -> AbstractContextManager[object]:
    """Its sender does not come again, and then the process dies."""

    async def later(self: Story, callback: Any) -> None:
        claim, attempt = callback.claim, callback.slip.attempt
        event = events.CalledBack(
            key=self.key, attempt=attempt, task_id=claim.task_id, state=claim.state
        )
        asyncio.get_running_loop().call_later(20, _noted, self.recorder, event)

    return swapped(Story, called_back=later)


@planted
def a_late_callback_is_ignored() -> AbstractContextManager[object]:
    """What comes after a restart for a submit of before."""

    async def no(*_: object) -> bool:
        return False

    return swapped(Continuation, _hear=no)


@planted
def a_callback_after_the_verdict_is_not_recorded() -> AbstractContextManager[object]:
    """It is answered 200, and nobody waits for the job any more."""

    async def unchanged(_: Continuation, entry: Any, __: object) -> Any:
        return entry

    return swapped(Continuation, _record=unchanged)


def _noted(recorder: Recorder, event: events.CalledBack) -> None:
    with contextlib.suppress(ApixoError):
        recorder.note(event)


# When a wait ends, and what is said of it


@planted
def one_denial_ends_a_wait() -> AbstractContextManager[object]:
    """The first 404 is believed, however old the task is."""

    def hasty(error: ApixoError, **rules: Any) -> bool:
        return isinstance(error, NotFoundError) or is_look_fatal(error, **rules)

    return swapped(watching, is_look_fatal=hasty)


@planted
def any_failed_look_ends_a_wait() -> AbstractContextManager[object]:
    """As if looks were submits."""
    return swapped(watching, is_look_fatal=lambda *_, **__: True)


@planted
def a_denied_task_is_called_failed() -> AbstractContextManager[object]:
    """Although it is young, and may come back."""

    async def failed(self: Carrier, story: Story, task: Any, error: ApixoError) -> Any:
        await story.recorder.write(events.Failed(key=story.key, task=task, reason=str(error)))
        return story.outcome(OutcomeStatus.FAILED, task, error)

    return swapped(Carrier, _unknown=failed)


@planted
def a_wait_that_is_over_is_called_a_failure() -> AbstractContextManager[object]:
    """The deadline is ours; the task goes on."""
    usual = Carrier._collect

    async def collect(self: Carrier, story: Story, task: Any) -> Any:
        outcome = await usual(self, story, task)
        if outcome.status is not OutcomeStatus.TIMED_OUT:
            return outcome
        last = outcome.task or task
        await story.recorder.write(events.Failed(key=story.key, task=last, reason="too late"))
        return story.outcome(OutcomeStatus.FAILED, last, outcome.error)

    return swapped(Carrier, _collect=collect)


@planted
def nothing_stops_a_batch() -> AbstractContextManager[object]:
    """A refused key and an empty balance are the fault of one job."""
    lax: Callable[[ApixoError], bool] = lambda _: False  # noqa: E731  # two modules have it
    return both(swapped(carrying, stops_batch=lax), swapped(story_module, stops_batch=lax))


@planted
def outcomes_of_jobs_that_were_given_up_are_forgotten() -> AbstractContextManager[object]:
    """Who cancels a batch is not told of the tasks that go on."""
    usual = Run._gather_left

    def gather(self: Run) -> None:
        self._carrier.given_up = []
        usual(self)

    return swapped(Run, _gather_left=gather)


# Limits


@planted
def a_slot_is_free_when_its_submit_is_answered() -> AbstractContextManager[object]:
    """Instead of when its task has ended."""
    start = Tracker.start

    def freed(self: Tracker, *arguments: Any, **keywords: Any) -> Any:
        tracked = start(self, *arguments, **keywords)
        tracked.lease.release()
        return tracked

    return swapped(Tracker, start=freed)


@planted
def a_doubtful_submit_keeps_no_slot() -> AbstractContextManager[object]:
    """Its task may be running all the same."""
    usual = Books._hold
    return swapped(Books, _hold=lambda self, lease, _: usual(self, lease, 0.0))


@planted
def tasks_of_a_dead_process_have_no_slots() -> AbstractContextManager[object]:
    """Those of before the restart run on."""

    def adopted(self: Any, task: Any, *, age: float, ticket: Any = None) -> None:
        lease = self._gate.occupy()
        self._start(task, lease, 60.0, age=age, ticket=ticket)
        lease.release()

    return swapped(Books, adopt=adopted)


@planted
def retry_after_is_ignored() -> AbstractContextManager[object]:
    """The gate opens again at once."""
    return swapped(gate, pause_seconds=lambda *_, **__: 0.05)


@planted
def looks_take_no_token() -> AbstractContextManager[object]:
    """Only submits are counted against the request limit."""
    usual = RateGate.wait_open

    async def free(self: RateGate, *, poll: bool) -> Any:
        return self._episode if poll else await usual(self, poll=poll)

    return swapped(RateGate, wait_open=free)


@contextlib.contextmanager
def sabotage(name: str | None) -> Iterator[None]:
    """With this bug in the library; `None` for none."""
    with contextlib.nullcontext() if name is None else BUGS[name]():
        yield


def described() -> Mapping[str, str]:
    """What each bug is, in a line."""
    return {name: (bug.__doc__ or "").split("\n")[0] for name, bug in BUGS.items()}
