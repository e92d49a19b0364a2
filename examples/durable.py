"""A video for each line of a text file, made by any number of processes that may die at any time.

    pip install "apixo-async[dbos]"
    python examples/durable.py prompts.txt videos/

Start it in several terminals, kill some, start them again: each line is paid for once, and what a
dead process was waiting for is waited for by another, or by the next one. All that they share is in
a database, by default SQLite files beside the prompts (docs/how-to/durable.md).

If the answer to a submit was lost, nobody can say whether its task exists. It exits with 3 then,
and somebody decides about that line by its key:

    python examples/durable.py prompts.txt videos/ prompts-0007 resubmit     # may pay twice
    python examples/durable.py prompts.txt videos/ prompts-0007 abandon
    python examples/durable.py prompts.txt videos/ prompts-0007 TASK_ID      # from your account

It exits with 1 if a video failed, and with 2 if nothing could be done.

It reads from the environment:

    APIXO_API_KEY
    DATABASE_URL      postgresql://user:password@host/database for processes of several machines
    APIXO_LEASE       after how many seconds without a sign of life a process counts as dead; 60
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
    DownloadError,
    Outcome,
    OutcomeStatus,
    TextToVideo,
)
from apixo_async.integrations.dbos import DurableVeo


def open_jobs(prompts: Path, *, works: bool = True) -> DurableVeo:
    """The jobs of all processes; with `works` this one carries some of them."""
    return DurableVeo(
        os.environ.get("DATABASE_URL", f"sqlite:///{prompts.with_suffix('.db')}"),
        lease=float(os.environ.get("APIXO_LEASE", "60")),
        works=works,
    )


def requests_in(prompts: Path) -> dict[str, TextToVideo]:
    """One for each line that is not empty, by its key. A line keeps its number, so its key, too."""
    lines = enumerate(prompts.read_text(encoding="utf-8").splitlines(), 1)
    return {
        f"{prompts.stem}-{number:04}": TextToVideo(line.strip(), mode="fast")
        for number, line in lines
        if line.strip()
    }


def is_saved(directory: Path, name: str) -> bool:
    """Whether an earlier process saved it: a file has its name only when it is whole."""
    return any(directory.glob(f"{name}.*"))


async def save(client: ApixoClient, outcome: Outcome, directory: Path) -> str:
    """Saves a video; what is to be said of it."""
    name = outcome.key
    if outcome.task is not None and not is_saved(directory, name):
        try:
            await client.download(outcome.task, directory, name=name)
        except DownloadError as error:  # it is made and paid; the next process tries again
            return f"{name}: not saved yet: {error}"
    return f"{name}: saved"


async def make(prompts: Path, directory: Path) -> int:
    """Has all lines made, by this process or another; returns the exit code."""
    told = set[OutcomeStatus]()
    # The client only fetches files. What is asked of the API goes through `veo`, which holds the
    # limits of the account together with all other processes.
    async with open_jobs(prompts) as veo, ApixoClient() as client:
        # A machine that shuts down asks for an end first: POSTs in flight are answered then, and
        # another process goes on with the rest.
        ours = asyncio.current_task()
        if ours is not None and sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ours.cancel)
        # What was enqueued before is the same job.
        jobs = [await veo.enqueue(key, line) for key, line in requests_in(prompts).items()]
        async for outcome in veo.as_completed(jobs):
            told.add(outcome.status)
            if outcome.status is OutcomeStatus.SUCCEEDED:
                print(await save(client, outcome, directory), flush=True)
            else:
                print(f"{outcome.key}: {outcome.status}: {outcome.error}", flush=True)
    if OutcomeStatus.UNCERTAIN in told:
        return 3
    return 1 if told - {OutcomeStatus.SUCCEEDED} else 0


async def decide(prompts: Path, key: str, decision: str) -> int:
    """Takes what somebody decided; the job is carried on by whoever works."""
    async with open_jobs(prompts, works=False) as veo:
        if decision == "resubmit":
            await veo.settle(key, resubmit=True)
        elif decision == "abandon":
            await veo.settle(key, abandon=True)
        else:
            await veo.settle(key, task_id=decision)
    return 0


def main() -> int:
    """Makes the videos, or takes a decision."""
    prompts, directory, decision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    work = decide(prompts, *decision) if decision else make(prompts, directory)
    try:
        return asyncio.run(work)
    except ApixoError as error:  # no key, a line that breaks a rule, a database that is away
        print(f"stopped: {error}")
        return 2
    except asyncio.CancelledError:
        print("ended; the jobs go on with the next process")
        return 0


if __name__ == "__main__":
    sys.exit(main())
