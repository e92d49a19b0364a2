"""What one simulation is about, drawn from its seed: the batch, the account, faults and ends."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, Literal

import attrs

from apixo_async import Limits

SUBMIT_FAULTS: Final = (
    "not_sent",
    "lost",
    "answer_lost",
    "answer_late",
    "answer_cut",
    "answer_damaged",
    "answer_empty",
    "answer_of_another",
    "gateway",
    "code_500",
    "conflict",
    "throttled",
    "no_credits",
    "bad_request",
    "unauthorized",
)
LOOK_FAULTS: Final = (
    "look_not_sent",
    "look_lost",
    "look_gateway",
    "look_code_500",
    "look_throttled",
    "look_garbage",
    "look_denied",
    "look_backwards",
    "look_without_urls",
)
CALLBACK_FAULTS: Final = (
    "call_lost",
    "call_twice",
    "call_early",
    "call_late",
    "call_staged",
    "call_garbage",
    "call_names_another",
    "call_names_nothing",
    "call_forged",
)
TASK_FAULTS: Final = (
    "task_fails",
    "task_violates",
    "task_straggles",
    "task_unknown_at_first",
    "task_denied",
)
FAULTS: Final = (*SUBMIT_FAULTS, *LOOK_FAULTS, *CALLBACK_FAULTS, *TASK_FAULTS)

RARE: Final = {"unauthorized", "no_credits"}
"""They end a run, and nothing is seen of what would have come after."""

DENSE: Final = 0.25
"""How many of the seeds have few kinds of faults, and those at every third request or so."""

RETRY_CODE: Final = "GENERATION_FAILED"
VIOLATION: Final = "CONTENT_VIOLATION"

End = Literal["crash", "power", "cancel", "stop", "none"]
Kind = Literal["refused", "503", "silent", "disk"]
Moment = Literal["time", "start", "arrive", "deliver", "commit", "told", "called"]
MOMENTS: Final[tuple[Moment, ...]] = (
    *("time", "start", "arrive", "deliver", "commit", "told", "called"),
)


@attrs.frozen
class Life:
    """How one process ends: at the `count`-th such moment, or after `seconds`."""

    end: End
    moment: Moment
    count: int
    seconds: float
    downtime: float
    resumes: bool
    """Whether it is begun with the journal alone."""


@attrs.frozen
class Outage:
    """A time in which the API, or the disk of the client, answers nothing good."""

    start: float
    end: float
    kind: Kind


@attrs.frozen(kw_only=True)
class Plan:
    """One simulation."""

    seed: int
    jobs: int
    limits: Limits
    account_tasks: int
    account_requests: int
    latency: float
    source: Literal["list", "iterator", "async"]
    calls_back: bool
    calls_again: bool
    learns: bool
    uncertain: Literal["keep", "resubmit"]
    retries: int
    rates: Mapping[str, float]
    outages: tuple[Outage, ...]
    lives: tuple[Life, ...]


def drawn(seed: int) -> Plan:
    """The plan of a seed. Few faults at a time, each often: so that they meet one another."""
    rng = random.Random(f"plan {seed}")
    jobs = rng.randint(2, 7)
    tasks = rng.choice((1, 2, 3, 5, 1_000))
    requests = rng.choice((30, 60, 240, 10_000))
    is_tight = rng.random() < 0.3
    rates = {fault: _rate(rng, fault) for fault in FAULTS}
    retries = rng.choice((0, 0, 1, 2))
    if retries:
        rates["task_fails"] = rng.choice((0.1, 0.5))
    is_dense = rng.random() < DENSE
    if is_dense:
        rates = _dense(rng)
    return Plan(
        seed=seed,
        jobs=jobs,
        limits=Limits(
            concurrent_tasks=tasks,
            requests_per_minute=requests,
            concurrent_submits=rng.choice((1, 4, 32)),
        ),
        account_tasks=rng.randint(1, 3) if is_tight else tasks,
        account_requests=rng.choice((20, requests)) if is_tight else requests,
        latency=rng.choice((0.01, 0.2, 2.0)),
        source=rng.choice(("list", "list", "iterator", "async")),
        calls_back=rng.random() < (0.9 if is_dense else 0.6),
        calls_again=rng.random() < 0.5,
        learns=rng.random() < 0.5,
        uncertain="resubmit" if rng.random() < (0.9 if is_dense else 0.25) else "keep",
        retries=retries,
        rates=rates,
        outages=tuple(_outage(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        lives=tuple(_life(rng, jobs) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
    )


def _rate(rng: random.Random, fault: str) -> float:
    if rng.random() < 0.75:
        return 0.0
    return 0.02 if fault in RARE else rng.choice((0.02, 0.1, 0.3))


def _dense(rng: random.Random) -> dict[str, float]:
    """Few kinds of faults, each at nearly every other request: what one mends, the next breaks."""
    kinds = ((SUBMIT_FAULTS, 3), (LOOK_FAULTS, 2), (CALLBACK_FAULTS, 1), (TASK_FAULTS, 1))
    chosen = {fault for faults, count in kinds for fault in rng.sample(faults, count)}
    return {fault: _dense_rate(rng, fault) if fault in chosen else 0.0 for fault in FAULTS}


def _dense_rate(rng: random.Random, fault: str) -> float:
    return 0.02 if fault in RARE else rng.choice((0.3, 0.4))


def _outage(rng: random.Random) -> Outage:
    start = rng.choice((rng.uniform(0, 6), rng.uniform(0, 400)))
    kinds: tuple[Kind, ...] = ("refused", "503", "silent", "disk", "disk")
    kind = rng.choice(kinds)
    seconds = rng.uniform(0.2, 8) if kind == "disk" else rng.uniform(5, 200)
    return Outage(start, start + seconds, kind)


def _life(rng: random.Random, jobs: int) -> Life:
    return Life(
        end=rng.choice(("crash", "crash", "power", "power", "cancel", "stop")),
        moment=rng.choice(MOMENTS),
        count=rng.randint(1, 3 * jobs),
        seconds=rng.choice((rng.uniform(0, 3), rng.uniform(0, 400))),
        downtime=rng.choice(
            (0.0, rng.uniform(0, 60), rng.uniform(0, 900), rng.uniform(900, 9_000))
        ),
        resumes=rng.random() < 0.5,
    )
