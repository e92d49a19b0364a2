"""Callbacks: what is known by them, by the product's own tickets."""

from __future__ import annotations

from apixo_async._wire import Claim
from apixo_async.batch import events
from apixo_async.client.callbacks import Ticket
from apixo_async.webhooks import Slip
from apixo_async.webhooks.orphans import Callback
from tests.model.rules import AT, KEY, Model
from tests.model.world import Phase, Record, World


def ticket_of(world: World) -> Ticket:
    """The product's ticket, as this process has it; without callbacks, what it asks about."""
    process = world.process
    assert process is not None
    ticket = Ticket("job", lambda _: "", attempts=process.attempts)
    ticket.task_ids.update(process.heard)
    ticket.denied.update(process.denied)
    if process.phase is not Phase.CONFIRMING:
        ticket.candidate = process.candidate or None
    return ticket


def with_ticket(world: World, ticket: Ticket) -> World:
    """The process with what its ticket knows now."""
    heard = tuple(ticket.task_ids.items())
    denied = frozenset(ticket.denied)
    candidate = world.process.candidate if world.process is not None else ""
    if world.process is None or world.process.phase is not Phase.CONFIRMING:
        candidate = ticket.candidate or ""
    return world.doing(attempts=ticket.attempts, heard=heard, denied=denied, candidate=candidate)


def called(model: Model, world: World, task_id: str, attempt: int) -> World:
    """A callback came in (`Story.called_back`, `Continuation._record`)."""
    process, rules = world.process, model.rules
    assert process is not None
    is_over = process.phase is Phase.ENDED
    own = process.task or (world.kept.task_id if is_over else None)
    is_new = rules.is_unheard_of(task_id, own=own, past=process.past)
    if is_over and not rules.hears_late:
        is_new = False
    tells = Record(None, "callback", (task_id, attempt))
    if is_new:
        event = events.CalledBack(key=KEY, at=AT, attempt=attempt, task_id=task_id)
        tells = tells._replace(event=event)
    if not rules.acks_late:
        world = answer_callback(model, world, task_id, attempt)
        tells = tells._replace(waits="")
    if tells.event is None and not (world.written or world.queued):
        return answer_callback(model, world, task_id, attempt)
    return world._replace(queued=(*world.queued, tells))


def answer_callback(model: Model, world: World, task_id: str, attempt: int) -> World:
    """What it tells is on disk: whoever waits is told, and the sender is answered 200."""
    ticket = ticket_of(world)
    slip = Slip("job", attempt)
    if attempt <= ticket.attempts:
        ticket.take(Callback(slip, Claim(task_id, "success")), now=0.0, pause=0.0)
    return with_ticket(world._replace(acked=world.acked | {task_id}), ticket)
