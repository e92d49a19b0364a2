"""A plan to read, and as JSON: pure texts from numbers."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import attrs

from apixo_async._places import Place
from apixo_async.batch.planning import TASK_SECONDS, Plan
from apixo_async.batch.spending import VEO_MODELS, in_usd
from apixo_async.cli.text import HOUR, MINUTE, counted, lasting, printable, shortened, table
from apixo_async.limits import Limits

NAME_WIDTH: Final = 40
NUMBERS_FROM: Final = 2
"""The first column of the table that holds numbers."""
UNKNOWN: Final = "?"


@attrs.frozen
class Balance:
    """What is left on the key: US dollars, or why nobody knows; neither where there is no key."""

    usd: Decimal | None = None
    error: str | None = None


def plan_lines(
    plan: Plan, limits: Limits, balance: Balance, *, name: str, save_to: Place | None = None
) -> Iterator[str]:
    """A plan for people: a table of what costs what, then a line for each question."""
    yield f"{printable(name)}: {counted(plan.jobs, 'job')}"
    yield ""
    yield from (f"  {line}" for line in _table(plan))
    yield ""
    for title, text in _facts(plan, limits, balance):
        yield f"{title:<10}{text}"
    if save_to is not None:
        yield f"{'saves to':<10}{printable(str(save_to))}"


def _table(plan: Plan) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("type", "mode", "jobs", "USD each", "USD")]
    rows += [
        (
            shortened(group.type, NAME_WIDTH),
            shortened(group.mode or "", NAME_WIDTH),
            f"{group.jobs:,}",
            _amount(group.price),
            _amount(group.cost),
        )
        for group in plan.groups
    ]
    if not any(group.price is not None for group in plan.groups):
        rows = [row[: NUMBERS_FROM + 1] for row in rows]
    yield from table(rows, numbers_from=NUMBERS_FROM)


def _amount(amount: Decimal | None) -> str:
    return UNKNOWN if amount is None else in_usd(amount).removesuffix(" USD")


def _facts(plan: Plan, limits: Limits, balance: Balance) -> Iterator[tuple[str, str]]:
    yield from _cost_facts(plan)
    yield from _cap_facts(plan)
    yield from _balance_facts(plan, balance)
    yield from _time_facts(plan, limits)
    yield from _duplicate_facts(plan)


def _cost_facts(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.cost is not None:
        yield "cost", in_usd(plan.cost)
        return
    known = f"at least {in_usd(plan.known_cost)}" if plan.known_cost else "unknown"
    options = " ".join(f"--price {shortened(name, NAME_WIDTH)}=USD" for name in plan.missing_prices)
    yield "cost", f"{known}: prices are missing, give {options}"


def _cap_facts(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.max_cost is None:
        return
    cap = in_usd(plan.max_cost)
    if plan.fits:
        yield "max cost", f"{cap}: all jobs fit"
    elif plan.affordable is not None:
        fitting = f"only the first {plan.affordable:,} of {counted(plan.jobs, 'job')} fit"
        yield "max cost", f"{cap}: {fitting if plan.affordable else 'not even the first job fits'}"
    elif plan.fits is None:
        yield "max cost", f"{cap}: nobody can say whether all jobs fit while prices are missing"
    else:
        yield "max cost", f"{cap}: not all jobs fit; how many do needs the missing prices"


def _balance_facts(plan: Plan, balance: Balance) -> Iterator[tuple[str, str]]:
    if balance.error is not None:
        yield "balance", f"unknown: {balance.error}"
    if balance.usd is None:
        return
    left = in_usd(balance.usd)
    if balance.usd >= plan.known_cost:
        yield "balance", left
        return
    short = in_usd(plan.known_cost - balance.usd)
    yield "balance", f"{left}, which is {'at least ' * (plan.cost is None)}{short} short"


def _time_facts(plan: Plan, limits: Limits) -> Iterator[tuple[str, str]]:
    tasks, requests = f"{limits.concurrent_tasks:,}", f"{limits.requests_per_minute:,}"
    each = _about(TASK_SECONDS)
    yield "time", f"about {_about(plan.seconds)}"
    yield "", f"with up to {tasks} tasks at a time, {each} each, and {requests} requests a minute"
    others = sorted({group.model for group in plan.groups} - VEO_MODELS)
    if others:
        names = ", ".join(shortened(name, NAME_WIDTH) for name in others)
        yield "", f"no document says how long these take: {names}"


def _about(seconds: float) -> str:
    return lasting(seconds) if seconds >= HOUR else f"{round(seconds / MINUTE)} min"


def _duplicate_facts(plan: Plan) -> Iterator[tuple[str, str]]:
    if not plan.duplicate_jobs:
        return
    ask = "asks" if plan.duplicate_jobs == 1 else "ask"
    twice = f"{counted(plan.duplicate_jobs, 'job')} {ask} for the same as an earlier line"
    yield "twice", f"{twice}; it is all paid for"
    for one in plan.duplicates:
        yield "", f"line {one.line:,} as line {one.first:,}"
    if more := plan.duplicate_jobs - len(plan.duplicates):
        yield "", f"and {more:,} more"


def plan_as_json(
    plan: Plan, balance: Balance, *, name: str, save_to: Place | None = None
) -> dict[str, Any]:
    """A plan for programs; money is in US dollars, `null` is what nobody knows or asked for."""
    return {
        "file": name,
        "jobs": plan.jobs,
        "groups": [
            {
                "model": group.model,
                "type": group.type,
                "mode": group.mode,
                "jobs": group.jobs,
                "price_usd": _number(group.price),
                "cost_usd": _number(group.cost),
            }
            for group in plan.groups
        ],
        "by_type": plan.by_type,
        "by_mode": {mode: jobs for mode, jobs in plan.by_mode.items() if mode is not None},
        "duplicate_jobs": plan.duplicate_jobs,
        "duplicates": [attrs.asdict(twice) for twice in plan.duplicates],
        "seconds": round(plan.seconds, 3),
        "cost_usd": _number(plan.cost),
        "known_cost_usd": _number(plan.known_cost),
        "missing_prices": plan.missing_prices,
        "max_cost_usd": _number(plan.max_cost),
        "affordable_jobs": plan.affordable,
        "fits": plan.fits,
        "balance_usd": _number(balance.usd),
        "balance_error": balance.error,
        "balance_suffices": _suffices(plan, balance),
        "save_to": None if save_to is None else str(save_to),
        "problems": [attrs.asdict(problem) for problem in plan.problems],
    }


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _suffices(plan: Plan, balance: Balance) -> bool | None:
    if balance.usd is None:
        return None
    if balance.usd < plan.known_cost:
        return False
    return None if plan.cost is None else True
