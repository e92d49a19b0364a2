"""What the client does: the steps of a process, in the order of the product's own code."""

from __future__ import annotations

import attrs

from apixo_async import OutcomeStatus
from apixo_async.batch import events
from apixo_async.batch.journal import (
    CALLED_BACK,
    EARLIER,
    Entry,
    JobState,
    open_attempt,
    past_tasks,
)
from apixo_async.errors import JournalError
from apixo_async.retries import SubmitVerdict
from tests.model.calling import answer_callback, ticket_of, with_ticket
from tests.model.rules import AT, KEY, REQUEST, Model, Reading, fits
from tests.model.world import Phase, Process, Record, World, ids_noted

# Records


def head(model: Model, world: World) -> Entry:
    """The job once all that is on its way to the disk is there."""
    entry = world.kept
    for record in (*world.written, *world.queued):
        entry = entry if record.event is None else model.rules.after(entry, record.event)
    return entry


def record(model: Model, world: World, event: events.JobEvent, *, waits: str = "job") -> World:
    """Hands an event to the journal; with `job` the process goes on when it is on disk."""
    try:
        model.rules.after(head(model, world), event)
    except JournalError:
        return end(world.sinned("a record is refused"), OutcomeStatus.NOT_STARTED)
    world = world._replace(queued=(*world.queued, Record(event, waits)))
    return world.doing(phase=Phase.RECORDING) if waits == "job" else world


def write(model: Model, world: World) -> World:
    """One transaction: the system has it, the disk not yet."""
    world = world._replace(written=world.queued, queued=())
    if model.rules.syncs_sending:
        return world
    early = [r for r in world.written if isinstance(r.event, events.Sending)]
    world = world._replace(
        written=tuple(r._replace(waits="") if r in early else r for r in world.written)
    )
    return go_on(model, world, early[0]) if early and early[0].waits else world


def sync(model: Model, world: World) -> World:
    """The disk has it: whoever waits for it goes on."""
    told = world.written
    world = keep(model, world._replace(written=()), told)
    # What a callback names counts before it is on disk (`Ticket.keep`), so nobody overlooks it.
    for one in sorted(told, key=lambda record: record.waits != "callback"):
        world = go_on(model, world, one)
    return world


def keep(model: Model, world: World, records: tuple[Record, ...]) -> World:
    """What was written counts from now on; no id may be lost by that."""
    entry = world.kept
    for one in records:
        before = entry
        entry = entry if one.event is None else model.rules.after(entry, one.event)
        if not ids_noted(before) <= ids_noted(entry):
            world = world.sinned("a known id is lost")
    return world._replace(kept=entry)


def go_on(model: Model, world: World, one: Record) -> World:
    """What comes after a record."""
    if one.waits == "callback":
        return answer_callback(model, world, *one.called)
    return decided(model, world, one.event) if one.waits == "job" else world


def decided(model: Model, world: World, event: events.JobEvent | None) -> World:
    """What the job does once it is on disk."""
    match event:
        case events.Sending():
            return post(world)
        case events.Accepted() | events.Identified():
            task_id = event.task_id
            return world._replace(shown=world.shown | {task_id}).doing(phase=Phase.WAITING)
        case events.Uncertain() | events.Denied():
            return in_doubt(model, world)
        case events.Succeeded() | events.Rejected():
            return end(world, world.kept.outcome(0).status)
        case events.Failed():
            return repeat_or_end(model, world, OutcomeStatus.FAILED)
        case events.Resubmitted():
            return begin_again(world, is_retry=event.reason == "retry")
        case _:
            raise AssertionError(event)


# Starting


def start(model: Model, world: World) -> World:
    """A process takes the journal over; submits on their way are in doubt first."""
    world = world._replace(process=Process(Phase.READY)).spent(runs=world.budgets.runs - 1)
    doubt = model.rules.doubt_after_crash(world.kept)
    if doubt is None:
        return take_over(model, world)
    return record(model, world, attrs.evolve(doubt, at=AT))


def take_over(model: Model, world: World) -> World:
    """Goes on from what the record says (`Continuation.take_over`)."""
    entry, rules = world.kept, model.rules
    past = frozenset(past_tasks(entry))
    world = world.doing(attempts=entry.attempts, repeats=rules.repeats(entry), past=past)
    if entry.state is JobState.ACCEPTED:
        ticket = ticket_of(world)
        ticket.know(entry.task_id or "")
        return with_ticket(world, ticket).doing(phase=Phase.WAITING, task=entry.task_id)
    if rules.is_to_submit(entry):
        return world.doing(phase=Phase.READY)
    if entry.state is JobState.UNCERTAIN:
        return doubt_taken_over(model, world)
    return end(world, entry.outcome(0).status)


def doubt_taken_over(model: Model, world: World) -> World:
    """An uncertain job is heard of, sent again by policy, or left alone."""
    entry, rules = world.kept, model.rules
    candidate = rules.open_candidate(entry) or ""
    if model.callbacks and rules.may_be_called_back(entry):
        why, last = entry.why(), entry.attempts
        heard = (
            *((told, last) for told in why.get(CALLED_BACK, ())),
            *((told, last - 1) for told in why.get(EARLIER, ())),
        )
        return world.doing(phase=Phase.HEARING, heard=heard, candidate=candidate)
    if candidate:
        return world.doing(phase=Phase.HEARING, candidate=candidate)
    if rules.is_to_submit_again(entry, policy=model.policy):
        # A submit of the queue, like any other: it is no repeat of this run.
        return resubmit(model, world.doing(done=-1), "policy")
    return end(world, OutcomeStatus.UNCERTAIN)


def end(world: World, outcome: OutcomeStatus) -> World:
    """The outcome is told; the process lives on for a while."""
    return world.doing(phase=Phase.ENDED, outcome=outcome, reply="", candidate="")


# Submitting


def send(model: Model, world: World) -> World:
    """One attempt, if the money is there: on record before its first byte."""
    assert world.process is not None
    if not fits(cap=model.cap, charges=model.rules.charges(head(model, world))):
        return end(world, OutcomeStatus.NOT_STARTED)
    ticket = ticket_of(world)
    if model.rules.holds and ticket.attempts and is_named(world):
        return world.doing(phase=Phase.HEARING, candidate="")
    ticket.next_url()
    world = with_ticket(world, ticket)
    if not model.rules.records_sending:
        return post(world)
    event = events.Sending(key=KEY, at=AT, attempt=1, calls_back=model.callbacks)
    return record(model, world, event)


def is_named(world: World) -> bool:
    """Whether a callback has named a task of the job, also if that is not yet on record."""
    ticket, process = ticket_of(world), world.process
    assert process is not None
    ticket.rule_out(process.past | {process.task or ""})
    coming = (r.event for r in (*world.written, *world.queued))
    is_told = any(isinstance(event, events.CalledBack) for event in coming)
    return is_told or ticket.named(of_any=True) is not None


def post(world: World) -> World:
    """The request leaves."""
    process = world.process
    assert process is not None
    if world.kept.state is not JobState.SENDING:
        world = world.sinned("posted without a record")
    world = world._replace(wire=(*world.wire, process.attempts))
    return world.doing(phase=Phase.POSTING, reply="")


def answered(model: Model, world: World, read: Reading) -> World:
    """The POST ended, one way or another (`Submitter._post`)."""
    if read.task_id is not None:
        return accept(model, world, read.task_id)
    judged = model.rules.judge(REQUEST, read.failure, read.reply, named=ticket_of(world).named())
    reason = type(read.failure).__name__
    match judged.verdict:
        case SubmitVerdict.UNCERTAIN:
            if judged.candidate is not None:
                return world.doing(phase=Phase.CONFIRMING, reply="", candidate=judged.candidate)
            return doubt(model, world, reason, knows=bool(read.answer.tells))
        case SubmitVerdict.REJECTED:
            return record(model, world, events.Rejected(key=KEY, at=AT, reason=reason))
        case _:
            event = events.NotSent(key=KEY, at=AT, attempt=1, reason=reason)
            return record(model, world, event, waits="").doing(phase=Phase.READY, reply="")


def resent(world: World) -> World:
    """The same submit once more, as if nothing had been sent: only a planted bug does it."""
    return post(world)


def accept(model: Model, world: World, task_id: str) -> World:
    """The task exists: on disk before anyone sees it."""
    ticket = ticket_of(world)
    ticket.know(task_id)
    world = with_ticket(world, ticket).doing(task=task_id, reply="", candidate="")
    if not model.rules.shows_late:
        world = world._replace(shown=world.shown | {task_id})
    event = events.Accepted(key=KEY, at=AT, task_id=task_id, model=REQUEST.model)
    return record(model, world, event)


def confirmed(model: Model, world: World, says: bool | None) -> World:
    """The API has said whether it knows the id, or nothing."""
    assert world.process is not None
    task_id = world.process.candidate
    if says:
        return accept(model, world, task_id)
    is_denied = model.rules.is_denied(is_there=says)
    return doubt(model, world, "cut", candidate=task_id, is_denied=is_denied)


def doubt(
    model: Model,
    world: World,
    reason: str,
    *,
    candidate: str | None = None,
    is_denied: bool = False,
    knows: bool = False,
) -> World:
    """Nobody can say whether there is a task; `knows` if somebody could."""
    if knows:
        world = world.sinned("a doubt without need")
    event = events.Uncertain(
        key=KEY,
        at=AT,
        reason=reason,
        phase="sent",
        candidate_task_id=candidate,
        candidate_denied=is_denied,
    )
    return record(model, world.doing(reply="", candidate=""), event)


def in_doubt(model: Model, world: World) -> World:
    """A doubt is on disk, of this process or a crashed one, or that its candidate is denied."""
    assert world.process is not None
    if not world.process.attempts:
        return take_over(model, world)
    candidate = model.rules.open_candidate(world.kept) or ""
    if model.callbacks or candidate:
        return world.doing(phase=Phase.HEARING, candidate=candidate)
    return repeat_or_end(model, world, OutcomeStatus.UNCERTAIN)


# Again


def repeat_or_end(model: Model, world: World, outcome: OutcomeStatus) -> World:
    """Once more by a policy of the user, or the end (`Carrier.is_to_repeat`)."""
    process, rules = world.process, model.rules
    assert process is not None
    if not fits(cap=model.cap, charges=rules.charges(head(model, world))):
        return end(world, outcome)
    if open_attempt(world.kept) is not None or (rules.holds and is_named(world)):
        return end(world, outcome)
    if outcome is OutcomeStatus.UNCERTAIN:
        is_to_repeat = rules.may_submit_in_doubt(
            policy=model.policy, done=process.done, named=is_named(world)
        )
    else:
        is_to_repeat = rules.may_generate_again(done=process.repeats, times=model.retries)
    if not is_to_repeat:
        return end(world, outcome)
    return resubmit(model, world, "policy" if outcome is OutcomeStatus.UNCERTAIN else "retry")


def resubmit(model: Model, world: World, reason: str) -> World:
    """Queues the job again, and excuses what was sent before by what the user has asked for."""
    if reason == "retry":
        world = world.excusing(reason, but=lambda task: task.state != "failed", needs_task=True)
    elif model.policy == "resubmit":
        known = world.acked | world.shown | ids_noted(world.kept)
        world = world.excusing(reason, but=lambda task: task.id in known)
    return record(model, world, events.Resubmitted(key=KEY, at=AT, reason=reason))


def begin_again(world: World, *, is_retry: bool) -> World:
    """The job is queued again, and this process goes on with it."""
    process = world.process
    assert process is not None
    past = process.past | ({process.task} if process.task else frozenset())
    return world.doing(
        phase=Phase.READY,
        past=past,
        task=None,
        done=process.done + 1,
        repeats=process.repeats + is_retry,
    )
