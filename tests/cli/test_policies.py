"""What a run may spend: what is said now counts, else what is noted."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.batch.journal import Noted
from apixo_async.batch.spending import Prices
from apixo_async.cli.faults import Fault
from apixo_async.cli.guards import Guards
from apixo_async.cli.policies import Policies, in_force

NOTHING_SAID = Guards(
    prices=Prices(), max_cost=None, uncertain=None, retry_codes=None, retries=None
)
NOTED = Noted(
    {
        "max_cost": "7",
        "prices": {"fast": "1"},
        "uncertain": "resubmit",
        "retry_codes": ["E1"],
        "retries": 3,
    },
    (),
)


def said(**changes: Any) -> Guards:  # noqa: ANN401  # fields of guards
    """What is said on the command line."""
    return attrs.evolve(NOTHING_SAID, **changes)


def test_what_is_noted_stays_in_force_and_is_told() -> None:
    """A batch that is started again spends no more than it was allowed to."""
    policies = in_force(NOTHING_SAID, NOTED, is_resumed=False)

    assert (policies.max_cost, policies.prices) == (Decimal(7), Prices({"fast": 1}))
    assert (policies.uncertain, policies.retry_codes, policies.retries) == ("resubmit", ("E1",), 3)
    assert policies.as_noted == (
        "--max-cost 7",
        "--price fast=1",
        "--uncertain resubmit",
        "--retry-code E1",
        "--retries 3",
    )


def test_what_is_said_counts_and_is_noted() -> None:
    """Prices add to those that are noted; nothing that was said is told as noted."""
    given = said(
        prices=Prices({"fast": 2, "quality": 3}),
        max_cost=Decimal(9),
        uncertain="keep",
        retry_codes=("E2",),
        retries=1,
    )
    policies = in_force(given, NOTED, is_resumed=False)

    assert policies.as_noted == ()
    assert policies.notes() == {
        "prices": {"fast": "2", "quality": "3"},
        "max_cost": "9",
        "uncertain": "keep",
        "retry_codes": ["E2"],
        "retries": 1,
    }


def test_a_noted_cap_and_noted_codes_can_be_taken_back() -> None:
    """`none` of the command line, which later runs do alike."""
    policies = in_force(said(max_cost=Decimal("Infinity"), retry_codes=()), NOTED, is_resumed=False)

    assert (policies.max_cost, policies.retry_codes) == (None, ())
    assert policies.notes()["max_cost"] is None


@pytest.mark.parametrize(("is_resumed", "noted"), [(False, "resubmit"), (True, "keep")])
def test_a_resumed_run_pays_twice_only_itself(is_resumed: bool, noted: str) -> None:
    """Sending doubtful submits again is for one run, unless the batch itself was started so."""
    policies = in_force(said(uncertain="resubmit"), Noted({}, ()), is_resumed=is_resumed)

    assert policies.uncertain == "resubmit"
    assert policies.notes()["uncertain"] == noted


def test_nothing_is_noted_without_a_journal() -> None:
    """Then what is not said is as the documents say."""
    assert in_force(NOTHING_SAID, None, is_resumed=False) == Policies()


def test_all_prices_that_are_missing_are_named_at_once() -> None:
    """With what to give; a mode's price and a model's are told apart."""
    policies = Policies(max_cost=Decimal(1), prices=Prices({"fast": 1}))
    kinds = [("veo-3-1", "fast"), ("veo-3-1", "quality"), ("other", None)]

    with pytest.raises(Fault, match="give --price other=USD --price quality=USD") as caught:
        policies.check_prices(kinds)
    assert (caught.value.code, caught.value.advice) == (
        2,
        "nothing was sent; give the prices, or leave out --max-cost",
    )
    Policies(prices=Prices({"fast": 1})).check_prices(kinds)  # without a cap none is needed


def test_a_price_of_nothing_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    """It is mostly a name that was mistyped; those that Veo has are known."""
    given = Prices({"fst": 1, "fast": 1, "quality": 1, "veo-3-1": 1})
    Policies().warn_of_names(given, [("veo-3-1", "fast")])

    assert capsys.readouterr().err == (
        "warning: --price fst=... is the price of no job here; names that are: fast, veo-3-1\n"
    )


def test_where_it_is_noted_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, and only if there is something to tell."""
    in_force(NOTHING_SAID, NOTED, is_resumed=True).tell_noted(Path("mc.db"))
    Policies().tell_noted(Path("mc.db"))

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("as noted in mc.db: --max-cost 7, --price fast=1, ")
