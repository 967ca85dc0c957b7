"""Accuracy against trained weights, one point per row of a table: the figure that goes with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from petlbench.errors import InputError
from petlbench.frame import AVERAGE, GROUPS, TASKS, Scores
from petlbench.method import Family

# Okabe and Ito's colours, which stay apart for most kinds of colour blindness, and a shape for each for print.
STYLES = dict(
    zip(
        get_args(Family),
        [
            ("#000000", "s"),
            ("#E69F00", "v"),
            ("#56B4E9", "o"),
            ("#009E73", "^"),
            ("#0072B2", "D"),
            ("#D55E00", "P"),
            ("#CC79A7", "X"),
        ],
        strict=True,
    )
)
SUFFIXES = (".pdf", ".png", ".svg")
ZERO = 4
"""How far left of the smallest number of weights zero stands, as a factor."""
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "petlbench", "pdf.fonttype": 42}
"""Text stays text, and equal numbers give equal files."""
WIDTH, HEIGHT = 7.0, 4.6
"""Inches: the text width of a paper in one column."""


def draw(found: Scores, family: Callable[[str], str], file: Path) -> None:
    """Write the figure as .pdf, .png or .svg.

    Each point is the mean over groups (or over tasks where there is one group, or the only task) over seeds; the bar is
    one standard deviation over seeds. `family` names the family of a method by its label. Rows without a mean, because
    a task is missing, are left out. Raises InputError if none is left or the file has another ending.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if file.suffix not in SUFFIXES:
        raise InputError(f"--out {file}: valid endings: {', '.join(SUFFIXES)}")
    column = _column(found)
    mean, std, weights = found.mean[column], found.std[column], found.parameters["method_parameters"]
    rows = [row for row in mean.index if not math.isnan(mean[row])]
    if not rows:
        raise InputError("no method has a score for every task yet, so there is nothing to draw; --tasks chooses fewer")
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        smallest = min((weights[row] for row in rows if weights[row]), default=1.0)
        labels = []
        for row in rows:
            label = str(row[0])
            colour, marker = STYLES[family(label)]
            x, y = weights[row] or smallest / ZERO, mean[row]
            error = None if math.isnan(std[row]) else std[row]
            axes.errorbar(x, y, error, fmt=marker, color=colour, markersize=6, elinewidth=0.8, capsize=2, zorder=3)
            labels.append((x, y, label, colour))
        _weights_axis(axes, smallest, has_zero=any(not weights[row] for row in rows))
        axes.margins(x=0.12, y=0.12)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("trained weights of the method, without the head")
        axes.set_ylabel(_axis(found, column))
        seen = [name for name in STYLES if any(family(label) == name for _, _, label, _ in labels)]
        for name in seen:
            axes.plot([], [], STYLES[name][1], color=STYLES[name][0], label=name)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        _write_beside(axes, labels)
        try:
            figure.savefig(file, dpi=200, metadata=_undated(file))
        except OSError as error:
            raise InputError(f"--out {file}: cannot be written: {error.strerror or error}") from error


def _weights_axis(axes: Any, smallest: float, has_zero: bool) -> None:
    """A logarithmic axis with a place for zero, which has none, to the left of all others."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, NullLocator

    axes.set_xscale("log")
    if has_zero:
        zero, powers = smallest / ZERO, LogFormatterMathtext()
        powers.set_axis(axes.xaxis)
        axes.xaxis.set_major_locator(FixedLocator([zero, *(10.0**n for n in range(12) if 10.0**n > 2 * zero)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, place: "0" if x == zero else powers(x, place)))
        axes.axvline(2 * zero, color="0.7", linewidth=0.8, linestyle=(0, (2, 3)))


def _column(found: Scores) -> tuple[str, str]:
    """The mean of the group means, else the mean of the tasks, else the only task."""
    return next((c for c in ((AVERAGE, GROUPS), (AVERAGE, TASKS)) if c in found.columns), found.columns[0])


def _axis(found: Scores, column: tuple[str, str]) -> str:
    metric = ", ".join(sorted(set(found.runs["metric"]) - {""}))
    over = {(AVERAGE, GROUPS): "mean of group means", (AVERAGE, TASKS): "mean of tasks"}.get(column, column[1])
    return f"{metric} (%), {over}"


def _write_beside(axes: Any, labels: list[tuple[float, float, str, str]]) -> None:
    """Put each label where it covers the fewest others: right of its point, left, above or below."""
    figure = axes.figure
    figure.draw_without_rendering()
    places = (
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    )
    taken = [_box(axes.transData.transform((x, y)), 8, 8) for x, y, _, _ in labels]
    for x, y, label, colour in labels:
        point = axes.transData.transform((x, y))
        width, height = 4.6 * len(label) * figure.dpi / 72, 8.5 * figure.dpi / 72

        def crowd(place: tuple[int, int, str, str], point: Any = point, size: Any = (width, height)) -> float:
            box = _placed(point, place, size, figure.dpi / 72)
            inside = axes.bbox.contains(box[0], box[1]) and axes.bbox.contains(box[2], box[3])
            return sum(_overlap(box, other) for other in taken) + (0 if inside else 1e6)

        best = min(places, key=crowd)
        taken.append(_placed(point, best, (width, height), figure.dpi / 72))
        axes.annotate(
            label, (x, y), best[:2], textcoords="offset points", ha=best[2], va=best[3], fontsize=8, color=colour
        )


Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels."""


def _box(middle: Any, width: float, height: float) -> Box:
    return middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2


def _placed(point: Any, place: tuple[int, int, str, str], size: tuple[float, float], scale: float) -> Box:
    right, up, horizontal, vertical = place
    width, height = size
    left = point[0] + right * scale - {"left": 0, "center": width / 2, "right": width}[horizontal]
    bottom = point[1] + up * scale - {"bottom": 0, "center": height / 2, "top": height}[vertical]
    return left, bottom, left + width, bottom + height


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _undated(file: Path) -> dict[str, None]:
    """Leave the date out, so that equal numbers give equal files."""
    return {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix, {})
