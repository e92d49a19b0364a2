"""One batch from the first submit to the summary: wires the runner to a display and to output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Literal

import attrs
import click

from apixo_async.batch import BatchRunner, Outcome, OutcomeStatus, StopReason, events
from apixo_async.batch.inputs import JobFile
from apixo_async.batch.spending import Prices
from apixo_async.cli import exits
from apixo_async.cli.connecting import Connection
from apixo_async.cli.display import REFRESH, Display, open_display
from apixo_async.cli.faults import Fault
from apixo_async.cli.loop import Interrupted, run
from apixo_async.cli.options import Options
from apixo_async.cli.progress import Progress, Traffic
from apixo_async.cli.results import Failures, failure_line, is_saved, outcome_as_json
from apixo_async.cli.summary import LedgerExtract, Summary
from apixo_async.cli.text import counted
from apixo_async.client import ApixoClient
from apixo_async.errors import ApixoError

_PIPE: int = getattr(signal, "SIGPIPE", 13)


@contextmanager
def _own_words() -> Generator[None]:
    """Keeps one warning of the library back: the summary names the tasks that go on, and how."""

    def is_ours(record: logging.LogRecord) -> bool:
        return not hasattr(record, "given_up")

    logger = logging.getLogger("apixo_async")
    logger.addFilter(is_ours)
    try:
        yield
    finally:
        logger.removeFilter(is_ours)


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What a batch is run with, beside the connection; as `BatchRunner` takes it."""

    journal: Path | None = None
    save_to: Path | None = None
    prices: Prices = attrs.field(factory=Prices)
    max_cost: Decimal | None = None
    uncertain: Literal["keep", "resubmit"] = "keep"
    retry_codes: tuple[str, ...] = ()
    retries: int = 1

    def runner(
        self,
        client: ApixoClient,
        *,
        on_event: Callable[[events.Event], None],
        notes: Mapping[str, object],
    ) -> BatchRunner:
        """The runner of this batch; `notes` are kept for `apixo resume`."""
        own = {
            "prices": {name: str(price) for name, price in self.prices.by_name.items()},
            "max_cost": None if self.max_cost is None else str(self.max_cost),
            "uncertain": self.uncertain,
            "retry_codes": list(self.retry_codes),
            "retries": self.retries,
        }
        return BatchRunner(
            client,
            journal=self.journal,
            save_to=self.save_to,
            uncertain=self.uncertain,
            max_cost=self.max_cost,
            prices=self.prices,
            retry_codes=self.retry_codes,
            retries=self.retries,
            notes={**notes, **own},
            on_event=on_event,
        )


class BatchSession:
    """Runs a checked input once, or resumes without one; `run` returns the exit code."""

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
        self._progress = Progress(total)
        self._failures = Failures()
        self._display: Display = open_display(self._progress, self._traffic, as_json=as_json)
        self._client: ApixoClient | None = None
        self._files = 0
        self._size = 0
        self._not_saved = 0
        self._stopped: StopReason | None = None
        self._stop_error: BaseException | None = None
        self._signal: int | None = None

    def run(self) -> int:
        """Runs the batch, prints its summary, and returns the exit code."""
        self._announce()
        started = time.monotonic()
        client = self._connection.client()
        try:
            with self._display, _own_words():
                run(self._run(client), on_interrupt=self._say_stopping)
        except Interrupted as interrupted:
            self._signal = interrupted.number
        except BrokenPipeError:
            # Nobody reads our results any more: what is under way must not be lost silently.
            self._signal = _PIPE
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end
        except Exception as error:
            if isinstance(error, ApixoError) and not self._progress.counts:
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
            line += " not ended yet"
        if self._connection.emulator is not None:
            speed = self._connection.emulator.speed
            line += f"; emulated APIXO, {speed:g} times as fast as the real one: no key, no cost"
        click.echo(line, err=True)

    def _say_stopping(self) -> None:
        self._display.note("stopping; submits in flight are still answered, once more ends at once")

    async def _run(self, client: ApixoClient) -> None:
        self._client = client
        runner = self._plan.runner(client, on_event=self._note, notes=self._notes())
        stream = runner.stream_resumed() if self._jobs is None else runner.stream(self._jobs)
        async with client, self._ticking(), stream as outcomes:
            try:
                async for outcome in outcomes:
                    self._take(outcome)
            finally:
                self._stopped, self._stop_error = outcomes.stopped, outcomes.stop_error

    def _notes(self) -> Mapping[str, object]:
        given = self._given
        return {
            "requests_per_minute": given.requests_per_minute,
            "concurrent_tasks": given.concurrent_tasks,
            "first_poll": given.first_poll,
            "poll_every": given.poll_every,
            "deadline": given.deadline,
            "is_emulated": self._connection.emulator is not None,
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

    def _traffic(self) -> Traffic | None:
        if self._client is None:
            return None
        gate, account = self._client.statistics().gate, self._connection.account
        speed = 1.0 if self._connection.emulator is None else self._connection.emulator.speed
        return Traffic(
            requests_last_minute=gate.requests_last_minute,
            requests_per_minute=int(account.requests_per_minute * speed),
            unfinished_tasks=gate.tasks,
            task_cap=gate.tasks_cap,
            closed_for=gate.closed_for,
            speed=speed,
        )

    # What comes in

    def _note(self, event: events.Event) -> None:
        self._progress.note(event)
        if isinstance(event, events.Stopped) and event.reason != StopReason.REQUESTED:
            self._display.note(f"stopping: {event.message or event.reason}", is_bad=True)

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
        # What was never begun would fill the screen; the reason is the batch's, and shown once.
        if outcome.status is not OutcomeStatus.NOT_STARTED:
            self._failures.add(outcome)
            self._display.note(failure_line(outcome), is_bad=True)

    # The end

    def _conclude(self, seconds: float) -> int:
        summary = Summary(
            jobs=self._total,
            journal=self._plan.journal,
            ended=self._progress.counts,
            left_behind=tuple(self._progress.left_behind()),
            failures=self._failures,
            not_saved=self._not_saved,
            files=self._files,
            size=self._size,
            save_to=self._save_to,
            seconds=seconds,
            stopped=self._stopped,
            stop_error=self._stop_error,
            signal=None if self._signal is None else signal.Signals(self._signal).name,
            is_emulated=self._connection.emulator is not None,
        )
        code = exits.batch_exit(
            summary.counts, not_saved=self._not_saved, stopped=self._stopped, signal=self._signal
        )
        self._print(summary, code)
        return code

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
