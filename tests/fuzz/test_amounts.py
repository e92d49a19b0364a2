from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests import fuzz
from tests.fuzz import fuzzed as module
from tests.fuzz.fuzzed import AMOUNTS, fuzzed

if TYPE_CHECKING:
    import pytest

LEAST = 100_000


def test_the_slow_part_tries_enough() -> None:
    """All properties together are tried a hundred thousand times."""
    for found in pkgutil.iter_modules(fuzz.__path__, f"{fuzz.__name__}."):
        importlib.import_module(found.name)

    assert sum(AMOUNTS.values()) >= LEAST
    assert len(AMOUNTS) == len({name.rpartition(".")[2] for name in AMOUNTS})


def test_a_property_is_tried_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parts run, each with its own number of examples, and `examples` come first."""
    tried: list[int] = []

    def holds(value: int) -> None:
        tried.append(value)

    monkeypatch.setattr(module, "AMOUNTS", {})
    test = fuzzed(st.integers(0, 10**9), slow=300, quick=20, examples=[(3,)])(holds)
    (mark,) = test.pytestmark  # type: ignore[attr-defined]  # set by pytest
    quick, slow = (part.values[0] for part in mark.args[1])
    quick()
    assert tried[0] == 3
    few = len(tried)
    slow()

    assert few in range(20, 26)
    assert len(tried) - few in range(300, 306)
