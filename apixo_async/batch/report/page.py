"""The page: what is gathered, put into words, charts and a template that escapes everything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
from markupsafe import Markup

from apixo_async.batch.journal import Overview
from apixo_async.batch.journal.overview import Standing
from apixo_async.batch.meanings import may_help_again, meaning
from apixo_async.batch.report import panels
from apixo_async.batch.report.figures import percentile
from apixo_async.batch.report.gathering import Gathered
from apixo_async.batch.report.wording import amount, counted, lasting, moment
from apixo_async.batch.spending import price_name
from apixo_async.tasks import RESULT_LIFETIME

GENERATOR: Final = '<meta name="generator" content="apixo-async report">'
ORIGINS_MAX: Final = 20
"""Hosts of results that the page's policy names; where there are more it allows the web."""
SHOWN: Final = 100
"""Jobs that a list of problems shows with their commands."""


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
        courses=list(panels.courses(found)),
        distributions=list(panels.distributions(found)),
        delay=panels.delay(found),
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
