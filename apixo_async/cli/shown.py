"""An overview of a journal to read: pure texts from numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from apixo_async._commands import command_line
from apixo_async.batch.journal.overview import (
    LISTED,
    WINDOW,
    Doubt,
    Expiry,
    Kind,
    Overview,
    Standing,
)
from apixo_async.batch.meanings import may_help_again, meaning
from apixo_async.batch.spending import in_usd
from apixo_async.cli.journals import command
from apixo_async.cli.summary import REASON_WIDTH
from apixo_async.cli.text import columns, counted, folded, lasting, printable, shortened, table

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


_HOW_FAR: Final = {
    "sent": "it was sent, and nothing came back",
    "answering": "its answer broke off after {size}",
    "answer": "its answer of {size} cannot be used",
    "crash": "",
    "callback": "",
}
"""How far a submit came, by the phase of its doubt; of the last two the reason says it."""


def show_lines(
    overview: Overview, *, journal: Path, width: int | None = None, again: Sequence[str] = ()
) -> Iterator[str]:
    """An overview for people: the sum, a table of what was asked for, then a line for each fact.

    `width` is that of the terminal: lines are folded there, but for commands, which a terminal
    folds by itself without spoiling them for copying. `again` are options that a command which
    goes on has to say again.
    """
    yield from folded(f"{printable(str(journal))}: {sum_line(overview)}", width)
    yield ""
    if overview.kinds:
        yield from (f"  {line}" for line in _kind_lines(overview.kinds, width))
        yield ""
    for title, text in _facts(overview, journal, again):
        line = f"{title:<{TITLE}}{text}"
        yield from [line] if "apixo " in text else folded(line, width, indent=TITLE)


def sum_line(overview: Overview) -> str:
    """`4 jobs = 2 succeeded + 0 failed + ...`: it always adds up."""
    words = " + ".join(
        f"{number:,} {standing.replace('_', ' ')}" for standing, number in overview.counts.items()
    )
    return f"{counted(overview.total, 'job')} = {words}"


def _kind_lines(kinds: Sequence[Kind], width: int | None) -> Iterator[str]:
    lines = list(_kind_table(kinds))
    if width is None or max(map(columns, lines)) + 2 <= width:
        yield from lines
        return
    for kind in kinds:
        yield from folded(_kind_line(kind), width - 2, indent=2)


def _kind_line(kind: Kind) -> str:
    name = " ".join(printable(part) for part in (kind.model, kind.mode) if part)
    cost = f"{UNKNOWN} USD" if kind.cost is None else in_usd(kind.cost)
    parts = [counted(kind.jobs, "job"), counted(kind.charges, "charge"), cost]
    times = zip(("p50", "p95", "p99"), _percentiles(kind), strict=True)
    return f"{name}: {', '.join([*parts, *(' '.join(time) for time in times if time[1])])}"


def _kind_table(kinds: Sequence[Kind]) -> Iterator[str]:
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


def _facts(overview: Overview, journal: Path, again: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "owner", _owner(overview)
    if again and overview.base_url is not None:
        yield "API", f"{printable(overview.base_url)}, by the journal; your key goes there"
    yield "submits", _submits(overview)
    yield "cost", _cost(overview)
    yield from _rate(overview)
    yield from _failures(overview, journal)
    if overview.save_to is not None:
        yield "saves to", printable(overview.save_to)
    yield from _unsaved(overview, journal, again)
    yield from _doubts(overview, journal)
    yield from _doubled(overview, again)
    yield from _next(overview, journal, again)


def _owner(overview: Overview) -> str:
    if overview.owner is not None:
        return printable(overview.owner)
    if overview.has_crashed:
        return "none; the last process ended without closing the journal"
    return "none"


def _submits(overview: Overview) -> str:
    billed = f"{counted(overview.charges, 'task')} made, or perhaps made, and billed"
    text = f"{overview.submits:,}; {billed}"
    if overview.retries:
        again = "was another one" if overview.retries == 1 else "were further ones"
        text += f"; {overview.retries:,} {again} of the same job"
    if overview.not_sent:
        tries = "try" if overview.not_sent == 1 else "tries"
        text += f"; {overview.not_sent:,} more {tries} did not get through, and made no task"
    return text


def _cost(overview: Overview) -> str:
    missing = overview.missing_prices
    cap = "" if overview.max_cost is None else f", of at most {in_usd(overview.max_cost)}"
    if not missing:
        return f"{in_usd(overview.known_cost)}{cap}, estimated from your prices"
    known = f"at least {in_usd(overview.known_cost)}" if overview.known_cost else "unknown"
    options = " ".join(f"--price {shortened(name, NAME_WIDTH)}=USD" for name in missing)
    return f"{known}{cap}: prices are missing, give {options}"


def _rate(overview: Overview) -> Iterator[tuple[str, str]]:
    if overview.overall_rate is None:
        return
    minutes = f"{WINDOW.total_seconds() / 60:.0f} minutes"
    recent = f"{overview.recent_rate:,.1f} over the last {minutes}, " * bool(overview.recent_rate)
    yield "rate", f"{recent}{overview.overall_rate:,.1f} overall (jobs ended, a minute)"


def _failures(overview: Overview, journal: Path) -> Iterator[tuple[str, str]]:
    for failure in overview.failures[:REASONS_SHOWN]:
        why = ": ".join(part for part in (failure.code, failure.reason) if part)
        yield str(failure.state), f"{failure.count:,} x {shortened(why, REASON_WIDTH)}"
        if failure.keys:
            yield "", _named(failure.keys, failure.count)
        yield "", meaning(failure.state, failure.code)
    more = len(overview.failures) - REASONS_SHOWN
    if more > 0:
        yield "", f"and {counted(more, 'other reason')}"
    may_help = any(may_help_again(one.state, one.code) for one in overview.failures)
    if may_help and overview.owner is None:
        again = command("settle", journal, "KEY", options=("--resubmit",))
        yield "", f"to send one again: {again}"


def _unsaved(overview: Overview, journal: Path, again: Sequence[str]) -> Iterator[tuple[str, str]]:
    save = command("resume", journal, options=("--save-to", "DIR", *again))
    unsaved = counted(overview.unsaved, "result")
    if overview.unsaved and overview.save_to is not None:
        yield "not saved", f"{unsaved} by the journal's record"
    elif overview.unsaved:
        yield "not saved", f"{unsaved}, because nobody asked for it; to have them:"
        yield "", save
    if overview.expired_count:
        keys = _keys(overview.expired, overview.expired_count)
        yield "expired", f"{counted(overview.expired_count, 'result')} can no longer be had: {keys}"
    if overview.expiring_count:
        first = min(expiry.at for expiry in overview.expiring)
        left = lasting((first - overview.at).total_seconds())
        keys = _keys(overview.expiring, overview.expiring_count)
        yield "expiring", f"{counted(overview.expiring_count, 'result')}, from {left} on: {keys}"
        yield "", f"save them with: {save}"


def _keys(expiries: Sequence[Expiry], count: int) -> str:
    return _named([expiry.key for expiry in expiries[:KEYS_SHOWN]], count)


def _named(keys: Sequence[str], count: int) -> str:
    more = f" and {count - len(keys):,} more" * (count > len(keys))
    return ", ".join(map(printable, keys)) + more


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


def _doubled(overview: Overview, again: Sequence[str]) -> Iterator[tuple[str, str]]:
    for at, one in enumerate(overview.doubled[:DOUBTS_SHOWN]):
        own = "no task" if one.task_id is None else f"task {printable(one.task_id)}"
        told = [f"{printable(one.key)}: {own}"]
        if one.others:
            others = ", ".join(map(printable, one.others))
            told.append(f"callbacks or broken answers name {others}, too")
        if one.open_attempt is not None:
            told.append(f"submit {one.open_attempt}, whose answer was lost, may have made another")
        yield ("" if at else "doubled"), "; ".join(told)
    if overview.doubled_count > DOUBTS_SHOWN:
        yield "", f"and {overview.doubled_count - DOUBTS_SHOWN:,} more"
    if overview.doubled:
        wait = command_line("wait", "ID", options=again)
        yield "", f"each may be billed: look at your account's history; its video: {wait}"


def _doubt(doubt: Doubt) -> str:
    parts = [f"{printable(doubt.key)}: {shortened(doubt.reason, REASON_WIDTH)}"]
    size = counted(doubt.received_bytes, "byte")
    if far := _HOW_FAR.get(doubt.phase, f"it came as far as {doubt.phase!r}, {{size}} arrived"):
        parts.append(far.format(size=size))
    if doubt.sent_at is not None:
        parts.append(f"sent {doubt.sent_at:%Y-%m-%d %H:%M:%S} UTC")
    if doubt.attempts > 1:
        parts.append(f"submit {doubt.attempts:,}")
    if doubt.candidate_task_id:
        unknown = ", which the API does not know" if doubt.candidate_denied else ""
        parts.append(f"it may be task {printable(doubt.candidate_task_id)}{unknown}")
    return "; ".join(parts)


def _next(overview: Overview, journal: Path, again: Sequence[str]) -> Iterator[tuple[str, str]]:
    if overview.owner is not None or not overview.has_work:
        return
    if overview.is_capped:
        yield "stopped", "by the noted --max-cost, which the next job would pass; raise it to go on"
    anew = ("--emulator",) if overview.is_emulated else ()
    if anew:
        yield "emulator", "gone, and its tasks with it: a new one has only what was not sent"
    raised = ("--max-cost", "USD") if overview.is_capped else ()
    yield "go on with", command("resume", journal, options=(*anew, *raised, *again))
