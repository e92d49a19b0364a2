"""What a process may do next, by what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from apixo_async import OutcomeStatus
from apixo_async.batch import events
from apixo_async.errors import UnansweredError
from apixo_async.tasks import Task
from tests.model.calling import ticket_of, with_ticket
from tests.model.client import (
    answered,
    confirmed,
    end,
    record,
    repeat_or_end,
    resent,
    send,
    start,
    sync,
    write,
)
from tests.model.rules import AT, FAIL_CODE, KEY, REQUEST, Model, reading
from tests.model.world import Phase, Process, Step, World

UNANSWERED = UnansweredError("a callback came, and no answer", host="", reason="timeout")


def steps(model: Model, world: World) -> Iterator[Step]:
    """What the client itself does next, whatever it may be."""
    process = world.process
    if process is None:
        if world.budgets.runs:
            yield Step("a process starts", start(model, world))
        return
    if world.queued and not world.written:
        yield Step("records are written", write(model, world))
    if world.written:
        yield Step("they are on disk", sync(model, world))
    if (choices := _CHOICES.get(process.phase)) is not None:
        yield from choices(model, world, process)


def _ready(model: Model, world: World, _: Process) -> Iterator[Step]:
    yield Step("a submit begins", send(model, world))


def _posting(model: Model, world: World, process: Process) -> Iterator[Step]:
    if process.reply:
        yield Step(f"{process.reply} is read", _answered(model, world, process.reply))
    for fewer in _lost(world):
        yield Step("no answer comes", _answered(model, fewer, "none"))
    if ticket_of(world).named() is not None:
        early = attrs.evolve(reading("none"), failure=UNANSWERED)
        yield Step("a callback was before the answer", answered(model, world, early))


def _lost(world: World) -> Iterator[World]:
    """The world with one answer less that may be lost, if one may."""
    losses = world.budgets.losses
    if losses is None or losses:
        yield world if losses is None else world.spent(losses=losses - 1)


def _answered(model: Model, world: World, name: str) -> World:
    if name.partition(":")[0] in model.rules.resends:
        return resent(world)
    return answered(model, world, reading(name))


def _confirming(model: Model, world: World, process: Process) -> Iterator[Step]:
    is_true = process.candidate in world.ids() or not model.rules.asks
    yield Step("the API tells of the id", confirmed(model, world, is_true))
    for fewer in _lost(world):
        yield Step("the API does not answer", confirmed(model, fewer, None), is_own=False)


def _hearing(model: Model, world: World, _: Process) -> Iterator[Step]:
    ticket = ticket_of(world)
    task_id = ticket.named()
    over = repeat_or_end(model, world, OutcomeStatus.UNCERTAIN)
    # While an id is known, only an API that never answers lets the time run out.
    yield Step("nobody waits longer for the task", over, is_own=task_id is None)
    if task_id is None:
        return
    if task_id not in world.ids() and model.rules.asks:
        is_candidate = task_id == ticket.candidate
        ticket.deny(task_id)
        denying = with_ticket(world, ticket)
        if is_candidate:
            denying = record(model, denying, events.Denied(key=KEY, at=AT, task_id=task_id))
        yield Step("the API denies the id", denying)
        return
    ticket.know(task_id)
    found = with_ticket(world, ticket).doing(task=task_id)
    attempt = ticket.task_ids.get(task_id)
    event = events.Identified(key=KEY, at=AT, task_id=task_id, attempt=attempt)
    yield Step("the API confirms the id", record(model, found, event))


def _waiting(model: Model, world: World, process: Process) -> Iterator[Step]:
    yield Step("nobody waits longer for the task", end(world, OutcomeStatus.TIMED_OUT))
    for task in world.tasks:
        if task.id == process.task and task.state != "running":
            yield Step("the end of the task is seen", _ended(model, world, task.id, task.state))


def _ended(model: Model, world: World, task_id: str, state: str) -> World:
    if state == "failed":
        failed = Task(id=task_id, model=REQUEST.model, state=state, fail_code=FAIL_CODE)
        return record(model, world, events.Failed(key=KEY, at=AT, task=failed, reason="no"))
    done = Task(id=task_id, model=REQUEST.model, state=state, urls=("https://a/1.mp4",))
    return record(model, world, events.Succeeded(key=KEY, at=AT, task=done))


def _over(_: Model, world: World, __: Process) -> Iterator[Step]:
    if not (world.written or world.queued):
        yield Step("the process ends", world._replace(process=None))


_CHOICES: Final[dict[Phase, Callable[[Model, World, Process], Iterator[Step]]]] = {
    Phase.READY: _ready,
    Phase.POSTING: _posting,
    Phase.CONFIRMING: _confirming,
    Phase.HEARING: _hearing,
    Phase.WAITING: _waiting,
    Phase.ENDED: _over,
}
