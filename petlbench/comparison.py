"""Measured and published numbers in one table: set apart and cited, or one subtracted from the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd
from pandas import DataFrame

from petlbench import published
from petlbench.columns import PARAMETERS, layout, metric_column
from petlbench.frame import AVERAGE, Scores, is_mean
from petlbench.published import Rows
from petlbench.selection import AXES
from petlbench.ties import placed
from petlbench.typeset import MISSING, Cell, Column, Table

EXTRA = {"backbone": "backbone", "pretraining": "weights", "checkpoint": "scored"}
"""Columns that stand beside the method where published rows differ in them, and what they are called in a table."""
METHOD, SOURCE = Column("method", key=True), Column("source", key=True)


def published_table(name: str, rows: Rows, digits: int = 1, *, groups: bool = False) -> Table:
    """Published rows alone, as papers set them: method, parameters, the tasks by group, both averages.

    `groups` adds the means of the groups, as columns that are shown where they are asked for.
    """
    shown = [column for column in rows.columns if groups or column[0] == AVERAGE or not is_mean(column)]
    heads = [METHOD, SOURCE, *_extra_heads(rows), PARAMETERS]
    for key, head in _heads(rows, shown):
        heads.append(replace(head, extra=True) if is_mean(key) and key[0] != AVERAGE else head)
    cells = [_cells(head, rows, digits) for head in heads]
    return Table(
        name,
        f"{name}: published results in percent, as printed{_common(rows)}.",
        heads,
        list(zip(*cells, strict=True)),
        list(_notes(rows, shown)),
        rotate=True,
    )


def beside(found: Scores, made: Table, rows: Rows, digits: int = 1) -> Table:
    """The table of measured scores with the published rows below it, in columns of the same meaning.

    `made` is the table of `found`. The best are found among the measured and among the published rows, each apart.
    """
    measured = dict(zip(made.columns, zip(*made.rows, strict=True), strict=True))
    index = found.mean.index.to_frame(index=False)
    heads = [METHOD, SOURCE, *_extra_heads(rows)]
    heads += [head for head in made.columns if head not in heads]
    own = {head: [Cell(str(value)) for value in index[head.name]] for head in heads if head.name in AXES}
    best = found.runs["metric"].str.endswith("best_test_epoch").any()
    own[Column("scored", key=True)] = [Cell("best_test_epoch" if best else "last_epoch") for _ in made.rows]
    own[SOURCE] = [Cell("measured") for _ in made.rows]
    cells = [[*measured.get(head, own.get(head, [])), *_cells(head, rows, digits)] for head in heads]
    note = (
        f"Below the rule: published results, as printed{_common(rows)}; made under other conditions than those above."
    )
    return replace(
        made,
        columns=heads,
        rows=list(zip(*cells, strict=True)),
        notes=[*made.notes, note, *_notes(rows, rows.columns)],
        apart=len(rows.axes),
    )


def cited(rows: Rows) -> Iterator[str]:
    """Where the rows are from, a sentence per source."""
    for name in dict.fromkeys(rows.axes["source"]):
        source = published.sources()[name]
        paper = source.paper
        title = f"{paper.authors.split(' and ')[0]} et al., {paper.title}, {paper.year}" if paper else ""
        place = f"arXiv {paper.arxiv}" if paper and paper.arxiv else ""
        said = "; ".join(part for part in (title, place, f"read from {source.read}", source.protocol) if part)
        yield f"{name}: {said}."


def flat(rows: Rows) -> DataFrame:
    """Published rows as `petlbench.table.scores_frame` gives measured ones, with their sources and misprints."""
    heads = dict(_heads(rows, rows.columns))
    numbers = rows.values[list(heads)].set_axis([head.title for head in heads.values()], axis=1)
    why = [
        "; ".join(f"{title}: {reason}" for title, reason in zip(numbers, reasons, strict=True) if reason)
        for reasons in rows.misprints[list(heads)].itertuples(index=False, name=None)
    ]
    names = rows.axes[["label", "source", "backbone", "pretraining", "checkpoint"]]
    names = names.rename(columns={"label": "method", "pretraining": "weights"})
    parameters = DataFrame({"method_parameters": (rows.axes["parameters"] * 1e6).round()})
    return pd.concat([names, parameters, numbers, DataFrame({"misprints": why})], axis=1)


def _extra_heads(rows: Rows) -> list[Column]:
    return [Column(name, key=True) for field, name in EXTRA.items() if rows.axes[field].nunique() > 1]


def _heads(rows: Rows, shown: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], Column]]:
    """Of a suite that the zoo has, as for measured scores; else metrics below their tasks. Each with its key."""
    if rows.in_zoo:
        return list(layout(shown, rows.metrics))
    return [((task, metric), metric_column(task, metric)) for task, metric in shown]


def _cells(head: Column, rows: Rows, digits: int) -> list[Cell]:
    """A column of published rows."""
    named = {**{name: field for field, name in EXTRA.items()}, METHOD.name: "label"}
    if head == SOURCE:
        names = rows.axes["source"]
        return [Cell(name, cite=published.sources()[name].key) for name in names]
    if head.key:
        return [Cell(value or MISSING) for value in rows.axes.get(named.get(head.name, ""), [""] * len(rows.axes))]
    if head == PARAMETERS:
        values = rows.axes["parameters"]
        return [Cell(MISSING if math.isnan(value) else f"{value:.4g}", value=value) for value in values]
    for column, known in _heads(rows, rows.columns):
        if head.title == known.title:
            both = zip(rows.values[column], rows.misprints[column], strict=True)
            return placed([_cell(value, reason, digits) for value, reason in both])
    return [Cell() for _ in rows.axes.index]


def _cell(value: float, reason: str, digits: int) -> Cell:
    return Cell() if math.isnan(value) else Cell(f"{value:.{digits}f}", doubtful=bool(reason), value=value)


def _common(rows: Rows) -> str:
    """What all published rows share, in words."""
    same = [rows.axes[name].iloc[0] for name in ("backbone", "pretraining") if rows.axes[name].nunique() == 1]
    said = [f"pre-training {value}" if value.startswith("not ") else value for value in same if value]
    return "".join(f"; {each}" for each in said)


def _notes(rows: Rows, shown: Sequence[tuple[str, str]]) -> Iterator[str]:
    if any(is_mean(column) for column in shown):
        yield "Published means are as printed, or computed from the tasks where a source prints none."
    yield "Best and second among published rows are as printed: there are no seeds to test."
    yield "Published parameters are as printed: sources differ in whether the head counts."
    told: dict[str, list[str]] = {}
    for column, head in _heads(rows, shown):
        for number, reason in enumerate(rows.misprints[column]):
            if reason and not reason.startswith("computed with"):
                row = rows.axes.iloc[number]
                told.setdefault(reason, []).append(f"{row['label']} ({row['source']}), {head.title}")
    for reason, places in told.items():
        yield f"‡ {'; '.join(dict.fromkeys(places))}: {reason}."
    if rows.left_out:
        yield f"{rows.left_out} published rows left out: they have no number of these tasks, but perhaps a mean."
