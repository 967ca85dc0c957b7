"""Gain of every method over full fine-tuning, task by task."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np

from petlbench.errors import InputError
from petlbench.figures import paper
from petlbench.figures.paper import Sheet, metric
from petlbench.frame import Scores, is_mean
from petlbench.selection import AXES

REFERENCE = "full"
MINUS = "\N{MINUS SIGN}"
ROW = {1: 0.135, 2: 0.17}
"""Inches."""


def draw(sheet: Sheet, found: Scores) -> list[str]:
    """A row per method, the largest mean gain first; a cell without a number is grey and crossed.

    A method is compared with the full fine-tuning that agrees with it in all but the method: same backbone, same
    pixels, same protocol. Raises InputError without one.
    """
    columns = [column for column in found.columns if not is_mean(column)]
    scores, axes_of = found.mean[columns], found.mean.index.to_frame(index=False)
    same = [name for name in AXES if name not in ("method", "overrides")]
    full = {tuple(axes_of.loc[i, same]): i for i in axes_of.index if axes_of.loc[i, "method"] == REFERENCE}
    pairs = [(i, full[tuple(axes_of.loc[i, same])]) for i in axes_of.index if tuple(axes_of.loc[i, same]) in full]
    pairs = [(i, reference) for i, reference in pairs if i != reference]
    if not pairs:
        raise InputError(
            "--kind heat: nothing to compare with full fine-tuning; it needs records of full and of another method"
        )
    table, names = scores.to_numpy(dtype=float), paper.names(found).tolist()
    gains = {names[i]: table[i] - table[reference] for i, reference in pairs}
    gains = {name: gain for name, gain in gains.items() if not np.isnan(gain).all()}
    if not gains:
        raise InputError("--kind heat: no task has a score of full and of another method")
    order = sorted(gains, key=lambda name: -np.nanmean(gains[name]))
    values = np.array([gains[name] for name in order])

    known = np.abs(values[~np.isnan(values)])
    limit = max(1.0, float(np.ceil(np.quantile(known, 0.9))))
    sheet.set_height(ROW[sheet.columns] * len(order) + {1: 1.45, 2: 1.55}[sheet.columns])
    axes = sheet.figure.add_subplot()
    axes.set_facecolor("0.92")
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(order)), order)
    axes.set_xticks(range(len(columns)), [task for _, task in columns], rotation=90)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(order) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    start = 0
    for group, members in groupby(columns, key=lambda column: column[0]):
        width = len(list(members))
        axes.text(start + (width - 1) / 2, -0.65, group, ha="center", va="bottom", fontsize=sheet.size - 0.5)
        if start:
            axes.axvline(start - 0.5, color="black", linewidth=0.8)
        start += width
    bar = sheet.figure.colorbar(
        image, ax=axes, orientation="horizontal", extend="both", fraction=0.05, aspect=40, pad=0.03
    )
    bar.set_label(f"{metric(found)} over that of full fine-tuning (points)")
    bar.outline.set_linewidth(0.4)
    sheet.figure.draw_without_rendering()
    cell = axes.bbox.width / len(columns) * 72 / sheet.figure.dpi
    digits = 1 if cell > 24 else 0 if cell > 12 else None  # points; narrower cells hold no number that can be read
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            axes.plot([column - 0.2, column + 0.2], [row, row], color="0.5", linewidth=0.6)
        elif digits is not None:
            colour = "white" if abs(value) > 0.65 * limit else "black"
            said = f"{value:+.{digits}f}" if round(value, digits) else "0"
            axes.text(
                column, row, said.replace("-", MINUS), ha="center", va="center", fontsize=sheet.size - 2, color=colour
            )
    return []
