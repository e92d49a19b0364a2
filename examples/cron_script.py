"""A script for cron: makes a video for each line that was added to a text file since the last time.

    pip install apixo-async
    python examples/cron_script.py prompts.txt videos/

and in a crontab, every ten minutes:

    */10 * * * *  cd /srv/videos && . ./env && python cron_script.py prompts.txt videos/

Videos may also go to a storage, such as `s3://bucket/prefix` (docs/saving.md). What happened is in
`prompts.db`: each run goes on where the last one stopped, whatever ended it, and no line is paid
for twice. While one runs, the next is refused by that journal, so it needs no lock of its own.

It says nothing when all went well, as cron mails whatever is said. It exits with 1 if a video
failed, with 2 if nothing could be done, and with 3 if somebody has to decide about a submit whose
answer was lost.

It reads from the environment:

    APIXO_API_KEY
    APIXO_MINUTES     after how many minutes it takes no new lines; 8 if nothing is said
    APIXO_BASE_URL    if it is not APIXO itself, but an emulator
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from apixo_async import (
    ApixoClient,
    ApixoError,
    BatchReport,
    BatchRunner,
    InvalidRequestError,
    OutcomeStatus,
    TextToVideo,
)


def requests_in(file: Path) -> list[TextToVideo]:
    """One for each line; a line that breaks a rule is named, and nothing is sent."""
    requests: list[TextToVideo] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            requests.append(TextToVideo(line.strip(), mode="fast"))
        except InvalidRequestError as error:
            raise SystemExit(f"{file}:{number}: {error}") from None
    return requests


async def run(requests: list[TextToVideo], journal: Path, save_to: str) -> BatchReport:
    """Makes what is new and collects what is old, for as long as there is time."""
    minutes = float(os.environ.get("APIXO_MINUTES", "8"))
    async with ApixoClient() as client:
        runner = BatchRunner(client, journal=journal, save_to=save_to)
        loop, running = asyncio.get_running_loop(), asyncio.ensure_future(runner.run(requests))
        # From then on no new line is sent; what is running is still awaited.
        alarm = loop.call_later(minutes * 60, runner.stop)
        # A machine that shuts down asks for an end first. Submits on their way are answered then,
        # and the tasks that go on are collected by the next run.
        loop.add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            return await running
        except asyncio.CancelledError:
            return runner.report
        finally:
            alarm.cancel()


def tell(report: BatchReport, journal: Path) -> int:
    """Prints what somebody should know; returns the exit code."""
    for outcome in report.outcomes:
        match outcome.status:
            case OutcomeStatus.FAILED:
                print(f"failed: {outcome.key}: {outcome.error}")
            case OutcomeStatus.UNCERTAIN:
                # It may be running, and billed. Nothing sends it again but a decision.
                print(f"uncertain: {outcome.key}: {outcome.error}")
                print(f"  decide with: apixo settle {journal} {outcome.key} --help")
            case OutcomeStatus.SUCCEEDED if outcome.error is not None:
                print(f"not saved yet: {outcome.key}: {outcome.error}")  # the next run tries again
            case _:
                pass  # made, or left to the next run
    if report.stop_error is not None:
        print(f"stopped: {report.stop_error}")
    if report.counts[OutcomeStatus.UNCERTAIN]:
        return 3
    has_failed = any(outcome.error for outcome in report.outcomes) or report.stop_error
    return 1 if has_failed else 0


def main() -> int:
    """One run."""
    prompts, save_to = Path(sys.argv[1]), sys.argv[2]
    journal = prompts.with_suffix(".db")
    try:
        report = asyncio.run(run(requests_in(prompts), journal, save_to))
    except ApixoError as error:  # no key, a journal in use, a place that nothing can be saved to
        print(f"nothing was done: {error}")
        return 2
    return tell(report, journal)


if __name__ == "__main__":
    sys.exit(main())
