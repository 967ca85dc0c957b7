"""Figures for a paper, one file per kind: each draws a table's numbers on a sheet and returns what to say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib import rc_context
from pandas import DataFrame

from petlbench.figures import curves, groups, heat, paper, radar, ranks, scatter
from petlbench.figures.paper import OTHER, Sheet, check
from petlbench.frame import Scores
from petlbench.record import Record

__all__ = ["OTHER", "draw"]


def draw(
    kind: str,
    found: Scores,
    file: Path,
    *,
    columns: int = 2,
    family: Callable[[str], str],
    x: str = "weights",
    costs: DataFrame | None = None,
    records: Iterable[Record] = (),
) -> list[str]:
    """Write a figure as .pdf, .png or .svg and return what its reader should know, a line each.

    `columns` of a paper is its width. `family` names the family of a method by its label. `x` and `costs` (of
    `petlbench.frame.costs`) are for "scatter", `records` for "curves". Raises InputError if nothing can be drawn.
    """
    check(file)
    with rc_context(Sheet.settings(columns)):
        sheet = Sheet(columns)
        match kind:
            case "ranks":
                notes = ranks.draw(sheet, found)
            case "heat":
                notes = heat.draw(sheet, found)
            case "groups":
                notes = groups.draw(sheet, found, family)
            case "radar":
                notes = radar.draw(sheet, found)
            case "curves":
                notes = curves.draw(sheet, found, records)
            case _:
                notes = scatter.draw(sheet, found, family, x, costs)
        sheet.save(file)
    return [*paper.shortened(found), *notes]
