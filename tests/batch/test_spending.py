from __future__ import annotations

import decimal
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async import (
    ClientUsageError,
    ExtendVideo,
    InvalidSettingError,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)
from apixo_async.batch.spending import Budget, Prices, in_usd, parse_prices, times, total, usd

FAST = TextToVideo("a", mode="fast")
QUALITY = TextToVideo("a", mode="quality")
EXTEND = ExtendVideo("a", task_id="t")
REFERENCE = ReferenceToVideo("a", image_urls=["https://pictures.example/a.png"])
OTHER = ModelRequest("seedance-2-0", {"mode": "text-to-video"})
FASTER = ModelRequest("another-model", {"mode": "fast"})
NO_MODE = ModelRequest("veo-3-1", {"prompt": "a"})
TURBO = ModelRequest("veo-3-1", {"prompt": "a", "mode": "turbo"})

BOTH = Prices({"fast": 0.2, "quality": 1.5})

amounts = st.decimals(0, 1_000, places=6) | st.decimals(0, 1, places=30)


# Amounts


@pytest.mark.parametrize("given", [0.2, "0.20", " 0.2 ", Decimal("0.2"), "2e-1"])
def test_an_amount_is_what_was_written(given: Decimal | float | str) -> None:
    """Numbers and texts mean the decimal number that one reads, floats too."""
    assert usd(given, name="x") == Decimal("0.2")


NO_AMOUNTS = (
    *(-1, "-0.01", 2_000_000_000, "1e999999999", 10**5_000, "1e-31"),
    *("nan", "inf", "-inf", "sNaN", float("nan"), float("inf")),
    *("", "dear", "$1", True, None, [1]),
)


@pytest.mark.parametrize("given", NO_AMOUNTS, ids=range(len(NO_AMOUNTS)))
def test_what_is_no_amount_is_refused(given: object) -> None:
    """Negative, infinite, absurd and unreadable amounts are named with what was expected."""
    with pytest.raises(InvalidSettingError, match=r"^max_cost must be US dollars from 0 up"):
        usd(given, name="max_cost")


@pytest.mark.parametrize("given", ["-0", "0E+999999", "0.00"])
def test_nothing_is_plainly_nothing(given: str) -> None:
    """However zero was written, it is told as zero."""
    assert in_usd(usd(given, name="x")) == "0.00 USD"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00 USD"),
        ("0.2", "0.20 USD"),
        ("1234.5", "1,234.50 USD"),
        ("1e3", "1,000.00 USD"),
        ("0.0125", "0.0125 USD"),
        ("1.500", "1.50 USD"),
    ],
)
def test_amounts_read_well(amount: str, text: str) -> None:
    """Two decimals as on a bill, more only where they say something."""
    assert in_usd(Decimal(amount)) == text


@given(st.lists(amounts))
def test_sums_are_exact(several: list[Decimal]) -> None:
    """A sum loses nothing, not even where the program around us rounds to three digits."""
    with decimal.localcontext(prec=3):
        found = total(usd(amount, name="x") for amount in several)

    assert Fraction(found) == sum(map(Fraction, several))


@given(amounts, st.integers(0, 10**9))
def test_products_are_exact(price: Decimal, number: int) -> None:
    """Many generations cost exactly as much as the sum of them."""
    with decimal.localcontext(prec=3):
        found = times(price, number)

    assert Fraction(found) == Fraction(price) * number


# Prices


@pytest.mark.parametrize(
    ("request_", "by_name", "price"),
    [
        (FAST, {"fast": 0.2, "quality": 1.5, "veo-3-1": 9}, "0.2"),
        (QUALITY, {"fast": 0.2, "quality": 1.5, "veo-3-1": 9}, "1.5"),
        (QUALITY, {"fast": 0.2, "veo-3-1": 9}, "9"),
        (QUALITY, {"fast": 0.2}, None),
        (REFERENCE, {"fast": 0.2}, "0.2"),
        (EXTEND, {"fast": 0.2}, "0.2"),
        (EXTEND, {"quality": 1.5, "veo-3-1-extend": 0.4}, "0.4"),
        (EXTEND, {"veo-3-1": 9}, None),
        (OTHER, {"seedance-2-0": "0.3"}, "0.3"),
        (OTHER, {"text-to-video": "0.3"}, None),
        (FASTER, {"fast": 0.2}, None),
        (FASTER, {"fast": 0.2, "another-model": 5}, "5"),
        (NO_MODE, {"fast": 0.2, "quality": 1.5}, None),
        (NO_MODE, {"fast": 0.2, "veo-3-1": 9}, "9"),
        (TURBO, {"turbo": 1, "veo-3-1": 9}, "9"),
        (FAST, {"fast": 0, "veo-3-1": 9}, "0"),
        (FAST, {}, None),
    ],
)
def test_a_mode_of_veo_counts_before_the_model(
    request_: Request, by_name: dict[str, float], price: str | None
) -> None:
    """Veo is priced by mode, then by model; any other model by its name alone."""
    prices = Prices(by_name)

    expected = None if price is None else Decimal(price)
    assert prices.of(request_) == expected
    assert prices.of_kind(request_.model, request_.mode) == expected


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", 7, None])
def test_names_that_nothing_has_are_refused(name: str) -> None:
    """A price needs a name that a mode or a model can have."""
    with pytest.raises(InvalidSettingError, match="needs the name of a mode or a model"):
        Prices({name: 1})


def test_a_bad_price_is_named() -> None:
    """The error says which price is wrong."""
    with pytest.raises(InvalidSettingError, match=r"^the price of 'fast' must be .* got -1$"):
        Prices({"fast": -1})


def test_prices_are_read_from_the_command_line() -> None:
    """`NAME=USD` gives a price to a name, also to one that holds an equals sign."""
    assert parse_prices(("fast=0.20", "quality=1.50")) == BOTH
    assert parse_prices(["odd=name=1"]) == Prices({"odd=name": 1})
    assert parse_prices([]) == Prices()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fast"], "must have the form NAME=USD"),
        (["=1"], "needs the name"),
        (["fast="], "the price of 'fast' must be"),
        (["fast=0.2USD"], "the price of 'fast' must be"),
        (["fast=1", "fast=1"], "'fast' is given twice"),
    ],
)
def test_bad_prices_on_the_command_line_are_explained(texts: list[str], message: str) -> None:
    """What is wrong is said, and with which name."""
    with pytest.raises(InvalidSettingError, match=message):
        parse_prices(texts)


def test_prices_are_values() -> None:
    """Equal prices are equal, hash alike, survive pickling and show themselves."""
    again = parse_prices(["quality=1.5", "fast=0.200"])

    assert again == BOTH
    assert hash(again) == hash(BOTH)
    assert pickle.loads(pickle.dumps(BOTH)) == BOTH  # noqa: S301  # our own
    assert BOTH.by_name == {"fast": Decimal("0.2"), "quality": Decimal("1.5")}
    assert repr(BOTH) == "Prices(fast=0.2, quality=1.5)"
    assert BOTH
    assert not Prices()


# The budget


def test_a_cap_may_be_reached_but_not_passed() -> None:
    """Ten times 0.20 fit under 2.00 exactly; nothing dearer than what is left does."""
    budget = Budget(2, BOTH)

    assert [budget.reserve(FAST) for _ in range(11)] == [True] * 10 + [False]
    assert budget.spent == 2
    assert budget.left == 0


def test_what_does_not_fit_leaves_room_for_what_does() -> None:
    """A refused reservation counts nothing."""
    budget = Budget("1.60", BOTH)

    assert budget.reserve(FAST)
    assert not budget.reserve(QUALITY)
    assert budget.spent == Decimal("0.2")
    assert budget.reserve(FAST)


def test_released_money_can_be_spent_again() -> None:
    """A submit that surely made no task costs nothing."""
    budget = Budget("1.50", BOTH)

    assert budget.reserve(QUALITY)
    assert not budget.reserve(FAST)
    budget.release(QUALITY)
    assert budget.left == Decimal("1.5")
    assert budget.reserve(FAST)


def test_only_what_was_reserved_can_be_released() -> None:
    """A release too many would lift the cap: it is an error, also for what was spent before."""
    budget = Budget(10, BOTH, spent=5)
    budget.reserve(FAST)

    with pytest.raises(ClientUsageError, match=r"nothing is reserved .* of 1[.]50 USD"):
        budget.release(QUALITY)
    budget.release(FAST)
    with pytest.raises(ClientUsageError):
        budget.release(FAST)
    assert budget.spent == 5


def test_money_spent_before_counts() -> None:
    """A resumed batch has only what is left; a cap below what is spent lets nothing through."""
    assert Budget(2, BOTH, spent="1.9").reserve(FAST) is False
    assert Budget(2, BOTH, spent="1.8").reserve(FAST) is True
    over = Budget(2, BOTH, spent=3)
    assert over.left == 0
    assert not over.reserve(FAST)
    assert over.spent == 3


def test_what_costs_nothing_fits_always() -> None:
    """A price of zero is a price, also when the cap is zero."""
    assert Budget(0, Prices({"fast": 0})).reserve(FAST)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (QUALITY, "price of mode 'quality': give --price quality=USD"),
        (OTHER, "price of model 'seedance-2-0': give --price seedance-2-0=USD"),
        (FASTER, "price of model 'another-model': give --price another-model=USD"),
        (NO_MODE, "price of model 'veo-3-1': give --price veo-3-1=USD"),
    ],
)
def test_a_cap_needs_every_price(request_: Request, message: str) -> None:
    """A request without a price is named with the option to give, and nothing is counted."""
    budget = Budget(10, Prices({"fast": 0.2}))

    for asked in (budget.check, budget.reserve, budget.release):
        with pytest.raises(InvalidSettingError, match=message):
            asked(request_)
    budget.check(FAST)
    assert budget.spent == 0


def test_without_a_cap_everything_fits() -> None:
    """No cap needs no price; what has one is summed all the same."""
    budget = Budget(None, Prices({"fast": 0.2}))

    assert all(budget.reserve(request) for request in (FAST, QUALITY, OTHER))
    budget.release(QUALITY)
    assert budget.spent == Decimal("0.2")
    assert budget.left is None


@pytest.mark.parametrize("settings", [{"max_cost": -1}, {"max_cost": 1, "spent": "much"}])
def test_bad_settings_of_a_budget_are_refused(settings: dict[str, float]) -> None:
    """The error names the setting."""
    with pytest.raises(InvalidSettingError, match=r"^(max_cost|spent) must be"):
        Budget(**settings, prices=BOTH)


def test_a_budget_shows_its_state() -> None:
    """Debugging starts with printing it."""
    assert repr(Budget(2, BOTH, 0.5)) == "<Budget 0.50 USD of 2.00 USD>"
    assert repr(Budget(None, BOTH)) == "<Budget 0.00 USD no cap>"


@given(
    cap=amounts,
    before=amounts,
    fast=amounts,
    quality=amounts,
    steps=st.lists(st.tuples(st.booleans(), st.booleans())),
)
def test_no_sequence_passes_the_cap(
    cap: Decimal,
    before: Decimal,
    fast: Decimal,
    quality: Decimal,
    steps: list[tuple[bool, bool]],
) -> None:
    """Whatever is reserved and released, the sum is exact and never above cap or past spending."""
    prices = {FAST: Fraction(fast), QUALITY: Fraction(quality)}
    budget = Budget(cap, Prices({"fast": fast, "quality": quality}), spent=before)
    spent = Fraction(before)
    held = {Fraction(fast): 0, Fraction(quality): 0}

    for is_reserve, is_fast in steps:
        request = FAST if is_fast else QUALITY
        price = prices[request]
        if is_reserve:
            fits = spent + price <= Fraction(cap)
            assert budget.reserve(request) is fits
            spent += price * fits
            held[price] += fits
        elif held[price]:
            budget.release(request)
            spent -= price
            held[price] -= 1
        else:
            with pytest.raises(ClientUsageError):
                budget.release(request)

        assert Fraction(budget.spent) == spent <= max(Fraction(cap), Fraction(before))
        assert budget.left == max(0, Fraction(cap) - spent)
