"""A task that a broken answer names: never submitted again unasked, and asked about by each run."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from apixo_async import (
    BatchReport,
    BatchRunner,
    Job,
    OutcomeStatus,
    PollSchedule,
    SubmitUncertainError,
    TextToVideo,
    UnansweredError,
)
from apixo_async.batch import doubts, events
from apixo_async.batch.journal import Entry, JobState, Journal
from apixo_async.client import hearing, judging
from tests import fakes
from tests.fakes import Answer, FakeApi, FakeTask, receiver, refusal
from tests.inline import virtual_with_journal

FAST = PollSchedule(first=0.1, interval=0.02, deadline=18.0)
DAMAGED = '{"code":200,"data":{"taskId":"task_1"'
CUT = UnansweredError("it was closed", host="api.test", reason="reset", received=DAMAGED)
S, U = OutcomeStatus.SUCCEEDED, OutcomeStatus.UNCERTAIN
JOBS = [Job(TextToVideo("a fox"), key="k")]

calls_back = pytest.mark.parametrize("calls_back", [False, True], ids=["polling", "callbacks"])


@pytest.fixture(autouse=True)
def on_a_fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes a hundredth."""
    monkeypatch.setattr(hearing, "PAUSE", 0.02)
    monkeypatch.setattr(hearing, "DENIED_PAUSE", 0.02)
    monkeypatch.setattr(doubts, "CONFIRM_SECONDS", 0.5)


def damaged(*, calls_back: bool = False) -> FakeApi:
    """The first answer breaks off behind its id, and the API cannot be asked."""
    return FakeApi(
        latency=0.002,
        duration=lambda _: 0.1,
        on_submit=lambda number, _: CUT if number == 1 else None,
        on_status=lambda _: refusal(503),
        accept_anyway=True,
        receiver=receiver() if calls_back else None,
        callbacks=lambda _: (),
    )


def denies(task: FakeTask) -> Answer:
    """The API does not know the first task."""
    return refusal(404) if task.id == "task_1" else None


async def ran(
    api: FakeApi,
    db: Path,
    *,
    uncertain: Literal["keep", "resubmit"] = "keep",
    deadline: float = 0.3,
    told: Counter[str] | None = None,
    on_doubt: Callable[[], None] = lambda: None,
    resumes: bool = False,
) -> BatchReport:
    """One run to its end; `on_doubt` is called when the journal has the doubt."""

    def tell(event: events.Event) -> None:
        if told is not None:
            told[type(event).__name__] += 1
        if isinstance(event, events.Uncertain):
            on_doubt()

    async with fakes.client_for(api, schedule=FAST) as client:
        runner = BatchRunner(
            client,
            journal=db,
            uncertain=uncertain,
            deadline=deadline,
            on_event=tell,
        )
        return await (runner.resume() if resumes else runner.run(JOBS))


async def the_entry(db: Path) -> Entry:
    """The job as the journal has it."""
    journal = await Journal.open(db)
    try:
        (entry,) = [entry async for entry in journal.entries(*JobState)]
        return entry
    finally:
        await journal.aclose()


def statuses(report: BatchReport) -> list[OutcomeStatus]:
    """How the jobs ended."""
    return [outcome.status for outcome in report.outcomes]


@calls_back
@pytest.mark.parametrize("uncertain", ["keep", "resubmit"])
@virtual_with_journal
async def test_the_task_is_found_when_the_api_can_be_asked(
    uncertain: Literal["keep", "resubmit"], calls_back: bool, tmp_path: Path
) -> None:
    """The doubt is on record at once, and ends in the same run; nothing is submitted again."""
    api, told = damaged(calls_back=calls_back), Counter[str]()
    report = await ran(
        api,
        tmp_path / "run.db",
        uncertain=uncertain,
        deadline=9,
        told=told,
        on_doubt=lambda: setattr(api, "on_status", lambda _: None),
    )

    assert statuses(report) == [S]
    assert len(api.submits) == 1
    assert (told["Uncertain"], told["Identified"], told["Accepted"]) == (1, 1, 0)
    assert (await the_entry(tmp_path / "run.db")).task_id == "task_1"


@calls_back
@pytest.mark.parametrize("uncertain", ["keep", "resubmit"])
@pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "run again"])
@virtual_with_journal
async def test_the_next_run_asks(
    uncertain: Literal["keep", "resubmit"], calls_back: bool, resumes: bool, tmp_path: Path
) -> None:
    """What no run could ask stays uncertain and is not submitted again; one that can finds it."""
    api, db = damaged(calls_back=calls_back), tmp_path / "run.db"
    first = await ran(api, db, uncertain=uncertain)
    second = await ran(api, db, uncertain=uncertain, resumes=resumes)
    noted = (await the_entry(db)).why()
    api.on_status = lambda _: None
    third = await ran(api, db, uncertain=uncertain, resumes=resumes)

    assert [*statuses(first), *statuses(second), *statuses(third)] == [U, U, S]
    assert len(api.submits) == 1
    assert noted["candidate_task_id"] == "task_1"
    assert not noted.get("candidate_denied")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is not new for longer than it takes to ask, and is denied when it was asked about."""
    monkeypatch.setattr(judging, "NEW_TASK_GRACE", 0.0)
    monkeypatch.setattr(judging, "NOT_FOUND_SPAN", 0.0)


@calls_back
@pytest.mark.usefixtures("soon")
@virtual_with_journal
async def test_a_denial_is_recorded_once(calls_back: bool, tmp_path: Path) -> None:
    """The job stays uncertain, says that the API was asked, and is not asked about again."""
    api, db, told = damaged(calls_back=calls_back), tmp_path / "run.db", Counter[str]()
    await ran(api, db)
    api.on_status = denies
    reports = [await ran(api, db, told=told, resumes=True) for _ in range(2)]
    looks = api.statuses
    reports.append(await ran(api, db, told=told, resumes=True))

    for report in reports:
        (outcome,) = report.outcomes
        assert isinstance(outcome.error, SubmitUncertainError)
        assert (outcome.status, outcome.error.candidate_denied) == (U, True)
    assert (told["Denied"], api.statuses) == (1, looks)
    assert (await the_entry(db)).why()["candidate_denied"] is True


@calls_back
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("is_late", [False, True], ids=["in the same run", "in the next"])
@virtual_with_journal
async def test_a_denied_candidate_lets_the_policy_resubmit(
    is_late: bool, calls_back: bool, tmp_path: Path
) -> None:
    """Once, as for any other doubt; and the id is not lost from sight."""
    api, db = damaged(calls_back=calls_back), tmp_path / "run.db"
    if is_late:
        await ran(api, db, uncertain="resubmit")
        assert len(api.submits) == 1
    api.on_status = denies
    report = await ran(api, db, uncertain="resubmit", deadline=1)
    entry = await the_entry(db)

    assert statuses(report) == [S]
    assert (len(api.submits), entry.task_id) == (2, "task_2")
    assert entry.why()["other_task_ids"] == ["task_1"]


@virtual_with_journal
async def test_an_old_record_is_not_taken_for_denied(tmp_path: Path) -> None:
    """Journals of before do not say; the API is asked."""
    db = tmp_path / "run.db"
    api = damaged()
    api._submit(b'{"input": {"prompt": "a fox"}}')
    journal = await Journal.open(db)
    entry = journal.enqueue(JOBS[0])
    await journal.record(entry.number, events.Sending(key="k", attempt=1))
    doubt = events.Uncertain(key="k", reason="reset", phase="answering", candidate_task_id="task_1")
    changed = await journal.record(entry.number, doubt)
    await journal.aclose()
    assert "candidate_denied" not in changed.why()
    api.on_status = lambda _: None
    report = await ran(api, db, uncertain="resubmit", resumes=True)

    assert statuses(report) == [S]
    assert len(api.submits) == 1
