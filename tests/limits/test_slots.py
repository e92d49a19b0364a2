import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.errors import InvalidSettingError
from apixo_async.limits import Lease, Slots
from tests.virtual import run_virtual


async def settle() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(5):
        await asyncio.sleep(0)


class Line:
    """Callers of one `Slots`, known by number, and the order in which they were served."""

    def __init__(self, cap: int) -> None:
        self.slots = Slots(cap)
        self.tasks: list[asyncio.Task[Lease]] = []
        self.served: list[int] = []

    def join(self) -> None:
        """One more caller."""
        self.tasks.append(asyncio.create_task(self._wait(len(self.tasks))))

    async def _wait(self, number: int) -> Lease:
        lease = await self.slots.acquire()
        self.served.append(number)
        return lease

    def leases(self) -> list[Lease]:
        """What has been handed out and not been given back."""
        done = [task for task in self.tasks if task.done() and not task.cancelled()]
        return [task.result() for task in done if task.result().is_held]

    async def leave(self) -> None:
        """Everybody goes home."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for lease in self.leases():
            lease.release()


def test_slots_are_handed_out_up_to_the_cap() -> None:
    """The first callers pass at once, the next one waits until a lease is given back."""

    async def main() -> None:
        line = Line(2)
        for _ in range(4):
            line.join()
        await settle()

        assert line.served == [0, 1]
        assert (line.slots.held, line.slots.waiting, line.slots.peak) == (2, 2, 2)
        line.leases()[0].release()
        await settle()
        assert line.served == [0, 1, 2]
        assert (line.slots.held, line.slots.waiting, line.slots.peak) == (2, 1, 2)
        await line.leave()
        assert (line.slots.held, line.slots.waiting) == (0, 0)

    run_virtual(main())


def test_a_new_lease_has_nothing_behind_it() -> None:
    """Whoever gets a slot has started no task yet."""

    async def main() -> None:
        lease = await Slots(1).acquire()

        assert lease.is_held
        assert not lease.is_running
        assert lease.place is None

    run_virtual(main())


def test_a_free_slot_costs_no_turn_of_the_loop() -> None:
    """Where nobody waits, acquiring does not suspend the caller."""

    async def main() -> None:
        slots = Slots(1)
        coroutine: Coroutine[Any, Any, Lease] = slots.acquire()
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)

        assert done.value.value.is_held

    run_virtual(main())


def test_who_comes_first_is_served_first() -> None:
    """Nobody overtakes, not even a caller who comes in the instant when a slot becomes free."""

    async def main() -> None:
        line = Line(1)
        for _ in range(50):
            line.join()
        await settle()
        for _ in range(50):
            line.leases()[0].release()
            line.join()
            await settle()

        assert line.served == list(range(51))
        await line.leave()

    run_virtual(main())


def test_giving_back_twice_frees_one_slot() -> None:
    """A lease that two owners give back does not open a place that does not exist."""

    async def main() -> None:
        line = Line(1)
        for _ in range(3):
            line.join()
        await settle()
        lease = line.leases()[0]
        lease.release()
        lease.release()
        await settle()

        assert not lease.is_held
        assert line.served == [0, 1]
        await line.leave()

    run_virtual(main())


def test_a_lease_gives_its_place_back_as_well() -> None:
    """What hangs on a lease goes with it, once."""

    async def main() -> None:
        slots, places = Slots(1), Slots(1)
        lease, place = await slots.acquire(), await places.acquire()
        lease.place = place
        lease.release()
        lease.release()

        assert (slots.held, places.held) == (0, 0)
        assert not place.is_held
        assert lease.place is None

    run_virtual(main())


def test_a_raised_cap_lets_waiters_in_at_once() -> None:
    """New places go to those who wait, in their order, without any lease being given back."""

    async def main() -> None:
        line = Line(1)
        for _ in range(5):
            line.join()
        await settle()
        line.slots.set_cap(3)
        await settle()

        assert line.served == [0, 1, 2]
        assert (line.slots.cap, line.slots.peak) == (3, 3)
        await line.leave()

    run_virtual(main())


def test_a_lowered_cap_takes_nothing_away() -> None:
    """Leases that are out stay valid; the next one is handed out when enough came back."""

    async def main() -> None:
        line = Line(3)
        for _ in range(5):
            line.join()
        await settle()
        line.slots.set_cap(1)

        assert (line.slots.held, line.slots.cap) == (3, 1)
        for released, served in [(0, 3), (1, 3), (2, 4)]:
            line.tasks[released].result().release()
            await settle()
            assert len(line.served) == served
        assert line.slots.held == 1
        await line.leave()

    run_virtual(main())


def test_a_cap_below_nothing_is_refused() -> None:
    """There are no such slots, so this is a mistake."""
    slots = Slots(2)
    with pytest.raises(InvalidSettingError, match=r"^the cap must be at least 0, got -1$"):
        slots.set_cap(-1)

    assert slots.cap == 2


def test_at_a_cap_of_nothing_nobody_is_served() -> None:
    """Until it is raised again: what several processes share may all be with others."""

    async def main() -> None:
        slots = Slots(2)
        held = await slots.acquire()
        slots.set_cap(0)
        waiting = asyncio.create_task(slots.acquire())
        held.release()
        await asyncio.sleep(1)
        assert not waiting.done()
        slots.set_cap(1)

        (await waiting).release()

    run_virtual(main())


def test_its_state_can_be_printed() -> None:
    """Debugging starts with `print(slots)`."""

    async def main() -> None:
        line = Line(2)
        for _ in range(5):
            line.join()
        await settle()

        assert repr(line.slots) == "<Slots 2 of 2 held, 3 waiting>"
        await line.leave()

    run_virtual(main())


@pytest.mark.parametrize("who", [1, 2, 3], ids=["the first", "the middle one", "the last"])
def test_a_waiter_that_gives_up_is_skipped(who: int) -> None:
    """A cancelled waiter neither takes a slot nor holds up those behind it."""

    async def main() -> None:
        line = Line(1)
        for _ in range(4):
            line.join()
        await settle()
        line.tasks[who].cancel()
        await settle()

        assert line.slots.waiting == 2
        for _ in range(3):
            for lease in line.leases():
                lease.release()
            await settle()
        assert line.served == [number for number in range(4) if number != who]
        assert line.slots.held == 0

    run_virtual(main())


@pytest.mark.parametrize("order", [("release", "cancel"), ("cancel", "release")], ids=" then ".join)
@pytest.mark.parametrize("settled", [True, False], ids=["waiting", "just come"])
def test_a_slot_handed_to_somebody_who_leaves_goes_on(
    order: tuple[str, str], settled: bool
) -> None:
    """Handing over and giving up in one instant, in either order, loses no slot."""

    async def main() -> None:
        line = Line(1)
        line.join()
        await settle()
        line.join()
        line.join()
        if settled:
            await settle()
        for step in order:
            if step == "release":
                line.tasks[0].result().release()
            else:
                line.tasks[1].cancel()
        await settle()

        assert line.served == [0, 2]
        assert line.slots.held == 1
        await line.leave()
        assert line.slots.held == 0

    run_virtual(main())


def test_all_leave_as_one_is_served() -> None:
    """If everybody whom the slot is passed on to leaves, it is free in the end."""

    async def main() -> None:
        line = Line(1)
        for _ in range(10):
            line.join()
        await settle()
        line.tasks[0].result().release()
        for task in line.tasks[1:]:
            task.cancel()
        await settle()

        assert (line.slots.held, line.slots.waiting) == (0, 0)
        assert (await line.slots.acquire()).is_held

    run_virtual(main())


STEPS = st.one_of(
    st.just(("join", 0)),
    st.just(("settle", 0)),
    st.just(("tick", 0)),
    st.tuples(st.sampled_from(["cancel", "release"]), st.integers(0, 30)),
    st.tuples(st.just("cap"), st.integers(1, 4)),
)


@settings(max_examples=200)
@given(cap=st.integers(1, 4), steps=st.lists(STEPS, max_size=60))
def test_no_slot_is_ever_lost_or_given_twice(cap: int, steps: list[tuple[str, int]]) -> None:
    """Whatever callers do, and at whatever moment they leave, the books stay right."""

    async def main() -> None:
        line = Line(cap)
        highest = cap
        for what, number in steps:
            if what == "join":
                line.join()
            elif what == "settle":
                await settle()
            elif what == "tick":
                await asyncio.sleep(0)
            elif what == "cap":
                line.slots.set_cap(number)
                highest = max(highest, number)
            elif what == "cancel" and line.tasks:
                line.tasks[number % len(line.tasks)].cancel()
            elif what == "release" and line.leases():
                line.leases()[number % len(line.leases())].release()
            assert len(line.leases()) <= line.slots.held <= highest
        await settle()

        assert line.slots.held == len(line.leases())
        waiting = [number for number, task in enumerate(line.tasks) if not task.done()]
        assert line.slots.waiting == len(waiting)
        assert line.slots.waiting == 0 or line.slots.held >= line.slots.cap
        assert max(line.served, default=-1) < min(waiting, default=len(line.tasks))
        await line.leave()
        assert (line.slots.held, line.slots.waiting) == (0, 0)

    run_virtual(main())


class CountingFuture(asyncio.Future[None]):
    """A future that counts how often it is compared: what a search in a line would do."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountingFuture.comparisons += 1
        return self is other

    __hash__ = asyncio.Future.__hash__


def test_leaving_a_long_line_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 2,000 leaves from wherever it stands without being compared with the others."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_future", lambda: CountingFuture(loop=loop))
        line = Line(1)
        for _ in range(2_001):
            line.join()
        await settle()
        # From both ends at once: whichever end a search began from, half would be far away.
        for front, back in itertools.islice(
            zip(line.tasks[1:], line.tasks[:0:-1], strict=True), 1_000
        ):
            front.cancel()
            back.cancel()
        CountingFuture.comparisons = 0
        await settle()

        assert line.slots.waiting == 0
        assert CountingFuture.comparisons <= 2_000
        await line.leave()

    run_virtual(main())


def test_twenty_thousand_can_leave() -> None:
    """A line as long as this dissolves at once and leaves everything in order."""

    async def main() -> None:
        line = Line(1)
        for _ in range(20_000):
            line.join()
        await settle()
        assert line.slots.waiting == 19_999
        await line.leave()

        assert (line.slots.held, line.slots.waiting) == (0, 0)

    run_virtual(main())
