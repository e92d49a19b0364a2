"""`apixo settle`: a person decides about jobs of which nobody can say whether they were paid."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import click

from apixo_async.cli import exits, journals
from apixo_async.cli.completing import job_keys
from apixo_async.cli.faults import Fault
from apixo_async.cli.helping import Verb
from apixo_async.cli.options import as_json
from apixo_async.cli.text import counted, printable

if TYPE_CHECKING:
    from apixo_async.batch import events
    from apixo_async.batch.journal import Entry, Journal

Decision: TypeAlias = Literal["abandon", "resubmit", "identify"]

_SHOW: Final = "apixo show RUN.DB tells how its jobs stand"
NEAR_AMONG: Final = 10_000
"""Keys among which a mistyped one is looked for."""


@attrs.frozen(kw_only=True)
class Settled:
    """One decision that is on disk. `was` and `state` are the job's states before and after."""

    key: str
    decision: Decision
    was: str
    state: str
    task_id: str | None = None

    @property
    def may_pay_twice(self) -> bool:
        """Whether the job was paid, or perhaps was, and will be paid again."""
        return self.decision == "resubmit" and self.was != "rejected"

    def line(self) -> str:
        """The decision for people, with what follows from it."""
        key = printable(self.key)
        match self.decision:
            case "abandon":
                seen = "its task" if self.was == "accepted" else "if there is a task, it"
                return f"{key}: abandoned; {seen} stays unseen and may be billed"
            case "identify":
                return f"{key}: is task {printable(self.task_id or '')}, which is waited for again"
            case "resubmit" if self.was == "rejected":
                return f"{key}: queued again; the API had refused it, so it is paid once"
            case "resubmit" if self.was == "failed":
                return (
                    f"{key}: queued again; its failed task may be billed, so it may be paid twice"
                )
            case _:
                return f"{key}: queued again; its first task may exist, so it may be paid twice"


@click.command(
    cls=Verb,
    short_help="Decide about jobs that are uncertain.",
    example="apixo settle run.db ocean-01 --task-id TASK_ID",
    then=(
        ("apixo show RUN.DB", "which jobs are uncertain, and what is known"),
        ("apixo resume RUN.DB", "act on what was decided"),
    ),
)
@journals.argument
@click.argument(
    "key",
    required=False,
    shell_complete=job_keys("uncertain", "sending", "accepted", "failed", "rejected", "abandoned"),
)
@click.option("--all", "is_all", is_flag=True, help="Decide about all uncertain jobs at once.")
@click.option("--abandon", is_flag=True, help="Leave it at that: it is never sent again.")
@click.option("--resubmit", is_flag=True, help="Send it again; it may be paid twice.")
@click.option("--task-id", metavar="ID", help="Name its task, as your account's history tells it.")
@as_json
def settle(
    *,
    journal: Path,
    key: str | None,
    is_all: bool,
    abandon: bool,
    resubmit: bool,
    task_id: str | None,
    as_json: bool,
) -> None:
    """Decide about the job KEY of JOURNAL, of which nobody can say whether it has a task.

    Look at your account's history first. The decision is recorded; apixo resume then acts on it.
    Nothing is sent now. --resubmit also queues jobs again that failed, were refused or abandoned;
    --abandon also ends the wait for a task that never ends or that the API no longer knows.
    """
    if abandon + resubmit + (task_id is not None) != 1:
        raise click.UsageError("say one of --abandon, --resubmit and --task-id ID")
    if is_all == (key is not None):
        raise click.UsageError("name one KEY, or say --all")
    if is_all and task_id is not None:
        raise click.UsageError("--task-id is for one KEY: every job has its own task")
    decision: Decision = "abandon" if abandon else "resubmit" if resubmit else "identify"
    settled = _settled(journal, key, decision, task_id)
    _tell(settled, journal, as_json=as_json)


def _settled(
    journal: Path, key: str | None, decision: Decision, task_id: str | None
) -> list[Settled]:
    from apixo_async.cli.loop import run

    with journals.refusing():
        if key is None:
            return run(settle_all(journal, decision))
        return [run(settle_one(journal, key, decision, task_id))]


def _tell(settled: list[Settled], journal: Path, *, as_json: bool) -> None:
    resume = journals.command("resume", journal, options=_again(journal))
    for one in settled:
        if as_json:
            click.echo(json.dumps(settled_as_json(one, resume)))
        else:
            click.echo(one.line())
    if not settled:
        click.echo("no job is uncertain; nothing was changed", err=as_json)
    if as_json:
        return
    if any(one.decision != "abandon" for one in settled):
        click.echo(f"go on with: {resume}")


def _again(journal: Path) -> tuple[str, ...]:
    from apixo_async.batch.journal import read_noted

    with journals.refusing():
        noted = read_noted(journal).options
    is_emulated = bool(noted.get("is_emulated"))
    return journals.said_again(noted.get("base_url"), is_emulated=is_emulated)


def settled_as_json(one: Settled, resume: str) -> dict[str, Any]:
    """A decision for programs."""
    return {
        **attrs.asdict(one),
        "may_pay_twice": one.may_pay_twice,
        "next": None if one.decision == "abandon" else resume,
    }


# With the journal


@asynccontextmanager
async def _owned(path: Path) -> AsyncGenerator[Journal]:
    """The journal as its owner, with submits of a crash told as uncertain."""
    from apixo_async.batch.journal import Journal

    journal = await Journal.open(path, must_exist=True)
    try:
        await journal.recover()
        yield journal
    finally:
        await journal.aclose()


async def settle_all(path: Path, decision: Decision) -> list[Settled]:
    """Decides about every uncertain job."""
    from apixo_async.batch.journal import JobState

    async with _owned(path) as journal:
        return [
            await _decide(journal, entry, decision, None)
            async for entry in journal.entries(JobState.UNCERTAIN)
        ]


async def settle_one(
    path: Path, key: str, decision: Decision, task_id: str | None = None
) -> Settled:
    """Decides about one job. Raises `Fault` if its key, state or task id do not allow it."""
    task_id = None if task_id is None else _checked_id(task_id)
    async with _owned(path) as journal:
        entry = journal.find(key)
        if entry is None:
            raise await _unknown(journal, key)
        return await _decide(journal, entry, decision, task_id)


async def _decide(
    journal: Journal, entry: Entry, decision: Decision, task_id: str | None
) -> Settled:
    from apixo_async.batch.journal.history import can_follow

    event = _event(entry, decision, task_id)
    if not can_follow(entry.state, type(event)):
        raise Fault(
            f"job {entry.key!r} is {entry.state}: {_NOT_ALLOWED[decision]}",
            advice=f"nothing was changed; {_SHOW}",
            code=exits.USAGE,
        )
    if task_id is not None and journal.has_task(task_id):
        raise Fault(
            f"task {task_id} is another job's already; nothing was changed",
            advice="look at the prompt of each in your account's history",
            code=exits.USAGE,
        )
    changed = await journal.record(entry.number, event)
    return Settled(
        key=entry.key,
        decision=decision,
        was=str(entry.state),
        state=str(changed.state),
        task_id=changed.task_id,
    )


_NOT_ALLOWED: Final = {
    "abandon": "only a job that is uncertain, or whose task has no end, can be abandoned",
    "identify": "only a job that is uncertain or was abandoned can be given a task id",
    "resubmit": "only a job that is uncertain, failed, was refused or abandoned can be sent again",
}


def _event(
    entry: Entry, decision: Decision, task_id: str | None
) -> events.Abandoned | events.Resubmitted | events.Identified:
    from apixo_async.batch import events

    if decision == "abandon":
        return events.Abandoned(key=entry.key)
    if decision == "resubmit":
        return events.Resubmitted(key=entry.key, reason="settled")
    return events.Identified(key=entry.key, task_id=task_id or "")


def _checked_id(task_id: str) -> str:
    """The id if the API could have given it."""
    from apixo_async._wire import read_task_id
    from apixo_async.errors import UnexpectedAnswerError

    try:
        return read_task_id({"taskId": task_id})
    except UnexpectedAnswerError:
        message = f"{task_id[:80]!r} is no task id: one word of printable characters"
        advice = "nothing was changed; copy the id from your account's history"
        raise Fault(message, advice=advice, code=exits.USAGE) from None


async def _unknown(journal: Journal, key: str) -> Fault:
    """No job has this key; some that could be settled may have one like it."""
    from difflib import get_close_matches

    from apixo_async.batch.journal import JobState

    known: list[str] = []
    # Those that are uncertain first: it is mostly one of them.
    for states in ((JobState.UNCERTAIN,), (JobState.FAILED, JobState.REJECTED, JobState.ABANDONED)):
        async for entry in journal.entries(*states):
            if len(known) >= NEAR_AMONG:
                break
            known.append(entry.key)
    near = get_close_matches(key, known, n=3, cutoff=0.6)
    advice = f"no job can be settled; {_SHOW}"
    if near:
        advice = f"did you mean {' or '.join(map(repr, near))}?"
    elif known:
        advice = f"{counted(len(known), 'job')} can be settled, such as {known[0]!r}"
    return Fault(f"no job has the key {key!r}", advice=advice, code=exits.USAGE)
