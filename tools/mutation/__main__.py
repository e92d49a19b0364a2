"""Mutation testing: does a test fail for each small change to a module?

    python -m tools.mutation [--sample N|all] [--again] [--report] [--results DIR] [GROUP...]

Read docs/mutation.md for what is changed, what is not, and why this is no package of others. Tests
are collected once for each group; every mutant is then tried in a fork, in which the code of the
changed function is replaced, with the tests that reach its lines, the fastest first. What takes
effect when a module is imported is tried by importing all of it anew. Results are added to
`.mutation/GROUP.jsonl`; what is there is not tried again as long as the module is the same.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from tools.mutation.mutants import Mutant, mutants_of
from tools.mutation.trials import Outcome, Table, Trials, measure, prepare

PACKAGE = Path("apixo_async")
RESULTS = Path(".mutation")
LIMITS_TESTS = ["buckets", "finding", "gate", "meters", "rate", "settings", "slots", "throttling"]
# What is mutated, and the tests that have to notice: those of the modules themselves, without
# simulations of whole accounts.
GROUPS = {
    "wire": ("_wire", ["tests/wire"]),
    "retries": ("retries.py", ["tests/test_retries.py"]),
    "polling": ("polling", ["tests/polling"]),
    "limits": ("limits", [f"tests/limits/test_{name}.py" for name in LIMITS_TESTS]),
    "journal": ("batch/journal", ["tests/batch/journal"]),
    "webhooks": ("webhooks", ["tests/webhooks"]),
}
ENOUGH = 60.0
"""Seconds of tests, as they take while they are watched, that a mutant has to survive."""
Z95 = 1.96


class Group:
    """The mutants of some modules, the tests for them, and what came of it."""

    def __init__(self, name: str, results: Path) -> None:
        self.name = name
        self.results = results
        path, self.tests = GROUPS[name]
        place = PACKAGE / path
        files = [place] if place.is_file() else sorted(place.glob("*.py"))
        self.files = [file for file in files if file.name != "__init__.py"]
        self.mutants: list[Mutant] = []
        self.trees: dict[str, tuple[str, ast.Module]] = {}
        self._source: dict[str, str] = {}
        for file in self.files:
            module = str(file.relative_to(PACKAGE).with_suffix(""))
            tree, mutants = mutants_of(file, module)
            self.mutants += mutants
            self.trees[module] = (str(file.resolve()), tree)
            self._source[module] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        self._file = results / f"{name}.jsonl"
        self.done = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """The last result of every mutant of the modules as they are."""
        if not self._file.exists():
            return {}
        lines = map(json.loads, self._file.read_text(encoding="utf-8").splitlines())
        known = {mutant.id for mutant in self.mutants}
        return {
            line["id"]: line
            for line in lines
            if line["id"] in known and line["source"] == self._source[line["id"].split(":")[0]]
        }

    def note(self, mutant: Mutant, outcome: Outcome) -> None:
        """Writes a result down."""
        line = {
            "id": mutant.id,
            "source": self._source[mutant.module],
            "outcome": outcome.kind,
            "by": outcome.test,
            "change": mutant.change,
        }
        self.done[mutant.id] = line
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{outcome.kind:9} {mutant.id:40} {mutant.change}", flush=True)

    def sample(self, size: int | None, *, seed: int, again: bool) -> list[Mutant]:
        """A random part of the mutants of each module that were not tried; `again`: survivors."""
        chosen: list[Mutant] = []
        for _, mutants in groupby(self.mutants, lambda mutant: mutant.module):
            own = sorted(mutants, key=lambda mutant: mutant.id)
            random.Random(seed).shuffle(own)
            part = 1.0 if size is None else size / len(self.mutants)
            chosen += own[: math.ceil(part * len(own))]
        todo = [mutant for mutant in chosen if mutant.id not in self.done]
        if again:
            known = [mutant for mutant in self.mutants if mutant.id in self.done]
            todo += [mutant for mutant in known if not self.is_killed(mutant)]
        return todo

    def is_killed(self, mutant: Mutant) -> bool:
        """Whether a test failed, or did not end."""
        return self.done[mutant.id]["outcome"] in {"killed", "timeout"}

    def report(self) -> None:
        """Prints the score of what was tried, with its 95 % interval (Wilson), and survivors."""
        tried = [mutant for mutant in self.mutants if mutant.id in self.done]
        killed = sum(map(self.is_killed, tried))
        low, high = interval(killed, len(tried)) if len(tried) < len(self.mutants) else (1.0, 0.0)
        bounds = f", 95 % interval {low:.1%} to {high:.1%}" if low < high else ""
        score = killed / max(len(tried), 1)
        print(
            f"{self.name}: {len(tried)} of {len(self.mutants)} mutants tried, "
            f"{killed} killed ({score:.1%}{bounds})"
        )
        for mutant in tried:
            if not self.is_killed(mutant):
                outcome = self.done[mutant.id]["outcome"]
                print(f"  {outcome:9} {mutant.id:40} {mutant.change}")


def interval(good: int, number: int) -> tuple[float, float]:
    """Between which bounds the true part lies in 95 of 100 cases."""
    if not number:
        return 0.0, 1.0
    part, square = good / number, Z95**2
    middle = part + square / (2 * number)
    width = Z95 * math.sqrt(part * (1 - part) / number + square / (4 * number**2))
    return (middle - width) / (1 + square / number), (middle + width) / (1 + square / number)


def try_all(group: Group, mutants: Iterable[Mutant], *, enough: float) -> None:
    """Tries mutants: those inside functions in one session, the others each in one of its own."""
    trials = Trials(group.tests, group.trees, known_table(group), enough=enough)
    in_functions: list[Mutant] = []
    early: list[Mutant] = []
    for mutant in mutants:
        (early if trials.is_early(mutant) else in_functions).append(mutant)
    for mutant, outcome in trials.in_session(in_functions):
        if outcome.kind == "early":
            early.append(mutant)
        else:
            group.note(mutant, outcome)
    for mutant in early:
        group.note(mutant, trials.at_import(mutant))


def known_table(group: Group) -> Table:
    """Which test reaches which line; measured anew when the modules or their tests changed."""
    tests = [file for test in group.tests for file in sorted(Path().glob(f"{test}/**/*.py"))]
    tests = tests or [Path(test) for test in group.tests]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in (*group.files, *tests))).hexdigest()
    file = group.results / f"{group.name}.tests.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["digest"] == digest:
            return Table(kept["seconds"], kept["tests"])
    print(f"{group.name}: running its tests without a mutant", flush=True)
    table = measure(group.tests, [str(file.resolve()) for file in group.files])
    written = {"digest": digest, "seconds": table.seconds, "tests": table.tests}
    file.write_text(json.dumps(written), encoding="utf-8")
    return table


def main() -> None:
    """Tries what is asked for, then reports what is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP")
    parser.add_argument("--sample", default="100", help="mutants of each group, or 'all'")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="try survivors again")
    parser.add_argument("--enough", type=float, default=ENOUGH, help="seconds of tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a directory")
    parser.add_argument("--report", action="store_true", help="try nothing")
    options = parser.parse_args()
    size = None if options.sample == "all" else int(options.sample)
    options.results.mkdir(exist_ok=True)
    sys.path.insert(0, str(Path.cwd()))
    prepare()
    groups = [Group(name, options.results) for name in options.groups or GROUPS]
    for group in groups:
        if not options.report:
            began = time.monotonic()
            chosen = group.sample(size, seed=options.seed, again=options.again)
            if chosen:
                try_all(group, chosen, enough=options.enough)
                print(f"{group.name}: {len(chosen)} in {time.monotonic() - began:.0f} s")
    for group in groups:
        group.report()


if __name__ == "__main__":
    main()
