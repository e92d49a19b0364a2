"""What is not in the client's hands: the API, the network, crashes, and the user's decisions."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from apixo_async.batch import events
from apixo_async.batch.journal import JobState
from apixo_async.batch.journal.history import can_follow
from tests.model.calling import called
from tests.model.client import keep
from tests.model.rules import AT, FORGED, KEY, Model
from tests.model.world import Phase, Process, Step, Task, World


def steps(model: Model, world: World) -> Iterator[Step]:
    """All that may happen to the client."""
    yield from _submits(model, world)
    yield from _ends(world)
    if world.process is None:
        yield from _decisions(model, world)
    else:
        yield from _crashes(model, world)
    if world.process is not None and _listens(world.process):
        yield from _callbacks(model, world, world.process)


def _listens(process: Process) -> bool:
    """Whether the batch takes callbacks: not before it has read what was in doubt."""
    return process.attempts > 0 or process.phase is not Phase.RECORDING


# Submits


def _submits(model: Model, world: World) -> Iterator[Step]:
    for attempt in dict.fromkeys(world.wire):
        at = world.wire.index(attempt)
        left = world._replace(wire=world.wire[:at] + world.wire[at + 1 :])
        yield from _arrives(model, left, attempt)


def _arrives(model: Model, world: World, attempt: int) -> Iterator[Step]:
    """A request comes to the API, or is turned back before; the answer sets out, or is lost."""
    process, budgets = world.process, world.budgets
    is_awaited = (
        process is not None
        and process.phase is Phase.POSTING
        and process.attempts == attempt
        and not process.reply
    )
    task_id = f"t{len(world.tasks) + 1}"
    accepted = world._replace(tasks=(*world.tasks, Task(task_id, attempt)))
    # A lost answer is one that the client no longer reads: it need not be told apart here.
    if not is_awaited:
        yield Step(f"submit {attempt} is accepted late", accepted, is_own=False)
        return
    is_last = budgets.losses == 0  # then something comes, for the model must end somewhere
    yield Step(
        f"submit {attempt} is accepted", accepted.doing(reply=f"plain:{task_id}"), is_own=is_last
    )
    yield _answer(accepted, "damaged", f"submit {attempt} is accepted", task_id)
    yield _answer(world, "400", f"submit {attempt} is refused")
    if budgets.faults:
        fewer = {"faults": budgets.faults - 1}
        yield _answer(accepted.spent(**fewer), "5xx", f"submit {attempt} is accepted")
        yield _answer(world.spent(**fewer), "5xx", f"submit {attempt} is lost behind a gateway")
        yield _answer(world.spent(**fewer), "429", f"submit {attempt} is put off")
        yield _answer(world.spent(**fewer), "unsent", f"submit {attempt} does not leave")


def _answer(world: World, name: str, what: str, task_id: str = "") -> Step:
    reply = f"{name}:{task_id}"
    return Step(f"{what}, answer {name}", world.doing(reply=reply), is_own=False)


# Tasks


def _ends(world: World) -> Iterator[Step]:
    # Nobody can tell when a task has ended that nobody looks at.
    process = world.process
    for at, task in enumerate(world.tasks):
        is_watched = process is not None and process.phase is Phase.WAITING
        if process is None or not is_watched or task.id != process.task or task.state != "running":
            continue
        yield _ended(world, at, task, "success")
        if world.budgets.failures:
            fewer = world.spent(failures=world.budgets.failures - 1)
            yield _ended(fewer, at, task, "failed")


def _ended(world: World, at: int, task: Task, state: str) -> Step:
    tasks = (*world.tasks[:at], task._replace(state=state), *world.tasks[at + 1 :])
    return Step(f"task {task.id} ends: {state}", world._replace(tasks=tasks), is_own=False)


def _callbacks(model: Model, world: World, process: Process) -> Iterator[Step]:
    fewer = world.spent(calls=world.budgets.calls - 1)
    for task in world.tasks if world.budgets.calls else ():
        after = called(model, fewer, task.id, task.attempt)
        yield Step(f"a callback names {task.id}", after, is_own=False)
    if world.budgets.forgeries and process.attempts:
        fewer = world.spent(forgeries=world.budgets.forgeries - 1)
        after = called(model, fewer, FORGED, process.attempts)
        yield Step("a forged callback comes", after, is_own=False)


# Crashes and decisions


def _crashes(model: Model, world: World) -> Iterator[Step]:
    if not world.budgets.crashes:
        return
    down = world.spent(crashes=world.budgets.crashes - 1)
    down = down._replace(process=None, written=(), queued=())
    yield Step("SIGKILL", keep(model, down, world.written), is_own=False)
    if world.written:
        yield Step("power is lost", down, is_own=False)


def _decisions(model: Model, world: World) -> Iterator[Step]:
    """`apixo settle`: what was on its way is in doubt first, and then the user decides."""
    if not world.budgets.decisions:
        return
    doubt = model.rules.doubt_after_crash(world.kept)
    entry = (
        world.kept if doubt is None else model.rules.after(world.kept, attrs.evolve(doubt, at=AT))
    )
    fewer = world.spent(decisions=world.budgets.decisions - 1)
    if can_follow(entry.state, events.Abandoned):
        abandoned = model.rules.after(entry, events.Abandoned(key=KEY, at=AT))
        yield Step("the user abandons it", fewer._replace(kept=abandoned), is_own=False)
    if can_follow(entry.state, events.Resubmitted) and entry.state is not JobState.REJECTED:
        again = events.Resubmitted(key=KEY, at=AT, reason="settled")
        queued = fewer._replace(kept=model.rules.after(entry, again)).excusing("decision")
        yield Step("the user resubmits it", queued, is_own=False)
