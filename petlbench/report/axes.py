"""What the rows of a table can be compared by in the figure of the report: weights, costs, times and scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from pandas import DataFrame, Series, to_numeric

from petlbench import frame
from petlbench.columns import layout
from petlbench.cost import Cost
from petlbench.frame import AVERAGE, GROUPS, TASKS, Scores
from petlbench.record import Record
from petlbench.selection import AXES, SCORED

Axis = tuple[str, bool, list[float | None]]
"""Name, whether more is better, and a value per row: what a figure can be drawn of."""


def of_rows(found: Scores, records: Sequence[Record], costs: Sequence[Cost]) -> list[Axis]:
    """What the rows can be compared by: parameters, what was counted, what was measured on each machine, scores."""
    rows = list(found.mean.index)
    files = {str(record.run.path): record for record in records}
    scored = found.runs[found.runs["state"].isin(SCORED)]
    measured = []
    for run in scored[[*AXES, "file"]].itertuples(index=False):
        record = files[str(run.file)]
        counts = record.counts
        facts: dict[str, float | None] = {"row": rows.index(tuple(run[:-1]))}
        if counts:
            facts |= {
                "trained weights of the method (M)": counts.method_parameters / 1e6,
                "trained weights with the head (M)": counts.trainable_parameters / 1e6,
                "stored per task (MiB)": counts.stored_bytes / 2**20,
                "GFLOPs, unfolded": counts.flops / 1e9,
                "GFLOPs, folded": counts.flops_folded / 1e9,
                "kept for backward (MiB per image)": counts.saved_bytes / 2**20,
            }
        facts[f"time of a run (s), {record.machine.tag}"] = record.seconds.get("total")
        if record.peak_memory_bytes is not None:
            facts[f"peak memory of a run (MiB), {record.machine.tag}"] = record.peak_memory_bytes / 2**20
        measured.append(facts)
    means = DataFrame(measured).groupby("row").mean().reindex(range(len(rows)))
    axes: list[Axis] = [(str(name), False, _numbers(means[name])) for name in means]
    axes += _cost_axes(rows, costs)
    for (group, name), column in layout(found.columns, found.metrics):
        title = f"{column} (%)" if group != AVERAGE else f"mean over {name} (%)"
        title = f"mean of {group} (%)" if name == frame.MEAN else title
        axes.append((title, True, _numbers(found.mean[group, name])))
    return axes


def _cost_axes(rows: Sequence[tuple[Any, ...]], costs: Sequence[Cost]) -> Iterator[Axis]:
    """Speed and memory as `petlbench cost` measured them, machine by machine."""
    fields = {
        "train_images_per_second": ("training (images/s)", 1, True),
        "inference_images_per_second": ("inference (images/s)", 1, True),
        "folded_images_per_second": ("inference, folded (images/s)", 1, True),
        "latency_ms": ("latency (ms)", 1, False),
        "train_memory_bytes": ("memory of training (MiB)", 2**20, False),
        "inference_memory_bytes": ("memory of inference (MiB)", 2**20, False),
    }
    timed = [cost for cost in costs if cost.speed and not cost.suite]
    kinds = {
        (cost.machine.tag, cost.speed.precision, cost.speed.threads, cost.speed.batch_size)
        for cost in timed
        if cost.speed
    }
    for kind in sorted(kinds):
        of_kind = {
            (cost.label, cost.backbone.name, cost.backbone.image_size): cost.speed
            for cost in timed
            if cost.speed
            and (cost.machine.tag, cost.speed.precision, cost.speed.threads, cost.speed.batch_size) == kind
        }
        speeds = [of_kind.get((row[0], row[1], row[3])) for row in rows]
        if any(speeds):
            for field, (title, unit, more) in fields.items():
                where = f"{kind[0]}, {kind[1]}, batch {kind[3]}"
                yield f"{title}, {where}", more, [getattr(speed, field) / unit if speed else None for speed in speeds]


def preferred(found: Scores, axes: Sequence[Axis]) -> int:
    """The score that says most: the mean of the groups, else of the tasks, else what most rows have."""
    columns = [key for key, _ in layout(found.columns, found.metrics)]
    first = len(axes) - len(columns)

    def says(place: int) -> tuple[int, int]:
        column, known = columns[place - first], sum(value is not None for value in axes[place][2])
        return (2 if column == (AVERAGE, GROUPS) else 1 if column == (AVERAGE, TASKS) else 0) * bool(known), known

    return max(range(first, len(axes)), key=says)


def choices(axes: Sequence[Axis], chosen: int) -> str:
    return "".join(
        f'<option value="{place}"{" selected" if place == chosen else ""}>{escape(name)}</option>'
        for place, (name, _, _) in enumerate(axes)
    )


def _numbers(values: Series) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in to_numeric(values)]
