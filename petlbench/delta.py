"""Measured minus published, where the two compare: same task, method, architecture and scored checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame

from petlbench import frame, published, spec
from petlbench.columns import column_title, score_column
from petlbench.comparison import METHOD, SOURCE
from petlbench.errors import InputError
from petlbench.frame import is_mean, with_means
from petlbench.published import Rows, architecture
from petlbench.record import Record
from petlbench.run import Run
from petlbench.selection import axes, has_any
from petlbench.suite import Suite
from petlbench.typeset import MINUS, Cell, Column, Table

CHECKPOINTS = {"last_epoch": "", "best_test_epoch": "_best_test_epoch"}
"""What sources score, and how the metric of a record that holds the same ends."""
PIXELS = 224
"""Height and width of the images behind the published numbers of classification."""
KEYS = ["method", "source", "backbone", "weights", "protocol", "scored", "published with"]
"""What names a difference; the last is the pre-training as the source gives it."""


class IncomparableError(Exception):
    """Why there is no difference to show, in one line. It is an answer, not a mistake."""


def differences(
    records: Sequence[Record], suite: Suite, name: str, sources: Sequence[str] = (), **choice: Any
) -> tuple[DataFrame, DataFrame]:
    """A row per measured and published row that compare: `KEYS` and the differences in points; and the misprints.

    `choice` is that of `petlbench.frame.scores`. A mean is over all tasks of the table, or missing. Raises
    IncomparableError where there is no such pair.
    """
    try:
        rows = published.rows(name, suite, sources, choice.get("tasks", ()))
    except InputError as error:
        if any(source not in published.sources() for source in sources):
            raise
        raise IncomparableError(f"nothing compares: {error}") from error
    chosen = [suite.task(task) for task in choice.get("tasks", ())] or list(suite.tasks)
    made: list[dict[Any, Any]] = []
    marks: list[dict[Any, Any]] = []
    for checkpoint, ending in CHECKPOINTS.items():
        metric = f"{chosen[0].metric}{ending}" if ending else ""
        kept = [record for record in records if not metric or metric in record.scores]
        if not kept:
            continue
        asked = [each for each in choice.get("methods", ()) if not metric or has_any(kept, each)]
        if metric and choice.get("methods") and not asked:
            continue
        found = frame.scores(kept, suite, **{**choice, "metric": metric, "methods": asked})
        tasks = [column for column in found.columns if not is_mean(column)]
        runs = {tuple(axes(record).values()): record.run for record in kept}
        for row in found.mean.index:
            for number in _comparable(runs[row], rows, checkpoint):
                cells = found.mean.loc[[row]].iloc[0][tasks] - rows.values.iloc[number][tasks]
                if cells.notna().any():
                    run, source = runs[row], rows.axes["source"].iloc[number]
                    ours = run.backbone.name, run.backbone.weights, run.protocol
                    named = (run.label, source, *ours, checkpoint, rows.axes["pretraining"].iloc[number])
                    made.append(dict(zip([*KEYS, *tasks], [*named, *cells], strict=True)))
                    marks.append({column: rows.misprints.iloc[number][column] for column in tasks})
    if not made:
        raise IncomparableError(_nothing(name, rows))
    both = DataFrame(made)
    of_tasks = both[[(task.group, task.name) for task in chosen]].set_axis([task.name for task in chosen], axis=1)
    values = with_means(of_tasks, chosen, lambda part: part.mean(axis=1, skipna=False))
    return pd.concat({"": both[KEYS]}, axis=1).join(values), DataFrame(marks)


def table(
    records: Sequence[Record], suite: Suite, name: str, sources: Sequence[str] = (), digits: int = 1, **choice: Any
) -> Table:
    """The differences in a table. Raises IncomparableError."""
    found, misprints = differences(records, suite, name, sources, **choice)
    heads, cells = [], []
    for column in _columns(found):
        group, title = column
        values = found[column]
        if group == "":
            if title in ("method", "source") or values.nunique() > 1:
                heads.append({"method": METHOD, "source": SOURCE}.get(title, Column(title, key=True)))
                cites = [published.sources()[each].key if title == "source" else "" for each in values]
                cells.append([Cell(value, cite=cite) for value, cite in zip(values, cites, strict=True)])
        else:
            heads.append(score_column(group, title))
            doubts = misprints[column] if column in misprints else [""] * len(values)
            cells.append([_cell(*each, digits) for each in zip(values, doubts, strict=True)])
    same = [f"{key} {found['', key].iloc[0]}" for key in KEYS[2:] if found["", key].nunique() == 1]
    caption = (
        f"{name}: measured minus published, in points; same task, method and architecture, and the same scored "
        f"checkpoint (last epoch against last_epoch, best test epoch against best_test_epoch); {'; '.join(same)}."
    )
    return Table(
        f"{name}-delta", caption, heads, list(zip(*cells, strict=True)), list(_notes(found, misprints)), rotate=True
    )


def csv(records: Sequence[Record], suite: Suite, name: str, sources: Sequence[str] = (), **choice: Any) -> str:
    """The differences, nothing rounded."""
    found, _ = differences(records, suite, name, sources, **choice)
    titles = [title if group == "" else column_title(group, title) for group, title in _columns(found)]
    return found.set_axis(titles, axis=1).to_csv(index=False).rstrip("\n")


def _comparable(run: Run, rows: Rows, checkpoint: str) -> Iterator[int]:
    """The published rows, by number, that a measured row compares with."""
    if run.backbone.weights == "random" or run.backbone.image_size != PIXELS:
        return
    for number, row in enumerate(rows.axes.itertuples()):
        (method,) = spec.parse(str(row.method))
        is_it = run.method == method.name and all(run.fields.get(key) == value for key, value in method.fields.items())
        if is_it and row.checkpoint == checkpoint and row.backbone == architecture(run.backbone.name):
            yield number


def _columns(found: DataFrame) -> list[tuple[str, str]]:
    columns: Any = found.columns
    return list(columns)


def _nothing(name: str, rows: Rows) -> str:
    silent = int((rows.axes["checkpoint"] == "").sum())
    return (
        f"nothing compares: no measured row of {name} shares method, architecture, {PIXELS} pixels and scored "
        f"checkpoint with a published one ({silent} of {len(rows.axes)} published rows do not say what they score)"
    )


def _cell(value: float, reason: str, digits: int) -> Cell:
    return (
        Cell()
        if math.isnan(value)
        else Cell(f"{value:+.{digits}f}".replace("-", MINUS), doubtful=bool(reason), value=value)
    )


def _notes(found: DataFrame, misprints: DataFrame) -> Iterator[str]:
    yield "The weights, the input pipeline and the settings of the two may differ."
    for source in found["", "source"].unique():
        if how := published.sources()[source].protocol:
            yield f"{source}: {how}."
    for reason in sorted({text for text in misprints.to_numpy().ravel() if text}):
        yield f"‡ {reason}."
