"""An overview of a journal to read, and as JSON: pure texts from numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from apixo_async.batch.journal.entries import JobState
from apixo_async.batch.journal.overview import (
    LISTED,
    WINDOW,
    Doubt,
    Expiry,
    Kind,
    Overview,
    Standing,
)
from apixo_async.batch.spending import in_usd
from apixo_async.cli.journals import command
from apixo_async.cli.summary import REASON_WIDTH
from apixo_async.cli.text import counted, lasting, printable, shortened, table

TITLE: Final = 11
"""Characters of a line before its text."""
NAME_WIDTH: Final = 40
NUMBERS_FROM: Final = 2
DOUBTS_SHOWN: Final = 20
REASONS_SHOWN: Final = 20
KEYS_SHOWN: Final = 5
UNKNOWN: Final = "?"
DOUBT_ADVICE: Final = (
    "nobody can say whether these were accepted, so they may be running and billed;",
    "look at your account's history, then decide:",
)


def show_lines(overview: Overview, *, journal: Path) -> Iterator[str]:
    """An overview for people: the sum, a table of what was asked for, then a line for each fact."""
    yield f"{printable(str(journal))}: {sum_line(overview)}"
    yield ""
    if overview.kinds:
        yield from (f"  {line}" for line in _kind_lines(overview.kinds))
        yield ""
    for title, text in _facts(overview, journal):
        yield f"{title:<{TITLE}}{text}"


def sum_line(overview: Overview) -> str:
    """`4 jobs = 2 succeeded + 0 failed + ...`: it always adds up."""
    words = " + ".join(
        f"{number:,} {standing.replace('_', ' ')}" for standing, number in overview.counts.items()
    )
    return f"{counted(overview.total, 'job')} = {words}"


def _kind_lines(kinds: Sequence[Kind]) -> Iterator[str]:
    rows = [("model", "mode", "jobs", "charges", "USD", "p50", "p95", "p99")]
    rows += [
        (
            shortened(kind.model, NAME_WIDTH),
            shortened(kind.mode or "", NAME_WIDTH),
            f"{kind.jobs:,}",
            f"{kind.charges:,}",
            UNKNOWN if kind.cost is None else in_usd(kind.cost).removesuffix(" USD"),
            *_percentiles(kind),
        )
        for kind in kinds
    ]
    yield from table(rows, numbers_from=NUMBERS_FROM)


def _percentiles(kind: Kind) -> tuple[str, str, str]:
    times = kind.durations
    if times is None:
        return "", "", ""
    return lasting(times.p50), lasting(times.p95), lasting(times.p99)


def _facts(overview: Overview, journal: Path) -> Iterator[tuple[str, str]]:
    yield "owner", _owner(overview)
    yield "submits", _submits(overview)
    yield "cost", _cost(overview)
    yield from _rate(overview)
    yield from _failures(overview)
    yield from _unsaved(overview, journal)
    yield from _doubts(overview, journal)
    yield from _next(overview, journal)


def _owner(overview: Overview) -> str:
    if overview.owner is not None:
        return printable(overview.owner)
    if overview.has_crashed:
        return "none; the last process ended without closing the journal"
    return "none"


def _submits(overview: Overview) -> str:
    repeated = f", {overview.retries:,} of them repeated" if overview.retries else ""
    billed = f"{counted(overview.charges, 'task')} made, or perhaps made, and billed"
    return f"{overview.submits:,}{repeated}; {billed}"


def _cost(overview: Overview) -> str:
    missing = overview.missing_prices
    if not missing:
        return f"{in_usd(overview.known_cost)}, estimated from your prices"
    known = f"at least {in_usd(overview.known_cost)}" if overview.known_cost else "unknown"
    options = " ".join(f"--price {shortened(name, NAME_WIDTH)}=USD" for name in missing)
    return f"{known}: prices are missing, give {options}"


def _rate(overview: Overview) -> Iterator[tuple[str, str]]:
    if overview.overall_rate is None:
        return
    minutes = f"{WINDOW.total_seconds() / 60:.0f} minutes"
    recent = f"{overview.recent_rate:,.1f} over the last {minutes}, " * bool(overview.recent_rate)
    yield "rate", f"{recent}{overview.overall_rate:,.1f} overall (jobs ended, a minute)"


def _failures(overview: Overview) -> Iterator[tuple[str, str]]:
    for failure in overview.failures[:REASONS_SHOWN]:
        why = ": ".join(part for part in (failure.code, failure.reason) if part)
        yield str(failure.state), f"{failure.count:,} x {shortened(why, REASON_WIDTH)}"
    more = len(overview.failures) - REASONS_SHOWN
    if more > 0:
        yield "", f"and {counted(more, 'other reason')}"


def _unsaved(overview: Overview, journal: Path) -> Iterator[tuple[str, str]]:
    if overview.unsaved:
        yield "not saved", f"{counted(overview.unsaved, 'result')} by the journal's record"
    if overview.expired_count:
        keys = _keys(overview.expired, overview.expired_count)
        yield "expired", f"{counted(overview.expired_count, 'result')} can no longer be had: {keys}"
    if overview.expiring_count:
        first = min(expiry.at for expiry in overview.expiring)
        left = lasting((first - overview.at).total_seconds())
        keys = _keys(overview.expiring, overview.expiring_count)
        yield "expiring", f"{counted(overview.expiring_count, 'result')}, from {left} on: {keys}"
        yield "", f"save them with: {command('resume', journal, '--save-to', 'DIR')}"


def _keys(expiries: Sequence[Expiry], count: int) -> str:
    shown = [printable(expiry.key) for expiry in expiries[:KEYS_SHOWN]]
    more = f" and {count - len(shown):,} more" * (count > len(shown))
    return ", ".join(shown) + more


def _doubts(overview: Overview, journal: Path) -> Iterator[tuple[str, str]]:
    number = overview.counts[Standing.UNCERTAIN]
    if not number:
        return
    for at, doubt in enumerate(overview.doubts[:DOUBTS_SHOWN]):
        yield ("" if at else "uncertain"), _doubt(doubt)
    if number > DOUBTS_SHOWN:
        yield "", f"and {number - DOUBTS_SHOWN:,} more; --json names up to {LISTED:,}"
    for line in DOUBT_ADVICE:
        yield "", line
    settle = command("settle", journal)
    yield "", f"{settle} KEY (or --all) --abandon | --resubmit, or KEY --task-id ID"


def _doubt(doubt: Doubt) -> str:
    parts = [f"{printable(doubt.key)}: {shortened(doubt.reason, REASON_WIDTH)} ({doubt.phase})"]
    if doubt.sent_at is not None:
        parts.append(f"sent {doubt.sent_at:%Y-%m-%d %H:%M:%S} UTC")
    if doubt.attempts > 1:
        parts.append(f"submit {doubt.attempts:,}")
    if doubt.received:
        parts.append(f"{counted(doubt.received_bytes, 'byte')} of an answer arrived")
    if doubt.candidate_task_id:
        parts.append(f"it may be task {printable(doubt.candidate_task_id)}")
    return "; ".join(parts)


def _next(overview: Overview, journal: Path) -> Iterator[tuple[str, str]]:
    if overview.owner is None and overview.has_work:
        yield "go on with", command("resume", journal)


# For programs


def show_as_json(overview: Overview, *, journal: Path) -> dict[str, Any]:
    """An overview for programs; times are seconds or UTC, money US dollars, `null` is unknown."""
    return {
        "journal": str(journal),
        "at": overview.at.isoformat(),
        "owner": overview.owner,
        "has_crashed": overview.has_crashed,
        "jobs": overview.total,
        **{str(standing): number for standing, number in overview.counts.items()},
        "states": {str(state): overview.states.get(state, 0) for state in JobState},
        "submits": overview.submits,
        "retries": overview.retries,
        "charges": overview.charges,
        "cost_usd": None if overview.missing_prices else float(overview.known_cost),
        "known_cost_usd": float(overview.known_cost),
        "missing_prices": list(overview.missing_prices),
        "recent_per_minute": round(overview.recent_rate, 3),
        "overall_per_minute": _rounded(overview.overall_rate),
        "kinds": [_kind_as_json(kind) for kind in overview.kinds],
        "failures": [
            {"state": str(one.state), "code": one.code, "reason": one.reason, "jobs": one.count}
            for one in overview.failures
        ],
        "uncertain_jobs": [_doubt_as_json(doubt) for doubt in overview.doubts],
        "not_saved": overview.unsaved,
        "expiring": overview.expiring_count,
        "expiring_jobs": [_expiry_as_json(one) for one in overview.expiring],
        "expired": overview.expired_count,
        "expired_jobs": [_expiry_as_json(one) for one in overview.expired],
    }


def _kind_as_json(kind: Kind) -> dict[str, Any]:
    times = kind.durations
    return {
        "model": kind.model,
        "mode": kind.mode,
        "jobs": kind.jobs,
        "charges": kind.charges,
        "price_usd": None if kind.price is None else float(kind.price),
        "cost_usd": None if kind.cost is None else float(kind.cost),
        "timed": 0 if times is None else times.count,
        "p50": None if times is None else times.p50,
        "p95": None if times is None else times.p95,
        "p99": None if times is None else times.p99,
    }


def _doubt_as_json(doubt: Doubt) -> dict[str, Any]:
    return {
        "key": doubt.key,
        "sent_at": _iso(doubt.sent_at),
        "phase": doubt.phase,
        "reason": doubt.reason,
        "received": doubt.received,
        "received_bytes": doubt.received_bytes,
        "candidate_task_id": doubt.candidate_task_id,
        "attempts": doubt.attempts,
    }


def _expiry_as_json(expiry: Expiry) -> dict[str, Any]:
    return {"key": expiry.key, "expires_at": _iso(expiry.at)}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
