"""The heads of a table of scores: tasks below their groups, and metrics below tasks that show several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from petlbench.frame import AVERAGE, MEAN, is_mean
from petlbench.typeset import Column

Metrics = Mapping[str, Sequence[str]]
"""The metrics of every task that shows several, its own first."""

PARAMETERS = Column("params (M)", title="params", less=True)
HEAD = Column("head (M)", title="head", less=True, extra=True)
PPT = Column("PPT", AVERAGE, title="ppt", extra=True)
WORDS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "miou": "mIoU", "ms": "(multi-scale)"}
"""How papers write parts of the names of metrics."""


def layout(columns: Sequence[tuple[str, str]], metrics: Metrics) -> Iterator[tuple[tuple[str, str], Column]]:
    """Every column of scores, as `petlbench.frame.Scores` calls it, with its head, in the order of a table.

    `columns` are those of the tasks' own metrics and of means.
    """
    for group, name in columns:
        own = (group, name)
        if is_mean(own) or name not in metrics:
            yield own, score_column(group, name)
            continue
        for number, metric in enumerate(metrics[name]):
            yield own if number == 0 else (name, metric), metric_column(name, metric)


def score_column(group: str, name: str) -> Column:
    """The head of a task with one metric, or of a mean."""
    title = column_title(group, name)
    if group == AVERAGE:
        return Column(f"over {name}", group, f"mean of {name}", title=title)
    if name == MEAN:
        return Column(name, group, f"{group} mean", title=title)
    return Column(name, group, title=title, task=name)


def metric_column(task: str, metric: str) -> Column:
    """The head of one of several metrics of a task: the task stands above it in place of a group."""
    said = " ".join(WORDS.get(word, word) for word in metric.split("_"))
    return Column(said, task, f"{task} {said}", title=f"{task}_{metric}", task=task)


def column_title(group: str, name: str) -> str:
    """The name of a column of scores outside of its group: a task, mean_GROUP, mean_tasks or mean_groups."""
    return name if not is_mean((group, name)) else f"mean_{group if name == MEAN else name}"
