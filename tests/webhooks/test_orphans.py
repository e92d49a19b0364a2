"""Callbacks for jobs that nobody here knows yet."""

from apixo_async._wire import Claim
from apixo_async.webhooks import Callback, MemoryOrphans, Slip

DAY = 24 * 3600.0


def callback(job: str, task_id: str = "t1") -> Callback:
    """Says that the task succeeded."""
    return Callback(Slip(job, 1), Claim(task_id, "success"))


async def test_an_orphan_waits_for_its_job() -> None:
    """It is given to whoever asks for it, once, and to nobody else."""
    orphans = MemoryOrphans()
    await orphans.put(callback("a"))

    assert await orphans.take("b") == []
    assert await orphans.take("a") == [callback("a")]
    assert await orphans.take("a") == []


async def test_the_same_orphan_is_kept_once() -> None:
    """A sender that repeats itself takes no more room; another task id is another orphan."""
    orphans = MemoryOrphans()
    for task_id in ["t1", "t1", "t2"]:
        await orphans.put(callback("a", task_id))

    assert await orphans.take("a") == [callback("a", "t1"), callback("a", "t2")]


async def test_orphans_are_forgotten_after_a_day() -> None:
    """Longer than any task runs."""
    now = 0.0
    orphans = MemoryOrphans(lambda: now)
    await orphans.put(callback("a"))
    now = DAY - 1
    await orphans.put(callback("b"))
    now = DAY + 1

    assert await orphans.take("a") == []
    assert await orphans.take("b") == [callback("b")]


async def test_the_oldest_make_room() -> None:
    """Memory has an end."""
    orphans = MemoryOrphans(most=2)
    for job in "abc":
        await orphans.put(callback(job))

    assert len(orphans) == 2
    assert await orphans.take("a") == []
    assert await orphans.take("c") == [callback("c")]
