"""Which cells of a column are marked: the best and those that a test cannot tell apart from it, then the second."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from pandas import DataFrame, Series

from petlbench import statistics
from petlbench.caption import labels
from petlbench.statistics import ALPHA, TIE_SEEDS
from petlbench.typeset import MISSING, Cell, Column

Ties = Literal["digits", "test"]
"""What makes two cells equal: that they print alike, or also that no test over seeds tells them apart."""
TIES: tuple[Ties, ...] = get_args(Ties)
NOISY = 10
"""A row is noisy whose deviation over seeds is more than so many times the median row's. With three seeds, rows that
scatter alike have one in fewer than 6 of 10,000 columns."""
NAMED = 3
"""The most columns that a note names; of more it says how many."""


def placed(cells: Sequence[Cell]) -> list[Cell]:
    """Find the best and the second as printed: what reads the same shares its place.

    One row alone has none, and what is doubtful neither.
    """
    if not is_ranked(cells):
        return list(cells)
    values = sorted({float(cell.text) for cell in cells if _has_place(cell)}, reverse=True)
    places = dict(zip(values[:2], (1, 2), strict=False))
    return [replace(cell, place=places.get(float(cell.text), 0)) if _has_place(cell) else cell for cell in cells]


def placed_by_test(cells: Sequence[Cell], margin: float) -> list[Cell]:
    """The same, where cells whose values are less than `margin` apart share a place as well.

    There is a second only where the best stands alone: three methods that tie leave no second place.
    """
    ranked = {place: cell.value for place, cell in enumerate(cells) if _has_place(cell)}
    if not is_ranked(cells):
        return list(cells)

    def first(among: Iterable[int]) -> list[int]:
        top = max(among, key=ranked.__getitem__)
        return [i for i in among if cells[i].text == cells[top].text or ranked[top] - ranked[i] < margin]

    best = first(ranked)
    second = first([i for i in ranked if i not in best]) if len(best) == 1 else []
    return [replace(cell, place=1 if i in best else 2 if i in second else 0) for i, cell in enumerate(cells)]


def margin(seeds: Series) -> float:
    """The difference from which on two means of a column differ, from its scores by `AXES` and seed.

    NaN where the rows do not share at least `TIE_SEEDS` seeds.
    """
    wide = seeds.dropna().unstack("seed")
    if wide.shape[0] < 2 or wide.shape[1] < TIE_SEEDS or wide.isna().any(axis=None):
        return math.nan
    return statistics.least_significant_difference(wide.to_numpy())


def noisy(seeds: Series) -> list[str]:
    """The rows, by name, whose scatter alone makes rows tie that would not tie without them; else none.

    `seeds` are the scores of a column that has a `margin`. Of two rows none is noisy: their test is of differences.
    """
    wide = seeds.dropna().unstack("seed")
    deviations = wide.std(axis=1)
    calm = deviations <= NOISY * deviations.median()
    if len(wide) < 3 or calm.all():
        return []
    means = wide[calm].mean(axis=1).round(9)  # the last digits tell nothing apart
    behind = means.max() - means
    margins = (statistics.least_significant_difference(part.to_numpy()) for part in (wide, wide[calm]))
    first, alone = (int(((behind < least) | (behind == 0)).sum()) for least in margins)
    return labels(wide.index)[~calm].tolist() if first > alone else []


def warning(noisy: Mapping[str, Sequence[str]], ranked: int) -> list[str]:
    """A sentence on the `noisy` rows, by column, of a table that ranks so many columns; nothing if there are none."""
    if not noisy:
        return []
    rows = list(dict.fromkeys(row for rows in noisy.values() for row in rows))
    them = f"{' and '.join(rows)} {'scatters' if len(rows) == 1 else 'scatter'} far more than the others"
    which = ", ".join(noisy) if len(noisy) <= NAMED else f"{len(noisy)} of {ranked} columns"
    where, there = ("", "") if len(noisy) == ranked else (f" in {which}", " there")
    return [f"{them}{where}, so the joint test tells little apart{there}: see petlbench table --ties digits."]


def note(tested: int, ranked: int, ties: Ties) -> list[str]:
    """How the marked cells of a table were found, in a sentence; nothing if no column is ranked."""
    if not ranked:
        return []
    if ties == "digits":
        return ["Best and second are marked by printed digits, not by a test."]
    if not tested:
        return [f"Best and second are marked by printed digits: to test for ties takes {TIE_SEEDS} seeds of all rows."]
    rest = ranked - tested
    return [
        "Marked as best is whatever Tukey's test, paired by seed, cannot tell apart from the best at the level "
        f"{ALPHA:g}; where that stands alone, second is marked likewise."
        + (f" In {rest} of {ranked} columns, whose rows share too few seeds, by printed digits." if rest else "")
    ]


def marked(
    columns: Sequence[tuple[Column, list[Cell], Series | None]], ties: Ties
) -> tuple[list[tuple[Column, list[Cell]]], list[str]]:
    """The columns with their best and second marked, and the sentences that say how.

    A column is (head, cells, scores by `AXES` and seed); where the last is None, nothing is marked.
    """
    made: list[tuple[Column, list[Cell]]] = []
    tested = ranked = 0
    loud: dict[str, list[str]] = {}
    for head, cells, seeds in columns:
        if seeds is None:
            made.append((head, cells))
            continue
        least = margin(seeds) if ties == "test" and is_ranked(cells) else math.nan
        made.append((head, placed(cells) if math.isnan(least) else placed_by_test(cells, least)))
        ranked += is_ranked(cells)
        tested += not math.isnan(least)
        if not math.isnan(least) and not head.extra and (rows := noisy(seeds)):
            loud[str(head)] = rows
    shown = sum(seeds is not None and not head.extra for head, _, seeds in columns)
    return made, [*note(tested, ranked, ties), *warning(loud, shown)]


def is_ranked(cells: Sequence[Cell]) -> bool:
    """Whether there is more than one cell to compare."""
    return sum(map(_has_place, cells)) > 1


def of_rows(seeds: DataFrame, factor: Series, column: tuple[str, str]) -> Series:
    """A column of scores by seed, each row times its own factor."""
    values = seeds[column]
    return values * [factor[tuple(row[:-1])] for row in values.index]


def _has_place(cell: Cell) -> bool:
    return cell.text != MISSING and not cell.doubtful
