"""What becomes of a question to the store, and of those who wait for it."""

from __future__ import annotations

import asyncio
import math

import pytest

from apixo_async.errors import StoreError
from apixo_async.limits.contact import Contact
from tests.virtual import run_virtual, virtual


async def answer(after: float, error: Exception | None = None) -> int:
    """An answer of the store."""
    await asyncio.sleep(after)
    if error is not None:
        raise error
    return 7


@pytest.mark.parametrize(
    ("after", "error", "expected"),
    [
        (1.0, None, 7),
        (4.0, None, None),
        (1.0, StoreError("away"), None),
        (1.0, OSError("refused"), None),
        (1.0, ZeroDivisionError("a bug"), None),
    ],
    ids=["answered", "late", "away", "network", "bug"],
)
def test_no_error_of_a_store_gets_out(
    after: float, error: Exception | None, expected: int | None
) -> None:
    """There is an answer, or there is none."""

    async def main() -> tuple[int | None, bool]:
        contact = Contact()
        return await contact.ask("slots", answer(after, error), seconds=3.0), contact.is_lost

    assert run_virtual(main()) == (expected, expected is None)


@virtual
async def test_who_asks_and_is_cancelled_is_cancelled() -> None:
    """That is no word about the store."""
    contact = Contact()
    asking = asyncio.create_task(contact.ask("slots", answer(2.0), seconds=3.0))
    await asyncio.sleep(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert not contact.is_lost


def test_a_store_is_back_when_all_is_answered_that_was_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One question may fail where another does not: it is said once that it is away, or back."""

    async def main() -> None:
        contact = Contact()
        contact.failed("slots", StoreError("one"))
        contact.failed("reserve", StoreError("two"))
        contact.answered("slots")
        assert contact.is_lost
        contact.failed("reserve", StoreError("three"))
        contact.answered("slots")
        contact.answered("reserve")
        contact.answered("reserve")
        assert not contact.is_lost

    run_virtual(main())

    assert [vars(record)["apixo_event"] for record in caplog.records] == [
        "shared_limits_lost",
        "shared_limits_back",
    ]


def test_a_store_that_is_back_in_the_very_moment_is_too_late() -> None:
    """Whose patience has just ended is told so, and nobody else is."""

    async def wait(contact: Contact) -> str:
        try:
            async with contact.patiently():
                await asyncio.sleep(100)
        except StoreError as error:
            return str(error)
        return "waited"

    async def main() -> list[str]:
        contact, loop = Contact(), asyncio.get_running_loop()
        contact.failed("slots", StoreError("away"))
        waits = [asyncio.create_task(wait(contact))]
        await asyncio.sleep(1)
        (patience,) = contact._waiting
        end = patience.when()
        assert end is not None
        waits.append(asyncio.create_task(wait(contact)))
        # In the same pass of the loop, after the timer of the first one.
        loop.call_at(math.nextafter(end, math.inf), contact.answered, "slots")
        return await asyncio.gather(*waits)

    first, second = run_virtual(main())

    assert first == "nothing was sent: the store of shared limits was away for 60 s"
    assert second == "waited"
