"""The simulation: what it finds, that it repeats itself, and that rules can be broken in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import FOUND_BY, PLANTED_WITHIN, found_at, main
from tests.simulation.lives import simulate
from tests.simulation.plans import CALLBACK_FAULTS, FAULTS, LOOK_FAULTS, SUBMIT_FAULTS, drawn
from tests.simulation.planted import BUGS

FEW = 25


@pytest.mark.filterwarnings("ignore:coroutine")
def test_no_rule_is_broken_by_the_first_seeds() -> None:
    """Nothing is paid twice, lost or stuck, and no limit is exceeded, whatever goes wrong."""
    verdicts = [simulate(seed) for seed in range(FEW)]

    assert [rule for verdict in verdicts for rule in verdict.broken] == []
    assert sum(verdict.billed for verdict in verdicts) > FEW
    assert sum(verdict.lives for verdict in verdicts) > FEW


@pytest.mark.filterwarnings("ignore:coroutine")
def test_the_same_seed_gives_the_same_trace() -> None:
    """In the same process and in another one, whose sets have another order."""
    here, again = (simulate(3, keeps_lines=True) for _ in range(2))
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.simulation", "--seed", "3"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert len(here.lines) > 20
    assert here.lines == again.lines
    assert here.trace == again.trace
    assert there.stdout.splitlines() == [*here.lines, f"trace {here.trace}"]


def test_another_seed_is_about_something_else() -> None:
    """Batches, accounts, faults and ends differ."""
    plans = [drawn(seed) for seed in range(200)]

    assert len({str(plan) for plan in plans}) == len(plans)
    assert {life.end for plan in plans for life in plan.lives} == {
        *("crash", "power", "cancel", "stop")
    }
    assert {fault for plan in plans for fault in FAULTS if plan.rates[fault]} == set(FAULTS)
    assert {*SUBMIT_FAULTS, *LOOK_FAULTS, *CALLBACK_FAULTS} < set(FAULTS)


def test_a_part_of_the_seeds_have_few_kinds_of_faults_and_often() -> None:
    """Most of those with callbacks and the policy to pay again: that needs faults in a row."""
    plans = [drawn(seed) for seed in range(400)]

    dense = [plan for plan in plans if 0.4 in plan.rates.values()]

    assert 60 < len(dense) < 140
    assert all(sum(map(bool, plan.rates.values())) == 7 for plan in dense)
    repeating = [plan for plan in dense if plan.calls_back and plan.uncertain == "resubmit"]
    assert len(repeating) > len(dense) / 2


def test_every_planted_bug_has_a_seed_that_finds_it() -> None:
    """The seed that did last is tried first."""
    assert FOUND_BY.keys() == BUGS.keys()


def test_a_broken_rule_is_said_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever reads the log of a build can go on from there."""
    bug = "a_slot_is_free_when_its_submit_is_answered"

    code = main(["--seeds", "3", "--workers", "1", "--bug", bug])

    said = capsys.readouterr().out
    assert code == 1
    assert "TASKS ABOVE THE CAP" in said
    assert f"repeat it: python -m tests.simulation --seed 0 --bug {bug}" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    """By one of the first thousand seeds, which breaks no rule without it."""
    verdict = found_at(bug)

    assert verdict is not None, f"not found within {PLANTED_WITHIN} seeds"
