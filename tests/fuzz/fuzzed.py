"""One property, tried often in `make test` and very often in `make test-all`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from tests.thorough import THOROUGH

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Property: TypeAlias = Callable[..., None]

QUICK: Final = 100
"""Examples of each property in `make test`."""
TIMEOUT: Final = 900
"""Seconds for the slow part of one property, on a busy machine."""

AMOUNTS: Final[dict[str, int]] = {}
"""Examples of each property in its slow part, by module and name."""

_HEALTH: Final = [HealthCheck.too_slow, HealthCheck.data_too_large]
# Repeatable, so that a commit which changes nothing turns nothing red.
_QUICK: Final = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=_HEALTH
)
# The same in every build, for the same reason; before a release others each time, and a failure
# prints what repeats it.
_LONG: Final = settings(
    derandomize=not THOROUGH,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=_HEALTH,
    phases=[Phase.generate, Phase.target, Phase.shrink],
)


def fuzzed(
    *strategies: SearchStrategy[Any],
    slow: int,
    quick: int = QUICK,
    examples: Sequence[tuple[Any, ...]] = (),
) -> Callable[[Property], Property]:
    """Makes two tests of a property: `quick` examples, and `slow` ones marked so.

    `examples` are tried first, always: the smallest inputs that once broke it.
    """

    def decorate(holds: Property) -> Property:
        def made(profile: settings, amount: int) -> Property:
            test = given(*strategies)(holds)
            for values in examples:
                test = example(*values)(test)
            return settings(profile, max_examples=amount)(test)

        marks = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]
        parts = [
            pytest.param(made(_QUICK, quick), id="quick"),
            pytest.param(made(_LONG, slow), id="slow", marks=marks),
        ]

        @pytest.mark.parametrize("part", parts)
        def test(part: Property) -> None:
            part()

        AMOUNTS[f"{holds.__module__}.{holds.__name__}"] = slow
        test.__name__ = test.__qualname__ = holds.__name__
        test.__module__ = holds.__module__
        test.__doc__ = holds.__doc__
        return test

    return decorate
