"""Whether the emulator, which bills, and the ledger of jobs tell the same: pure answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from apixo_async.batch.journal import ENDED, Entry, JobState


@attrs.frozen(kw_only=True)
class Judgement:
    """What is wrong, a line for each job; all three should be empty."""

    doubled: Sequence[str]
    """Prompts that were billed twice."""
    lost: Sequence[str]
    """Billed tasks that are not recorded as their job's, whose job is not stated uncertain either;
    and tasks that are recorded as a job's and are not."""
    stuck: Sequence[str]
    """Jobs that have neither ended nor are uncertain."""

    def complaints(self, case: str) -> Iterator[str]:
        """In words."""
        for word, jobs in attrs.asdict(self).items():
            for job in jobs[:10]:
                yield f"{case}: {word}: {job}"


def judge(entries: Iterable[Entry], tasks: Iterable[Mapping[str, Any]]) -> Judgement:
    """Compares the jobs of a ledger with the tasks that the emulator has billed.

    The key of each job is its prompt.
    """
    of_prompt: dict[str, list[str]] = {}
    for task in tasks:
        of_prompt.setdefault(task["prompt"], []).append(task["id"])
    doubled = [f"{prompt} as {', '.join(ids)}" for prompt, ids in of_prompt.items() if len(ids) > 1]
    lost, stuck = list[str](), list[str]()
    for entry in entries:
        billed = of_prompt.pop(entry.key, [])
        lost += _lost(entry, billed)
        if entry.state not in {*ENDED, JobState.UNCERTAIN}:
            stuck.append(f"{entry.key} is {entry.state}")
    lost += [f"{prompt} is billed and in no ledger" for prompt in of_prompt]
    return Judgement(doubled=doubled, lost=lost, stuck=stuck)


def _lost(entry: Entry, billed: Sequence[str]) -> Iterator[str]:
    told = [] if entry.task_id is None else [entry.task_id]
    for task in billed:
        if task not in told and entry.state is not JobState.UNCERTAIN:
            yield f"task {task} of {entry.key}, which is {entry.state} with {told or 'no task'}"
    for task in told:
        if task not in billed:
            yield f"task {task} is recorded for {entry.key}, which was billed {billed}"


def states(entries: Iterable[Entry]) -> dict[str, int]:
    """How many jobs are in which state."""
    return dict(Counter(entry.state.value for entry in entries))
