"""`python -m tests.simulation`: many seeds, and what came of them.

python -m tests.simulation --seeds 2000
python -m tests.simulation --seed 31            one seed, with its trace
python -m tests.simulation --planted            are the planted bugs found?
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from tests.simulation.lives import Verdict, simulate
from tests.simulation.planted import BUGS

PLANTED_WITHIN: Final = 1_000
CHUNK: Final = 25
FOUND_BY: Final = {
    "a_submit_is_repeated_after_a_timeout": 27,
    "a_submit_is_repeated_after_5xx": 14,
    "what_a_crash_cut_is_sent_again": 13,
    "failed_tasks_are_made_again_without_end": 13,
    "nothing_is_on_record_before_a_submit": 0,
    "a_submit_leaves_before_its_record_is_durable": 70,
    "an_id_is_told_before_it_is_durable": 107,
    "an_id_is_dropped_when_the_disk_refuses_it": 365,
    "an_answer_is_lost_with_its_caller": 243,
    "one_id_is_taken_for_two_jobs": 3,
    "a_candidate_that_could_not_be_asked_about_is_taken_for_denied": 34,
    "one_denial_among_failures_denies": 71,
    "a_success_without_a_url_is_believed_at_once": 16,
    "a_callback_is_believed": 66,
    "a_callback_is_confirmed_before_it_is_on_record": 84,
    "a_late_callback_is_ignored": 48,
    "a_callback_after_the_verdict_is_not_recorded": 176,
    "one_denial_ends_a_wait": 5,
    "any_failed_look_ends_a_wait": 0,
    "a_denied_task_is_called_failed": 23,
    "a_wait_that_is_over_is_called_a_failure": 23,
    "nothing_stops_a_batch": 0,
    "outcomes_of_jobs_that_were_given_up_are_forgotten": 17,
    "a_slot_is_free_when_its_submit_is_answered": 0,
    "a_doubtful_submit_keeps_no_slot": 32,
    "tasks_of_a_dead_process_have_no_slots": 78,
    "retry_after_is_ignored": 27,
    "looks_take_no_token": 27,
}
"""The lowest seeds that find the planted bugs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every rule held (or with `--planted`, if every bug was found)."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with this bug in the library")
    parser.add_argument("--planted", action="store_true", help="find every planted bug")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _one(asked.seed, asked.bug)
    if asked.planted:
        return _planted([asked.bug] if asked.bug else list(BUGS), asked.workers)
    return _many(range(asked.first, asked.first + asked.seeds), asked.bug, asked.workers)


def _one(seed: int, bug: str | None) -> int:
    verdict = simulate(seed, bug=bug, keeps_lines=True)
    print("\n".join(verdict.lines))
    _say(verdict)
    print(f"trace {verdict.trace}")
    return bool(verdict.broken)


def _say(verdict: Verdict, bug: str | None = None) -> None:
    for rule in verdict.broken:
        print(f"seed {verdict.seed}: {rule}")
    if verdict.broken:
        with_bug = "" if bug is None else f" --bug {bug}"
        print(f"  repeat it: python -m tests.simulation --seed {verdict.seed}{with_bug}")


def _verdicts(seeds: range, bug: str | None, workers: int) -> Iterator[Verdict]:
    one = partial(simulate, bug=bug)
    if workers == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(workers, initializer=gc.freeze) as pool:
        yield from pool.map(one, seeds, chunksize=CHUNK)


def _many(seeds: range, bug: str | None, workers: int) -> int:
    begin = time.monotonic()
    failed = lives = billed = jobs = uncertain = done = 0
    for verdict in _verdicts(seeds, bug, workers):
        done += 1
        failed += bool(verdict.broken)
        lives += verdict.lives
        billed += verdict.billed
        jobs += verdict.jobs
        uncertain += verdict.uncertain
        _say(verdict, bug)
        if done % 5_000 == 0:
            print(f"{done:,} seeds, {failed} with a broken rule", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begin
    print(
        f"{done:,} seeds ({seeds.start} to {seeds.stop - 1}): {jobs:,} jobs, {lives:,} processes, "
        f"{billed:,} tasks billed, {uncertain:,} jobs uncertain in the end; "
        f"{failed} seeds broke a rule; {seconds:.0f} s"
    )
    return bool(failed)


def found_at(bug: str) -> Verdict | None:
    """A seed of the first thousand that finds a planted bug, and breaks no rule without it.

    That which did so last is tried first.
    """
    seeds = sorted(range(PLANTED_WITHIN), key=lambda seed: seed != FOUND_BY.get(bug))
    verdicts = map(partial(simulate, bug=bug), seeds)
    broken = (verdict for verdict in verdicts if verdict.broken)
    return next((found for found in broken if not simulate(found.seed).broken), None)


def _planted(bugs: Sequence[str], workers: int) -> int:
    missed = 0
    with ProcessPoolExecutor(workers, initializer=gc.freeze) as pool:
        for bug, verdict in zip(bugs, pool.map(found_at, bugs), strict=True):
            missed += verdict is None
            what = "NOT FOUND" if verdict is None else f"seed {verdict.seed}: {verdict.broken[0]}"
            print(f"{bug}: {what}", flush=True)
    print(f"{len(bugs) - missed} of {len(bugs)} planted bugs found")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
