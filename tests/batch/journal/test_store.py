import asyncio
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import JobState, Journal
from apixo_async.batch.journal import writer as module
from apixo_async.batch.journal.writer import Writer
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError, JournalError
from apixo_async.tasks import Task, TaskState
from apixo_async.veo import TextToVideo
from tests.batch.journal.jobs import ACCEPTED, SENDING, count_events, job, opened

FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again does not wait."""
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.setattr(module, "PAUSE_MAX", 0.001)


async def test_a_record_is_on_disk_when_its_future_is_done(tmp_path: Path) -> None:
    """Another connection sees it then, so nothing that follows can come before it."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
        assert count_events(path) == 2
        await journal.record(entry.number, ACCEPTED)
        assert count_events(path) == 3


async def test_a_job_can_be_found_before_it_is_written(tmp_path: Path) -> None:
    """Whoever enqueues need not wait; the key is taken from then on."""
    async with opened(tmp_path / "run.db") as journal:
        entry = journal.enqueue(job())

        assert journal.find("k") == entry
        await journal.record(entry.number, SENDING)
        found = journal.find("k")
        assert found is not None
        assert found.state is JobState.SENDING


async def test_a_record_of_an_unknown_job_is_refused(tmp_path: Path) -> None:
    """Without the job on disk there is nothing that a submit could be recorded at."""
    async with opened(tmp_path / "run.db") as journal:
        with pytest.raises(JournalError, match="is not in the journal"):
            await journal.record(7, SENDING)


async def test_a_key_used_twice_makes_its_second_job_unusable(tmp_path: Path) -> None:
    """The second is not written, so that it cannot be sent; the first is unharmed."""
    async with opened(tmp_path / "run.db") as journal:
        first, second = journal.enqueue(job()), journal.enqueue(job())
        await journal.record(first.number, SENDING)
        with pytest.raises(JournalError, match="is not in the journal"):
            await journal.record(second.number, SENDING)


async def test_all_jobs_of_an_input_are_added_or_none(tmp_path: Path) -> None:
    """A key that means something else than before stops the whole input, and shows both."""
    async with opened(tmp_path / "run.db") as journal:
        assert await journal.enqueue_all(map(job, "abc")) == 3
        assert await journal.enqueue_all(map(job, "abcd")) == 1
        other = Job(TextToVideo("another"), key="b")
        with pytest.raises(InvalidRequestError, match="another"):
            await journal.enqueue_all([job("e"), other])

        assert journal.find("e") is None
        assert [entry.key async for entry in journal.entries(JobState.QUEUED)] == list("abcd")
        assert journal.enqueue(job("f")).number == 5


async def test_nothing_is_enqueued_while_an_input_is_added(tmp_path: Path) -> None:
    """Numbers are given once."""
    async with opened(tmp_path / "run.db") as journal:
        adding = asyncio.create_task(journal.enqueue_all([job("a")]))
        await asyncio.sleep(0)
        with pytest.raises(JournalError, match="wait for the end of enqueue_all"):
            journal.enqueue(job("b"))
        await adding


async def test_open_jobs_come_in_order_of_their_numbers(tmp_path: Path) -> None:
    """Also over many pages and several states, and up to a number."""
    async with opened(tmp_path / "run.db") as journal:
        await journal.enqueue_all(job(str(number)) for number in range(1, 1001))
        await asyncio.gather(
            *(journal.record(number, SENDING) for number in range(1, 1001) if number % 3 == 0)
        )
        open_states = (JobState.SENDING, JobState.QUEUED)
        found = [entry.number async for entry in journal.entries(*open_states)]
        some = [entry.number async for entry in journal.entries(*open_states, last=10)]

    assert (found, some) == (list(range(1, 1001)), list(range(1, 10)))


def break_commits(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While the list is not empty, the disk refuses the journal's commits."""
    broken = [True]
    transaction = Writer._transaction

    def refusing(self: Writer, group: list[Any]) -> list[Any]:
        if broken:
            raise FULL
        return transaction(self, group)

    monkeypatch.setattr(Writer, "_transaction", refusing)
    return broken


@pytest.mark.usefixtures("quick")
async def test_task_ids_that_cannot_be_written_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A person can note them, once, also when the caller who waited was cancelled."""
    async with opened(tmp_path / "run.db") as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
        troubles: asyncio.Queue[JournalError] = asyncio.Queue()
        journal.on_trouble = troubles.put_nowait
        broken = break_commits(journal, monkeypatch)
        waiting = journal.record(entry.number, ACCEPTED, keep_trying=True)
        waiting.cancel()
        for _ in range(3):
            await troubles.get()
        broken.clear()
        await journal.record(entry.number, events.SaveFailed(key="k", reason="later"))
        found = journal.find("k")

    assert found is not None
    assert (found.state, found.task_id) == (JobState.ACCEPTED, "t1")
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert "k: t1" in critical[0].message


async def test_a_task_stays_known_when_its_job_is_submitted_again(tmp_path: Path) -> None:
    """An answer that names it is a mistake of the API, in this process and in the next."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
        await journal.record(entry.number, ACCEPTED)
        task = Task(id=ACCEPTED.task_id, model=ACCEPTED.model, state=TaskState.FAILED)
        await journal.record(entry.number, events.Failed(key="k", task=task, reason="failed"))
        assert journal.has_task(ACCEPTED.task_id)
        await journal.record(entry.number, events.Resubmitted(key="k", reason="retry"))
        assert journal.has_task(ACCEPTED.task_id)

    async with opened(path) as journal:
        assert journal.has_task(ACCEPTED.task_id)
        assert not journal.has_task("task_of_nobody")


async def test_a_path_that_is_no_text_is_kept(tmp_path: Path) -> None:
    """POSIX allows names that are no UTF-8; they come back as they were."""
    path = tmp_path / "run.db"
    name = os.fsdecode(b"out-\xff.mp4")
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        saved = events.Saved(key="k", path=name, size=3, sha256="ab")
        await journal.record(entry.number, saved, keep_trying=True)
    async with opened(path) as journal:
        assert [file.path for file in journal.files(1)] == [Path(name)]


async def test_a_rolled_back_transaction_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk refused is neither counted nor remembered: the next record is the first."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.set_options({})
        commit = journal._ledger.change
        with monkeypatch.context() as patch:

            def failing(number: int, event: events.JobEvent) -> Any:  # noqa: ANN401  # never returns
                commit(number, event)
                raise FULL

            patch.setattr(journal._ledger, "change", failing)
            with pytest.raises(JournalError):
                await journal.record(entry.number, SENDING)
        await journal.record(entry.number, SENDING)

    async with opened(path) as journal:
        assert journal.counts() == {JobState.SENDING: 1}
    assert count_events(path) == 3
