"""Callbacks for jobs that nobody here knows yet."""

import pytest

from apixo_async._wire import Claim
from apixo_async.webhooks import Callback, MemoryOrphans, Slip
from apixo_async.webhooks.orphans import NoOrphans

DAY = 24 * 3600.0


def callback(job: str, task_id: str = "t1") -> Callback:
    """Says that the task succeeded."""
    return Callback(Slip(job, 1), Claim(task_id, "success"))


async def test_an_orphan_waits_for_its_job() -> None:
    """It is found by whoever asks for its job, until somebody says that it is recorded."""
    orphans = MemoryOrphans()
    await orphans.put(callback("a"))

    assert list(await orphans.find("b")) == []
    assert list(await orphans.find("a")) == [callback("a")]
    assert list(await orphans.find("a")) == [callback("a")]
    await orphans.drop(callback("a"))
    await orphans.drop(callback("a"))
    assert list(await orphans.find("a")) == []
    assert len(orphans) == 0


async def test_the_same_orphan_is_kept_once() -> None:
    """A sender that repeats itself takes no more room; another task id is another orphan."""
    orphans = MemoryOrphans()
    for task_id in ["t1", "t1", "t2"]:
        await orphans.put(callback("a", task_id))

    assert list(await orphans.find("a")) == [callback("a", "t1"), callback("a", "t2")]


async def test_orphans_are_forgotten_after_a_day() -> None:
    """Longer than any task runs."""
    now = 0.0
    orphans = MemoryOrphans(lambda: now)
    await orphans.put(callback("a"))
    now = DAY - 1
    await orphans.put(callback("b"))
    now = DAY + 1

    assert list(await orphans.find("a")) == []
    assert list(await orphans.find("b")) == [callback("b")]


async def test_jobs_with_orphans_are_known() -> None:
    """As long as there is one of them."""
    now = 0.0
    orphans = MemoryOrphans(lambda: now)
    for job, task_id in [("a", "t1"), ("a", "t2"), ("b", "t1")]:
        await orphans.put(callback(job, task_id))
    await orphans.drop(callback("a"))
    await orphans.drop(callback("b"))

    assert list(await orphans.jobs()) == ["a"]
    now = DAY + 1
    assert list(await orphans.jobs()) == []
    assert len(orphans) == 0


async def test_the_oldest_make_room() -> None:
    """Memory has an end; what was taken takes none."""
    orphans = MemoryOrphans(most=2)
    for job in "ab":
        await orphans.put(callback(job))
    await orphans.drop(callback("b"))
    for job in "cd":
        await orphans.put(callback(job))

    assert len(orphans) == 2
    assert list(await orphans.find("a")) == []
    assert list(await orphans.find("c")) == [callback("c")]


async def test_where_none_are_kept_the_sender_has_to_come_again() -> None:
    """As on the command line, where a journal that is not read yet knows the job."""
    with pytest.raises(OSError, match="nobody has asked for job a"):
        await NoOrphans().put(callback("a"))
    assert list(await NoOrphans().find("a")) == []
    assert list(await NoOrphans().jobs()) == []
