"""The panels with charts: which figures each shows, and what is said of them in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from apixo_async.batch.journal import Traffic
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
from apixo_async.batch.report.wording import counted, lasting

if TYPE_CHECKING:
    from markupsafe import Markup

FAR: Final = 6
"""From so many times the most that was seen, a limit would press that flat; it is told instead."""
_TAIL: Final = 99
"""The percentile that a distribution shows at least."""

Chart = Mapping[str, Any]
"""A title, a remark in words, and what is drawn, if there is anything to draw."""


def _chart(title: str, remark: str, drawn: Markup | None = None) -> Chart:
    return {"title": title, "remark": remark, "svg": drawn}


def courses(found: Gathered) -> Iterator[Chart]:
    """What ran, what was asked, and what ended, over time."""
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


def distributions(found: Gathered) -> Iterator[Chart]:
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


def delay(found: Gathered) -> Chart:
    """From the end of tasks until we knew of it."""
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
