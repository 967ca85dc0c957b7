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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, get_args

from petlbench import comparison, frame, markup, repeat, table
from petlbench._version import __version__
from petlbench.caption import WHY_FAILED
from petlbench.columns import layout, score_column
from petlbench.cost import Cost
from petlbench.frame import AVERAGE, Scores, is_mean
from petlbench.method import Family
from petlbench.published import Rows
from petlbench.record import Record
from petlbench.report import axes, details, filters, marks
from petlbench.report.pictures import Album
from petlbench.selection import AXES, FAILED, SCORED
from petlbench.suite import Suite, Task
from petlbench.typeset import MISSING, Cell, Table


@dataclass(frozen=True, kw_only=True)
class Part:
    """A suite with its records, and how to choose among them; with published rows, or of these alone."""

    name: str
    suite: Suite | None
    """None for a suite that the zoo does not have, of which only published rows can be shown."""
    records: Sequence[Record] = ()
    choice: dict[str, Any] = field(default_factory=dict)
    """For `petlbench.frame.scores`."""
    published: Rows | None = None


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
    bodies = [content.part(part, costs) for part in parts]
    bodies.append(_costs(costs, content.all, is_stale))
    style, script = _file("page.css"), _file("page.js")
    return Template(_file("page.html")).substitute(
        policy=escape(_policy(style, script)),
        style=style,
        script=script,
        data=_packed(content.data()),
        about=escape(f"{_about(content.all)}; petlbench {__version__}"),
        marks=marks.definitions(),
        body="\n".join(bodies),
    )


def _about(records: Sequence[Record]) -> str:
    """How many runs from which days and machines."""
    if not records:
        return "published numbers; no runs"
    started = sorted(record.started for record in records)
    days = " to ".join(dict.fromkeys(day[:10] for day in (started[0], started[-1])))
    return f"{len(records)} runs, {days}, on {', '.join(sorted({record.machine.tag for record in records}))}"


class Content:
    """What is gathered while the tables are written: records by number, and what many have in common once."""

    def __init__(self, root: Path, changed: Callable[[Record], list[str]]) -> None:
        self.root, self.changed = root, changed
        self.album = Album(root)
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

    def part(self, part: Part, costs: Sequence[Cost]) -> str:
        """The section of a suite."""
        return self._suite(part, part.suite, costs) if part.suite and part.records else self._published(part)

    def _published(self, part: Part) -> str:
        """Published rows alone: filters and scores."""
        rows = part.published
        assert rows is not None  # or there is nothing to show
        made = comparison.published_table(part.name, rows)
        families = marks.families(rows)
        self._figures.append({"rows": [], "axes": []})
        return self._section_of(
            part.name,
            made,
            markup.html(
                made,
                lambda row, place, cell: (
                    f"{'' if place else marks.symbol(families[row])}{markup.shown(row, place, cell)}"
                ),
                attributes=lambda row: filters.printed(rows, row, families[row]),
                sortable=True,
            ),
            filters.controls({"family": families, "source": list(rows.axes["source"])}, made),
            list(comparison.cited(rows)),
        )

    def _suite(self, part: Part, suite: Suite, costs: Sequence[Cost]) -> str:
        """Filters, scores, published ones below measured ones, and the figure."""
        found = frame.scores(part.records, suite, **part.choice)
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
        keys = {column.title: key for key, column in layout(found.columns, found.metrics)}
        numbers: dict[tuple[int, str], int] = {}
        if part.published:
            made = comparison.beside(found, made, part.published)

        def content(row: int, place: int, cell: Cell) -> str:
            text = markup.shown(row, place, cell)
            if place == 0:
                return f"{marks.symbol(every[row])}{text}"
            column = made.columns[place]
            if row >= len(rows):
                return text
            if column.title in keys and is_mean(keys[column.title]) and cell.text != MISSING:
                number = self._mean(found, row, keys[column.title], str(cell), numbers)
            elif runs := behind.get((*rows[row], column.task)):
                if cell.text == MISSING:
                    text = escape(WHY_FAILED.get(runs[-1][1], "failed"))
                if (row, column.task) not in numbers:
                    numbers[row, column.task] = self._cell(name, column.group, suite.task(column.task), runs, str(cell))
                number = numbers[row, column.task]
            else:
                return text
            return f'<button type="button" data-cell="{number}">{text}</button>'

        def attributes(row: int) -> dict[str, str]:
            if part.published and row >= len(rows):
                return filters.printed(part.published, row - len(rows), every[row])
            of_row = dict(zip(AXES, map(str, rows[row]), strict=True))
            return {
                "id": f"{len(self._figures)}-{row}",
                "data-family": families[row],
                **({"data-source": "measured"} if part.published else {}),
                **{f"data-{axis}": of_row[axis] for axis in filters.FILTERED},
            }

        every = [*families, *(marks.families(part.published) if part.published else [])]
        inside = markup.html(made, content, attributes=attributes, sortable=True)
        across = axes.of_rows(found, part.records, costs)
        values = {"family": every} | {
            axis: sorted(set(map(str, found.mean.index.get_level_values(axis)))) for axis in filters.FILTERED
        }
        if part.published:
            values["source"] = ["measured", *part.published.axes["source"]]
        controls = filters.controls(values, made, switch=part.published is not None)
        self._figures.append(
            {"rows": [{"label": str(row[0]), "family": families[i]} for i, row in enumerate(rows)], "axes": across}
        )
        figure = Template(_file("figure.html")).substitute(
            x=axes.choices(across, 0),
            y=axes.choices(across, axes.preferred(found, across)),
            legend="".join(
                f"<li>{marks.symbol(family)}{escape(family)}</li>" for family in get_args(Family) if family in families
            ),
        )
        cites = list(comparison.cited(part.published)) if part.published else []
        return self._section_of(name, made, inside, controls, cites, figure)

    def _section_of(
        self, name: str, made: Table, inside: str, controls: str, cites: Sequence[str], figure: str = ""
    ) -> str:
        return Template(_file("suite.html")).substitute(
            name=escape(name),
            filters=controls,
            count=f"{len(made.rows)} of {len(made.rows)} rows",
            table=inside,
            notes=markup.notes(replace(made, notes=[*made.notes, *cites])),
            figure=figure,
        )

    def _mean(
        self, found: Scores, row: int, key: tuple[str, str], text: str, numbers: dict[tuple[int, str], int]
    ) -> int:
        """A mean, with the cells of the tasks that it is made of."""
        group, _ = key
        parts = [each for each in found.columns if not is_mean(each) and group in (AVERAGE, each[0])]
        every: Any = found.seeds[key].dropna()
        here = tuple(found.mean.index[row])
        seeds = [[int(index[-1]), round(value, 4)] for index, value in every.items() if index[:-1] == here]
        self._cells.append(
            {
                "title": f"{found.mean.index[row][0]}: {score_column(*key)}",
                "place": str(found.runs["suite"].iloc[0]),
                "tasks": [[group, numbers[row, task]] for group, task in parts],
                "seeds": seeds,
                "text": text,
            }
        )
        return len(self._cells) - 1

    def _cell(self, suite: str, group: str, task: Task, runs: list[tuple[Record, Any]], text: str) -> int:
        runs = sorted(runs, key=lambda run: run[0].run.seed)
        records = [record for record, _ in runs]
        albums = (self.album.of(record, task) for record in records)
        self._cells.append(
            {
                "title": f"{records[0].run.label} on {records[0].run.task}",
                "place": f"{suite}, {group}",
                "task": records[0].run.task,
                "text": text,
                "runs": [
                    details.outcome(record, state, self.root)
                    | {"sections": [self._section(each) for each in details.sections(record, self.changed(record))]}
                    for record, state in runs
                ],
                "pictures": next(filter(None, albums), None),  # those of one seed say what they all look like
                "commands": repeat.commands(records),
            }
        )
        return len(self._cells) - 1

    def _section(self, section: details.Section) -> int:
        return self._sections.setdefault(json.dumps(section), len(self._sections))


def _family(behind: dict[tuple[Any, ...], list[tuple[Record, Any]]], row: tuple[Any, ...], found: Scores) -> str:
    """The family of a row's method; empty if the zoo does not know it. A path in a record is never imported."""
    runs = next(runs for column in found.columns if (runs := behind.get((*row, column[1]))))
    return marks.family(runs[0][0].run.method)


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
