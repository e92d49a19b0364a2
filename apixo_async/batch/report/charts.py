"""The charts as Vega-Lite says them, and as SVG; colours are the page's own, by name.

Numbers are counted before they come here, so that a chart is small however long the batch was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import vl_convert
from markupsafe import Markup

from apixo_async.batch.report.figures import Bin, Ended, Point

Spec = Mapping[str, Any]

WIDTH: Final = 1_000
HEIGHT: Final = 170
DAY: Final = 86_400
QUARTER: Final = 900
"""Seconds of a batch from which on seconds, and then days, are what tells its moments apart."""
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_GOOD, _BAD, _MAIN, _BOUND = "var(--good)", "var(--bad)", "var(--main)", "var(--bound)"
_AXIS_WIDTH: Final = 48
"""The same for all charts over time, so that their moments stand above each other."""
_CONFIG: Final[Spec] = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "labelFontSize": 11.5,
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
        "gridColor": "var(--line)",
        "tickColor": "var(--line)",
        "domainColor": "var(--line)",
        "labelPadding": 6,
        "titlePadding": 10,
    },
    "axisY": {"domain": False, "ticks": False},
    "axisX": {"grid": False},
    "legend": {
        "orient": "top",
        "labelColor": "var(--quiet)",
        "labelFontSize": 12,
        "title": None,
        "symbolStrokeWidth": 3,
        "columnPadding": 28,
        "offset": 8,
    },
    "header": {"labelColor": "var(--ink)", "labelFontSize": 12.5, "title": None},
}


def svg(spec: Spec) -> Markup:
    """The chart; what it shows stands in `aria-label`s, which the page shows under the pointer.

    Nothing is fetched, whatever a specification says.
    """
    whole = {"$schema": _SCHEMA, "background": None, "config": _CONFIG, **spec}
    # Vega escapes the few texts that are not ours: models and modes.
    return Markup(vl_convert.vegalite_to_svg(whole, allowed_base_urls=[]))  # noqa: S704  # see above


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def _time_axis(domain: tuple[float, float]) -> dict[str, Any]:
    span = domain[1] - domain[0]
    form = {} if span > DAY else {"format": "%H:%M:%S" if span < QUARTER else "%H:%M"}
    return {
        "field": "at",
        "type": "temporal",
        "scale": {"type": "utc", "domain": [_moment(at) for at in domain]},
        "axis": {
            "title": "time (UTC)",
            "labelOverlap": True,
            "labelFlush": True,
            "tickCount": 8,
            **form,
        },
    }


def _count_axis(title: str, *, field: str) -> dict[str, Any]:
    axis = {
        "title": title,
        "tickCount": 4,
        "tickMinStep": 1,
        "minExtent": _AXIS_WIDTH,
        "maxExtent": _AXIS_WIDTH,
        "format": ",d",
    }
    return {"field": field, "type": "quantitative", "axis": axis, "scale": {"nice": True}}


def _hover(x: Spec, *, until: str) -> dict[str, Any]:
    """Bands over the whole height that can be seen and read only under the pointer."""
    return {
        "mark": {"type": "rect", "opacity": 0, "color": "var(--ink)"},
        "encoding": {"x": x, "x2": {"field": until}, "description": {"field": "told"}},
    }


def _over_time(layers: Sequence[Spec], rows: Iterable[Spec]) -> Spec:
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": list(rows)},
        "layer": list(layers),
    }


def against_bound(
    points: Sequence[Point],
    domain: tuple[float, float],
    *,
    axis: str,
    names: tuple[str, str],
    is_bound_drawn: bool,
) -> Spec:
    """A quantity as an area, and its bound as a line unless that is out of sight."""
    rows = [
        {
            "at": _moment(point.at),
            "until": _moment(point.until),
            "value": point.value,
            "bound": point.bound,
            "told": f"{_clock(point.at)} \N{MIDDLE DOT} {_told(point, names[0])}",
        }
        for point in points
    ]
    x = _time_axis(domain)
    shown = 1 + is_bound_drawn
    colour: Spec = {
        "type": "nominal",
        "scale": {"domain": [*names[:shown]], "range": [_MAIN, _BOUND][:shown]},
        "legend": {"symbolType": "stroke"},
    }
    area = {
        "mark": {"type": "area", "color": _MAIN, "opacity": 0.16, "aria": False},
        "encoding": {"x": x, "y": _count_axis(axis, field="value")},
    }
    line = {
        "mark": {"type": "line", "strokeWidth": 1.75, "aria": False},
        "encoding": {
            "x": x,
            "y": {"field": "value", "type": "quantitative"},
            "color": {**colour, "datum": names[0]},
        },
    }
    bound = {
        "mark": {
            "type": "line",
            "strokeDash": [5, 4],
            "strokeWidth": 1.5,
            "interpolate": "step-after",
            "aria": False,
        },
        "encoding": {
            "x": x,
            "y": {"field": "bound", "type": "quantitative"},
            "color": {**colour, "datum": names[1]},
        },
    }
    lines = [line, bound] if is_bound_drawn else [line]
    return _over_time([area, *lines, _hover(x, until="until")], rows)


def _told(point: Point, name: str) -> str:
    if point.value is None:
        return "nobody was running"
    return f"{point.value:,} {name} of {point.bound:,}"


def ended(sums: Sequence[Ended], domain: tuple[float, float]) -> Spec:
    """Jobs that had ended, well or badly."""
    rows: list[dict[str, Any]] = []
    for one, after in zip(sums, [*sums[1:], sums[-1]], strict=True):
        told = f"{_clock(one.at)} \N{MIDDLE DOT} {one.succeeded:,} succeeded, {one.failed:,} failed"
        shared = {"at": _moment(one.at), "until": _moment(after.at), "told": told}
        rows += [
            {**shared, "jobs": one.succeeded, "what": "succeeded"},
            {**shared, "jobs": one.failed, "what": "failed"},
        ]
    x = _time_axis(domain)
    line = {
        "mark": {"type": "line", "strokeWidth": 2, "interpolate": "step-after", "aria": False},
        "encoding": {
            "x": x,
            "y": _count_axis("jobs", field="jobs"),
            "color": {
                "field": "what",
                "type": "nominal",
                "scale": {"domain": ["succeeded", "failed"], "range": [_GOOD, _BAD]},
                "legend": {"symbolType": "stroke"},
            },
        },
    }
    hover = {**_hover(x, until="until"), "transform": [{"filter": "datum.what == 'succeeded'"}]}
    return _over_time([line, hover], rows)


def distribution(
    bins: Sequence[Bin], *, median: float, axis: str, noun: str, colour: str = _MAIN
) -> Spec:
    """How often which value came, and the middle one."""
    rows = [
        {
            "start": one.start,
            "end": one.end,
            "count": one.count,
            "told": f"{one.start:g} to {one.end:g} s \N{MIDDLE DOT} {one.count:,} {noun}",
        }
        for one in bins
    ]
    x = {
        "field": "start",
        "type": "quantitative",
        "scale": {"domain": [bins[0].start, bins[-1].end], "nice": False},
        "axis": {"title": axis, "tickCount": 10},
    }
    bars = {
        "mark": {
            "type": "rect",
            "color": colour,
            "opacity": 0.82,
            "stroke": "var(--sheet)",
            "aria": False,
        },
        "encoding": {
            "x": x,
            "x2": {"field": "end"},
            "y": _count_axis(noun, field="count"),
            "y2": {"datum": 0},
        },
    }
    rule = {
        "data": {"values": [{"start": median}]},
        "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [3, 3], "aria": False},
        "encoding": {"x": {"field": "start", "type": "quantitative"}},
    }
    name = {
        "data": {"values": [{"start": median, "text": f"median {median:,.1f} s"}]},
        "mark": {
            "type": "text",
            "align": "left",
            "dx": -2,
            "y": -5,
            "baseline": "bottom",
            "color": "var(--ink)",
            "fontSize": 11.5,
            "aria": False,
        },
        "encoding": {
            "x": {"field": "start", "type": "quantitative"},
            "text": {"field": "text", "type": "nominal"},
        },
    }
    return _over_time([bars, rule, name, _hover(x, until="end")], rows)
