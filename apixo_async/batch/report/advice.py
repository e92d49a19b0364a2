"""Which command settles what is open, to be copied from the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from apixo_async._commands import command_line, file_word
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal.overview import Doubt
from apixo_async.batch.journal.tally import failure_of
from apixo_async.batch.meanings import may_help_again


@attrs.frozen
class Command:
    """A command line to be copied, and what it does."""

    does: str
    line: str


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
        if entry.state not in {JobState.FAILED, JobState.REJECTED, JobState.ABANDONED}:
            return
        if may_help_again(entry.state, failure_of(entry)[0]):
            yield self.again(entry.key)
