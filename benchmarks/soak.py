"""Very many jobs through one process while a twentieth of all requests goes wrong.

    python -m benchmarks.soak [--jobs NUMBER] [--slots NUMBER] [--speed FACTOR] [--json FILE]

The real client with a journal, on an emulator in another process whose clock goes faster. Faults
of all kinds hit a twentieth of the submits, of the looks and of the tasks; they are listed below,
with those that are left out. Every few seconds this process counts what it takes. Exits with 1 when
memory grew by more than 5 % after warming up, when a file, a thread or a task is left over, when
asyncio complained of anything, when a job has no stated outcome, or when emulator and journal do
not agree on what was billed. Linux only. `--debug` turns on asyncio's debug mode, which is slow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async import (
    ApixoClient,
    BatchRunner,
    LearnedSchedule,
    Limits,
    OutcomeStatus,
    PollSchedule,
    Timeouts,
)
from apixo_async.batch.journal import JobState, Journal
from apixo_async.cli.emulated import EmulatedApi, emulated
from benchmarks._prompts import prompts
from benchmarks._report import Table, verdict, write_json
from benchmarks._vitals import Growth, Vitals, complaints_kept, growth, sample, sample_for_ever

JOBS: Final = 100_000
SLOTS: Final = 1_000
SPEED: Final = 8.0
EVERY: Final = 16.0
"""Seconds of the emulator's clock between two samples: two at the usual speed."""
WARMING: Final = 0.1
"""The part of the jobs after which memory must not grow; two rounds of all slots at least."""
MOST_GROWTH: Final = 0.05
FAULTY: Final = 0.05
RARE: Final = 0.05
"""How often, beside the others, there are faults that pause everybody for seconds that no emulator
speeds up, or answers of 16 MiB."""

SUBMITS: Final = (
    "submit_503_before",
    "submit_502_html_before",
    "submit_cut_before",
    "redirect_307",
    "submit_502_html_after",
    "submit_cut_after",
    "submit_500_after",
    "submit_drip_after",
    "submit_truncated_json_after",
    "submit_partial_after",
    "no_task_id",
    "duplicate_task_id",
)
LOOKS: Final = (
    "status_503",
    "status_502_html",
    "status_cut",
    "status_drip",
    "status_truncated_json",
)
TASKS: Final = (
    "early_404",
    "processing_r2",
    "unknown_state",
    "missing_fields",
    "result_object",
    "result_broken",
    "result_empty",
    "failed_task",
    "content_violation",
    "invalid_image_url",
)
SELDOM: Final = (
    "submit_429",
    "submit_429_retry_after",
    "status_429",
    "status_429_retry_after",
    "status_error_in_200",
    "huge_body",
    "gzip_bomb",
)
"""Left out are `error_in_200`, which stops a batch where it says that the balance is empty, and
`never_ending`, whose tasks keep their slots until there are none."""


@attrs.define
class Soaked:
    """What one run showed."""

    jobs: int
    slots: int
    speed: float
    seconds: float = 0.0
    stopped: str | None = None
    outcomes: Counter[str] = attrs.field(factory=Counter[str])
    samples: list[Vitals] = attrs.field(factory=list[Vitals])
    before: Vitals | None = None
    after: Vitals | None = None
    tasks_left: int = 0
    asyncio_complaints: list[str] = attrs.field(factory=list[str])
    differences: list[str] = attrs.field(factory=list[str])
    ledger: dict[str, Any] = attrs.field(factory=dict[str, Any])

    @property
    def warm(self) -> int:
        """From this many ended jobs on, nothing is new to the process."""
        return max(round(self.jobs * WARMING), 2 * self.slots)

    def grown(self, name: str) -> Growth:
        """How a field of the samples grew while all slots were taken."""
        full = self.jobs - self.slots
        return growth(self.samples, lambda one: getattr(one, name), warm=self.warm, full=full)


def fault_rates() -> dict[str, float]:
    """Of each stage, so many that a twentieth is hit by any."""
    rates = {name: FAULTY / len(group) for group in (SUBMITS, LOOKS, TASKS) for name in group}
    return rates | dict.fromkeys(SELDOM, RARE * FAULTY / len(SELDOM))


def emulator(slots: int, speed: float) -> Any:  # noqa: ANN401  # a context manager whose type says little
    """One with faults; it allows what its clock makes of the documented limits."""
    arguments = ["--seed", "11", "--drip-seconds", str(90 / speed)]
    arguments += ["--concurrent-tasks", str(slots)]
    for name, rate in fault_rates().items():
        arguments += ["--fault", f"{name}={rate}"]
    return emulated(arguments, speed=speed)


async def soak(api: EmulatedApi, journal: Path, soaked: Soaked) -> None:
    """Runs all jobs, and takes samples meanwhile."""
    loop, started, speed = asyncio.get_running_loop(), time.monotonic(), soaked.speed
    schedule = PollSchedule(first=90 / speed, interval=5 / speed, deadline=1_800 / speed)

    def complained(_: object, context: Mapping[str, Any]) -> None:
        soaked.asyncio_complaints.append(f"loop: {context}")

    def take() -> None:
        done = soaked.outcomes.total()
        soaked.samples.append(sample(started=started, done=done))

    loop.set_exception_handler(complained)
    sampling = asyncio.create_task(sample_for_ever(EVERY / speed, take))
    client = ApixoClient(
        api.api_key,
        base_url=api.base_url,
        schedule=schedule,
        limits=Limits(requests_per_minute=round(10_000 * speed), concurrent_tasks=soaked.slots),
        timeout=Timeouts(submit=60 / speed, status=30 / speed),
    )
    learned = attrs.evolve(LearnedSchedule.beginning_as(schedule), most_looks=8.0)
    async with client:
        runner = BatchRunner(client, journal=journal, schedule=learned)
        async with runner.stream(prompts(soaked.jobs)) as outcomes:
            async for outcome in outcomes:
                soaked.outcomes[outcome.status.value] += 1
                if soaked.outcomes.total() % max(soaked.jobs // 20, 1) == 0:
                    _say(soaked)
        soaked.stopped = outcomes.stopped
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    soaked.seconds = time.monotonic() - started
    soaked.tasks_left = len(asyncio.all_tasks()) - 1


def _say(soaked: Soaked) -> None:
    """How far it is, on standard error, since this takes long."""
    last = soaked.samples[-1]
    print(
        f"{last.done:,} jobs in {last.seconds:,.0f} s, {last.rss / 1e6:.1f} MB",
        file=sys.stderr,
        flush=True,
    )


async def differences(journal: Path, ledger: Mapping[str, Any]) -> list[str]:
    """Where the journal says something else than the emulator's ledger."""
    billed: Counter[str] = Counter(ledger["billed"])
    found = [f"billed twice: {prompt}" for prompt in ledger["billed_twice"]]
    opened = await Journal.open(journal)
    try:
        async for entry in opened.entries(*JobState):
            prompt = json.loads(entry.request)["input"]["prompt"]
            times = billed.pop(prompt, 0)
            is_clear = times == entry.charges
            is_doubt = entry.state is JobState.UNCERTAIN and times <= entry.charges == 1
            if not (is_clear or is_doubt):
                found.append(f"{entry.state}, {entry.charges} charges, billed {times}: {prompt}")
    finally:
        await opened.aclose()
    return found + [f"billed, and not in the journal: {prompt}" for prompt in billed]


def measure(jobs: int, slots: int, speed: float, *, debug: bool) -> Soaked:
    """One run, in this process."""
    soaked, started = Soaked(jobs, slots, speed), time.monotonic()
    logging.getLogger("apixo_async").setLevel(logging.CRITICAL)  # what is logged is in the outcomes
    with tempfile.TemporaryDirectory() as directory, emulator(slots, speed) as api:
        journal = Path(directory, "run.db")
        soaked.before = sample(started=started, done=0)
        with complaints_kept() as kept:
            asyncio.run(soak(api, journal, soaked), debug=debug)
        soaked.asyncio_complaints += [one for one in kept if not one.startswith("asyncio: Exec")]
        soaked.after = sample(started=started, done=jobs)
        soaked.ledger = api.ledger()
        soaked.differences = asyncio.run(differences(journal, soaked.ledger))
    return soaked


def complaints(soaked: Soaked) -> Iterator[str]:
    """What is not as it should be."""
    rss = soaked.grown("rss")
    if rss.share > MOST_GROWTH:
        yield f"memory grew by {rss.share:.1%} after {soaked.warm:,} jobs"
    assert soaked.before is not None
    assert soaked.after is not None
    for name in ("fds", "threads"):
        was, left = getattr(soaked.before, name), getattr(soaked.after, name)
        if left != was:
            yield f"{left} {name} after the end, {was} before the start"
    if soaked.tasks_left:
        yield f"{soaked.tasks_left} tasks of asyncio are left over"
    if soaked.stopped is not None:
        yield f"the batch stopped: {soaked.stopped}"
    stated = soaked.jobs - soaked.outcomes[OutcomeStatus.NOT_STARTED]
    if soaked.outcomes.total() != soaked.jobs or stated != soaked.jobs:
        yield f"of {soaked.jobs:,} jobs ended: {dict(soaked.outcomes)}"
    yield from soaked.asyncio_complaints[:10]
    yield from soaked.differences[:10]


def tell(soaked: Soaked) -> None:
    """Prints the table: each measure after warming up, at the end, at most, and after closing."""
    table = Table({"measure": -12, "after warm-up": 13, "at the end": 10, "most": 10, "closed": 10})
    table.begin()
    for name in ("rss", "objects", "fds", "threads", "tasks"):
        grown = soaked.grown(name)
        closed = soaked.tasks_left if name == "tasks" else getattr(soaked.after, name)
        unit, form = (1e6, "{:,.1f}") if name == "rss" else (1, "{:,.0f}")
        shown = (form.format(value / unit) for value in (grown.first, grown.last, grown.most))
        table.row("rss, MB" if name == "rss" else name, *shown, form.format(closed / unit))
    ledger, share = soaked.ledger, soaked.grown("rss").share
    faults = sum(ledger["faults"].values())
    print(
        f"\n{soaked.jobs:,} jobs in {soaked.seconds:,.0f} s, "
        f"{ledger['requests_total']:,} requests, {faults:,} faults; memory grew by {share:+.1%}; "
        f"outcomes {dict(soaked.outcomes)}; billed {ledger['billed_total']:,}, "
        f"twice {len(ledger['billed_twice'])}"
    )


def figures(soaked: Soaked) -> dict[str, Any]:
    """What is kept in a file: no ledger by prompt, which is as long as the batch."""
    kept = attrs.asdict(soaked)
    kept["ledger"] = {
        name: value
        for name, value in soaked.ledger.items()
        if name not in {"billed", "submits_seen", "billed_twice"}
    }
    return {**kept, "growth": soaked.grown("rss").share}


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="NUMBER")
    parser.add_argument("--slots", type=int, default=SLOTS, metavar="NUMBER")
    parser.add_argument("--speed", type=float, default=SPEED, metavar="FACTOR")
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode")
    asked = parser.parse_args()
    if asked.jobs < 4 * asked.slots:
        parser.error("less than four jobs a slot would be over before anything can be seen")
    soaked = measure(asked.jobs, asked.slots, asked.speed, debug=asked.debug)
    tell(soaked)
    if asked.json is not None:
        write_json(asked.json, figures(soaked))
    return verdict(list(complaints(soaked)))


if __name__ == "__main__":
    sys.exit(main())
