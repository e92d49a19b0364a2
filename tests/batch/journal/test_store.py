import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.batch import events
from apixo_async.batch.journal import CRASHED, JobState, Journal, Spent, ledger
from apixo_async.batch.journal import writer as module
from apixo_async.batch.journal.writer import Writer
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError, JournalError
from apixo_async.tasks import Task, TaskState
from apixo_async.veo import TextToVideo
from tests.batch.journal.jobs import ACCEPTED, SENDING, SUCCEEDED, count_events, fill, job, opened

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


async def test_a_job_is_found_by_its_number_once_it_is_written(tmp_path: Path) -> None:
    """Numbers begin with 1; what is beyond the last is no job."""
    async with opened(tmp_path / "run.db") as journal:
        await journal.enqueue_all(map(job, "ab"))
        found = [journal.numbered(number) for number in range(4)]

    assert [entry and entry.key for entry in found] == [None, "a", "b", None]


async def test_an_input_is_added_at_a_time(tmp_path: Path) -> None:
    """Two would give the same numbers."""
    async with opened(tmp_path / "run.db") as journal:
        adding = asyncio.create_task(journal.enqueue_all([job("a")]))
        await asyncio.sleep(0)
        with pytest.raises(JournalError, match="wait for the end of enqueue_all"):
            await journal.enqueue_all([job("b")])
        assert await adding == 1
        assert await journal.enqueue_all([job("b")]) == 1


async def test_what_was_filled_in_is_found_again(tmp_path: Path) -> None:
    """Jobs of all states, those to be saved, what was spent, tasks, and how many are where."""
    async with opened(tmp_path / "run.db") as journal:
        await fill(journal)
        all_of_them = [entry.key async for entry in journal.entries(*JobState)]
        ended = [entry.key async for entry in journal.entries(JobState.FAILED, JobState.SUCCEEDED)]
        unsaved = [entry.key async for entry in journal.unsaved()]

        assert all_of_them == [state.value for state in JobState]
        assert ended == ["succeeded", "failed"]
        assert unsaved == ["succeeded"]
        assert journal.spent() == [Spent("veo-3-1", "quality", 6)]
        assert (journal.has_task("t1"), journal.has_task("t9")) == (True, False)
        assert journal.counts() == dict.fromkeys(JobState, 1)
        (found,) = [entry async for entry in journal.entries(JobState.SUCCEEDED)]
        await journal.record(found.number, events.AllSaved(key="k"))
        assert [entry.key async for entry in journal.unsaved()] == []


async def test_the_last_jobs_may_be_left_out(tmp_path: Path) -> None:
    """Also where they are looked for among all states."""
    async with opened(tmp_path / "run.db") as journal:
        await fill(journal)
        some = [entry.number async for entry in journal.entries(*JobState, last=4)]

    assert some == [1, 2, 3]


async def test_submits_of_a_process_that_is_gone_become_doubts(tmp_path: Path) -> None:
    """Each is told with the phase by which such a one is known."""
    async with opened(tmp_path / "run.db") as journal:
        await fill(journal)
        assert await journal.recover() == 1
        assert await journal.recover() == 0
        entry = journal.find("sending")

    assert entry is not None
    assert entry.state is JobState.UNCERTAIN
    assert entry.why()["phase"] == CRASHED == "crash"
    assert entry.why()["reason"] == "the process ended while this submit was on its way"


async def test_a_journal_gets_a_name_once(tmp_path: Path) -> None:
    """Sixteen characters that no other has; it keeps it, and all else that it was started with."""
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    async with opened(path) as journal:
        await journal.set_options({"a": 1})
        names = [journal.name]
        for _ in range(2):
            await journal.give_name()
            names.append(journal.name)
        nothing, name, again = names
        assert (nothing, again) == (None, name)
        assert name is not None
        assert len(name) == 16
    async with opened(path) as journal, opened(other) as second:
        await second.give_name()
        assert journal.options == {"a": 1, "callback_name": name}
        assert second.name != name


async def test_a_copy_in_a_fork_answers_nothing(tmp_path: Path) -> None:
    """All of its methods refuse, and closing it does nothing."""
    async with opened(tmp_path / "run.db") as journal:
        await fill(journal)
        journal._lock.was_forked = True

        async def entries() -> None:
            _ = [entry async for entry in journal.entries(JobState.QUEUED)]

        async def unsaved() -> None:
            _ = [entry async for entry in journal.unsaved()]

        uses: list[Callable[[], object]] = [
            *(lambda: journal.find("k"), lambda: journal.numbered(1), journal.counts),
            *(journal.spent, lambda: journal.has_task("t1"), lambda: journal.files(1)),
            *(lambda: journal.enqueue(job("x")), lambda: journal.record(1, SENDING)),
        ]
        for use in uses:
            with pytest.raises(JournalError, match="belongs to the process that opened it"):
                use()
        for waiting in (entries, unsaved, lambda: journal.enqueue_all([])):
            with pytest.raises(JournalError, match="this is a fork"):
                await waiting()
        await journal.aclose()
        journal._lock.was_forked = False
        assert journal.counts() == dict.fromkeys(JobState, 1)


async def test_a_damaged_file_of_a_job_is_told(tmp_path: Path) -> None:
    """What is saved is recognised by it, so it is not believed."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await fill(journal)
        entry = journal.find("succeeded")
        assert entry is not None
        with closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE files SET size = 4 WHERE path = 'b.mp4'")
            database.commit()

        assert [str(file.path) for file in journal.files(entry.number, named=False)] == ["a.mp4"]
        with pytest.raises(JournalError, match=f"damaged: a file of job {entry.number}; keep it"):
            journal.files(entry.number)


@pytest.mark.usefixtures("quick")
async def test_trouble_of_the_disk_is_told_without_ids_where_none_are_at_stake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever listens is told, and the log has it as an error."""
    async with opened(tmp_path / "run.db") as journal:
        entry = journal.enqueue(job())
        await journal.set_options({})
        heard = list[JournalError]()
        journal.on_trouble = heard.append
        broken = break_commits(journal, monkeypatch)
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.record(entry.number, SENDING)
        await asyncio.sleep(0)
        broken.clear()

    assert [str(error) for error in heard] == [f"the journal cannot be written: {FULL}"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_callback_that_says_nothing_new_is_no_event(tmp_path: Path) -> None:
    """It may come for ever, and the file must not grow with it."""
    path = tmp_path / "run.db"
    told = events.CalledBack(key="k", attempt=1, task_id="t2", state="success")
    async with opened(path) as journal:
        entry = journal.enqueue(job())
        await journal.record(entry.number, SENDING)
        before = count_events(path)
        for _ in range(3):
            await journal.record(entry.number, told)

        assert count_events(path) == before + 1


async def test_what_is_remembered_of_jobs_under_way_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was forgotten is read again."""
    monkeypatch.setattr(ledger, "KNOWN_MAX", 2)
    async with opened(tmp_path / "run.db") as journal:
        await journal.enqueue_all(map(job, "abc"))
        sizes = list[int]()
        for number in (1, 2, 3):
            await journal.record(number, SENDING)
            sizes.append(len(journal._ledger._known))
        for number in (1, 2, 3):
            await journal.record(number, attrs.evolve(ACCEPTED, task_id=f"t{number}"))
        ids = [entry.task_id async for entry in journal.entries(JobState.ACCEPTED)]
        for number in (1, 2, 3):
            await journal.record(number, SUCCEEDED)

        assert sizes == [1, 2, 1]
        assert ids == ["t1", "t2", "t3"]
        assert not journal._ledger._known, "what has ended need not be remembered"
