"""What commands have set out to do: plans as they lie in the store, so that whoever sees it can tell what is left."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from petlbench.files import write, writing

if TYPE_CHECKING:
    from petlbench.plan import Planned

PLANS = "plans"
"""Folder of the plans below the results."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Item:
    """One run of a plan."""

    name: str
    """As people read it: "mini/digits lora seed 0"."""
    record: str
    """Path of its record below the results folder; empty where the run's settings were not known yet."""


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """One file of the folder of plans. What was asked for again, on whatever state of things, is the same file."""

    format: int = FORMAT
    title: str
    written: str
    """When it was last asked for; UTC, ISO 8601."""
    items: list[Item]


def put(results: Path, planned: Iterable[Planned]) -> Path:
    """Write down what is going to be done and return the path. Raises InputError if it cannot be written."""
    runs = [(each.job.run, each.state == "waiting") for each in planned]
    items = [Item(name=str(run), record="" if waits else run.path.as_posix()) for run, waits in runs]
    asked = sorted(
        [str(run), run.overrides, run.protocol, run.backbone.name, run.backbone.weights, run.normalization, run.resize]
        for run, _ in runs
    )
    first, methods = runs[0][0], list(dict.fromkeys(run.label for run, _ in runs))
    agenda = Agenda(
        title=f"{first.suite}, {first.protocol}, {first.backbone.name}: {', '.join(methods)}",
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        items=items,
    )
    path = results / PLANS / f"{hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:12]}.json"
    with writing(path):
        write(path, msgspec.json.format(msgspec.json.encode(agenda), indent=1) + b"\n")
    return path


def read(results: Path) -> Iterator[Agenda]:
    """The plans of a store, the latest first; what is none, or from a newer petlbench, is left out."""
    found = []
    for path in results.glob(f"{PLANS}/*.json"):
        try:
            agenda = msgspec.json.decode(path.read_bytes(), type=Agenda)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if agenda.format <= FORMAT:
            found.append(agenda)
    yield from sorted(found, key=lambda agenda: agenda.written, reverse=True)
