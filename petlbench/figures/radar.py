"""A web of tasks with a line per method."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.lines import Line2D
from pandas import DataFrame

from petlbench.errors import InputError
from petlbench.figures import paper
from petlbench.figures.paper import LINES, Sheet, metric, no_rows
from petlbench.frame import Scores, is_mean

FEWEST = 3
"""Tasks that make an area."""


def draw(sheet: Sheet, found: Scores) -> list[str]:
    """All spokes share one scale in percent, which starts at a multiple of ten below the lowest score."""
    columns = [column for column in found.columns if not is_mean(column)]
    scores = found.mean[columns].set_axis(paper.names(found).tolist(), axis=0).dropna()
    if len(columns) < FEWEST:
        raise InputError(f"--kind radar: {len(columns)} tasks make no area, {FEWEST} are needed")
    if scores.empty:
        raise no_rows()
    if len(scores) > len(LINES):
        raise InputError(
            f"--kind radar: {len(scores)} methods cannot be told apart; choose up to {len(LINES)} with --methods"
        )
    size = sheet.size - 1
    side = {1: 2.9, 2: 4.6}[sheet.columns]
    sheet.set_height(side + 0.12 * math.ceil(len(scores) / 3) + 0.2)
    axes = sheet.figure.add_subplot(projection="polar")
    angles = np.linspace(0, math.tau, len(columns), endpoint=False)
    closed = np.append(angles, 0)
    lowest = max(0, math.floor(scores.to_numpy().min() / 10) * 10 - 10)
    highest = min(100, math.ceil(scores.to_numpy().max() / 10) * 10)
    for (_, row), (colour, line, marker) in zip(scores.iterrows(), LINES, strict=False):
        values = np.append(row.to_numpy(float), row.iloc[0])
        axes.plot(closed, values, color=colour, linestyle=line, linewidth=1.0, marker=marker, markersize=2.5)
    axes.set_theta_zero_location("N")  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    axes.set_ylim(lowest, highest)
    rings = list(range(lowest, highest + 1, 10 if highest - lowest <= 50 else 20))
    axes.set_yticks(rings, [str(ring) for ring in rings], fontsize=size - 1, color="0.35")
    axes.set_rlabel_position(math.degrees(angles[_emptiest(scores)] + math.pi / len(columns)))  # type: ignore[attr-defined]
    axes.set_xticks(angles, [""] * len(angles))
    axes.grid(linewidth=0.4, color="0.8")
    axes.spines["polar"].set_linewidth(0.4)
    out = highest + 0.05 * (highest - lowest)
    for angle, (_, task) in zip(angles, columns, strict=True):
        across, up = math.sin(angle), math.cos(angle)
        side_of = "center" if abs(across) < 0.1 else "left" if across > 0 else "right"
        above = "center" if abs(up) < 0.9 else "bottom" if up > 0 else "top"
        axes.text(angle, out, task, ha=side_of, va=above, fontsize=size)
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=3, linewidth=1.0, label=str(name))
        for name, (colour, line, marker) in zip(scores.index, LINES, strict=False)
    ]
    sheet.legend(handles)
    sheet.figure.suptitle(f"{metric(found)} (%)", fontsize=sheet.size)
    return []


def _emptiest(scores: DataFrame) -> int:
    """The spoke with the least ink between it and the next: where the scale can be read."""
    highest = scores.to_numpy(float).max(axis=0)
    return int(np.argmin(np.maximum(highest, np.roll(highest, -1))))
