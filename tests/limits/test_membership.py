"""What may be a store of shared limits, and what is heard of the others through it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import attrs
import pytest

from apixo_async.errors import InvalidSettingError
from apixo_async.limits import BucketSize, Gate, Limits
from apixo_async.limits.sharing import Grant
from tests.stores import MemoryStore
from tests.virtual import run_virtual


def nothing() -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (
            "redis://localhost",
            "shared must be a store of limits, which has reserve, slots, leave, aclose, got 'redis",
        ),
        (
            SimpleNamespace(reserve=nothing, slots=nothing, leave=nothing),
            "shared must be a store of limits, which has aclose, got ",
        ),
        (
            SimpleNamespace(reserve=nothing, slots=nothing, leave=nothing, aclose=nothing, lease=0),
            "the lease of a store of limits must be above 0 seconds, got 0",
        ),
    ],
    ids=["a URL", "no end", "no lease"],
)
def test_what_is_no_store_is_refused(store: object, message: str) -> None:
    """At once, not with the first submit."""
    with pytest.raises(InvalidSettingError) as caught:
        Gate(Limits(), shared=store)  # type: ignore[arg-type]

    assert str(caught.value).startswith(message)


def test_limits_are_limits() -> None:
    """A mistake of order is named."""
    with pytest.raises(InvalidSettingError, match=r"^limits must be a Limits, got 60$"):
        Gate(60)  # type: ignore[arg-type]


@attrs.define
class Counting:
    """A store that counts what it is told to."""

    lease: float = 120.0
    requests: int = 0

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """At once."""
        del size
        self.requests += requests
        return 0.0

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """All that is wanted."""
        del held, cap
        return Grant(cap=wanted, requests=self.requests)

    async def leave(self, *, held: int) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing is open."""


def test_others_have_sent_what_we_have_not() -> None:
    """From the first grant on, evenly over the time since the last; ours are not among them."""

    async def main() -> list[int]:
        store = Counting(requests=5_000)
        gate = Gate(Limits(), shared=store)
        lease = await gate.lease()
        counts = [gate.rate.others.total]
        for by_others in (400, 0, -5, 50):
            for _ in range(7):
                await gate.permit(poll=True)
            store.requests += by_others
            await asyncio.sleep(41)
            counts.append(gate.rate.others.total)
        store.requests = 3  # emptied, and begun anew
        await asyncio.sleep(41)
        store.requests += 60
        await asyncio.sleep(41)
        counts.append(gate.rate.others.total)
        lease.release()
        await gate.aclose()
        return counts

    # What is missing is a reservation of ours that the store had not counted; it comes later.
    assert run_virtual(main()) == [0, 400, 400, 400, 445, 505]


def test_statistics_tell_of_the_others() -> None:
    """What is granted, and whether the store is there."""

    async def main() -> None:
        store = MemoryStore()
        gate = Gate(Limits(), shared=store.member())
        before = gate.statistics()
        assert (before.is_shared, before.tasks_granted) == (True, 0)
        lease = await gate.lease()
        during = gate.statistics()
        assert (during.tasks_granted, during.tasks_cap) == (1, 1_000)
        assert during.is_store_reachable
        lease.release()
        await gate.aclose()
        assert gate.statistics().tasks_granted == 0

    run_virtual(main())
