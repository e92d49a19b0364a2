"""Whether what the product was seen to do is a way through the model."""

from __future__ import annotations

from collections import deque

from tests.model.explore import steps
from tests.model.rules import NEW, Model
from tests.model.world import Phase, Step, World


def seen(before: World, step: Step) -> tuple[str, ...]:
    """What an observer sees of a step: records on the disk, requests, callbacks answered 200."""
    after = step.world
    shown: list[str] = []
    if step.label == "they are on disk":
        shown += [type(one.event).__name__ for one in before.written if one.event is not None]
    shown += ["POST"] * (is_posting(after) and not is_posting(before))
    shown += ["200"] * (after.acked != before.acked)
    return tuple(shown)


def is_posting(world: World) -> bool:
    """Whether a request is on its way, or its answer."""
    return world.process is not None and world.process.phase is Phase.POSTING


def admits(model: Model, trace: tuple[str, ...]) -> bool:
    """Whether some way through the model shows just this, and ends there with the outcome told."""
    first = World(NEW, model.budgets)
    reached = {(first, 0)}
    waiting = deque(reached)
    while waiting:
        world, at = waiting.popleft()
        if at == len(trace) and world.process and world.process.phase is Phase.ENDED:
            return True
        for step in steps(model, world):
            shown = seen(world, step)
            to = at + len(shown)
            if trace[at:to] == shown and (step.world, to) not in reached:
                reached.add((step.world, to))
                waiting.append((step.world, to))
    return False
