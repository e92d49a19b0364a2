"""What a failure means and which command settles what is open: sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from apixo_async._commands import command_line, file_word
from apixo_async._wire import means_no_credits, task_failure
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal.overview import Doubt
from apixo_async.errors import ContentViolationError, InvalidImageURLError
from apixo_async.tasks import Task, TaskState

_REFUSED: Final = {
    "401": "the key was refused",
    "402": "the balance was empty",
    "403": "the key may not do this",
    "404": "the API does not know the model, or the task to extend",
    "413": "the request was too large",
    "429": "too much was asked for at a time",
}


@attrs.frozen
class Command:
    """A command line to be copied, and what it does."""

    does: str
    line: str


def meaning(state: JobState, code: str | None) -> str:
    """What a failure with this code means, and what helps; `code` is the API's, if it gave one."""
    match state:
        case JobState.REJECTED:
            why = _REFUSED.get(code or "", "the API did not accept the request as it is")
            return f"Refused: {why}. No task was made, so nothing was billed."
        case JobState.ABANDONED:
            return "It was uncertain, and somebody decided to leave it at that."
        case _ if code is None:
            return "The task ended without a result that can be used."
        case _:
            return _task_meaning(code)


def _task_meaning(code: str) -> str:
    if means_no_credits(code):
        return "The balance was empty. Top up, then send it again."
    failure = task_failure(Task(id="", model="", state=TaskState.FAILED, fail_code=code))
    if isinstance(failure, ContentViolationError):
        return (
            "Prompt or result is against the content policy. Change the prompt; "
            "the same one would fail again."
        )
    if isinstance(failure, InvalidImageURLError):
        return "The API could not read an image. Make its URL public, then send it again."
    return "The API could not make the video. Sending it again may help, and is paid for again."


class Commands:
    """The command lines about one journal; they hold its whole path, to work in any directory."""

    def __init__(self, journal: Path, *, save_to: str | None) -> None:
        self._journal = file_word(journal)
        self._save_to = save_to

    def _line(self, verb: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        return command_line(verb, self._journal, *arguments, options=options)

    @property
    def go_on(self) -> Command:
        """Goes on with the batch."""
        return Command("goes on with the batch", self._line("resume"))

    @property
    def save(self) -> Command:
        """Saves results that are only at their URLs."""
        if self._save_to is not None:
            return Command("saves what is missing", self._line("resume"))
        line = self._line("resume", options=("--save-to", "DIR"))
        return Command("saves them into a directory of yours", line)

    @property
    def renew(self) -> Command:
        """Writes the report again."""
        return Command("writes this page again", self._line("report", options=("-o", "DIR")))

    def again(self, key: str) -> Command:
        """Queues a job again that failed."""
        line = self._line("settle", key, options=("--resubmit",))
        return Command("queues it again; it may be paid twice", line)

    def settle_all(self) -> Iterator[Command]:
        """Decides about all doubts at once."""
        line = self._line("settle", options=("--all", "--abandon"))
        yield Command("leaves all of them at that", line)
        line = self._line("settle", options=("--all", "--resubmit"))
        yield Command("queues all of them again; each may be paid twice", line)

    def settle(self, doubt: Doubt) -> Iterator[Command]:
        """Decides about one doubt, the cheapest way first."""
        named = doubt.candidate_task_id if not doubt.candidate_denied else None
        option = ("--task-id", named or "ID")
        yield Command(
            "if its task is in your history", self._line("settle", doubt.key, options=option)
        )
        line = self._line("settle", doubt.key, options=("--abandon",))
        yield Command("to lose it rather than pay twice", line)
        line = self._line("settle", doubt.key, options=("--resubmit",))
        yield Command("to pay twice rather than lose it", line)

    def about(self, entry: Entry) -> Iterator[Command]:
        """What can be done about one job that ended badly."""
        if entry.state in {JobState.FAILED, JobState.REJECTED, JobState.ABANDONED}:
            yield self.again(entry.key)
