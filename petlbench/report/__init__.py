"""The report: one HTML file with tables that sort and filter, the record behind every cell, costs and trade-offs.

The page loads nothing and may load nothing: its policy names the one script and the one style sheet by their hashes.
Tables are written here, in HTML; the script only reorders, hides and opens. What it opens, the records, is packed into
the page as compressed JSON, which it shows as text and never as HTML.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, get_args

from pandas import DataFrame, Series, to_numeric

from petlbench import frame, markup, repeat, table, zoo
from petlbench._version import __version__
from petlbench.caption import WHY_FAILED
from petlbench.columns import layout
from petlbench.cost import Cost
from petlbench.errors import InputError
from petlbench.figures.paper import STYLES
from petlbench.frame import AVERAGE, GROUPS, TASKS, Scores
from petlbench.method import Family
from petlbench.record import Record
from petlbench.report import details
from petlbench.selection import AXES, FAILED, SCORED
from petlbench.suite import Suite
from petlbench.typeset import MISSING, Cell, Table

FILTERED = ["backbone", "weights", "protocol", "overrides"]
"""Axes that rows can be filtered by, where they differ."""

MARKS = {
    "s": "M-5-5H5V5H-5Z",
    "v": "M-6-5H6L0 6Z",
    "o": "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0Z",
    "^": "M-6 5H6L0-6Z",
    "D": "M0-7L7 0L0 7L-7 0Z",
    "P": "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "X": "M-6-3.5L-3.5-6L0-2.5L3.5-6L6-3.5L2.5 0L6 3.5L3.5 6L0 2.5L-3.5 6L-6 3.5L-2.5 0Z",
}
"""The shapes of `petlbench.figures`, about 12 pixels wide around the origin."""

Axis = tuple[str, bool, list[float | None]]
"""Name, whether more is better, and a value per row: what a figure can be drawn of."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A suite with its records, and how to choose among them."""

    suite: Suite
    records: Sequence[Record]
    choice: dict[str, Any]
    """For `petlbench.frame.scores`."""


def page(
    parts: Iterable[Part],
    costs: Sequence[Cost],
    root: Path,
    *,
    changed: Callable[[Record], list[str]],
    is_stale: Callable[[Cost], bool] = lambda cost: False,
) -> str:
    """The report on these records and costs as one HTML file. Equal records give an equal file.

    `root` is the results folder, for the logs; `changed` names the modules that have changed since a record. Raises
    InputError as `petlbench.frame.scores` does.
    """
    content = Content(root, changed)
    bodies = [content.suite(part, costs) for part in parts]
    bodies.append(_costs(costs, content.all, is_stale))
    style, script = _file("page.css"), _file("page.js")
    started = sorted(record.started for record in content.all)
    days = " to ".join(dict.fromkeys(day[:10] for day in (started[0], started[-1])))
    machines = ", ".join(sorted({record.machine.tag for record in content.all}))
    return Template(_file("page.html")).substitute(
        policy=escape(_policy(style, script)),
        style=style,
        script=script,
        data=_packed(content.data()),
        about=escape(f"{len(content.all)} runs, {days}, on {machines}; petlbench {__version__}"),
        marks="".join(
            f'<symbol id="mark-{name}" overflow="visible"><path d="{_mark(name)}"/></symbol>' for name in STYLES
        ),
        body="\n".join(bodies),
    )


class Content:
    """What is gathered while the tables are written: records by number, and what many have in common once."""

    def __init__(self, root: Path, changed: Callable[[Record], list[str]]) -> None:
        self.root, self.changed = root, changed
        self.all: list[Record] = []
        self._sections: dict[str, int] = {}
        self._cells: list[dict[str, Any]] = []
        self._figures: list[dict[str, Any]] = []

    def data(self) -> dict[str, Any]:
        """For the script of the page."""
        return {
            "sections": [json.loads(text) for text in self._sections],
            "cells": self._cells,
            "figures": self._figures,
        }

    def suite(self, part: Part, costs: Sequence[Cost]) -> str:
        """The section of a suite: filters, scores and the figure."""
        found = frame.scores(part.records, part.suite, **part.choice)
        name = str(found.runs["suite"].iloc[0])
        records = {str(record.run.path): record for record in part.records}
        shown = found.runs[found.runs["state"].isin([*SCORED, *FAILED])]
        self.all += [records[str(file)] for file in shown["file"]]
        behind: dict[tuple[Any, ...], list[tuple[Record, Any]]] = {}
        for run in shown[[*AXES, "task", "file", "state"]].itertuples(index=False):
            behind.setdefault(tuple(run[:-2]), []).append((records[str(run.file)], run.state))
        made = table.scores_table(found)
        rows = list(found.mean.index)
        families = [_family(behind, row, found) for row in rows]

        def content(row: int, place: int, cell: Cell) -> str:
            text = markup.shown(row, place, cell)
            runs = behind.get((*rows[row], made.columns[place].task))
            if place == 0:
                return f"{_symbol(families[row])}{text}"
            if not runs:
                return text
            if cell.text == MISSING:
                text = escape(WHY_FAILED.get(runs[-1][1], "failed"))
            number = self._cell(name, made.columns[place].group, runs)
            return f'<button type="button" data-cell="{number}">{text}</button>'

        def attributes(row: int) -> dict[str, str]:
            axes = dict(zip(AXES, map(str, rows[row]), strict=True))
            return {
                "id": f"{len(self._figures)}-{row}",
                "data-family": families[row],
                **{f"data-{axis}": axes[axis] for axis in FILTERED},
            }

        inside = markup.html(made, content, attributes=attributes, sortable=True)
        axes = _axes(found, part.records, costs)
        filters = _filters(found, made, families)
        self._figures.append(
            {"rows": [{"label": str(row[0]), "family": families[i]} for i, row in enumerate(rows)], "axes": axes}
        )
        return Template(_file("suite.html")).substitute(
            name=escape(name),
            filters=filters,
            count=f"{len(rows)} of {len(rows)} rows",
            table=inside,
            notes=markup.notes(made),
            x=_choices(axes, 0),
            y=_choices(axes, _preferred(found, axes)),
            legend="".join(
                f"<li>{_symbol(family)}{escape(family)}</li>" for family in get_args(Family) if family in families
            ),
        )

    def _cell(self, suite: str, group: str, runs: list[tuple[Record, Any]]) -> int:
        runs = sorted(runs, key=lambda run: run[0].run.seed)
        records = [record for record, _ in runs]
        self._cells.append(
            {
                "title": f"{records[0].run.label} on {records[0].run.task}",
                "place": f"{suite}, {group}",
                "runs": [
                    details.outcome(record, state, self.root)
                    | {"sections": [self._section(each) for each in details.sections(record, self.changed(record))]}
                    for record, state in runs
                ],
                "commands": repeat.commands(records),
            }
        )
        return len(self._cells) - 1

    def _section(self, section: details.Section) -> int:
        return self._sections.setdefault(json.dumps(section), len(self._sections))


def _axes(found: Scores, records: Sequence[Record], costs: Sequence[Cost]) -> list[Axis]:
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
    timed = [cost for cost in costs if cost.speed]
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


def _preferred(found: Scores, axes: Sequence[Axis]) -> int:
    """The score that says most: the mean of the groups, else of the tasks, else what most rows have."""
    columns = [key for key, _ in layout(found.columns, found.metrics)]
    first = len(axes) - len(columns)

    def says(place: int) -> tuple[int, int]:
        column, known = columns[place - first], sum(value is not None for value in axes[place][2])
        return (2 if column == (AVERAGE, GROUPS) else 1 if column == (AVERAGE, TASKS) else 0) * bool(known), known

    return max(range(first, len(axes)), key=says)


def _choices(axes: Sequence[Axis], chosen: int) -> str:
    return "".join(
        f'<option value="{place}"{" selected" if place == chosen else ""}>{escape(name)}</option>'
        for place, (name, _, _) in enumerate(axes)
    )


def _filters(found: Scores, made: Table, families: Sequence[str]) -> str:
    """Choices among rows, where there is something to choose, and which groups of columns to show."""
    axes = found.mean.index.to_frame(index=False).astype(str)
    values = {"family": [family for family in (*get_args(Family), "") if family in families]}
    values |= {axis: sorted(axes[axis].unique()) for axis in FILTERED}
    lines = []
    for axis, choices in values.items():
        if len(choices) > 1:
            options = "".join(f'<option value="{escape(each)}">{escape(each or "none")}</option>' for each in choices)
            lines.append(
                f'<label>{axis} <select data-axis="{axis}"><option value="*">all</option>{options}</select></label>'
            )
    groups = dict.fromkeys(column.group for column in made.columns)
    boxes = [
        f'<label><input type="checkbox" checked value="{number}"> {escape(group)}</label>'
        for number, group in enumerate(groups)
        if group
    ]
    if len(boxes) > 1:
        lines.append(f"<fieldset><legend>columns</legend>{''.join(boxes)}</fieldset>")
    return "\n".join(lines)


def _family(behind: dict[tuple[Any, ...], list[tuple[Record, Any]]], row: tuple[Any, ...], found: Scores) -> str:
    """The family of a row's method; empty if the zoo does not know it. A path in a record is never imported."""
    runs = next(runs for column in found.columns if (runs := behind.get((*row, column[1]))))
    name = runs[0][0].run.method
    try:
        return zoo.method(name).family if not zoo.is_path(name) and zoo.is_known(zoo.METHODS, name) else ""
    except InputError:  # a variant whose library is not here
        return ""


def _symbol(family: str) -> str:
    use = f'<use href="#mark-{family}"/>' if family else ""
    return f'<svg class="mark {family}" viewBox="-8 -8 16 16" aria-hidden="true">{use}</svg>'


def _mark(family: str) -> str:
    return MARKS[STYLES[family][1]]


def _costs(costs: Sequence[Cost], records: Sequence[Record], is_stale: Callable[[Cost], bool]) -> str:
    """One table of costs per machine."""
    title = '<section id="costs"><h2>Costs</h2>'
    if not costs:
        return f"{title}<p>No costs are there yet: <code>petlbench cost</code> measures them.</p></section>"
    found = frame.costs(costs, records, is_stale=is_stale)
    tables = [table.cost_table(part) for _, part in found.groupby("machine", sort=False)]
    frames = (
        '<div class="table" tabindex="0" role="region" aria-label="Table of costs">'
        f"{markup.html(made, sortable=True)}</div>{markup.notes(made)}"
        for made in tables
    )
    return f"{title}{''.join(frames)}</section>"


def _numbers(values: Series) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in to_numeric(values)]


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, nothing is sent, and no script runs but ours, whatever the records hold."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _packed(data: dict[str, Any]) -> str:
    """Compressed JSON in letters and digits: small, and no text of a record can end the element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _file(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
