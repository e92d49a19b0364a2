"""The page: what is gathered, put into words, charts and a template that escapes everything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
from markupsafe import Markup

from apixo_async.batch.journal import Overview, Traffic
from apixo_async.batch.journal.overview import Standing
from apixo_async.batch.meanings import may_help_again, meaning
from apixo_async.batch.report import charts
from apixo_async.batch.report.figures import (
    BINS,
    binned,
    ended_over_time,
    nice_step,
    over_time,
    percentile,
)
from apixo_async.batch.report.gathering import Gathered
from apixo_async.batch.report.wording import amount, counted, lasting, moment
from apixo_async.batch.spending import price_name
from apixo_async.tasks import RESULT_LIFETIME

GENERATOR: Final = '<meta name="generator" content="apixo-async report">'
ORIGINS_MAX: Final = 20
"""Hosts of results that the page's policy names; where there are more it allows the web."""
SHOWN: Final = 100
"""Jobs that a list of problems shows with their commands."""
FAR: Final = 6
"""From so many times the most that was seen, a limit would press that flat; it is told instead."""
_TAIL: Final = 99
"""The percentile that a distribution shows at least."""


def page(found: Gathered) -> Iterator[str]:
    """The page, piece by piece, so that its rows are never in memory together."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("apixo_async.batch.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _asset("page.css"), _asset("page.js")
    yield from environment.get_template("page.html").generate(
        generator=Markup(GENERATOR),  # noqa: S704  # ours
        policy=policy(found.origins, style=style, script=script),
        style=Markup(style),  # noqa: S704  # a file of ours
        script=Markup(script),  # noqa: S704  # a file of ours
        counted=counted,
        moment=moment,
        found=found,
        overview=found.overview,
        title=found.journal.name,
        status=_status(found),
        tiles=_tiles(found),
        parts=_parts(found.overview),
        courses=list(_courses(found)),
        distributions=list(_distributions(found)),
        delay=_delay(found),
        problems=_problems(found),
        facts={
            "now": int(found.overview.at.timestamp()),
            "standings": [str(one) for one in Standing],
            "kinds": found.kinds,
            "reasons": [_reason_name(one.code, one.text) for one in found.figures.reasons],
            "jobs": found.overview.total,
        },
    )


@cache
def _asset(name: str) -> str:
    return (files("apixo_async.batch.report") / "templates" / name).read_text(encoding="utf-8")


def policy(origins: Sequence[str], *, style: str, script: str) -> str:
    """What the page may do: its own style and script, and media from disk and where results are."""
    places = " ".join(origins) if len(origins) <= ORIGINS_MAX else "https: http:"
    media = f"'self' file: {places}".strip()
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": media,
        "media-src": media,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The head


def _status(found: Gathered) -> str:
    overview = found.overview
    if not overview.total:
        return "There are no jobs in this journal yet."
    if overview.owner is not None:
        return f"Running, by {overview.owner}."
    if overview.has_crashed:
        return "The last process ended without closing the journal; nothing that was known is lost."
    if overview.has_work:
        return "Not everything has ended, and no process works on it."
    return "Ended." + _emulated(found) * bool(found.options.get("is_emulated"))


def _emulated(found: Gathered) -> str:
    if not found.clock:
        return " It was an emulated APIXO."
    return (
        f" It was an emulated APIXO, {found.figures.speed:g} times as fast as the real one: times "
        f"of its clock are marked{found.clock}, all others are ours."
    )


def _tiles(found: Gathered) -> Iterator[tuple[str, str, str]]:
    """Title, figure, and a remark."""
    overview, figures = found.overview, found.figures
    counts = overview.counts
    done = counts[Standing.SUCCEEDED]
    yield "videos", f"{done:,}", f"of {counted(overview.total, 'job')}"
    yield "cost", *_cost(overview)
    if (span := figures.span) is not None:
        yield "time taken", lasting(span[1] - span[0]), f"from {moment(span[0])}"
        minutes = max(span[1] - span[0], 1.0) / 60
        yield "videos a minute", f"{done / minutes:,.1f}", "first submit to last end"
    times = sorted(value for values in figures.seconds.values() for value in values)
    if times:
        remark = f"95 of 100 within {lasting(percentile(times, 95))}{found.clock}"
        yield "usual duration", lasting(percentile(times, 50)), remark


def _cost(overview: Overview) -> tuple[str, str]:
    missing = overview.missing_prices
    if overview.charges and len(missing) == len(_names(overview)):
        return "unknown", "no price was given: --price NAME=USD"
    billed = f"for {counted(overview.charges, 'task')}, doubts included"
    if missing:
        return (
            f"\N{GREATER-THAN OR EQUAL TO} {amount(overview.known_cost)}",
            f"no price of {', '.join(missing)}",
        )
    return amount(overview.known_cost), billed


def _names(overview: Overview) -> set[str]:
    return {price_name(kind.model, kind.mode) for kind in overview.kinds if kind.charges}


def _parts(overview: Overview) -> list[dict[str, Any]]:
    """The bar of outcomes: each standing with its number, and where it lies in 1,000."""
    total, at = max(overview.total, 1), 0.0
    parts: list[dict[str, Any]] = []
    for standing, number in overview.counts.items():
        width = 1_000 * number / total
        name = str(standing)
        parts.append({"name": name, "jobs": number, "at": round(at, 2), "width": round(width, 2)})
        at += width
    return parts


# Charts


Chart = Mapping[str, Any]


def _chart(title: str, remark: str, drawn: Markup | None = None) -> Chart:
    return {"title": title, "remark": remark, "svg": drawn}


def _courses(found: Gathered) -> Iterator[Chart]:
    figures, span, samples = found.figures, found.figures.span, found.traffic or ()
    if samples:
        times = samples[0].at.timestamp(), samples[-1].at.timestamp()
        span = times if span is None else (min(times[0], span[0]), max(times[1], span[1]))
    yield _load(
        found,
        span,
        lambda sample: (sample.running, sample.task_cap),
        title="Running tasks",
        remark="Tasks that ran, or were being submitted, against how many might",
        axis="tasks",
        names=("running tasks", "cap"),
    )
    yield _load(
        found,
        span,
        lambda sample: (sample.requests, sample.request_limit),
        title="Requests",
        remark="Requests in the 60 seconds before each moment, against the limit",
        clock=found.clock,
        axis="requests / min",
        names=("requests in the last minute", "limit"),
    )
    title = "Jobs that have ended"
    if span is None or not (figures.succeeded or figures.failed):
        yield _chart(title, "No job has ended yet.")
        return
    sums = ended_over_time(figures.succeeded, figures.failed, span)
    yield _chart(title, "Summed up over time.", charts.svg(charts.ended(sums, span)))


def _load(
    found: Gathered,
    span: tuple[float, float] | None,
    read: Callable[[Traffic], tuple[int, int]],
    *,
    title: str,
    remark: str,
    axis: str,
    names: tuple[str, str],
    clock: str = "",
) -> Chart:
    points = over_time(found.traffic or (), read)
    if span is None or not points:
        why = (
            "This was not recorded: the journal was begun by an older apixo-async."
            if found.traffic is None
            else "Nothing was recorded: no batch has run with this journal yet."
        )
        return _chart(title, why)
    most = max(point.value or 0 for point in points)
    bound = max(point.bound or 0 for point in points)
    is_near = bound <= FAR * most
    told = f"{remark}: {most:,} at most."
    if not is_near:
        told += f" The {names[1]} was {bound:,}, far above{clock}."
    spec = charts.against_bound(points, span, axis=axis, names=names, is_bound_drawn=is_near)
    return _chart(title, told, charts.svg(spec))


def _distributions(found: Gathered) -> Iterator[Chart]:
    """One for each kind, all on one scale, so that they can be compared."""
    by_kind = {kind: sorted(values) for kind, values in found.figures.seconds.items()}
    if not by_kind:
        return
    end = max(percentile(values, _TAIL) for values in by_kind.values()) * 1.1
    begin = min(values[0] for values in by_kind.values())
    step = nice_step(max(end - begin, 1.0), BINS)
    start = begin // step * step
    number = int((end - start) // step) + 1
    for (model, mode), values in sorted(
        by_kind.items(), key=lambda item: (item[0][0], item[0][1] or "")
    ):
        bins = binned(values, start=start, step=step, number=number)
        beyond = len(values) - sum(one.count for one in bins)
        remark = _percentiles(values)
        if beyond:
            more = counted(beyond, "task")
            remark += f" {more} took longer than is shown, up to {lasting(values[-1])}."
        spec = charts.distribution(
            bins,
            median=percentile(values, 50),
            axis=f"seconds from acceptance to end{found.clock}",
            noun="tasks",
        )
        yield _chart(" \N{MIDDLE DOT} ".join(filter(None, (model, mode))), remark, charts.svg(spec))


def _percentiles(ordered: Sequence[float]) -> str:
    p50, p95, p99 = (lasting(percentile(ordered, percent)) for percent in (50, 95, 99))
    whole = counted(len(ordered), "task")
    return f"{whole}: half took no longer than {p50}, 95 of 100 than {p95}, 99 of 100 than {p99}."


def _delay(found: Gathered) -> Chart:
    title = "How soon an end was seen"
    if found.figures.speed is None:
        return _chart(title, "How fast the clock of the emulator went is not recorded.")
    too_long = found.figures.too_long
    left_out = (
        f" {counted(too_long, 'end')} left out: by the API's times, those tasks took longer than "
        "they were away."
    ) * bool(too_long)
    values = sorted(found.figures.delays)
    if not values:
        return _chart(title, f"The API has told of no task when it ended.{left_out}")
    end = max(percentile(values, _TAIL) * 1.1, 1.0)
    step = nice_step(end, BINS)
    bins = binned(values, start=0, step=step, number=int(end // step) + 1)
    beyond = len(values) - sum(one.count for one in bins)
    remark = (
        "From the end of a task until we knew of it, with what the answer to its submit took: "
        f"half within {percentile(values, 50):.1f} s, "
        f"95 of 100 within {percentile(values, 95):.1f} s{found.clock}."
    )
    if beyond:
        remark += f" {counted(beyond, 'end')} more, up to {lasting(values[-1])}, not shown."
    remark += left_out
    spec = charts.distribution(
        bins,
        median=percentile(values, 50),
        axis=f"seconds from the end to our look{found.clock}",
        noun="ends",
        colour="var(--second)",
    )
    return _chart(title, remark, charts.svg(spec))


# Problems


def _reason_name(code: str | None, text: str) -> str:
    return ": ".join(part for part in (code, text) if part)


def _problems(found: Gathered) -> dict[str, Any]:
    overview, commands = found.overview, found.commands
    failures = sorted(enumerate(found.figures.reasons), key=lambda item: -item[1].count)
    expiring = sorted(overview.expiring, key=lambda one: one.at)
    return {
        "failures": [
            {
                "at": at,
                "reason": reason,
                "meaning": meaning(reason.state, reason.code),
                "command": commands.again(reason.jobs[0][0])
                if reason.jobs and may_help_again(reason.state, reason.code)
                else None,
            }
            for at, reason in failures
        ],
        "failed": overview.counts[Standing.FAILED],
        "doubts": [(one, list(commands.settle(one))) for one in overview.doubts[:SHOWN]],
        "uncertain": overview.counts[Standing.UNCERTAIN],
        "settle_all": list(commands.settle_all()),
        "doubled": overview.doubled[:SHOWN],
        "doubled_count": overview.doubled_count,
        "expiring": [(one, _left(one.at, overview.at)) for one in expiring[:SHOWN]],
        "expired": overview.expired_count,
        "unsaved": overview.unsaved - overview.expired_count,
        "lifetime": RESULT_LIFETIME.days,
    }


def _left(at: datetime, now: datetime) -> str:
    return lasting((at - now).total_seconds())
