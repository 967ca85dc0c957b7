"""Training loss over epochs, a panel per task and a line per method."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from petlbench.errors import InputError
from petlbench.figures import paper
from petlbench.figures.paper import LINES, Sheet
from petlbench.frame import Scores, is_mean
from petlbench.record import Record
from petlbench.selection import AXES, SCORED


def draw(sheet: Sheet, found: Scores, records: Iterable[Record]) -> list[str]:
    """Lines are means over seeds, the shade goes from the lowest to the highest of them; losses on a log scale."""
    curves = _curves(found, records)
    names = [name for name in paper.names(found) if any(name == each for each, _ in curves)]
    tasks = [task for group, task in found.columns if not is_mean((group, task)) and any(task == t for _, t in curves)]
    if not curves:
        raise InputError("--kind curves: no record has a training curve")
    if len(names) > len(LINES):
        raise InputError(
            f"--kind curves: {len(names)} methods cannot be told apart; choose up to {len(LINES)} with --methods"
        )
    beside = min(len(tasks), {1: 2 if len(tasks) in (2, 4) else 3, 2: 5 if len(tasks) > 8 else 4}[sheet.columns])
    down = math.ceil(len(tasks) / beside)
    panel = {1: 1.0, 2: 1.25}[sheet.columns] if len(tasks) > 4 else {1: 1.4, 2: 1.8}[sheet.columns]
    sheet.set_height(down * panel + 0.5 + 0.12 * math.ceil(len(names) / 3))
    grid = sheet.figure.subplots(down, beside, sharex=True, sharey=True, squeeze=False)
    styles = dict(zip(names, LINES, strict=False))
    for axes, task in zip(grid.ravel(), tasks, strict=False):
        for name, (colour, line, marker) in styles.items():
            if (name, task) not in curves:
                continue
            losses = curves[name, task]
            epochs = np.arange(1, losses.shape[1] + 1)
            every = max(1, len(epochs) // 4)
            axes.plot(
                epochs,
                losses.mean(axis=0),
                line,
                color=colour,
                linewidth=0.9,
                marker=marker,
                markersize=2,
                markevery=every,
            )
            if len(losses) > 1:
                axes.fill_between(epochs, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set_title(task, fontsize=sheet.size - 0.5, pad=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(alpha=0.25, linewidth=0.4)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch")
        axes.label_outer()
    for place, axes in enumerate(grid.ravel()[len(tasks) :], start=len(tasks)):
        axes.set_axis_off()
        grid.ravel()[place - beside].tick_params(labelbottom=True)
        grid.ravel()[place - beside].set_xlabel("epoch")
    sheet.figure.supylabel("training loss", fontsize=sheet.size)
    sheet.legend(
        [
            Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=3, linewidth=1.0, label=name)
            for name, (colour, line, marker) in styles.items()
        ]
    )
    return []


def _curves(
    found: Scores, records: Iterable[Record]
) -> dict[tuple[str, str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """By name and task the losses (seeds, epochs) of the runs behind the table; NaN where one was not finite."""
    shown = found.runs[found.runs["state"].isin(SCORED)]
    names = paper.names(found)
    row_of = {file: tuple(row) for file, row in zip(shown["file"], shown[AXES].to_numpy().tolist(), strict=True)}
    kept: dict[tuple[str, str], list[list[float]]] = {}
    for record in records:
        file = str(record.run.path)
        if file in row_of and record.curve:
            losses = [math.nan if epoch.loss is None else epoch.loss for epoch in record.curve]
            kept.setdefault((str(names[row_of[file]]), record.run.task), []).append(losses)
    return {key: np.array([each[: min(map(len, losses))] for each in losses]) for key, losses in kept.items()}
