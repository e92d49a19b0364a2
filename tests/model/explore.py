"""Breadth-first search through all states of a model, with the shortest path to each fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import attrs

from tests.model import choices, server
from tests.model.invariants import broken, has_evidence, is_end, is_found
from tests.model.rules import NEW, Model
from tests.model.world import Step, World

STUCK = "no end in reach"
IGNORED = "evidence leads to nothing"


@attrs.define
class Explored:
    """All states by number, how each was reached first, and which steps need no luck."""

    states: list[World] = attrs.field(factory=list)
    came_from: list[tuple[int, str]] = attrs.field(factory=list)
    following: list[list[int]] = attrs.field(factory=list)
    own: list[list[int]] = attrs.field(factory=list)
    faults: dict[str, int] = attrs.field(factory=dict)
    """By broken promise, the first state in which it is broken."""

    def path(self, fault: str) -> list[str]:
        """The steps that lead to a fault, as few as there can be."""
        steps: list[str] = []
        at = self.faults[fault]
        while at:
            at, label = self.came_from[at]
            steps.append(label)
        return steps[::-1]

    def reached_from(self, worlds: list[World]) -> list[World]:
        """All states that follow these, however."""
        starts = set(worlds)
        waiting = [at for at, world in enumerate(self.states) if world in starts]
        seen = set(waiting)
        while waiting:
            new = {at for at in self.following[waiting.pop()] if at not in seen}
            seen |= new
            waiting += new
        return [self.states[at] for at in sorted(seen)]

    def cannot_reach(self, is_goal: Callable[[World], bool]) -> set[int]:
        """States from which the client's own steps lead to no goal."""
        before: list[list[int]] = [[] for _ in self.states]
        for at, following in enumerate(self.own):
            for after in following:
                before[after].append(at)
        reached = [at for at, world in enumerate(self.states) if is_goal(world)]
        seen = set(reached)
        while reached:
            new = [at for at in before[reached.pop()] if at not in seen]
            seen.update(new)
            reached += new
        return set(range(len(self.states))) - seen


def told(paths: Mapping[str, list[str]]) -> str:
    """The broken promises, each with the steps that lead to it."""
    return "\n".join(f"{fault}: " + " > ".join(path) for fault, path in paths.items())


def steps(model: Model, world: World) -> Iterator[Step]:
    """All that may happen next."""
    yield from choices.steps(model, world)
    yield from server.steps(model, world)


def explore(model: Model) -> Explored:
    """Every state that can be reached, the nearest first; none is left out."""
    first = World(NEW, model.budgets)
    numbers = {first: 0}
    found = Explored([first], [(0, "")], [[]], [[]])
    waiting = deque([first])
    while waiting:
        world = waiting.popleft()
        at = numbers[world]
        for fault in broken(model, world):
            found.faults.setdefault(fault, at)
        for step in steps(model, world):
            number = numbers.get(step.world)
            if number is None:
                number = numbers[step.world] = len(numbers)
                found.states.append(step.world)
                found.came_from.append((at, step.label))
                found.following.append([])
                found.own.append([])
                waiting.append(step.world)
            found.following[at].append(number)
            if step.is_own:
                found.own[at].append(number)
    _judge_ways(found)
    return found


def _judge_ways(found: Explored) -> None:
    """Promises about what follows, not about one state."""
    stuck = found.cannot_reach(is_end)
    if stuck:
        found.faults[STUCK] = min(stuck)
    lost = found.cannot_reach(is_found)
    ignored = {at for at in lost if has_evidence(found.states[at])}
    if ignored:
        found.faults[IGNORED] = min(ignored)
