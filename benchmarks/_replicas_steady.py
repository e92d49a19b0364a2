"""Cases in which nothing breaks: many jobs through three workers, and limits alone."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
from redis.asyncio import Redis

from apixo_async.cli.emulated import emulated, scaled_rate
from apixo_async.emulator.bound import list_schedule
from benchmarks._replicas_gate import Sender
from benchmarks._replicas_processes import Replica
from benchmarks._replicas_rows import Row, Scale
from benchmarks._replicas_stage import Account, Stage, seconds_since, stage

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


async def throughput(
    scale: Scale, database: str, directory: Path, server_cpu: Callable[[], float] | None
) -> Row:
    """Case 1."""
    account, started = scale.of(ACCOUNT), time.monotonic()
    if scale.is_quick:
        account = attrs.evolve(account, durations=(2.0, 3.0), interval=0.5)
    async with stage(account, database, directory, workers=0) as opened:
        assert opened.asker is not None
        opened.asker.ask(f"jobs {scale.jobs}")
        await opened.asker.said("enqueued", "jobs")
        enqueued = seconds_since(started)
        cpu_before = server_cpu() if server_cpu else 0.0
        opened.workers = list(await asyncio.gather(*(opened.begin() for _ in range(WORKERS))))
        outcomes = await opened.wait_for("jobs")
        cpu = sum(worker.cpu() for worker in opened.workers) / scale.jobs * 1e3
        at_server = ((server_cpu() if server_cpu else 0.0) - cpu_before) / scale.jobs * 1e3
        rss = max(worker.resident() for worker in opened.workers) / 1e6
        judgement, states = await opened.judgement()
        ledger = await asyncio.to_thread(opened.api.ledger)
        tasks = await asyncio.to_thread(opened.control, "tasks")
        alone = await _alone(opened, scale.jobs)
    bound = list_schedule((task["duration"] for task in tasks), account.cap)
    ratio = ledger["makespan_s"] / bound if bound else 0.0
    peak, busiest = ledger["peak_unfinished"], ledger["peak_requests_per_window"]
    refused = {word: count for word, count in ledger["throttled"].items() if count}
    complaints = [*judgement.complaints("case 1"), *opened.complaints_in_logs()]
    if outcomes != {"succeeded": scale.jobs}:
        complaints.append(f"case 1: outcomes are {outcomes}")
    if peak > account.cap or busiest > RATE or refused:
        complaints.append(f"case 1: {peak} unfinished, {busiest} requests in 60 s, 429s {refused}")
    if ratio > MOST_OVER and not scale.is_quick:
        complaints.append(f"case 1: {ratio:.3f} of the bound of {bound:.1f} s")
    facts = [
        f"{scale.jobs:,} jobs in {ledger['makespan_s']:.1f} s, {ratio:.2f} of the bound",
        f"{peak:,} unfinished and {busiest:,} requests in 60 s at most",
        f"CPU {cpu:.1f} ms a job, PostgreSQL {at_server:.1f}, BatchRunner {alone:.1f}",
        f"{rss:.0f} MB a worker",
    ]
    figures = {
        "jobs": scale.jobs,
        "outcomes": outcomes,
        "states": states,
        "enqueued_after": enqueued,
        "makespan": ledger["makespan_s"],
        "bound": bound,
        "over_bound": ratio,
        "peak_unfinished": peak,
        "busiest_window": busiest,
        "throttled": refused,
        "requests": ledger["requests"],
        "cpu_ms_per_job": cpu,
        "server_cpu_ms_per_job": at_server,
        "plain_cpu_ms_per_job": alone,
        "cpu_ratio": cpu / alone if alone else None,
        "rss_mb": rss,
    }
    title = f"{scale.jobs:,} jobs, three workers, cap {account.cap:,}"
    return Row(1, title, seconds_since(started), facts, complaints, figures)


async def _alone(opened: Stage, jobs: int) -> float:
    """Milliseconds of CPU that a job takes in one process without any of it."""
    await asyncio.to_thread(lambda: opened.control("reset", post=True))
    plain = await opened.begin(is_plain=True)
    try:
        plain.ask(f"jobs {jobs}")
        await plain.said("done", "jobs")
        return plain.cpu() / jobs * 1e3
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
        logs = (directory / f"gate-{name}-{number}.log" for number in range(SENDERS))
        senders = await asyncio.gather(
            *(Replica.start(log, "benchmarks._replicas_gate", sender.argument()) for log in logs)
        )
        for one in senders:
            one.ask(f"rate {seconds}")
        told = [await one.said("done", "rate") for one in senders]
        cpu = sum(one.cpu() for one in senders)
        ledger = await asyncio.to_thread(api.ledger)
        await asyncio.gather(*(one.aclose() for one in senders))
    if store.startswith("redis"):
        await _forget(store, prefix)
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


async def _forget(store: str, prefix: str) -> None:
    """Our keys in Redis."""
    async with Redis.from_url(store) as redis:
        if found := [key async for key in redis.scan_iter(f"{prefix}*")]:
            await redis.delete(*found)
