"""Tables as people read them: on a terminal, in Markdown, in the LaTeX of a paper, and as CSV for what comes next."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import pandas as pd
from pandas import DataFrame, Series

from petlbench import frame, measure
from petlbench.cost import Cost
from petlbench.frame import AVERAGE, COST_AXES, MEAN, TASKS, Scores, is_mean
from petlbench.record import Record
from petlbench.selection import AXES, FAILED, SCORED, State
from petlbench.suite import Suite
from petlbench.typeset import MISSING, Cell, Column, Table, latex, markdown, terminal

Format = Literal["terminal", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

WRITERS: dict[str, Callable[[Table], str]] = {"terminal": terminal, "markdown": markdown, "latex": latex}


def scores(
    records: Iterable[Record],
    suite: Suite,
    format: Format = "terminal",
    *,
    digits: int = 1,
    head: bool = False,
    ppt: bool = False,
    **choice: Any,
) -> str:
    """The scores of a suite's records as text.

    `digits` are the decimals of scores; `head` adds the weights of the head, `ppt` the performance-parameter
    trade-off of the average over tasks. `choice` is passed on to `petlbench.frame.scores`, which says what it raises.
    """
    found = frame.scores(records, suite, **choice)
    return scores_csv(found) if format == "csv" else WRITERS[format](scores_table(found, digits, head=head, ppt=ppt))


def costs(costs: Iterable[Cost], format: Format = "terminal", records: Iterable[Record] = (), **choice: Any) -> str:
    """The costs as text, one table per machine. `records` and `choice` are passed on to `petlbench.frame.costs`."""
    found = frame.costs(costs, records, **choice)
    if format == "csv":
        return found.convert_dtypes().to_csv(index=False).rstrip("\n")
    return "\n\n".join(WRITERS[format](cost_table(part)) for _, part in found.groupby("machine", sort=False))


def scores_csv(found: Scores) -> str:
    """One line per row of the table, nothing rounded, missing values empty.

    The columns are `AXES`, method_parameters, head_parameters; for every task its name, TASK_std and TASK_n (seeds);
    for every mean mean_GROUP, mean_tasks and mean_groups, also with _std and _n; search_trials and search_seconds, what
    the search of a task has spent, where there was one; and the numbers of done, stale and failed runs.
    """
    return scores_frame(found).to_csv(index=False).rstrip("\n")


def scores_frame(found: Scores) -> DataFrame:
    """What `scores_csv` writes."""
    columns: dict[str, Series] = {}
    for group, name in found.columns:
        title = column_title(group, name)
        columns[title] = found.mean[group, name]
        columns[f"{title}_std"] = found.std[group, name]
        columns[f"{title}_n"] = found.count[group, name]
    columns |= {f"search_{name}": found.budget[name] for name in found.budget if found.budget[name].notna().any()}
    counted: dict[str, list[State]] = {"done": ["done"], "stale": ["stale"], "failed": FAILED}
    for title, states in counted.items():
        columns[title] = found.runs["state"].isin(states).groupby([found.runs[name] for name in AXES]).sum()
    return found.parameters.convert_dtypes().join(DataFrame(columns)).reset_index()


def column_title(group: str, name: str) -> str:
    """The name of a column of scores outside of its group: a task, mean_GROUP, mean_tasks or mean_groups."""
    return name if not is_mean((group, name)) else f"mean_{group if name == MEAN else name}"


def scores_table(found: Scores, digits: int = 1, *, head: bool = False, ppt: bool = False) -> Table:
    """The scores in words and rounded numbers, each column with its best and its second."""
    axes = found.mean.index.to_frame(index=False)
    varying = [name for name in AXES if name == "method" or axes[name].nunique() > 1]
    columns: list[tuple[Column, list[Cell]]] = [
        (Column(_words(name), key=True), [Cell(_words(value)) for value in axes[name]]) for name in varying
    ]
    parameters = {"method_parameters": "params (M)"} | ({"head_parameters": "head (M)"} if head else {})
    for field, name in parameters.items():
        columns.append((Column(name), [Cell(significant(value / 1e6)) for value in found.parameters[field]]))
    for field, name in {"trials": "trials spent", "seconds": "search (s)"}.items():
        if found.budget[field].notna().any():
            columns.append((Column(name), [Cell(significant(value)) for value in found.budget[field]]))
    for group, name in found.columns:
        each = zip(found.mean[group, name], found.std[group, name], found.stale[group, name], strict=True)
        columns.append(
            (score_column(group, name), placed([_score(mean, std, stale, digits) for mean, std, stale in each]))
        )
    if ppt and (AVERAGE, TASKS) in found.columns:
        both = zip(found.mean[AVERAGE, TASKS], found.parameters["method_parameters"], strict=True)
        marked = zip((measure.ppt(*each) for each in both), found.stale[AVERAGE, TASKS], strict=True)
        columns.append(
            (Column("PPT", AVERAGE), placed([_score(ppt, math.nan, stale, digits) for ppt, stale in marked]))
        )
    heads, cells = zip(*columns, strict=True)
    rows = list(zip(*cells, strict=True))
    return Table(_suite(found), _caption(found, axes), heads, rows, list(_notes(found)), rotate=True)


COST_COLUMNS = {
    "method_parameters": ("params (M)", "method", 1e6),
    "head_parameters": ("params (M)", "head", 1e6),
    "total_parameters": ("params (M)", "total", 1e6),
    "stored_bytes": ("", "stored (MiB)", 2**20),
    "flops": ("GFLOPs", "unfolded", 1e9),
    "flops_folded": ("GFLOPs", "folded", 1e9),
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


def cost_table(found: DataFrame) -> Table:
    """The costs on one machine, as `petlbench.frame.costs` gives them, in units that suit the numbers."""
    varying = [name for name in COST_AXES if name == "method" or found[name].nunique() > 1]
    columns = [(Column(_words(name), key=True), [Cell(_words(value)) for value in found[name]]) for name in varying]
    methods = zip(found["method"], found["stale"], strict=True)
    columns[0] = (columns[0][0], [Cell(method, stale=stale) for method, stale in methods])
    for field, (group, name, unit) in COST_COLUMNS.items():
        values = pd.to_numeric(found[field])
        if values.isna().all():  # not asked for: what can only be timed, the runs of another suite
            continue
        figures = 4 if group == "GFLOPs" else 3  # the field compares 17.58 with 17.64
        head = Column(name, group, f"{group} {name}" if group else "")
        columns.append((head, [Cell(significant(value / unit, figures)) for value in values]))
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
    return Table(f"cost-{machine}", f"Costs on {machine}: {said}.", heads, list(zip(*cells, strict=True)), notes)


WHY_FAILED = {"oom": "out of memory", "diverged": "diverged"}


def significant(value: float, figures: int = 3) -> str:
    """A number with so many significant digits, but all those in front of the point."""
    if math.isnan(value):
        return MISSING
    return f"{value:.{max(0, figures - 1 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def score_column(group: str, name: str) -> Column:
    """The head of a column of scores."""
    if group == AVERAGE:
        return Column(f"over {name}", group, f"mean of {name}")
    return Column(name, group, f"{group} mean" if name == MEAN else "")


def _score(mean: float, std: float, stale: bool, digits: int) -> Cell:
    if math.isnan(mean):
        return Cell()
    return Cell(f"{mean:.{digits}f}", "" if math.isnan(std) else f"{std:.{digits}f}", bool(stale))


def placed(cells: Sequence[Cell]) -> list[Cell]:
    """Find the best and the second as printed: what reads the same shares its place.

    One row alone has none, and what is doubtful neither.
    """
    ranked = [cell.text != MISSING and not cell.doubtful for cell in cells]
    if sum(ranked) < 2:
        return list(cells)
    values = sorted({float(cell.text) for cell, has in zip(cells, ranked, strict=True) if has}, reverse=True)
    places = dict(zip(values[:2], (1, 2), strict=False))
    both = zip(cells, ranked, strict=True)
    return [replace(cell, place=places.get(float(cell.text), 0)) if has else cell for cell, has in both]


def _words(value: object) -> str:
    """A name or value of an axis, as people write it."""
    if isinstance(value, float):  # a whole number in a column where others are missing
        return MISSING if math.isnan(value) else f"{value:g}"
    if value is None:
        return MISSING
    return str(value).replace("_", " ") if value in (*AXES, *COST_AXES) else str(value)


def _suite(found: Scores) -> str:
    return str(found.runs["suite"].iloc[0])


def _caption(found: Scores, axes: DataFrame) -> str:
    """What all numbers of the table have in common."""
    runs = found.runs[found.runs["state"].isin(SCORED)]
    seeds = sorted(runs["seed"].unique())
    over = "mean ± sample standard deviation over seeds" if len(seeds) > 1 else "seed"
    common = axes.iloc[0][[name for name in AXES if axes[name].nunique() == 1]]
    facts = {
        "protocol": "protocol {}",
        "trials": "up to {} trials per method and task, chosen on val200",
        "overrides": "recipe with {}",
        "backbone": "backbone {}",
        "weights": "{} weights",
        "image_size": "{} pixels",
        "normalization": "pixels normalised as {}",
        "resize": "resize {}",
        "interpolation": "{} interpolation",
    }
    tasks = sum(not is_mean(column) for column in found.columns)
    said = [text.format(common[name]) for name, text in facts.items() if common.get(name, "") not in ("", "backbone")]
    if found.left_out:
        said.insert(0, f"{tasks} of {tasks + found.left_out} tasks")
    if runs.empty:
        return "; ".join([f"{_suite(found)}: no scores", *said]) + "."
    head = f"{_suite(found)}: {', '.join(sorted(set(runs['metric'])))} in percent, {over} {', '.join(map(str, seeds))}"
    machines = ", ".join(sorted(set(runs["machine"])))
    mixed = [f"different data mixed in {', '.join(names)}"] if (names := _mixed(runs)) else []
    tail = [*mixed, f"data {_data(runs)}", f"measured on {machines}", f"{len(runs)} {_plural(len(runs), 'run')}"]
    return "; ".join([head, *said, *tail]) + "."


def _mixed(runs: DataFrame) -> list[str]:
    """The tasks whose runs are on different data, in words: scores of one such column do not compare."""
    kinds = runs.groupby("task")["data"].nunique()
    return [f"{task} ({number} versions)" for task, number in kinds[kinds > 1].items()]


def _data(runs: DataFrame) -> str:
    """A short fingerprint for the data of all tasks: that of a single task, else the SHA-256 of "task data" lines."""
    pairs = sorted(set(zip(runs["task"], runs["data"], strict=True)))
    lines = "".join(f"{task} {data}\n" for task, data in pairs)
    return pairs[0][1][:8] if len(pairs) == 1 else hashlib.sha256(lines.encode()).hexdigest()[:8]


def _notes(found: Scores) -> Iterator[str]:
    """What a reader must know before trusting the numbers."""
    cells = [column for column in found.columns if not is_mean(column)]
    count, states = found.count[cells], found.runs["state"].value_counts()
    scored = found.runs[found.runs["state"].isin(SCORED)]
    missing, shown = int((count == 0).sum().sum()), count.size
    seeds = scored["seed"].nunique()
    if missing:
        them = "is missing ({}), and with it" if missing == 1 else "are missing ({}), and with them"
        yield f"{missing} of {shown} scores {them.format(MISSING)} every mean that would need one."
    if failed := sum(states.get(state, 0) for state in FAILED):
        why = [f"{states[state]} {words}" for state, words in WHY_FAILED.items() if state in states]
        details = f" ({', '.join(why)})" if why else ""
        yield f"{failed} {_plural(failed, 'run')} failed{details}."
    if fewer := int(((count > 0) & (count < seeds)).sum().sum()):
        yield f"{fewer} of {shown - missing} scores {'is' if fewer == 1 else 'are'} over fewer than all {seeds} seeds."
    if stale := states.get("stale", 0):
        yield f"† Code that can change the score has changed since ({stale} {_plural(stale, 'run')})."
    if superseded := states.get("superseded", 0):
        yield f"{superseded} {_plural(superseded, 'run')} left out: a better or later one is in the same cell."
    if unknown := states.get("unknown", 0):
        names = sorted(found.runs.loc[found.runs["state"] == "unknown", "task"].unique())
        yield f"{unknown} {_plural(unknown, 'run')} left out: {', '.join(names)} is no task of the suite."
    if (scored.groupby(AXES)["method_parameters"].nunique() > 1).any():
        yield "Parameters differ between tasks; shown is their mean."


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"
