import asyncio

from apixo_async.client.tracking import REMEMBERED, Tracker
from apixo_async.limits import Slots
from tests.virtual import run_virtual


def test_a_started_task_holds_its_slot_until_it_ends() -> None:
    """The slot follows the task on the server, not the caller who started it."""

    async def main() -> None:
        slots, tracker = Slots(2), Tracker()
        lease = await slots.acquire()
        tracked = tracker.start("t1", "veo-3-1", lease, lifetime=3_600)

        assert (tracked.task_id, tracked.model, tracked.lease) == ("t1", "veo-3-1", lease)
        assert tracked.accepted_at == asyncio.get_running_loop().time()
        assert (tracked.watchers, tracked.looks, tracked.next_look) == (0, 0, 0.0)
        assert tracker.get("t1") is tracked
        assert (len(tracker), slots.held) == (1, 1)
        tracker.end("t1")
        assert tracker.get("t1") is None
        assert (len(tracker), slots.held) == (0, 0)

    run_virtual(main())


def test_a_task_that_never_ends_gives_its_slot_up() -> None:
    """After its lifetime, and not before, a task that nobody saw end is let go."""

    async def main() -> None:
        slots, tracker = Slots(1), Tracker()
        tracker.start("t1", "veo-3-1", await slots.acquire(), lifetime=3_600)
        await asyncio.sleep(3_599)
        assert slots.held == 1
        await asyncio.sleep(2)

        assert (len(tracker), slots.held) == (0, 0)
        assert tracker.is_known("t1")

    run_virtual(main())


def test_ending_in_time_stops_the_clock() -> None:
    """The lifetime of an ended task does not end the next task with the same slot."""

    async def main() -> None:
        slots, tracker = Slots(1), Tracker()
        first = tracker.start("t1", "veo-3-1", await slots.acquire(), lifetime=100)
        await asyncio.sleep(60)
        tracker.end("t1")
        tracker.start("t2", "veo-3-1", await slots.acquire(), lifetime=100)
        await asyncio.sleep(60)

        assert first.expiry is not None
        assert first.expiry.cancelled()
        assert (len(tracker), slots.held) == (1, 1)
        tracker.close()

    run_virtual(main())


def test_ending_twice_frees_one_slot() -> None:
    """A callback and a look may both see the end; an id that nobody started has none."""

    async def main() -> None:
        slots, tracker = Slots(2), Tracker()
        for task_id in ("t1", "t2"):
            tracker.start(task_id, "veo-3-1", await slots.acquire(), lifetime=100)
        for task_id in ("t1", "t1", "unknown"):
            tracker.end(task_id)

        assert (len(tracker), slots.held) == (1, 1)
        assert not tracker.is_known("unknown")
        tracker.close()

    run_virtual(main())


def test_an_id_is_known_while_its_task_runs_and_afterwards() -> None:
    """One id given to two submits is noticed, also when the first task has ended."""

    async def main() -> None:
        slots, tracker = Slots(1), Tracker()
        assert not tracker.is_known("t1")
        tracker.start("t1", "veo-3-1", await slots.acquire(), lifetime=100)
        assert tracker.is_known("t1")
        tracker.end("t1")

        assert tracker.is_known("t1")
        assert not tracker.is_known("t2")

    run_virtual(main())


def test_memory_of_ended_tasks_is_bounded() -> None:
    """A million tasks leave no more behind than the latest ten thousand ids."""

    async def main() -> None:
        slots, tracker = Slots(1), Tracker()
        for number in range(REMEMBERED + 5):
            tracker.start(f"t{number}", "veo-3-1", await slots.acquire(), lifetime=100)
            tracker.end(f"t{number}")

        assert REMEMBERED == 10_000
        assert [tracker.is_known(f"t{number}") for number in (0, 4, 5)] == [False, False, True]
        assert tracker.is_known(f"t{REMEMBERED + 4}")

    run_virtual(main())


def test_tasks_that_nobody_watches_are_found() -> None:
    """Their end must be seen by somebody, as it frees a slot; ending them meanwhile is fine."""

    async def main() -> None:
        slots, tracker = Slots(3), Tracker()
        for task_id in ("t1", "t2", "t3"):
            tracker.start(task_id, "veo-3-1", await slots.acquire(), lifetime=100)
        watched = tracker.get("t2")
        assert watched is not None
        watched.watchers += 1
        found = []
        for tracked in tracker.unwatched():
            found.append(tracked.task_id)
            tracker.end(tracked.task_id)

        assert found == ["t1", "t3"]
        assert slots.held == 1
        tracker.close()

    run_virtual(main())


def test_closing_frees_everything() -> None:
    """With the client all slots and timers go."""

    async def main() -> None:
        slots, tracker = Slots(3), Tracker()
        tasks = [
            tracker.start(task_id, "veo-3-1", await slots.acquire(), lifetime=100)
            for task_id in ("t1", "t2")
        ]
        tracker.close()
        tracker.close()

        assert (len(tracker), slots.held) == (0, 0)
        assert all(task.expiry is not None and task.expiry.cancelled() for task in tasks)

    run_virtual(main())
