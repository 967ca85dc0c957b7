"""Average ranks on a line, with bars over methods that Nemenyi's test cannot tell apart (Demsar 2006)."""

from __future__ import annotations

from petlbench import frame, ranking, statistics
from petlbench.caption import named
from petlbench.figures import paper
from petlbench.figures.paper import INK, Sheet
from petlbench.frame import Scores
from petlbench.statistics import FRIEDMAN_TASKS

ROW = 0.155
"""Inches from one name to the next."""
BAR = 0.07
"""Inches from one bar to the next."""


def draw(sheet: Sheet, found: Scores) -> list[str]:
    """The better half of the methods is named on the left, the rest on the right; a line leads to its rank.

    With too few tasks for a critical difference there are no bars, and the figure says so.
    """
    called = dict(zip(frame.names(found), paper.names(found), strict=True))
    made = named(ranking.compare(found), called)
    names, ranks = made.methods["method"].tolist(), made.methods["rank"].tolist()
    methods, test = len(names), made.friedman
    critical = test.critical_difference if test else 0.0
    bars = statistics.cliques(ranks, critical) if test else []
    left = (methods + 1) // 2

    size = sheet.size - 0.5
    margin = sheet.text_width([f"{name} {rank:.2f}" for name, rank in zip(names, ranks, strict=True)], size) + 0.12
    top, below = 0.55, 0.12 + BAR * len(bars)
    height = top + below + ROW * left + 0.05
    sheet.set_height(height)
    sheet.figure.set_layout_engine("none")
    axes = sheet.figure.add_axes((0, 0, 1, 1))  # everything in inches, so that text and lines keep their distances
    axes.set_axis_off()
    axes.set(xlim=(0, sheet.width), ylim=(-height, 0))

    def at(rank: float) -> float:
        return margin + (sheet.width - 2 * margin) * (rank - 1) / (methods - 1)

    axis = -top
    axes.plot([at(1), at(methods)], [axis, axis], color=INK, linewidth=0.8)
    step = next(step for step in (1, 2, 5, 10, 20) if (methods - 1) / step * 0.2 <= sheet.width - 2 * margin)
    for rank in sorted({1, methods, *range(step, methods + 1, step)}):
        axes.plot([at(rank)] * 2, [axis, axis + 0.05], color=INK, linewidth=0.8)
        if rank in (1, methods) or min(at(rank) - at(1), at(methods) - at(rank)) >= 0.17:
            axes.text(at(rank), axis + 0.07, str(rank), ha="center", va="bottom", fontsize=size)
    if test:
        start, end = at(1), at(1 + critical)
        axes.plot([start, end], [-0.2, -0.2], color=INK, linewidth=1.2)
        for edge in (start, end):
            axes.plot([edge, edge], [-0.17, -0.23], color=INK, linewidth=0.8)
        words = f"critical difference {critical:.2f}"
        inside = end + 0.06 + sheet.text_width([words], size) < sheet.width
        x, y, upright = (end + 0.06, -0.2, "center") if inside else (start, -0.15, "bottom")
        axes.text(x, y, words, ha="left", va=upright, fontsize=size)
    else:
        why = "two methods" if methods == 2 else f"{len(made.tasks)} tasks, {FRIEDMAN_TASKS} needed"
        words = f"average rank; no critical difference ({why})"
        axes.text(sheet.width / 2, -0.14, words, ha="center", va="center", fontsize=size)
    for number, (first, last) in enumerate(bars):
        y = axis - 0.08 - BAR * number
        axes.plot([at(ranks[first]) - 0.03, at(ranks[last]) + 0.03], [y, y], color="#0072B2", linewidth=2.2, zorder=2)
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        better = place < left
        row = place if better else methods - 1 - place
        y, x = axis - below - ROW * (row + 0.5), at(rank)
        edge = margin - 0.06 if better else sheet.width - margin + 0.06
        axes.plot([x, x, edge], [axis, y, y], color="0.45", linewidth=0.6, zorder=1)
        words = f"{name} {rank:.2f}" if better else f"{rank:.2f} {name}"
        gap = -0.04 if better else 0.04
        axes.text(edge + gap, y, words, ha="right" if better else "left", va="center", fontsize=size)
    return ranking.sentences(made)[:1] + [
        f"{name} is left out: it has no score on {len(lacking)} of the tasks" for name, lacking in made.left_out.items()
    ]
