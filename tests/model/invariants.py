"""What must hold in every state, and on the graph of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from apixo_async.batch.journal import JobState
from tests.model.rules import Model
from tests.model.world import Phase, World, ids_noted


def broken(model: Model, world: World) -> Iterator[str]:
    """The promises that do not hold in this state."""
    yield from world.sins
    by_attempt = Counter(task.attempt for task in world.tasks)
    if any(count > 1 for count in by_attempt.values()):
        yield "two tasks of one attempt"
    excused = {attempt for attempt, _ in world.excused}
    if sum(count for attempt, count in by_attempt.items() if attempt not in excused) > 1:
        yield "paid twice"
    if sum(reason == "retry" for _, reason in world.excused) > model.retries:
        yield "too many retries"
    if model.cap is not None and len(world.tasks) > model.cap:
        yield "above the cap"
    if not world.shown | world.acked <= ids_noted(world.kept):
        yield "a known id is lost"
    task_id = world.kept.task_id
    if task_id is not None and task_id not in world.ids():
        yield "a task that is not there"
    if world.process is not None and world.process.phase is Phase.ENDED:
        is_settled = not (world.written or world.queued)
        if is_settled and world.kept.outcome(0).status is not world.process.outcome:
            yield "told otherwise than noted"


def is_end(world: World) -> bool:
    """Whether the user was told an outcome, or the journal says one and nobody starts again."""
    process = world.process
    if process is None:
        return not world.budgets.runs
    return process.phase is Phase.ENDED


def has_evidence(world: World) -> bool:
    """Whether a doubt is noted together with the true id of the task that it is about."""
    entry = world.kept
    if entry.state is not JobState.UNCERTAIN or not world.budgets.runs:
        return False
    why = entry.why()
    named = {*why.get("called_back", ()), why.get("candidate_task_id")}
    return any(task.id in named and task.attempt == entry.attempts for task in world.tasks)


def is_found(world: World) -> bool:
    """Whether the job has its task."""
    return world.kept.task_id is not None
