"""One batch in virtual time, on a simulated account, and what there was to measure."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from apixo_async import BatchRunner, OutcomeStatus, PollSchedule, WebhookReceiver
from apixo_async.veo import Request
from tests.simulated import Account, calling, client_of, detection_delays
from tests.virtual import run_virtual

SEED = 20_260_109
SECRET = "a secret of the benchmarks alone"  # noqa: S105  # it signs nothing that matters


@attrs.frozen(kw_only=True)
class Measured:
    """One batch. Seconds are virtual, but for `cpu_seconds`: client and simulator together."""

    jobs: int
    makespan: float
    requests_per_job: float
    delay_p50: float
    delay_p99: float
    busiest_window: int
    refused: int
    peak_unfinished: int
    steady_per_minute: float
    trace: str
    cpu_seconds: float


def lognormal(rng: random.Random, *, mean: float, sigma: float) -> float:
    """A duration whose logarithm has the standard deviation `sigma`."""
    return rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


def named(number: int) -> str:
    """The prompt of a job, which carries its number."""
    return f"scene {number}"


def run_batch(
    requests: Iterable[Request],
    durations: Sequence[float],
    *,
    schedule: PollSchedule,
    tells_times: bool = True,
    calls_back: bool = False,
    loses: float = 0.0,
) -> Measured:
    """Runs them to the end at default limits; the prompt of request `n`, from 0, is `named(n)`.

    With `calls_back`, the API does so 300 ms after the end of each task, but for those that are
    lost, by the rate `loses`.
    """

    def duration(given: Mapping[str, Any]) -> float:
        return durations[int(given["prompt"].rpartition(" ")[2])]

    async def run() -> Measured:
        began, loop = time.process_time(), asyncio.get_running_loop()
        receiver = WebhookReceiver("https://receiver.test", secret=SECRET) if calls_back else None
        calls = None if receiver is None else calling(receiver, loses=loses, seed=SEED)
        account = Account(duration, tells_times=tells_times, calls=calls)
        start = loop.time()
        client = client_of(account, seed=SEED, schedule=schedule, webhook=receiver)
        runner = BatchRunner(client, schedule=schedule)
        async with client, runner.stream(requests) as outcomes:
            async for outcome in outcomes:
                assert outcome.status is OutcomeStatus.SUCCEEDED, outcome
        makespan, cpu = loop.time() - start, time.process_time() - began
        return _measured(account, makespan=makespan, cpu_seconds=cpu)

    return run_virtual(run())


def _measured(account: Account, *, makespan: float, cpu_seconds: float) -> Measured:
    delays = detection_delays(account.tasks)
    return Measured(
        jobs=len(account.tasks),
        makespan=makespan,
        requests_per_job=len(account.requests) / len(account.tasks),
        delay_p50=percentile(delays, 50),
        delay_p99=percentile(delays, 99),
        busiest_window=account.busiest_window,
        refused=len(account.refused),
        peak_unfinished=account.peak_unfinished,
        steady_per_minute=_steady_per_minute(account),
        trace=account.trace,
        cpu_seconds=cpu_seconds,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of them do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _steady_per_minute(account: Account) -> float:
    """Jobs a minute while the batch neither begins nor ends: of the middle eight tenths."""
    learned = sorted(task.learned_at for task in account.tasks if task.learned_at is not None)
    first, last = len(learned) // 10, len(learned) * 9 // 10
    return 60 * (last - first) / (learned[last] - learned[first])
