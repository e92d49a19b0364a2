from pathlib import Path

import pytest

from apixo_async.emulator.faults import FAULTS, FaultPlan, Stage, read_rates


def test_every_fault_is_described_in_one_line() -> None:
    """A description fits on a terminal beside its name and does not end like a sentence."""
    for name, text in FAULTS.items():
        assert name.isidentifier()
        assert "\n" not in text
        assert 10 < len(text) <= 70
        assert not text.endswith(".")


def test_the_table_cannot_be_changed() -> None:
    """What is offered to everybody is read-only."""
    with pytest.raises(TypeError):
        FAULTS["new"] = "anything"  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"submit_420": 0.1}, "names from FAULTS, not 'submit_420'"),
        ({"submit_429": 1.5}, "rates from 0 to 1: submit_429 has 1.5"),
        ({"submit_429": -0.1}, "rates from 0 to 1"),
        ({"submit_429": float("nan")}, "rates from 0 to 1"),
        ({"submit_429": True}, "rates from 0 to 1"),
        ({"submit_429": "0.1"}, "rates from 0 to 1"),
        ({7: 0.1}, "names from FAULTS"),
        (["submit_429"], "rates by name"),
    ],
)
def test_a_wrong_rate_is_explained(given: object, problem: str) -> None:
    """The message names the field, the fault and the rule."""
    with pytest.raises(ValueError, match=r"^faults must") as info:
        read_rates(given)

    assert problem in str(info.value)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_drawn_at_some_stage(name: str) -> None:
    """With a rate of 1 a fault hits every subject at its stage, with 0 none."""
    always, never = (FaultPlan.from_rates(0, {name: rate}) for rate in (1, 0))

    stages = [stage for stage in Stage if always.first(stage, "anything", 0) == name]

    assert stages
    assert all(always.first(stage, "else", 9) == name for stage in stages)
    assert all(never.first(stage, "anything", 0) is None for stage in Stage)


def test_a_rate_is_the_share_that_is_hit() -> None:
    """Of 10,000 subjects a rate of 0.1 hits about 1,000."""
    plan = FaultPlan.from_rates(7, {"submit_429": 0.1})

    hits = sum(plan.first(Stage.BEFORE, str(index), 0) is not None for index in range(10_000))

    assert 900 < hits < 1_100


def test_the_same_seed_hits_the_same_subjects() -> None:
    """Whom a fault hits depends on the seed and on nothing that came before."""
    names = [str(index) for index in range(1_000)]

    def hit(seed: int, order: list[str]) -> set[str]:
        plan = FaultPlan.from_rates(seed, {"submit_429": 0.2})
        return {name for name in order if plan.first(Stage.BEFORE, name, 0)}

    assert hit(7, names) == hit(7, names[::-1])
    assert hit(7, names) != hit(8, names)


def test_a_repetition_may_pass() -> None:
    """The attempt is part of the draw, so a subject that was hit is not hit for ever."""
    plan = FaultPlan.from_rates(7, {"submit_429": 0.5})

    hits = [plan.first(Stage.BEFORE, "same", attempt) is not None for attempt in range(50)]

    assert True in hits
    assert False in hits


def test_of_several_faults_the_first_in_the_table_wins() -> None:
    """An answer is disturbed in one way only, a task may have several troubles."""
    plan = FaultPlan.from_rates(0, {"submit_cut_before": 1, "submit_429": 1, "failed_task": 1})
    both = FaultPlan.from_rates(0, {"early_404": 1, "failed_task": 1, "submit_429": 1})

    assert plan.first(Stage.BEFORE, "x", 0) == "submit_429"
    assert both.every(Stage.TASK, "x", 0) == {"early_404", "failed_task"}


def test_the_guide_lists_every_fault() -> None:
    """The table in the documentation is the table in the code."""
    guide = Path(__file__).parents[2] / "docs" / "emulator.md"
    rows = [f"| `{name}` | {text} |" for name, text in FAULTS.items()]

    assert "\n".join(rows) in guide.read_text(encoding="utf-8")
