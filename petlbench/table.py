"""Tables as people read them: on a terminal, in Markdown, in the LaTeX of a paper, and as CSV for what comes next."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import pandas as pd
from pandas import DataFrame, Series
from rich.console import Console

from petlbench import frame, markup, measure
from petlbench.caption import caption, notes, suite_of
from petlbench.columns import HEAD, PARAMETERS, PPT, layout
from petlbench.cost import Cost
from petlbench.frame import AVERAGE, COST_AXES, TASKS, Scores
from petlbench.record import Record
from petlbench.selection import AXES, FAILED, State
from petlbench.suite import Suite
from petlbench.ties import Ties, marked, of_rows
from petlbench.typeset import MISSING, Cell, Column, Table, latex, markdown, terminal

Format = Literal["terminal", "markdown", "latex", "html", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

SIGNS = {0: "", 1: "*", 2: "_"}
"""What stands in front of the best and of the second in plain text. In front, so that numbers stay below each other."""


def _screen(table: Table) -> str:
    """For a terminal; elsewhere, as in a file, in plain text with `SIGNS`."""
    console = Console()
    return terminal(table if console.is_terminal else _plain(table), console)


def _plain(table: Table) -> Table:
    """With `SIGNS` for what is bold or underlined elsewhere, and a note that says what they mean."""
    places = {cell.place for row in table.rows for cell in row}
    said = {1: f"{SIGNS[1]} is the best of a column", 2: f"{SIGNS[2]} the second"}
    signs = [words for place, words in said.items() if place in places]
    rows = [[replace(cell, text=f"{SIGNS[cell.place]}{cell.text}") for cell in row] for row in table.rows]
    return replace(table, rows=rows, notes=[*([f"{', '.join(signs)}."] if signs else []), *table.notes])


WRITERS: dict[str, Callable[[Table], str]] = {"terminal": _screen, "markdown": markdown, "latex": latex}


def text(tables: Sequence[Table], format: Format) -> str:
    """Tables in any format but CSV; in HTML they are a page of their own."""
    if format == "html":
        return markup.page(tables)
    return "\n\n".join(WRITERS[format](table) for table in tables)


def scores(
    records: Iterable[Record],
    suite: Suite,
    format: Format = "terminal",
    *,
    digits: int = 1,
    head: bool = False,
    ppt: bool = False,
    ties: Ties = "test",
    **choice: Any,
) -> str:
    """The scores of a suite's records as text.

    `digits` are the decimals of scores; `head` adds the weights of the head, `ppt` the performance-parameter
    trade-off of the average over tasks; `ties` says what shares the best place. `choice` is passed on to
    `petlbench.frame.scores`, which says what it raises.
    """
    found = frame.scores(records, suite, **choice)
    if format == "csv":
        return scores_csv(found)
    return text([scores_table(found, digits, head=head, ppt=ppt, ties=ties)], format)


def costs(costs: Iterable[Cost], format: Format = "terminal", records: Iterable[Record] = (), **choice: Any) -> str:
    """The costs as text, one table per machine. `records` and `choice` are passed on to `petlbench.frame.costs`."""
    found = frame.costs(costs, records, **choice)
    return costs_csv(found) if format == "csv" else text(cost_tables(found), format)


def costs_csv(found: DataFrame) -> str:
    """What `petlbench.frame.costs` gives, nothing rounded."""
    return found.convert_dtypes().to_csv(index=False).rstrip("\n")


def cost_tables(found: DataFrame) -> list[Table]:
    """The costs, as `petlbench.frame.costs` gives them, one table per machine and task."""
    return [cost_table(part) for _, part in found.groupby(["machine", "task"], sort=False)]


def scores_csv(found: Scores) -> str:
    """One line per row of the table, nothing rounded, missing values empty.

    The columns are `AXES`, method_parameters, head_parameters; for every task its name, TASK_std and TASK_n (seeds), or
    the same for TASK_METRIC where it shows several metrics; for every mean mean_GROUP, mean_tasks and mean_groups, also
    with _std and _n; search_trials and search_seconds, what the search of a task has spent, where there was one; and
    the numbers of done, stale and failed runs.
    """
    return scores_frame(found).to_csv(index=False).rstrip("\n")


def scores_frame(found: Scores) -> DataFrame:
    """What `scores_csv` writes."""
    columns: dict[str, Series] = {}
    for key, column in layout(found.columns, found.metrics):
        columns[column.title] = found.mean[key]
        columns[f"{column.title}_std"] = found.std[key]
        columns[f"{column.title}_n"] = found.count[key]
    columns |= {f"search_{name}": found.budget[name] for name in found.budget if found.budget[name].notna().any()}
    counted: dict[str, list[State]] = {"done": ["done"], "stale": ["stale"], "failed": FAILED}
    for title, states in counted.items():
        columns[title] = found.runs["state"].isin(states).groupby([found.runs[name] for name in AXES]).sum()
    return found.parameters.convert_dtypes().join(DataFrame(columns)).reset_index()


def scores_table(
    found: Scores, digits: int = 1, *, head: bool = False, ppt: bool = False, ties: Ties = "test"
) -> Table:
    """The scores in words and rounded numbers, each column with its best and its second."""
    axes = found.mean.index.to_frame(index=False)
    varying = [name for name in AXES if name == "method" or axes[name].nunique() > 1]
    columns: list[tuple[Column, list[Cell], Series | None]] = [
        (Column(_words(name), key=True), [Cell(_words(value)) for value in axes[name]], None) for name in varying
    ]
    parameters = {"method_parameters": PARAMETERS} | ({"head_parameters": HEAD} if head else {})
    for field, column in parameters.items():
        columns.append((column, [_quantity(value / 1e6) for value in found.parameters[field]], None))
    for field, name in {"trials": "trials spent", "seconds": "search (s)"}.items():
        if found.budget[field].notna().any():
            column = Column(name, title=f"search_{field}", less=True)
            columns.append((column, [_quantity(value) for value in found.budget[field]], None))
    for key, column in layout(found.columns, found.metrics):
        each = zip(found.mean[key], found.std[key], found.stale[key], strict=True)
        columns.append((column, [_score(mean, std, stale, digits) for mean, std, stale in each], found.seeds[key]))
    if ppt and (AVERAGE, TASKS) in found.columns:
        factor = found.parameters["method_parameters"].map(lambda weights: measure.ppt(1, weights))
        both = zip(found.mean[AVERAGE, TASKS] * factor, found.stale[AVERAGE, TASKS], strict=True)
        cells = [_score(value, math.nan, stale, digits) for value, stale in both]
        columns.append((PPT, cells, of_rows(found.seeds, factor, (AVERAGE, TASKS))))
    shown, how = marked(columns, ties)
    heads, cells_of = zip(*shown, strict=True)
    rows = list(zip(*cells_of, strict=True))
    return Table(suite_of(found), caption(found), heads, rows, [*how, *notes(found)], rotate=True)


COST_COLUMNS = {
    "method_parameters": ("params (M)", "method", 1e6),
    "head_parameters": ("params (M)", "head", 1e6),
    "total_parameters": ("params (M)", "total", 1e6),
    "stored_bytes": ("", "stored (MiB)", 2**20),
    "flops": ("GFLOPs", "unfolded", 1e9),
    "flops_folded": ("GFLOPs", "folded", 1e9),
    "encoder_flops": ("GFLOPs", "encoder", 1e9),
    "head_flops": ("GFLOPs", "head", 1e9),
    "saved_bytes": ("", "saved (MiB)", 2**20),
    "train_images_per_second": ("images/s", "train", 1),
    "inference_images_per_second": ("images/s", "inference", 1),
    "folded_images_per_second": ("images/s", "folded", 1),
    "latency_ms": ("", "latency (ms)", 1),
    "train_memory_bytes": ("memory (MiB)", "train", 2**20),
    "inference_memory_bytes": ("memory (MiB)", "inference", 2**20),
    "seconds": ("", "run (s)", 1),
}
"""Group, name and unit of the fields that a table of costs shows."""
SHARES = ("encoder_flops", "head_flops")
"""Those that it shows for dense suites only: a linear head has nearly nothing."""


def cost_table(found: DataFrame) -> Table:
    """The costs on one machine, and of one task, as `petlbench.frame.costs` gives them, in units that suit them."""
    task = found["task"].iloc[0]
    varying = [name for name in COST_AXES if name == "method" or found[name].nunique() > 1]
    columns = [(Column(_words(name), key=True), [Cell(_words(value)) for value in found[name]]) for name in varying]
    methods = zip(found["method"], found["stale"], strict=True)
    columns[0] = (columns[0][0], [Cell(method, stale=stale) for method, stale in methods])
    for field, (group, name, unit) in COST_COLUMNS.items():
        values = pd.to_numeric(found[field])
        if values.isna().all():  # not asked for: what can only be timed, the runs of another suite
            continue
        if field in SHARES and not task:
            continue
        figures = 4 if group == "GFLOPs" else 3  # the field compares 17.58 with 17.64
        head = Column(
            name, group, f"{group} {name}" if group else "", title=field, less=not field.endswith("per_second")
        )
        columns.append((head, [_quantity(value / unit, figures) for value in values]))
    heads, cells = zip(*columns, strict=True)
    machine = found["machine"].iloc[0]
    same = {name: found[name].dropna().unique() for name in COST_AXES if name not in varying}
    said = ", ".join(f"{_words(name)} {_words(value)}" for name, values in same.items() for value in values)
    notes = [
        "FLOPs are multiply-adds of one image; saved is what autograd keeps of one image for the backward pass; "
        "stored is what one more task takes on disk; folded is after merging what can be merged. "
        f"The head is for {_words(found['classes'].iloc[0])} classes.",
        *(f"Memory is the peak of: {kind}." for kind in [", ".join(found["memory_kind"].dropna().unique())] if kind),
        *(["† The code has changed since."] if found["stale"].any() else []),
    ]
    of = f" of {task}, neck and head included," if task else ""
    name = re.sub("[/_]", "-", f"cost-{machine}-{task}".rstrip("-"))
    return Table(name, f"Costs{of} on {machine}: {said}.", heads, list(zip(*cells, strict=True)), notes)


def significant(value: float, figures: int = 3) -> str:
    """A number with so many significant digits, but all those in front of the point."""
    if math.isnan(value):
        return MISSING
    return f"{value:.{max(0, figures - 1 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _score(mean: float, std: float, stale: bool, digits: int) -> Cell:
    if math.isnan(mean):
        return Cell()
    return Cell(f"{mean:.{digits}f}", "" if math.isnan(std) else f"{std:.{digits}f}", bool(stale), value=mean)


def _quantity(value: float, figures: int = 3) -> Cell:
    return Cell(significant(value, figures), value=value)


def _words(value: object) -> str:
    """A name or value of an axis, as people write it."""
    if isinstance(value, float):  # a whole number in a column where others are missing
        return MISSING if math.isnan(value) else f"{value:g}"
    if value is None:
        return MISSING
    return str(value).replace("_", " ") if value in (*AXES, *COST_AXES) else str(value)
