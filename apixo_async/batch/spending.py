"""What generations cost and how much may be spent: pure sums of money, no clock and no I/O.

The API names no price in any answer and has no endpoint for prices, so they come from the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Final, TypeAlias, get_args

from apixo_async._narrow import as_mapping, shown
from apixo_async.errors import ClientUsageError, InvalidSettingError
from apixo_async.veo import ExtendVideo, Mode, Request, TextToVideo

Money: TypeAlias = Decimal | float | str
"""US dollars. A float is taken as it is printed: 0.2 means 0.20 and nothing else."""

MODES: Final[frozenset[str]] = frozenset(get_args(Mode))
VEO_MODELS: Final = frozenset({TextToVideo.model, ExtendVideo.model})
"""The models whose price goes by mode; "fast" of another model is another thing."""

MOST: Final = Decimal(1_000_000_000)
PLACES: Final = 30
"""The bounds of an amount: wide enough for any price, narrow enough for exact sums."""
_EXACT: Final = Context(prec=MOST.adjusted() + PLACES + 20)
"""Sums do not depend on the decimal context of the program around us, which may round."""


def usd(value: object, *, name: str) -> Decimal:
    """An amount of US dollars from a number or from text such as `"0.20"`.

    `name` is what an error calls it. Raises `InvalidSettingError` for anything that is no number
    from 0 to a billion with at most 30 decimal places.
    """
    amount = _number(value)
    if amount is None or not 0 <= amount <= MOST or _decimals(amount) > PLACES:
        msg = f"{name} must be US dollars from 0 up, such as 0.20, got {shown(value)[:80]}"
        raise InvalidSettingError(msg)
    return _EXACT.add(amount, Decimal(0))  # 0E+9 and -0 are told as 0


def _number(value: object) -> Decimal | None:
    if not isinstance(value, (Decimal, float, int, str)) or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of amounts from `usd`."""
    whole = Decimal(0)
    for amount in amounts:
        whole = _EXACT.add(whole, amount)
    return whole


def times(price: Decimal, number: int) -> Decimal:
    """Exactly what `number` generations at this price cost."""
    return _EXACT.multiply(price, Decimal(number))


def price_name(model: str, mode: str | None) -> str:
    """The name under which the price of such a generation is looked for first."""
    return mode if mode is not None and mode in MODES and model in VEO_MODELS else model


class Prices:
    """US dollars for one generation, by name.

    A name is a mode of Veo (`fast`, `quality`) or a model (`veo-3-1`, `seedance-2-0`). For a
    request of `veo-3-1` or `veo-3-1-extend` the price of its mode counts if there is one, else that
    of its model; for any other model only the model's counts. Failed generations are taken to cost
    as much as others, because no document says that they are free.

    Args:
        by_name: US dollars from 0 to a billion by name, as numbers or text such as `"0.20"`. A
            float is taken as it is printed.

    Raises:
        InvalidSettingError: No model can have such a name, or an amount is out of range.
    """

    def __init__(self, by_name: Mapping[str, Money] | None = None) -> None:
        given = as_mapping({} if by_name is None else by_name)
        if given is None:
            msg = f"prices must be a mapping from names to US dollars, got {shown(by_name)[:80]}"
            raise InvalidSettingError(msg)
        self._by_name = {
            _checked_name(name): usd(price, name=f"the price of {name!r}")
            for name, price in given.items()
        }

    def of(self, request: Request) -> Decimal | None:
        """What this request costs in US dollars; `None` if nobody said.

        Args:
            request: The request.
        """
        return self.of_kind(request.model, request.mode)

    def of_kind(self, model: str, mode: str | None) -> Decimal | None:
        """What a generation of this kind costs in US dollars; `None` if nobody said.

        Args:
            model: The model's id.
            mode: The mode, or `None` where there is none.
        """
        price = self._by_name.get(price_name(model, mode))
        return self._by_name.get(model) if price is None else price

    @property
    def by_name(self) -> Mapping[str, Decimal]:
        """All prices as they were given."""
        return dict(self._by_name)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prices) and self._by_name == other._by_name

    def __hash__(self) -> int:
        return hash(frozenset(self._by_name.items()))

    def __repr__(self) -> str:
        return f"Prices({', '.join(f'{name}={price}' for name, price in self._by_name.items())})"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name or not name.isprintable() or " " in name:
        msg = f"a price needs the name of a mode or a model, such as 'fast', got {shown(name)}"
        raise InvalidSettingError(msg)
    return name


def parse_prices(texts: Iterable[str]) -> Prices:
    """Prices from texts of the form `NAME=USD`, as the command line takes them.

    Raises `InvalidSettingError` for another form, and for a name that comes twice.
    """
    by_name: dict[str, Money] = {}
    for text in texts:
        # From the right: a model's name may hold "=", an amount may not.
        name, found, price = text.rpartition("=")
        if not found:
            msg = f"a price must have the form NAME=USD, such as fast=0.20, got {text!r}"
            raise InvalidSettingError(msg)
        if name in by_name:
            msg = f"the price of {name!r} is given twice"
            raise InvalidSettingError(msg)
        by_name[name] = price
    return Prices(by_name)


class Budget:
    """Keeps what may have been spent at or below `max_cost`, to the cent and below.

    Reserve before a submit; give back with `release` only what surely made no task. A submit whose
    outcome is uncertain may be running and billed: leave its reservation. So does a failed task,
    since no document says that those are free.

    `max_cost` is in US dollars and may be reached, not passed; `None` is no cap, and then requests
    without a price count as nothing. `spent` is what was spent before, as by the first part of a
    batch that is resumed; it may lie above the cap. Raises `InvalidSettingError`.
    """

    def __init__(self, max_cost: Money | None, prices: Prices, spent: Money = 0) -> None:
        self.max_cost = None if max_cost is None else usd(max_cost, name="max_cost")
        self.prices = prices
        self._before = usd(spent, name="spent")
        self._reserved = Counter[Decimal]()
        self._spent = self._before

    def check(self, request: Request) -> None:
        """Raises `InvalidSettingError` if there is a cap, but no price for this request."""
        self._price(request)

    def reserve(self, request: Request) -> bool:
        """Counts one more generation; false, and nothing counted, if that would pass the cap.

        Raises as `check` does.
        """
        if not self.fits(request):
            return False
        price = self._price(request)
        self._reserved[price] += 1
        self._spent = _EXACT.add(self._spent, price)
        return True

    def fits(self, request: Request) -> bool:
        """Whether one more generation would not pass the cap. Raises as `check` does."""
        after = _EXACT.add(self._spent, self._price(request))
        return self.max_cost is None or after <= self.max_cost

    def release(self, request: Request) -> None:
        """Gives one reservation back: the submit surely made no task.

        Raises `ClientUsageError` if nothing of this price is reserved; what was `spent` from the
        start cannot be released. Raises as `check` does.
        """
        price = self._price(request)
        if not self._reserved[price]:
            msg = f"nothing is reserved for a generation of {in_usd(price)}"
            raise ClientUsageError(msg)
        self._reserved[price] -= 1
        self._spent = _EXACT.subtract(self._spent, price)

    @property
    def spent(self) -> Decimal:
        """US dollars that are spent, or may be: what was spent before and all reservations."""
        return self._spent

    @property
    def left(self) -> Decimal | None:
        """US dollars up to the cap, 0 if it was passed before; `None` without a cap."""
        if self.max_cost is None:
            return None
        return max(Decimal(0), _EXACT.subtract(self.max_cost, self._spent))

    def _price(self, request: Request) -> Decimal:
        price = self.prices.of(request)
        if price is not None:
            return price
        if self.max_cost is None:
            return Decimal(0)
        name = price_name(request.model, request.mode)
        what = f"mode {name!r}" if name in MODES else f"model {name!r}"
        msg = f"a maximum cost needs the price of {what}: give --price {name}=USD"
        raise InvalidSettingError(msg)

    def __repr__(self) -> str:
        cap = "no cap" if self.max_cost is None else f"of {in_usd(self.max_cost)}"
        return f"<Budget {in_usd(self._spent)} {cap}>"


def in_usd(amount: Decimal) -> str:
    """An amount to read: `1,234.50 USD`; more than two decimals only where they are needed."""
    text = f"{amount:,f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')} USD"
