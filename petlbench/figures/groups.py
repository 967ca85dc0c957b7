"""Bars per group of tasks: a panel for each group and one for all, methods in the same order in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from petlbench.figures import paper
from petlbench.figures.paper import STYLES_AND_OTHER, Sheet, mean_column, metric, no_rows
from petlbench.frame import AVERAGE, GROUPS, MEAN, TASKS, Scores

ROW = {1: 0.135, 2: 0.16}
"""Inches."""


def draw(sheet: Sheet, found: Scores, family: Callable[[str], str]) -> list[str]:
    """Bars start at zero; the line at their end is one standard deviation over seeds. The best mean is on top."""
    panels = _panels(found)
    last = mean_column(found)
    names = paper.names(found)
    rows = [row for row in found.mean.index if not math.isnan(found.mean[last][row])]
    rows.sort(key=lambda row: float(found.mean[last][row]))
    if not rows:
        raise no_rows()
    beside = min(len(panels), {1: 2, 2: 4}[sheet.columns])
    down = math.ceil(len(panels) / beside)
    sheet.set_height(down * (ROW[sheet.columns] * len(rows) + 0.3) + 0.65)
    grid = sheet.figure.subplots(down, beside, sharey=True, squeeze=False).ravel()
    colours = [STYLES_AND_OTHER[family(str(row[0]))][0] for row in rows]
    longest = max(float(found.mean[column][row]) for column in panels.values() for row in rows)
    for axes, (title, column) in zip(grid, panels.items(), strict=False):
        values = [found.mean[column][row] for row in rows]
        spread = [0.0 if math.isnan(found.std[column][row]) else found.std[column][row] for row in rows]
        axes.barh(range(len(rows)), values, height=0.72, color=colours, alpha=0.85)
        for place, (value, std) in enumerate(zip(values, spread, strict=True)):
            if std:
                axes.plot([value - std, value + std], [place, place], color="0.1", linewidth=0.7)
            axes.text(value + std + 1.5, place, f"{value:.1f}", ha="left", va="center", fontsize=sheet.size - 1.5)
        axes.set_title(title)
        axes.set_xlim(0, 1.28 * longest)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), [names[row] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([0, 25, 50, 75])
        axes.set_xlabel(f"{metric(found)} (%)")
        axes.label_outer()
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    sheet.legend_of_families(family(str(row[0])) for row in rows)
    return []


def _panels(found: Scores) -> dict[str, tuple[str, str]]:
    """Columns by title: the groups, then the mean. A group of one task is its task."""
    made: dict[str, tuple[str, str]] = {}
    for group, name in found.columns:
        if group != AVERAGE and (name == MEAN or (group, MEAN) not in found.columns):
            several = sum(other == group for other, _ in found.columns) > 1 and name != MEAN
            made[name if several else group] = (group, name)
    average = next((c for c in ((AVERAGE, GROUPS), (AVERAGE, TASKS)) if c in found.columns), None)
    return made | ({f"mean of {average[1]}": average} if average else {})
