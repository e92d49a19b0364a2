"""One batch from the first submit to the summary: wires the runner to a display and to output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click

from apixo_async.batch import Outcome, OutcomeStatus, StopReason, events
from apixo_async.batch.inputs import JobFile
from apixo_async.batch.journal import read_noted
from apixo_async.cli import exits, journals
from apixo_async.cli.alerts import Alerts, alerting
from apixo_async.cli.connecting import Connection
from apixo_async.cli.display import REFRESH, Display, open_display
from apixo_async.cli.faults import Fault, Interrupted, as_options
from apixo_async.cli.figures import Traffic
from apixo_async.cli.leftovers import Leftovers
from apixo_async.cli.loop import run
from apixo_async.cli.options import Options
from apixo_async.cli.policies import BatchPlan
from apixo_async.cli.progress import Progress
from apixo_async.cli.results import Failures, failure_line, is_saved, outcome_as_json
from apixo_async.cli.summary import LedgerExtract, Summary
from apixo_async.cli.text import counted
from apixo_async.client import ApixoClient
from apixo_async.errors import ApixoError, DownloadError, JournalError
from apixo_async.webhooks import WebhookReceiver

_PIPE: int = getattr(signal, "SIGPIPE", 13)


class BatchSession:
    """Runs a checked input once, or resumes without one; `run` returns the exit code.

    `total` is the number of jobs; of a journal without an input it is an estimate.
    """

    def __init__(
        self,
        jobs: JobFile | None,
        total: int,
        connection: Connection,
        plan: BatchPlan,
        *,
        as_json: bool,
        given: Options,
    ) -> None:
        self._jobs = jobs
        self._total = total
        self._connection = connection
        self._plan = plan
        self._save_to = plan.save_to
        self._as_json = as_json
        self._given = given
        self._progress = Progress(
            total,
            saves=plan.save_to is not None,
            prices=plan.policies.prices,
            max_cost=plan.policies.max_cost,
            charged=plan.charged,
        )
        self._failures = Failures()
        self._display: Display = open_display(self._progress, self._traffic, as_json=as_json)
        self._alerts = Alerts(
            lambda line: self._display.note(line, is_bad=True),
            unrecorded=lambda: self._progress.unanswered,
            is_logged=bool(given.verbose),
        )
        self._client: ApixoClient | None = None
        self._files = 0
        self._size = 0
        self._not_saved = self._gone = 0
        self._stopped: StopReason | None = None
        self._stop_error: BaseException | None = None
        self._signal: int | None = None

    def run(self) -> int:
        """Runs the batch, prints its summary, and returns the exit code."""
        self._announce()
        started = time.monotonic()
        receiver = self._receiver()
        client = self._connection.client(receiver)
        try:
            with self._display, alerting(self._alerts):
                run(self._run(client, receiver), on_interrupt=self._say_stopping)
        except Interrupted as interrupted:
            self._signal = interrupted.number
        except BrokenPipeError:
            # Nobody reads our results any more: what is under way must not be lost silently.
            self._signal = _PIPE
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end
        except Exception as error:
            if isinstance(error, ApixoError) and not self._progress.has_begun:
                raise  # the journal or the input was refused as a whole: nothing was sent
            self._stopped, self._stop_error = StopReason.INPUT, error
            if not isinstance(error, ApixoError):
                # Even an error in this program must not cost anybody the ids of paid tasks.
                self._conclude(time.monotonic() - started)
                raise
        return self._conclude(time.monotonic() - started)

    def _announce(self) -> None:
        line = counted(self._total, "job")
        if self._jobs is None:
            line += " not ended yet, by the record" if self._total else " left, by the record"
        if self._connection.emulator is not None:
            speed = self._connection.emulator.speed
            line += f"; emulated APIXO, {speed:g} times as fast as the real one: no key, no cost"
        click.echo(line, err=True)

    def _say_stopping(self) -> None:
        """What the first signal waits for; after a second one, this is what stays on screen."""
        for line in stopping_lines(
            self._progress.unanswered,
            journal=None if self._connection.emulator else self._plan.journal,
            again=self._plan.again,
            is_journal_failing=self._alerts.is_journal_failing,
        ):
            self._display.note(line)

    async def _run(self, client: ApixoClient, receiver: WebhookReceiver | None) -> None:
        self._client = client
        runner = self._plan.runner(
            client,
            on_event=self._note,
            notes=self._notes(),
            schedule=self._connection.batch_schedule,
        )
        stream = runner.stream_resumed() if self._jobs is None else runner.stream(self._jobs)
        async with self._receiving(receiver), client, self._ticking(), stream as outcomes:
            try:
                async for outcome in outcomes:
                    self._take(outcome)
            finally:
                self._stopped, self._stop_error = outcomes.stopped, outcomes.stop_error

    def _receiver(self) -> WebhookReceiver | None:
        plan = self._plan
        if plan.callbacks is None:
            return None
        return plan.callbacks.receiver(has_journal=plan.journal is not None)

    @asynccontextmanager
    async def _receiving(self, receiver: WebhookReceiver | None) -> AsyncGenerator[None]:
        """Callbacks come in from before the first submit until after the last outcome."""
        callbacks = self._plan.callbacks
        if receiver is None or callbacks is None:
            yield
            return
        async with receiver.serve(callbacks.host, callbacks.port):
            yield

    def _notes(self) -> Mapping[str, object]:
        given = self._given
        return {
            "requests_per_minute": given.requests_per_minute,
            "concurrent_tasks": given.concurrent_tasks,
            "first_poll": given.first_poll,
            "poll_every": given.poll_every,
            "schedule": given.schedule,
            "poll_share": given.poll_share,
            "deadline": given.deadline,
            "is_emulated": self._connection.emulator is not None,
            "emulator_speed": self._speed,
        }

    @asynccontextmanager
    async def _ticking(self) -> AsyncGenerator[None]:
        ticker = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker

    async def _tick(self) -> None:
        while True:
            self._display.tick(asyncio.get_running_loop().time())
            await asyncio.sleep(REFRESH)

    @property
    def _speed(self) -> float | None:
        """How fast the clock of our own emulator goes; `None` without one."""
        return None if self._connection.emulator is None else self._connection.emulator.speed

    def _traffic(self) -> Traffic | None:
        if self._client is None:
            return None
        gate, account = self._client.statistics().gate, self._connection.account
        speed = self._speed or 1.0
        return Traffic(
            requests_last_minute=gate.requests_last_minute,
            requests_per_minute=int(account.requests_per_minute * speed),
            unfinished_tasks=gate.tasks,
            task_cap=gate.tasks_cap,
            task_limit=account.concurrent_tasks,
            closed_for=gate.closed_for,
            speed=speed,
        )

    # What comes in

    def _note(self, event: events.Event) -> None:
        self._progress.note(event)
        # What is refused before anything has begun is raised, and told where that is caught.
        if not isinstance(event, events.Stopped) or not self._progress.has_begun:
            return
        if event.reason != StopReason.REQUESTED:
            why = as_options(event.message or event.reason)
            self._display.note(f"stopping: {why}", is_bad=True)

    def _take(self, outcome: Outcome) -> None:
        self._progress.finish(outcome)
        self._files += len(outcome.files)
        self._size += sum(file.size for file in outcome.files)
        if not is_saved(outcome):
            self._take_failure(outcome)
        if self._as_json:
            click.echo(json.dumps(outcome_as_json(outcome)))
        elif self._save_to is None:
            for url in outcome.urls:
                self._display.result(f"{outcome.key}\t{url}")

    def _take_failure(self, outcome: Outcome) -> None:
        self._not_saved += outcome.status is OutcomeStatus.SUCCEEDED
        self._gone += isinstance(outcome.error, DownloadError) and outcome.error.reason == "gone"
        # What was never begun would fill the screen; the reason is the batch's, and shown once.
        if outcome.status is not OutcomeStatus.NOT_STARTED:
            self._failures.add(outcome)
            width = self._display.width
            self._display.note(failure_line(outcome, self._plan.again, width=width), is_bad=True)

    # The end

    def _conclude(self, seconds: float) -> int:
        ended, whole = self._progress.counts, self._whole()
        left = Leftovers.of(self._progress.left_behind(), self._jobs)
        doubtful = self._progress.doubtful_posts
        summary = Summary(
            jobs=self._total if self._jobs is not None else self._told(left, whole),
            journal=self._plan.journal,
            again=self._plan.again,
            ended=ended,
            left=left,
            whole=whole,
            failures=self._failures,
            not_saved=self._not_saved,
            gone=self._gone,
            doubtful_posts=doubtful if self._plan.policies.uncertain == "resubmit" else None,
            files=self._files,
            size=self._size,
            save_to=self._save_to,
            seconds=seconds,
            stopped=self._stopped,
            stop_error=self._stop_error,
            signal=None if self._signal is None else signal.Signals(self._signal).name,
            is_emulated=self._connection.emulator is not None,
        )
        code = max(self._exit_code(summary.counts), self._exit_code(whole or {}))
        self._print(summary, code)
        return code

    def _exit_code(self, counts: Mapping[str, int]) -> int:
        return exits.batch_exit(
            counts, not_saved=self._not_saved, stopped=self._stopped, signal=self._signal
        )

    def _whole(self) -> Mapping[str, int] | None:
        """How the journal of a run without an input stands now; `None` if nobody can say."""
        if self._jobs is not None or self._plan.journal is None:
            return None
        try:
            counts = read_noted(self._plan.journal).counts
        except JournalError:
            return None
        return {str(standing): number for standing, number in counts.items()}

    def _told(self, left: Leftovers, whole: Mapping[str, int] | None) -> int:
        """All that a run without an input had to do: what was told, and what it did not come to."""
        ended = self._progress.counts
        untold = max(0, (whole or {}).get("not_started", 0) - ended[OutcomeStatus.NOT_STARTED])
        return sum(ended.values()) + len(left.ours) + untold

    def _print(self, summary: Summary, code: int) -> None:
        # Standard output is for results alone: for JSON, or for URLs with their keys.
        has_results = self._as_json or self._save_to is None
        to_stderr = has_results or self._signal == _PIPE
        for line in summary.lines():
            click.echo(line, err=to_stderr)
        extract = self._ledger()
        if extract is not None:
            for line in extract.lines(self._connection.account):
                click.echo(line, err=to_stderr)
        if self._as_json:
            emulator = None if extract is None else extract.as_json()
            whole = {**summary.as_json(), "exit_code": code, "emulator": emulator}
            click.echo(json.dumps({"summary": whole}))

    def _ledger(self) -> LedgerExtract | None:
        if self._connection.emulator is None:
            return None
        try:
            return LedgerExtract.of(self._connection.emulator.ledger())
        except Fault as fault:
            click.echo(f"warning: {fault.message}", err=True)
            return None


def stopping_lines(
    unanswered: int,
    *,
    journal: Path | None,
    is_journal_failing: bool,
    again: Sequence[str] = (),
) -> Iterator[str]:
    """What a stop waits for, and how to go on afterwards."""
    submits = counted(unanswered, "submit")
    if is_journal_failing:
        lost = f", and loses what is known of {submits}" * bool(unanswered)
        yield (
            "stopping; waiting until the journal can be written: make room on its disk; "
            f"once more ends at once{lost}"
        )
    elif unanswered:
        recorded = " and recorded" * (journal is not None)
        yield f"stopping; waiting for {submits} to be answered{recorded}; once more ends at once"
    else:
        yield "stopping; no submit is on its way; once more ends at once"
    if journal is not None:
        yield f"go on with: {journals.command('resume', journal, options=again)}"
