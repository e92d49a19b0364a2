"""The end of a batch: totals that reconcile, what failed and why, what is left to do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async.cli.faults import advice_for, command
from apixo_async.cli.progress import OpenJob
from apixo_async.cli.results import Failures
from apixo_async.cli.text import counted, lasting, printable, shortened, sized
from apixo_async.limits import Limits

STATUSES: Final = ("succeeded", "failed", "uncertain", "timed_out", "not_started")
REASON_WIDTH: Final = 160
UNCERTAIN_ADVICE: Final = (
    "Nobody can say whether these were accepted; they were not sent again, because they may be "
    "running and billed. Compare with your account's history before you run them once more."
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
    ended: Mapping[str, int]
    """Jobs with an outcome, by status."""
    left_behind: tuple[OpenJob, ...] = ()
    """Jobs with a task that was still running when we left."""
    failures: Failures = attrs.field(factory=Failures)
    not_saved: int = 0
    files: int = 0
    size: int = 0
    save_to: Path | None = None
    journal: Path | None = None
    seconds: float = 0.0
    stopped: str | None = None
    stop_error: BaseException | None = None
    signal: str | None = None
    is_emulated: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """All jobs by status; what never began has no outcome when we were interrupted."""
        counts = {status: self.ended.get(status, 0) for status in STATUSES}
        if self.left_behind:
            counts["still_running"] = len(self.left_behind)
        counts["not_started"] += self.jobs - sum(counts.values())
        return counts

    def lines(self) -> Iterator[str]:
        """The summary for people."""
        sum_of = " + ".join(f"{n:,} {word.replace('_', ' ')}" for word, n in self.counts.items())
        yield f"{counted(self.jobs, 'job')} = {sum_of}, in {lasting(self.seconds)}"
        if self.files:
            yield f"{counted(self.files, 'file')} in {self.save_to} ({sized(self.size)})"
        for (status, reason), group in self.failures.groups.items():
            keys = ", ".join(map(printable, group.keys))
            more = f" and {group.count - len(group.keys):,} more" * (group.count > len(group.keys))
            yield f"{status}: {group.count:,} x {shortened(reason, REASON_WIDTH)}"
            yield f"  {keys}{more}"
        if self.counts["uncertain"]:
            yield f"  {UNCERTAIN_ADVICE}"
            if self.journal is not None:
                where = printable(str(self.journal))
                yield f"  apixo show {where}, then apixo settle {where} KEY"
        yield from self._stop_lines()
        yield from self._left_lines()
        if (again := self.resume_command) is not None:
            yield f"go on with: {again}"

    @property
    def resume_command(self) -> str | None:
        """What to type to go on; `None` without a journal or with nothing left to do."""
        counts = self.counts
        is_left = bool(
            counts["not_started"]
            or counts["timed_out"]
            or counts.get("still_running")
            or self.not_saved
        )
        if self.journal is None or not is_left or self.is_emulated:
            return None
        return f"apixo resume {shlex.quote(str(self.journal))}"

    def _stop_lines(self) -> Iterator[str]:
        if self.signal is not None:
            yield f"interrupted by {self.signal}"
        elif self.stopped is not None:
            why = f": {printable(str(self.stop_error))}" if self.stop_error is not None else ""
            yield f"stopped early because {_STOPPED.get(self.stopped, self.stopped)}{why}"
            if self.stop_error is not None and (advice := advice_for(self.stop_error).text):
                yield f"  {advice}"

    def _left_lines(self) -> Iterator[str]:
        if not self.left_behind:
            return
        if self.is_emulated:
            yield f"{counted(len(self.left_behind), 'task')} still running, gone with the emulator"
            return
        if self.journal is not None:
            yield f"{counted(len(self.left_behind), 'task')} still running at the API, all recorded"
            return
        yield f"{counted(len(self.left_behind), 'task')} still running at the API, and billed:"
        for job in self.left_behind:
            yield f"  {printable(job.key)}  {command('wait', job.task_id or '', job.model)}"
        yield "  Once a task has ended: apixo download ID --save-to DIR"

    def as_json(self) -> dict[str, Any]:
        """The summary for programs, the last line of `--json`."""
        return {
            "jobs": self.jobs,
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
            "left_behind": [
                {"key": job.key, "task_id": job.task_id, "model": job.model}
                for job in self.left_behind
            ],
        }
