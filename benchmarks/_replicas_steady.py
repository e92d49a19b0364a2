"""Cases in which nothing breaks: many jobs through three workers, and limits alone."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from redis.asyncio import Redis

from apixo_async.cli.emulated import emulated, scaled_rate
from apixo_async.emulator.bound import list_schedule
from benchmarks._replicas_gate import Sender
from benchmarks._replicas_processes import Replica
from benchmarks._replicas_rows import Row, Scale
from benchmarks._replicas_stage import Account, Stage, seconds_since, stage
from benchmarks._replicas_times import Times, times

ACCOUNT: Final = Account(
    cap=1_000,
    durations=(20.0, 30.0),
    latency=(0.05, 0.15),
    lease=60.0,
    submit_timeout=60.0,
    interval=1.5,
)
WORKERS: Final = 3
MOST_OVER: Final = 1.25
RATE: Final = 10_000
SENDERS: Final = 4
SECONDS: Final = 100
LEAST_USED: Final = 0.95


@attrs.frozen(kw_only=True)
class Throughput:
    """What a run through three workers took, and the same jobs through one `BatchRunner`."""

    jobs: int
    cap: int
    outcomes: Mapping[str, int]
    makespan: float
    bound: float
    plain_makespan: float
    peak_unfinished: int
    busiest_window: int
    throttled: Mapping[str, int]
    requests: Mapping[str, int]
    cpu_ms_per_job: float
    """Of the workers from when they were ready."""
    server_cpu_ms_per_job: float
    plain_cpu_ms_per_job: float
    rss_mb: float
    """Of the largest worker."""
    times: Times | None
    """Where the time went; `None` if not every job has ended."""

    @property
    def over_bound(self) -> float:
        """By how much it is longer than the best possible."""
        return self.makespan / self.bound

    def complaints(self, *, most_over: float) -> Iterator[str]:
        """What is not as it must be."""
        if self.outcomes != {"succeeded": self.jobs}:
            yield f"case 1: outcomes are {self.outcomes}"
        if self.peak_unfinished > self.cap or self.busiest_window > RATE or self.throttled:
            most = f"{self.peak_unfinished} unfinished, {self.busiest_window} requests in 60 s"
            yield f"case 1: {most}, 429s {self.throttled}"
        if self.over_bound > most_over:
            yield f"case 1: {self.over_bound:.3f} of the bound of {self.bound:.1f} s"

    def facts(self) -> list[str]:
        """In words."""
        plain = self.plain_makespan / self.bound
        ratio = self.cpu_ms_per_job / self.plain_cpu_ms_per_job
        server = self.server_cpu_ms_per_job / self.plain_cpu_ms_per_job
        return [
            f"{self.over_bound:.2f} of the bound, BatchRunner {plain:.2f}",
            f"{self.peak_unfinished:,} tasks, {self.busiest_window:,} requests in 60 s at most",
            f"CPU of a job {ratio:.1f} times BatchRunner's, and {server:.1f} in PostgreSQL",
            f"{self.rss_mb:.0f} MB a worker",
        ]


async def throughput(
    scale: Scale, database: str, directory: Path, server_cpu: Callable[[], float]
) -> Row:
    """Case 1. `server_cpu` is what the database has taken so far, in seconds."""
    account, started = scale.of(ACCOUNT), time.monotonic()
    if scale.is_quick:
        account = attrs.evolve(account, durations=(2.0, 3.0), interval=0.5)
    async with stage(account, database, directory, workers=0) as opened:
        seen = await _through_workers(opened, scale.jobs, server_cpu)
        judgement, _ = await opened.judgement()
        plain, took = await _alone(opened, scale.jobs)
    seen = attrs.evolve(seen, plain_cpu_ms_per_job=plain, plain_makespan=took)
    most_over = math.inf if scale.is_quick else MOST_OVER
    complaints = [
        *seen.complaints(most_over=most_over),
        *judgement.complaints("case 1"),
        *opened.complaints_in_logs(),
    ]
    figures = {**attrs.asdict(seen), "over_bound": seen.over_bound}
    title = f"{scale.jobs:,} jobs, three workers, cap {account.cap:,}"
    return Row(1, title, seconds_since(started), seen.facts(), complaints, figures)


async def _through_workers(opened: Stage, jobs: int, server_cpu: Callable[[], float]) -> Throughput:
    """All jobs are in the queue before there is a worker."""
    assert opened.asker is not None
    opened.asker.ask(f"jobs {jobs}")
    await opened.asker.said("enqueued", "jobs")
    cpu_before, cap = server_cpu(), opened.account.cap
    opened.workers = list(await asyncio.gather(*(opened.begin() for _ in range(WORKERS))))
    outcomes = await opened.wait_for("jobs")
    cpu, at_server = sum(worker.cpu() for worker in opened.workers), server_cpu() - cpu_before
    ledger = await asyncio.to_thread(opened.api.ledger)
    tasks = await asyncio.to_thread(opened.control, "tasks")
    has_all = outcomes == {"succeeded": jobs}
    return Throughput(
        jobs=jobs,
        cap=cap,
        outcomes=outcomes,
        makespan=ledger["makespan_s"],
        bound=list_schedule((task["duration"] for task in tasks), cap),
        plain_makespan=0.0,
        peak_unfinished=ledger["peak_unfinished"],
        busiest_window=ledger["peak_requests_per_window"],
        throttled={word: count for word, count in ledger["throttled"].items() if count},
        requests=ledger["requests"],
        cpu_ms_per_job=cpu / jobs * 1e3,
        server_cpu_ms_per_job=at_server / jobs * 1e3,
        plain_cpu_ms_per_job=0.0,
        rss_mb=max(worker.resident() for worker in opened.workers) / 1e6,
        times=times(await opened.watch.entries(), tasks, cap) if has_all else None,
    )


async def _alone(opened: Stage, jobs: int) -> tuple[float, float]:
    """In one process without any of it: milliseconds of CPU a job, and seconds for all."""
    await asyncio.to_thread(lambda: opened.control("reset", post=True))
    plain = await opened.begin(is_plain=True)
    try:
        plain.ask(f"jobs {jobs}")
        await plain.said("done", "jobs")
        ledger = await asyncio.to_thread(opened.api.ledger)
        return plain.cpu() / jobs * 1e3, ledger["makespan_s"]
    finally:
        await plain.aclose()


async def rate(scale: Scale, name: str, store: str, directory: Path) -> Row:
    """Case 6 over one store."""
    started = time.monotonic()
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240  # it takes no time
    speed = 4.0 if scale.is_quick else 1.0
    limit, seconds = round(RATE / speed), round(SECONDS / (2 * speed if scale.is_quick else speed))
    prefix = f"replicas-{secrets.token_hex(6)}"
    allowed = RATE if speed == 1 else scaled_rate(limit, speed=speed)
    arguments = ["--requests-per-minute", str(limit), "--durations", "1"]
    with emulated(arguments, speed=speed) as api:
        sender = Sender(
            store=store,
            prefix=prefix,
            base_url=api.base_url,
            api_key=api.api_key,
            requests_per_minute=allowed,
        )
        logs = [directory / f"gate-{name}-{number}.log" for number in range(SENDERS)]
        try:
            told, cpu = await _compete(sender, logs, seconds)
        finally:
            await _forget(store, prefix)
        ledger = await asyncio.to_thread(api.ledger)
    sent = sum(one["sent"] for one in told)
    used = sent / (limit * speed / 60 * seconds)
    busiest, refused = ledger["peak_requests_per_window"], sum(ledger["throttled"].values())
    window = 60 / speed
    complaints: list[str] = []
    if busiest > limit or refused:
        complaints.append(f"case 6, {name}: {busiest} of {limit} in {window} s, {refused} refused")
    if used < LEAST_USED and not scale.is_quick:
        complaints.append(f"case 6, {name}: {used:.3f} of the rate were used")
    complaints += [f"case 6, {name}: {error}" for one in told for error in one["errors"]]
    facts = [
        f"{busiest:,} of {limit:,} requests in any {window:.0f} s",
        f"{used:.3f} of the rate used in {seconds} s",
        f"by process {' '.join(str(one['sent']) for one in told)}",
    ]
    figures = {
        "store": name,
        "limit": limit,
        "window": window,
        "busiest_window": busiest,
        "refused": refused,
        "seconds": seconds,
        "used": used,
        "sent": [one["sent"] for one in told],
        "cpu_us_per_request": cpu / sent * 1e6,
    }
    title = f"the rate, four processes, {name}"
    return Row(6, title, seconds_since(started), facts, complaints, figures)


async def _compete(
    sender: Sender, logs: Sequence[Path], seconds: int
) -> tuple[list[dict[str, Any]], float]:
    """What each of several processes has sent, and the CPU of all in seconds."""
    senders = await asyncio.gather(
        *(Replica.start(log, "benchmarks._replicas_gate", sender.argument()) for log in logs)
    )
    try:
        for one in senders:
            one.ask(f"rate {seconds}")
        told = [await one.said("done", "rate") for one in senders]
        return told, sum(one.cpu() for one in senders)
    finally:
        await asyncio.gather(*(one.aclose() for one in senders))


async def _forget(store: str, prefix: str) -> None:
    """Removes our keys from Redis; a database of our own goes by itself."""
    if not store.startswith("redis"):
        return
    async with Redis.from_url(store) as redis:
        if found := [key async for key in redis.scan_iter(f"{prefix}*")]:
            await redis.delete(*found)
