"""Accuracy against a cost, one point per row of a table, with the front that no other row passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from pandas import DataFrame, Series

from petlbench.errors import InputError
from petlbench.figures import labels, paper
from petlbench.figures.paper import STYLES_AND_OTHER, Sheet, mean_column, mean_title, no_rows
from petlbench.frame import Scores

ZERO = 4
"""How far left of the smallest number of weights zero stands, as a factor."""


class Axis(NamedTuple):
    """A cost to draw accuracy against."""

    field: str
    """Column of `petlbench.frame.costs`."""
    unit: float
    title: str
    timed: bool
    """Whether it compares only within one machine and way of measuring."""
    log: bool
    more: bool = False
    """Whether more of it is better."""


AXES = {
    "weights": Axis("method_parameters", 1, "trained weights of the method, without the head", False, True),
    "flops": Axis("flops", 1e9, "GFLOPs (multiply-adds) of one image", False, False),
    "memory": Axis("train_memory_bytes", 2**20, "peak memory of training (MiB)", True, False),
    "throughput": Axis("train_images_per_second", 1, "images per second in training", True, False, True),
    "stored": Axis("stored_bytes", 2**20, "stored for one more task (MiB)", False, True),
}
MEASURED = ["machine", "device", "precision", "threads", "batch_size"]


def draw(
    sheet: Sheet, found: Scores, family: Callable[[str], str], x: str = "weights", costs: DataFrame | None = None
) -> list[str]:
    """Each point is the mean over groups (or over tasks where there is one group, or the only task) over seeds.

    The bar is one standard deviation over seeds. Rows without a mean, because a task is missing, are left out; so are
    those without a cost. Trained weights are those of the runs, all else comes from `costs`.
    """
    axis, column = AXES[x], mean_column(found)
    mean, std, names = found.mean[column], found.std[column], paper.names(found)
    values, title, notes = found.parameters["method_parameters"], axis.title, list[str]()
    if x != "weights":
        values, title, notes = _costs(found, x, costs)
    rows = [row for row in mean.index if not math.isnan(mean[row])]
    if not rows:
        raise no_rows()
    without = [names[row] for row in rows if math.isnan(values[row])]
    rows = [row for row in rows if not math.isnan(values[row])]
    if not rows:
        raise InputError(f"--x {x}: no cost of these methods is there; `petlbench cost` measures them")
    notes += [f"left out, as their cost is not measured: {', '.join(without)}"] if without else []
    smallest = min((values[row] for row in rows if values[row]), default=1.0)
    place = {row: values[row] or smallest / ZERO if axis.log else values[row] for row in rows}
    front = _front([(place[row], mean[row]) for row in rows], axis.more)

    sheet.set_height({1: 3.0, 2: 4.2}[sheet.columns])
    axes = sheet.figure.add_subplot()
    marker = {1: 4.0, 2: 5.5}[sheet.columns]
    for row in rows:
        colour, shape = STYLES_AND_OTHER[family(str(row[0]))]
        error = None if math.isnan(std[row]) else std[row]
        axes.errorbar(
            place[row],
            mean[row],
            error,
            fmt=shape,
            color=colour,
            markersize=marker,
            elinewidth=0.6,
            capsize=1.5,
            zorder=3,
        )
    if axis.log:
        _log_axis(axes, smallest, has_zero=any(not values[row] for row in rows))
    axes.margins(x=0.14, y=0.12)
    ends = [(place[rows[i]], mean[rows[i]]) for i in front]
    steps = "steps-pre" if axis.more else "steps-post"
    (line,) = axes.plot(*zip(*ends, strict=True), color="0.6", linewidth=1.0, drawstyle=steps, zorder=0)
    axes.grid(alpha=0.25, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(title)
    axes.set_ylabel(mean_title(found))
    sheet.legend_of_families(family(str(row[0])) for row in rows)
    points = [(place[row], mean[row], str(names[row]), i in front) for i, row in enumerate(rows)]
    labels.write(axes, points, sheet.size - 1, marker, line)
    return [f"Pareto front (grey line, names in bold): {', '.join(str(names[rows[i]]) for i in front)}", *notes]


def _front(points: list[tuple[float, float]], more: bool) -> list[int]:
    """The points that no other equals or passes both in accuracy and in cost, from left to right."""
    sign = -1 if more else 1
    best: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (sign * points[i][0], -points[i][1])):
        if not best or points[i][1] > points[best[-1]][1]:
            best.append(i)
    return best[::-1] if more else best


def _costs(found: Scores, x: str, costs: DataFrame | None) -> tuple[Series, str, list[str]]:
    """The cost of every row of the table, NaN without one; the title of the axis; and notes."""
    axis, title, notes = AXES[x], AXES[x].title, list[str]()
    key = ["method", "backbone", "image_size"]
    wanted = found.mean.index.to_frame(index=False)[key]
    there = DataFrame(columns=[*key, *MEASURED, axis.field, "stale"]) if costs is None else costs
    there = there[there[axis.field].notna()].merge(wanted.drop_duplicates(), on=key)
    if axis.timed and len(there):
        alike = there.groupby(MEASURED, sort=True)
        how, there = max(alike, key=lambda part: len(part[1]))
        machine, _, precision, threads, batch = how if isinstance(how, tuple) else (how,)
        title = f"{title}, batch {batch:g}, {precision}"
        notes.append(f"measured on {machine}, batch size {batch:g}, {precision}, threads {threads:g}")
        if alike.ngroups > 1:
            notes.append("costs that were measured in another way or elsewhere are left out, as they do not compare")
    first = there.drop_duplicates(key).set_index(key)
    shown = [tuple(row) for row in wanted.to_numpy().tolist()]
    if first["stale"].any():
        notes.append("some costs are stale: the code has changed since")
    values = [float(first[axis.field].get(row, math.nan)) / axis.unit for row in shown]
    return Series(values, index=found.mean.index), title, notes


def _log_axis(axes: Any, smallest: float, has_zero: bool) -> None:
    """A logarithmic axis with a place for zero, which has none, to the left of all others."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, NullLocator

    axes.set_xscale("log")
    if has_zero:
        zero, powers = smallest / ZERO, LogFormatterMathtext()
        powers.set_axis(axes.xaxis)
        axes.xaxis.set_major_locator(FixedLocator([zero, *(10.0**n for n in range(12) if 10.0**n > 2 * zero)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, place: "0" if x == zero else powers(x, place)))
        axes.axvline(2 * zero, color="0.7", linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
