"""Which records a table is made of: those asked for, one per cell, and none that do not compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import pandas as pd

from petlbench import zoo
from petlbench.cost import Cost
from petlbench.errors import InputError, unknown
from petlbench.record import Record
from petlbench.run import Run
from petlbench.spec import Spec

AXES = [
    "method",
    "backbone",
    "weights",
    "image_size",
    "normalization",
    "resize",
    "interpolation",
    "protocol",
    "trials",
    "overrides",
]
"""What tells the rows of a table of scores apart.

`method` is the label, as in "vpt(tokens=50)", and `trials` the budget of a search.
"""

State = Literal["failed", "oom", "diverged", "stale", "done", "superseded", "unknown"]
"""What became of a run.

`stale`: done, but by code that has changed since. `superseded`: left out, since a better or later run of the same row,
task and seed is there. `unknown`: left out, since its task is none of the suite's.
"""
SCORED: list[State] = ["done", "stale"]
FAILED: list[State] = ["failed", "oom", "diverged"]

Kept = TypeVar("Kept", Record, Cost)


def of_methods(records: Iterable[Kept], methods: Sequence[Spec]) -> list[Kept]:
    """The records of these methods, in their order. Raises InputError for a method that has none."""
    ordered = sorted(records, key=lambda record: [_natural(str(value)) for value in axes(record).values()])
    chosen: dict[int, Kept] = {}
    for spec in methods:
        fitting = {id(record): record for record in ordered if _fits(record, spec)}
        if not fitting:
            raise unknown("method", str(spec), {axes(record)["method"] for record in ordered})
        chosen |= fitting
    return list(chosen.values()) if methods else ordered


def has_any(records: Iterable[Kept], method: Spec) -> bool:
    """Whether one of the records is of this method."""
    return any(_fits(record, method) for record in records)


def states(records: Sequence[Record], known: Iterable[str], is_stale: Callable[[Record], bool]) -> list[State]:
    """What became of each run, after the best one of each row, task and seed has taken the place of the others."""
    found: list[State] = []
    cells: dict[tuple[Any, ...], list[int]] = {}
    for place, record in enumerate(records):
        stale = record.status == "done" and is_stale(record)
        found.append("unknown" if record.run.task not in known else "stale" if stale else record.status)
        if found[place] != "unknown":
            cells.setdefault((*axes(record).values(), record.run.task, record.run.seed), []).append(place)
    rank: dict[State, int] = {**dict.fromkeys(FAILED, 0), "stale": 1, "done": 2}
    for places in cells.values():
        *others, best = sorted(places, key=lambda place: (rank[found[place]], records[place].started))
        for other in others:
            if found[other] == "done":
                raise InputError(_two_of_a_kind(records[other].run, records[best].run))
            found[other] = "superseded"
    _refuse_other_fields(record.run for record, state in zip(records, found, strict=True) if state in SCORED)
    return found


def _refuse_other_fields(runs: Iterable[Run]) -> None:
    """The seeds of a row and task are of one method with one set of fields. A label names those only that differ from
    their defaults, and a default may have changed, or the file may be another of the same name.
    """
    first: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        other = first.setdefault((*_row(run).values(), run.task), run)
        names = sorted({*run.fields, *other.fields})
        different = [name for name in names if run.fields.get(name) != other.fields.get(name)]
        if different:
            each = (f"{name} ({other.fields.get(name)} and {run.fields.get(name)})" for name in different)
            raise InputError(
                f"{other} and {run} are called alike, with different {', '.join(each)}: "
                f"move {other.path} or {run.path} away"
            )


def refuse_mixed_data(records: Iterable[Record]) -> None:
    """Scores of one task compare, and may be averaged, only if they were measured on the same images and labels."""
    found: dict[str, dict[str, list[Run]]] = {}
    for record in records:
        found.setdefault(record.run.task, {}).setdefault(record.run.data, []).append(record.run)
    for task, data in found.items():
        if len(data) > 1:
            each = (f"{name[:12]} ({len(runs)} runs such as {runs[0].path})" for name, runs in sorted(data.items()))
            raise InputError(
                f"task '{task}' was run on different data, whose scores do not compare: {', '.join(each)}; "
                "choose with --methods or --tasks, move records away, or mix them on purpose with --mix-data"
            )


def axes(record: Record | Cost) -> dict[str, Any]:
    """The row that a record belongs to."""
    return _row(record.run if isinstance(record, Record) else record)


def _row(made: Run | Cost) -> dict[str, Any]:
    backbone = made.backbone
    found = {
        "method": made.label,
        "backbone": backbone.name,
        "weights": backbone.weights,
        "image_size": backbone.image_size,
    }
    if isinstance(made, Run):
        found |= {
            "normalization": made.normalization,
            "resize": made.resize,
            "interpolation": made.interpolation,
            "protocol": made.protocol,
            "trials": str(made.search.trials) if made.search else "",
            "overrides": made.overrides,
        }
    return found


def _fits(record: Record | Cost, spec: Spec) -> bool:
    made = record.run if isinstance(record, Record) else record
    wanted: dict[str, Any] = msgspec.to_builtins(dict(spec.fields))
    return made.method == zoo.name_of(spec.name) and all(made.fields.get(name) == wanted[name] for name in wanted)


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts vpt(tokens=5) in front of vpt(tokens=10)."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def _two_of_a_kind(first: Run, second: Run) -> str:
    both = pd.json_normalize([msgspec.to_builtins(first), msgspec.to_builtins(second)]).astype(str)
    different = [f"{name} ({both[name][0]} and {both[name][1]})" for name in both if both[name].nunique() > 1]
    return f"{first} was run twice, with different {', '.join(different)}: move {first.path} or {second.path} away"
