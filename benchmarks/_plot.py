"""Figures for the docs. Colours are those of Okabe and Ito, each with a shape of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
RED: Final = "#D55E00"
GREY: Final = "#666666"
MARKS: Final = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (RED, "^"))
DPI: Final = 110

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
    }
)


@attrs.frozen(kw_only=True)
class Panel:
    """One measure: `values` by row and kind, and a line at `goal` where there is one."""

    title: str
    values: Mapping[tuple[str, str], float]
    goal: float | None = None
    goal_name: str = ""
    is_log: bool = False


def dots(path: Path, panels: Sequence[Panel]) -> None:
    """Rows of dots, one panel beside the other; one colour and shape for each kind."""
    rows = list(dict.fromkeys(row for row, _ in panels[0].values))
    kinds = list(dict.fromkeys(kind for _, kind in panels[0].values))
    figure = Figure(figsize=(8, 1.3 + 0.45 * len(rows)), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0].tolist()
    for axis, panel in zip(axes, panels, strict=True):
        _dot_panel(axis, panel, rows, kinds)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


def _dot_panel(axis: Axes, panel: Panel, rows: Sequence[str], kinds: Sequence[str]) -> None:
    for place, (kind, (colour, shape)) in enumerate(zip(kinds, MARKS, strict=False)):
        xs = [panel.values[row, kind] for row in rows]
        offset = 0.2 * (place - (len(kinds) - 1) / 2)  # dots of one value lie below each other
        ys = [number + offset for number in range(len(rows))]
        axis.plot(xs, ys, shape, color=colour, label=kind, markersize=6)
    if panel.goal is not None:
        axis.axvline(panel.goal, color=GREY, linestyle="--", linewidth=1, label=panel.goal_name)
    axis.set_title(panel.title)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.08)
    if panel.is_log:
        axis.set_xscale("log")
    else:
        axis.set_xlim(left=0)
    axis.grid(axis="both", color="#DDDDDD", linewidth=0.6)
    axis.tick_params(axis="y", length=0)


@attrs.frozen(kw_only=True)
class Course:
    """One measure, minute by minute, beside what the account allowed."""

    title: str
    lines: Mapping[str, Sequence[float]]
    allowed: Mapping[str, Sequence[float]]
    is_log: bool = False


def course(path: Path, courses: Sequence[Course]) -> None:
    """Lines over the minutes, one panel above the other."""
    figure = Figure(figsize=(8, 1.9 * len(courses)), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(len(courses), 1, sharex=True).tolist()
    for axis, shown in zip(axes, courses, strict=True):
        for (name, values), style in zip(shown.allowed.items(), ("--", ":"), strict=False):
            axis.step(_minutes(values), values, color=GREY, linestyle=style, label=name)
        for (name, values), (colour, shape) in zip(shown.lines.items(), MARKS, strict=False):
            axis.plot(_minutes(values), values, shape + "-", color=colour, label=name, markersize=3)
        axis.set_title(shown.title)
        axis.grid(color="#DDDDDD", linewidth=0.6)
        if shown.is_log:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes[-1].set_xlabel("minutes")
    save(figure, path)


def _minutes(values: Sequence[float]) -> range:
    return range(1, len(values) + 1)


def save(figure: Figure, path: Path) -> None:
    """Writes it without a date, so that the same figures give the same file."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
