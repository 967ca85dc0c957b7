"""Records become numbers to compare: a row per method, a column per task, and no mean over what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import Any

import pandas as pd
from pandas import DataFrame, MultiIndex, Series

from petlbench.cost import Cost
from petlbench.errors import InputError, unknown
from petlbench.measure import Counts
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.selection import AXES, SCORED, axes, of_methods, refuse_mixed_data, states
from petlbench.spec import Spec
from petlbench.speed import Speed
from petlbench.suite import Suite, Task

COST_AXES = ["method", "backbone", "image_size", "device", "precision", "threads", "batch_size"]
"""What tells the rows of a table of costs apart, within one machine."""

MEAN, AVERAGE, TASKS, GROUPS = "mean", "average", "tasks", "groups"
"""Names of columns: (group, MEAN) is a group's mean, (AVERAGE, TASKS) and (AVERAGE, GROUPS) are the two averages."""


@dataclass(frozen=True)
class Scores:
    """A table of scores in numbers.

    The rows of all frames but the last are those of `AXES`. The columns of the first four are (group, task) in the
    suite's order; a group's mean stands behind its tasks, the averages over tasks and over groups come last. Of a
    single task or group there is no mean, nor of tasks that show several metrics. The further metrics of these stand
    behind all others, as (task, metric).
    """

    mean: DataFrame
    """Percent, over the seeds. NaN where there is no score, and for every mean that would need one."""
    std: DataFrame
    """Sample standard deviation over the seeds. NaN for one seed, and for a mean whose tasks differ in their seeds."""
    count: DataFrame
    """Number of seeds; for a mean, the smallest of its tasks."""
    stale: DataFrame
    """Whether code that has changed since had a part in it."""
    seeds: DataFrame
    """The scores of every seed, with the columns of the others and the rows of `AXES` and seed."""
    parameters: DataFrame
    """Trained weights of the `method` and of the `head`, averaged over the runs: heads differ from task to task."""
    budget: DataFrame
    """What the search for a task's settings has spent, on average: `trials` and `seconds`. NaN without a search."""
    runs: DataFrame
    """The runs behind the table, as `runs` gives them."""
    left_out: int
    """Number of tasks of the suite that the table was asked to leave out."""
    metrics: dict[str, tuple[str, ...]]
    """The metrics of every task that shows several, its own first."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the tasks of a dense suite say of their heads and sizes, `Task.facts`."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Group and name of every column but those of further metrics."""
        columns: Any = self.mean.columns
        return [column for column in columns if column not in further(self.metrics)]


def scores(
    records: Iterable[Record],
    suite: Suite,
    *,
    tasks: Sequence[str] = (),
    methods: Sequence[Spec] = (),
    metric: str = "",
    mix_data: bool = False,
    is_stale: Callable[[Record], bool] = lambda record: False,
) -> Scores:
    """The scores of a suite's records.

    `tasks` and `methods` choose columns and rows, empty for all: `vpt` stands for all rows of that method,
    `vpt(tokens=50)` for those with this value. `metric` replaces the tasks' own, `mix_data` lets runs on different data
    share a table. Raises InputError as `runs` does.
    """
    found = runs(records, suite, tasks=tasks, methods=methods, metric=metric, mix_data=mix_data, is_stale=is_stale)
    chosen = [suite.task(name) for name in tasks] or list(suite.tasks)
    rows = MultiIndex.from_frame(found.loc[found["state"] != "unknown", AXES].drop_duplicates())
    scored = found[found["state"].isin(SCORED)].dropna(subset="score")

    metrics = several(chosen) if not metric else {}

    def wide(values: Series) -> DataFrame:
        """One row per row of the table and seed, one column per task."""
        table = scored.assign(values=values).pivot(index=[*AXES, "seed"], columns="task", values="values")
        return table.reindex(columns=[task.name for task in chosen])

    def over_seeds(table: DataFrame) -> Any:
        return table.groupby(level=AXES, sort=False)

    def mean(part: DataFrame) -> Series:
        return part.mean(axis=1, skipna=False)

    score = wide(scored["score"])
    of_further = wide_further(scored, metrics).reindex(score.index)
    stale = over_seeds(wide(scored["state"] == "stale").eq(True)).any()
    of_seeds = _beside(with_means(score, chosen, mean), of_further)
    # A seed that lacks a task has no mean: only where every seed has one do they say how the mean scatters.
    complete = over_seeds(of_seeds.notna()).all()
    std = over_seeds(of_seeds).std().where(complete | ~complete.columns.map(is_mean))
    count = with_means(over_seeds(score).count(), chosen, lambda part: part.min(axis=1))
    stale_of_further = DataFrame({column: stale[column[0]] for column in further(metrics)}, index=stale.index)
    return Scores(
        mean=_beside(with_means(over_seeds(score).mean(), chosen, mean), over_seeds(of_further).mean()).reindex(rows),
        std=std.reindex(rows),
        count=_beside(count, over_seeds(of_further).count()).reindex(rows, fill_value=0),
        stale=_beside(with_means(stale, chosen, lambda part: part.any(axis=1)), stale_of_further).reindex(
            rows, fill_value=False
        ),
        seeds=of_seeds,
        parameters=scored.groupby(AXES)[["method_parameters", "head_parameters"]].mean().reindex(rows),
        budget=_budget(scored).reindex(rows),
        runs=found,
        left_out=len(suite.tasks) - len(chosen),
        metrics=metrics,
        facts={task.name: task.facts for task in chosen if task.facts},
    )


def names(found: Scores) -> Series:
    """A short name for every row: the method, and whatever else tells the rows apart, as in "vpt, deit".

    The fields of a method, as in "vpt(tokens=50)", are left out where it has no other row.
    """
    axes = found.mean.index.to_frame()
    bare = axes["method"].str.partition("(")[0]
    axes["method"] = bare.where(~bare.duplicated(keep=False), axes["method"])
    varying = [name for name in AXES if name == "method" or axes[name].nunique() > 1]
    said = [", ".join(str(value) for value in row if value != "") for row in axes[varying].to_numpy()]
    return Series(said, index=found.mean.index)


def is_mean(column: tuple[str, str]) -> bool:
    """Whether a column of `Scores` holds means over tasks rather than a task."""
    group, name = column
    return group == AVERAGE or name == MEAN


def runs(
    records: Iterable[Record],
    suite: Suite,
    *,
    tasks: Sequence[str] = (),
    methods: Sequence[Spec] = (),
    metric: str = "",
    mix_data: bool = False,
    is_stale: Callable[[Record], bool] = lambda record: False,
) -> DataFrame:
    """One row per record, without the trials of searches, in the order of `methods`, else of the labels.

    Columns: `AXES`, suite, task, seed, metric, score (percent, or NaN), scores (all of them by metric), state (see
    `petlbench.selection`), data, sha256 (of the weights; empty if random), machine (its tag), method_parameters,
    head_parameters, spent_trials, spent_seconds, length (see `_length`), file.

    Raises InputError for names that do not exist, for records of several suites, for runs of one task on different
    data unless `mix_data` is set, and for two runs of one row, task and seed that are both current.
    """
    shown = {name: suite.task(name) for name in tasks} or {task.name: task for task in suite.tasks}
    finals = (record for record in records if not record.run.is_trial)
    records = of_methods([record for record in finals if not tasks or record.run.task in shown], methods)
    if len(suites := {record.run.suite for record in records}) > 1:
        raise InputError(f"records of several suites cannot share a table: {', '.join(sorted(suites))}")
    became = states(records, shown, is_stale)
    if all(state == "unknown" for state in became):
        raise InputError(f"no run of {', '.join(shown)} is there yet: `petlbench run` makes them")
    if metric and not any(metric in record.scores for record in records):
        raise unknown("metric", metric, {name for record in records for name in record.scores})
    if not mix_data:
        refuse_mixed_data([record for record, state in zip(records, became, strict=True) if state in SCORED])
    return DataFrame(
        axes(record)
        | {
            "suite": record.run.suite,
            "task": record.run.task,
            "seed": record.run.seed,
            "metric": (name := metric or (shown[record.run.task].metric if state != "unknown" else "")),
            "score": record.scores.get(name, float("nan")),
            "scores": record.scores,
            "state": state,
            "data": record.run.data,
            "sha256": record.run.backbone.sha256 or "",
            "machine": record.machine.tag,
            "method_parameters": record.counts.method_parameters if record.counts else float("nan"),
            "head_parameters": record.counts.head_parameters if record.counts else float("nan"),
            "spent_trials": record.budget.trials if record.budget else float("nan"),
            "spent_seconds": record.budget.seconds if record.budget else float("nan"),
            "length": _length(record.run.recipe),
            "file": str(record.run.path),
        }
        for record, state in zip(records, became, strict=True)
    )


def _length(recipe: Recipe) -> str:
    """How long a dense suite is trained on, as in "300 steps of 8 images"; empty for others, which never say."""
    long = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.total_epochs} epochs in batches"
    return f"{long} of {recipe.batch_size} images" if recipe.is_dense else ""


def costs(
    costs: Iterable[Cost],
    records: Iterable[Record] = (),
    *,
    methods: Sequence[Spec] = (),
    is_stale: Callable[[Cost], bool] = lambda cost: False,
) -> DataFrame:
    """One row per cost, machine by machine. What was only counted is left out where it was timed as well.

    Columns: machine (its tag), task (SUITE/TASK of a dense suite, empty for classifiers), `COST_AXES`, classes (of the
    head), stale, then the fields of `Counts` and of `Speed` under their names and in their units, head_flops (what
    `flops` has beside encoder_flops), and seconds: the mean wall time of those `records` that agree in method,
    backbone, machine, device, threads and precision; NaN if there is none, or if they are of several suites or lengths.
    """
    done = [record for record in records if record.status == "done" and not record.run.is_trial]
    rows = [
        {"machine": cost.machine.tag, "task": f"{cost.suite}/{cost.task}" if cost.suite else ""}
        | {**axes(cost), "classes": cost.classes, "stale": is_stale(cost)}
        | asdict(cost.counts)
        | (asdict(cost.speed) if cost.speed else {})
        | ({"image_size": f"{cost.size[0]} x {cost.size[1]}"} if cost.size else {})
        | {"seconds": float("nan") if cost.suite else _seconds(cost, done)}
        for cost in of_methods(costs, methods)
    ]
    if not rows:
        raise InputError("no cost is there yet: `petlbench cost` measures them")
    measured = [field.name for field in (*fields(Counts), *fields(Speed))]
    columns = dict.fromkeys(["machine", "task", *COST_AXES, "classes", "stale", *measured, "head_flops", "seconds"])
    table = DataFrame(rows, columns=list(columns)).sort_values(["machine", "task"], kind="stable")
    table["head_flops"] = pd.to_numeric(table["flops"]) - pd.to_numeric(table["encoder_flops"])
    timed = table["device"].notna()
    alike = [table[name] for name in ("machine", "task", "method", "backbone", "image_size")]
    either = timed.groupby(alike, sort=False).transform("any")
    return table[timed | ~either].reset_index(drop=True)


def _budget(scored: DataFrame) -> DataFrame:
    """Mean over the tasks; all seeds of a task share one search."""
    spent = ["spent_trials", "spent_seconds"]
    of_tasks = scored.groupby([*AXES, "task"])[spent].first().groupby(level=AXES).mean()
    return of_tasks.rename(columns={name: name.removeprefix("spent_") for name in spent})


def several(tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """The metrics of every task that shows several, its own first."""
    return {task.name: (task.metric, *task.also) for task in tasks if task.also}


def further(metrics: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Those of `several` but the tasks' own, as (task, metric)."""
    return [(task, metric) for task, names in metrics.items() for metric in names[1:]]


def wide_further(scored: DataFrame, metrics: Mapping[str, Sequence[str]]) -> DataFrame:
    """The further metrics of the runs: one row per row of the table and seed, columns (task, metric)."""

    def of(task: str, metric: str) -> Series:
        runs = scored[scored["task"] == task].set_index([*AXES, "seed"])
        return Series([each.get(metric, float("nan")) for each in runs["scores"]], runs.index, dtype=float)

    found = {column: of(*column) for column in further(metrics)}
    return DataFrame(found) if found else DataFrame(index=scored.set_index([*AXES, "seed"]).index.unique())


def with_means(cells: DataFrame, tasks: Sequence[Task], mean: Callable[[DataFrame], Series]) -> DataFrame:
    """From columns of tasks to those that `Scores` describes, but for further metrics."""
    if several(tasks):
        return cells[[task.name for task in tasks]].set_axis(
            MultiIndex.from_tuples([(task.group, task.name) for task in tasks]), axis=1
        )
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(task.group, []).append(task.name)
    means = {group: mean(cells[names]) for group, names in groups.items()}
    columns: dict[tuple[str, str], Series] = {}
    for group, names in groups.items():
        columns |= {(group, name): cells[name] for name in names}
        if len(groups) > 1 and len(names) > 1:
            columns[group, MEAN] = means[group]
    if len(tasks) > 1:
        columns[AVERAGE, TASKS] = mean(cells)
    if len(groups) > 1:
        columns[AVERAGE, GROUPS] = mean(DataFrame(means))
    return DataFrame(columns, index=cells.index)


def _beside(first: DataFrame, second: DataFrame) -> DataFrame:
    return pd.concat([first, second], axis=1) if len(second.columns) else first


def _seconds(cost: Cost, records: Iterable[Record]) -> float:
    """Mean wall time of the runs like this cost, if they are alike."""
    found: dict[tuple[str, int], list[float]] = {}
    for record in records:
        run, device = record.run, record.device.split(":")[0]
        here = (run.label, run.backbone.name, run.backbone.image_size, record.machine.tag)
        how = (device, record.threads, run.recipe.precision)
        same = cost.speed and how == (cost.speed.device, cost.speed.threads, cost.speed.precision)
        if same and here == (cost.label, cost.backbone.name, cost.backbone.image_size, cost.machine.tag):
            found.setdefault((run.suite, run.recipe.total_epochs), []).append(record.seconds["total"])
    return fmean(*found.values()) if len(found) == 1 else float("nan")
