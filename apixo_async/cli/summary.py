"""The end of a batch: totals that reconcile, what failed and why, what is left to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async._commands import command_line
from apixo_async._places import Place
from apixo_async.cli import journals
from apixo_async.cli.faults import advice_for, as_options, command
from apixo_async.cli.leftovers import Leftovers
from apixo_async.cli.results import Failures
from apixo_async.cli.text import counted, lasting, printable, shortened, sized
from apixo_async.limits import Limits
from apixo_async.retries import UNCERTAIN_REPEATS

STATUSES: Final = ("succeeded", "failed", "uncertain", "timed_out", "not_started")
REASON_WIDTH: Final = 160
UNCERTAIN_ADVICE: Final = (
    "Nobody can say whether these were accepted; they were not sent again, because they may be "
    "running and billed. Compare with your account's history before you run them once more."
)
RESUBMITTED_ADVICE: Final = (
    "Nobody can say whether these were accepted. --uncertain resubmit is in force: they were sent "
    "{posts} in this run, and each time may be running and billed. A run sends one job at most "
    f"{UNCERTAIN_REPEATS + 1} times. Compare with your account's history."
)
_STOPPED: Final = {
    "key": "the API refused the key",
    "balance": "the balance is empty",
    "unreachable": "the host could not be reached",
    "budget": "the cap on its cost is reached",
    "doubt": "too many submits got no usable answer",
    "journal": "its journal cannot be written",
    "requested": "it was asked to",
    "input": "the input could not be read to its end",
}


@attrs.frozen(kw_only=True)
class LedgerExtract:
    """What an emulator says about a batch."""

    billed: int
    billed_twice: int
    throttled: int
    busiest_minute: int
    peak_unfinished: int

    @classmethod
    def of(cls, ledger: Mapping[str, Any]) -> LedgerExtract:
        """The few numbers that matter of a whole ledger."""
        return cls(
            billed=ledger["billed_total"],
            billed_twice=len(ledger["billed_twice"]),
            throttled=sum(ledger["throttled"].values()),
            busiest_minute=ledger["peak_requests_per_window"],
            peak_unfinished=ledger["peak_unfinished"],
        )

    def as_json(self) -> dict[str, int]:
        """The numbers by name."""
        return attrs.asdict(self)

    def lines(self, account: Limits) -> Iterator[str]:
        """The numbers for people, beside the limits of the account."""
        yield (
            f"emulator: {counted(self.billed, 'task')} billed, "
            f"{counted(self.billed_twice, 'prompt')} billed twice, "
            f"{self.throttled:,} answered 429"
        )
        yield (
            f"  busiest minute {self.busiest_minute:,} of {account.requests_per_minute:,} requests,"
            f" at most {self.peak_unfinished:,} of {account.concurrent_tasks:,} tasks unfinished"
        )


@attrs.frozen(kw_only=True)
class Summary:
    """A batch that has ended, as far as it got."""

    jobs: int
    """How many there are; more where more were told."""
    ended: Mapping[str, int]
    """Jobs with an outcome, by status."""
    left: Leftovers = attrs.field(default=Leftovers(()))
    """Jobs with a task that was still running when we left."""
    whole: Mapping[str, int] | None = None
    """All jobs of the journal by standing, after a run of the journal alone."""
    failures: Failures = attrs.field(factory=Failures)
    not_saved: int = 0
    gone: int = 0
    """How many of those can never be saved."""
    doubtful_posts: int | None = None
    """How often uncertain jobs were sent, where a policy sends them again."""
    files: int = 0
    size: int = 0
    save_to: Place | None = None
    journal: Path | None = None
    again: tuple[str, ...] = ()
    """Options that a command which goes on has to say again."""
    seconds: float = 0.0
    stopped: str | None = None
    stop_error: BaseException | None = None
    signal: str | None = None
    is_emulated: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """All jobs by status; what never began has no outcome when we were interrupted."""
        counts = {status: self.ended.get(status, 0) for status in STATUSES}
        if self.left.ours:
            counts["still_running"] = len(self.left.ours)
        counts["not_started"] += max(0, self.jobs - sum(counts.values()))
        return counts

    @property
    def had_nothing_to_do(self) -> bool:
        """Whether a run of the journal alone found all its jobs at an end."""
        is_stopped = self.stopped is not None or self.signal is not None
        return self.whole is not None and not is_stopped and not sum(self.counts.values())

    def lines(self) -> Iterator[str]:
        """The summary for people."""
        yield from self._sum_lines()
        if self.files:
            where = printable(str(self.save_to))
            yield f"{counted(self.files, 'file')} in {where} ({sized(self.size)})"
        yield from self._failure_lines()
        yield from self._doubt_lines()
        yield from self._stop_lines()
        yield from self._left_lines()
        if (again := self.resume_command) is not None:
            yield f"go on with: {again}"

    def _sum_lines(self) -> Iterator[str]:
        if self.had_nothing_to_do and self.whole is not None and self.journal is not None:
            jobs = counted(sum(self.whole.values()), "job")
            parts = ", ".join(f"{n:,} {_words(word)}" for word, n in self.whole.items() if n)
            yield f"all {jobs} have ended: {parts}; {journals.command('show', self.journal)}"
            return
        told = sum(self.counts.values())
        yield f"{_sum(self.counts)}, in {lasting(self.seconds)}"
        if self.whole is not None and sum(self.whole.values()) != told:
            yield f"{printable(str(self.journal))} as a whole: {_sum(self.whole)}"

    def _failure_lines(self) -> Iterator[str]:
        """The reasons; those of doubts come last, right above what is to be done about them."""
        groups = sorted(self.failures.groups.items(), key=lambda item: item[0][0] == "uncertain")
        for (status, reason), group in groups:
            keys = ", ".join(map(printable, group.keys))
            more = f" and {group.count - len(group.keys):,} more" * (group.count > len(group.keys))
            yield f"{status}: {group.count:,} x {shortened(reason, REASON_WIDTH)}"
            yield f"  {keys}{more}"
            if group.advice and status != "uncertain":  # of which more is said below
                yield f"  what to do: {printable(group.advice)}"

    def _doubt_lines(self) -> Iterator[str]:
        if not self.counts["uncertain"]:
            return
        if self.doubtful_posts is None:
            yield f"  {UNCERTAIN_ADVICE}"
        else:
            posts = counted(self.doubtful_posts, "time")
            yield f"  {RESUBMITTED_ADVICE.format(posts=posts)}"
        if self.journal is not None:
            show = journals.command("show", self.journal)
            yield f"  {show}, then {journals.command('settle', self.journal, 'KEY')}"

    @property
    def resume_command(self) -> str | None:
        """What to type to go on; `None` without a journal or with nothing left to do."""
        counts = self.counts
        is_left = bool(
            counts["not_started"]
            or counts["timed_out"]
            or counts.get("still_running")
            or any(not job.has_ended for job in self.left.others)
            or self.not_saved > self.gone
        )
        if self.journal is None or not is_left or self.is_emulated:
            return None
        raised = ("--max-cost", "USD") if self.stopped == "budget" else ()
        return journals.command("resume", self.journal, options=(*self.again, *raised))

    def _stop_lines(self) -> Iterator[str]:
        if self.signal is not None:
            yield f"interrupted by {self.signal}"
        elif self.stopped is not None:
            error = self.stop_error
            why = "" if error is None else f": {printable(as_options(str(error)))}"
            yield f"stopped early because {_STOPPED.get(self.stopped, self.stopped)}{why}"
            if self.stop_error is not None and (advice := advice_for(self.stop_error).text):
                yield f"  {advice}"

    def _left_lines(self) -> Iterator[str]:
        left = self.left.ours
        if left:
            yield f"{counted(len(left), 'task')} still running{self._what_becomes_of_them()}"
            if not self.is_emulated and self.journal is None:
                for job in left:
                    wait = command("wait", job.task_id or "", job.model, *self.again)
                    yield f"  {printable(job.key)}  {wait}"
                options = ("--save-to", "DIR", *self.again)
                yield f"  Once a task has ended: {command_line('download', 'ID', options=options)}"
        if others := self.left.others:
            ended = sum(job.has_ended for job in others)
            yield (
                f"beside these, {counted(len(others), 'task')} of other inputs with this journal: "
                f"{ended:,} ended, {len(others) - ended:,} still running"
            )

    def _what_becomes_of_them(self) -> str:
        if self.is_emulated:
            return ", gone with the emulator"
        return " at the API, " + ("and billed:" if self.journal is None else "all recorded")

    def as_json(self) -> dict[str, Any]:
        """The summary for programs, the last line of `--json`."""
        return {
            "jobs": sum(self.counts.values()),
            **dict.fromkeys((*STATUSES, "still_running"), 0),
            **self.counts,
            "not_saved": self.not_saved,
            "files": self.files,
            "bytes": self.size,
            "save_to": None if self.save_to is None else str(self.save_to),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "stop_error": None if self.stop_error is None else str(self.stop_error),
            "signal": self.signal,
            "journal": None if self.journal is None else str(self.journal),
            "resume": self.resume_command,
            "whole_journal": None if self.whole is None else dict(self.whole),
            "left_behind": [
                {"key": job.key, "task_id": job.task_id, "model": job.model}
                for job in self.left.ours
            ],
        }


def _sum(counts: Mapping[str, int]) -> str:
    parts = " + ".join(f"{number:,} {_words(word)}" for word, number in counts.items())
    return f"{counted(sum(counts.values()), 'job')} = {parts}"


def _words(status: str) -> str:
    return status.replace("_", " ")
