"""What a running batch looks like: figures to lines of a given width. Pure; drawn by `screen`.

The most important lines come first, so that a low terminal may cut off the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from apixo_async.batch.spending import in_usd
from apixo_async.cli.figures import Figures, Traffic
from apixo_async.cli.reasons import Reason
from apixo_async.cli.text import columns, counted, lasting, padded, printable, shortened

Span: TypeAlias = tuple[str, str]
"""Text and the name of its style: `good`, `busy`, `warn`, `bad`, `quiet`, `rest`, or none."""
Line: TypeAlias = tuple[Span, ...]

LABEL: Final = 10
"""Columns of the names at the left."""
BAR_MIN: Final = 6
BAR_MAX: Final = 40
REASONS_SHOWN: Final = 3
DOT: Final = " \N{MIDDLE DOT} "
FULL, HALF = "\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS HEAVY LEFT}"
ARROW: Final = "\N{RIGHTWARDS ARROW}"

Row: TypeAlias = tuple[str, str, float, str, str]
"""Name, style, share from 0 to 1, value, note."""


def board_lines(
    figures: Figures,
    traffic: Traffic | None = None,
    *,
    cap: int | None = None,
    elapsed: float | None,
    width: int,
    height: int | None = None,
) -> list[Line]:
    """The whole board, no line wider than `width`, no more lines than `height`.

    `cap` is how many tasks may run at a time where there is no `traffic` that says so.
    """
    lines = [
        _head(figures, elapsed),
        *_waiting_lines(figures, traffic, width),
        *_row_lines(list(_rows(figures, traffic, cap)), width),
        *_reason_lines(figures.reasons, width),
    ]
    return [cut(line, width) for line in lines[:height]]


def cut(line: Line, width: int) -> Line:
    """The line in at most `width` columns."""
    taken, spans = 0, list[Span]()
    for text, style in line:
        room = width - taken
        part = text if columns(text) <= room else shortened(text, room)
        spans.append((part, style))
        taken += columns(part)
        if part != text:
            break
    return tuple(span for span in spans if span[0])


def plain(line: Line) -> str:
    """The line without its styles."""
    return "".join(text for text, _ in line)


# The head


def _head(figures: Figures, elapsed: float | None) -> Line:
    percent = f"{100 * figures.share:.0f} %"
    parts = [lasting(elapsed)] if elapsed is not None else []
    parts += [text for text in (left_text(figures), rate_text(figures)) if text]
    return (padded(percent, LABEL), "good"), (DOT.join(parts), "")


def left_text(figures: Figures) -> str:
    """What is known about the time left; empty where nothing is."""
    if figures.eta is not None and figures.eta > 0:
        return f"about {lasting(max(1.0, figures.eta))} left"
    if figures.late:
        late = counted(figures.late, "task")
        return f"{late} {'takes' if figures.late == 1 else 'take'} longer than any so far"
    return ""


def rate_text(figures: Figures) -> str:
    """How many tasks end in a minute; empty before one has."""
    rate = figures.per_minute
    if not rate:
        return ""
    return f"{rate:,.0f} ended a minute" if rate >= 10 else f"{rate:,.1f} ended a minute"  # noqa: PLR2004  # digits that tell something


# Why it waits


def waits(figures: Figures, traffic: Traffic | None) -> Iterator[tuple[str, str]]:
    """What holds the batch up at this moment, and what becomes of it."""
    is_closed = traffic is not None and traffic.closed_for > 0
    if traffic is not None and is_closed:
        yield "paused", f"the API answered 429; goes on by itself in {lasting(traffic.closed_for)}"
    elif figures.trouble:
        yield "waiting", f"{printable(figures.trouble)}; tried again by itself"
    limit = None if traffic is None else traffic.task_limit
    if traffic is not None and limit is not None and traffic.task_cap < limit:
        yield "limited", f"the account allows fewer tasks than {limit:,}; more are tried by itself"
    if figures.doubtful:
        sent = counted(figures.doubtful, "submit")
        yield "waiting", f"{sent} without an answer, for a callback"


def _waiting_lines(figures: Figures, traffic: Traffic | None, width: int) -> Iterator[Line]:
    for name, why in waits(figures, traffic):
        yield (padded(name, LABEL), "warn"), (shortened(why, max(1, width - LABEL)), "warn")


# The bars


def _rows(figures: Figures, traffic: Traffic | None, cap: int | None) -> Iterator[Row]:
    total = figures.total or 0
    yield "done", "good", figures.share, f"{figures.done:,} of {total:,}", outcomes_text(figures)
    if figures.saves:
        yield "saving", "busy", _share(figures.saving, total), f"{figures.saving:,}", ""
    cap = cap if traffic is None else traffic.task_cap
    of = "" if cap is None else f" of {cap:,}"
    running = _share(figures.running, cap or total)
    yield "running", "busy", running, f"{figures.running:,}{of}", "tasks at a time" if of else ""
    yield "queued", "quiet", _share(figures.queued, total), f"{figures.queued:,}", ""
    if traffic is not None:
        yield _requests_row(traffic)
    if figures.cost is not None:
        yield _cost_row(figures)


def _requests_row(traffic: Traffic) -> Row:
    used, limit = traffic.requests_last_minute, traffic.requests_per_minute
    clock = "" if traffic.speed == 1 else f" (clock x{traffic.speed:g})"
    value = f"{used:,} of {limit:,}"
    return "requests", "quiet", _share(used, limit), value, f"in the last minute{clock}"


def _cost_row(figures: Figures) -> Row:
    text, share = cost_text(figures), 0.0
    if figures.cost is not None and figures.cost.cap:
        share = float(figures.cost.known / figures.cost.cap)
    return "cost", "warn" if share > 1 else "quiet", share, text, "estimated from your prices"


def cost_text(figures: Figures) -> str:
    """`1.20 of 5.00 USD`; empty without prices."""
    if figures.cost is None:
        return ""
    known, cap = in_usd(figures.cost.known), figures.cost.cap
    at_least = "" if figures.cost.is_whole else "at least "
    if cap is None:
        return f"{at_least}{known}"
    return f"{at_least}{known.removesuffix(' USD')} of {in_usd(cap)}"


def outcomes_text(figures: Figures) -> str:
    """How the jobs that are done ended; what did not happen is left out."""
    parts = {
        "succeeded": figures.succeeded,
        "failed": figures.failed,
        "timed out": figures.timed_out,
        "uncertain": figures.uncertain,
    }
    return DOT.join(f"{number:,} {word}" for word, number in parts.items() if number)


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole else 0.0


def _row_lines(rows: Sequence[Row], width: int) -> Iterator[Line]:
    """Bars of one length; a note that finds no room stands below, one that says little goes."""
    values = max(columns(value) for *_, value, _ in rows)
    room = width - LABEL - values - 2
    notes = max(columns(note) for *_, note in rows)
    length = min(BAR_MAX, room if room < BAR_MIN + notes + 2 else room - notes - 2)
    is_beside = room - length >= notes + 2
    for name, style, share, value, note in rows:
        line: list[Span] = [(padded(name, LABEL), "")]
        if length >= BAR_MIN:
            line += [*bar(share, length, style), ("  ", "")]
        line.append((value, ""))
        if note and is_beside:
            line.append((" " * (values - columns(value) + 2) + note, "quiet"))
        yield tuple(line)
        if note and not is_beside and name == "done":
            yield (" " * LABEL, ""), (note, "quiet")


def bar(share: float, length: int, style: str) -> Iterator[Span]:
    """A bar of so many columns; what is begun shows, what is not complete does not look so."""
    halves = round(2 * length * min(1.0, max(0.0, share)))
    if 0 < share < 1:
        halves = min(max(halves, 1), 2 * length - 1)
    full, half = divmod(halves, 2)
    yield FULL * full + HALF * half, style
    yield FULL * (length - full - half), "rest"


# What went wrong


def _reason_lines(reasons: Sequence[Reason], width: int) -> Iterator[Line]:
    for reason in reasons[:REASONS_SHOWN]:
        text = reason_text(reason, max(1, width - LABEL))
        yield (padded(reason.status, LABEL - 1) + " ", "bad"), (text, "")
    more = len(reasons) - REASONS_SHOWN
    if more > 0:
        yield (" " * LABEL, ""), (f"and {counted(more, 'other reason')}", "quiet")


def reason_text(reason: Reason, width: int | None = None) -> str:
    """`2 x CODE: message (last: key) -> what to do`, with less of it where `width` is little."""
    advice = f" {ARROW} {printable(reason.advice)}" if reason.advice else ""
    times, why = f"{reason.count:,} x ", printable(reason.why)
    last = f" (last: {printable(reason.last)})" if reason.last else ""
    code = why.partition(":")[0]
    whole = f"{times}{why}{last}{advice}"
    if width is None:
        return whole
    for text in (whole, f"{times}{why}{advice}", f"{times}{code}{advice}"):
        if columns(text) <= width:
            return text
    return shortened(f"{times}{code}{advice}" if advice else whole, width)
