"""Joining two stores: what is missing is copied, and what differs is a conflict that a person decides."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from petlbench import lock
from petlbench.agenda import PLANS, Agenda
from petlbench.cost import COSTS, Cost
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.record import FORMAT, Record

BESIDE = ("weights", "pictures")
"""Folders of a store that hold what a run has left beside its record, under the record's own path."""

Prefer = Literal["ours", "theirs", "newer"]
"""Whose record is kept where both have one and they differ."""


@dataclass
class Outcome:
    """What a merge has done."""

    copied: dict[str, int] = field(default_factory=dict)
    """Files that were missing, by kind: record, cost, plan, log, weights, picture."""
    equal: int = 0
    """Records and costs that both have."""
    decided: list[str] = field(default_factory=list)
    """Those that differ, and that were decided, with what was done."""
    conflicts: list[str] = field(default_factory=list)
    """Those that differ and stay as they were, with both sides."""
    skipped: list[str] = field(default_factory=list)
    """Files that are not what they should be, or that cannot be touched now, with the reason."""


def merge(theirs: Path, ours: Path, prefer: Prefer | None = None) -> Outcome:
    """Join the store `theirs` into the store `ours`; the former is not touched, and not trusted.

    Raises InputError if there is no such folder, or both are the same.
    """
    if not theirs.is_dir():
        raise InputError(f"{theirs}: no such folder")
    if ours.exists() and theirs.samefile(ours):
        raise InputError(f"{theirs}: is --results itself")
    outcome = Outcome()
    for path in _files(theirs, "*/*/*.json"):
        if path.parts[0] not in (PLANS, *BESIDE, "submitted", "logs"):
            _one(theirs, ours, path, prefer, outcome)
    for path in _files(theirs, f"{PLANS}/*.json"):
        _plan(theirs, ours, path, outcome)
    for path in _files(theirs, "logs/*.log"):
        if re.fullmatch(r"[0-9a-f]{12}", path.stem) and not (ours / path).exists():
            _copy(theirs / path, ours / path, "log", outcome)
    return outcome


def _one(theirs: Path, ours: Path, path: Path, prefer: Prefer | None, outcome: Outcome) -> None:
    """One record or cost."""
    seen = _content(ours / path)
    try:
        new = _read(theirs, path)
        old = _read(ours, path) if (ours / path).is_file() else None
    except ValueError as error:
        outcome.skipped.append(str(error))
        return
    if old == new:
        outcome.equal += 1
        _copy_beside(theirs, ours, path, outcome)
        return
    takes = _takes(old, new, prefer) if old else True
    if takes is None:
        outcome.conflicts.append(f"{path}: ours {_facts(old)}; theirs {_facts(new)}")
        return
    if old:
        outcome.decided.append(
            f"{path}: {'theirs' if takes else 'ours'} kept: ours {_facts(old)}; theirs {_facts(new)}"
        )
    if not takes:
        return
    try:
        with lock.hold(lock.beside(ours / path), lambda: None):
            if _content(ours / path) != seen:
                outcome.skipped.append(f"{path}: has changed meanwhile; merge again")
                return
            _remove_beside(ours, path)
            _copy(theirs / path, ours / path, "" if old else "cost" if isinstance(new, Cost) else "record", outcome)
            _copy_beside(theirs, ours, path, outcome)
    except lock.HeldError as error:
        outcome.skipped.append(f"{path}: {error}; merge again when it has ended")


def _content(path: Path) -> bytes | None:
    """What a file holds; None if there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _copy_beside(theirs: Path, ours: Path, record: Path, outcome: Outcome) -> None:
    """What their run has left beside a record that both have now, where ours is missing."""
    for path in _beside(theirs, record):
        if not (ours / path).exists():
            _copy(
                theirs / path, ours / path, {"weights": "weights file", "pictures": "picture"}[path.parts[0]], outcome
            )


def _remove_beside(ours: Path, record: Path) -> None:
    """What our run has left, whose record is about to be replaced: it would be taken for the other run's."""
    for path in _beside(ours, record):
        (ours / path).unlink(missing_ok=True)


def _beside(root: Path, record: Path) -> Iterator[Path]:
    """The files below a store that belong to a record."""
    stem = glob.escape(str(record.with_suffix("")))
    yield from _files(root, f"weights/{stem}.safetensors")
    yield from _files(root, f"pictures/{stem}/*.png")


def _takes(old: Record | Cost, new: Record | Cost, prefer: Prefer | None) -> bool | None:
    """Whether theirs takes the place of ours; None if nobody has said so. What is done beats what failed."""
    if isinstance(old, Record) and isinstance(new, Record) and (old.status == "done") != (new.status == "done"):
        return new.status == "done"
    return {"ours": False, "theirs": True, "newer": new.started > old.started, None: None}[prefer]


def _read(root: Path, path: Path) -> Record | Cost:
    """A record or cost, checked for being one and lying where it belongs. Raises ValueError."""
    kind: type[Record | Cost] = Cost if path.parts[0] == COSTS else Record
    try:
        found: Record | Cost = msgspec.json.decode((root / path).read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{root / path}: not a {kind.__name__.lower()}: {' '.join(str(error).split())}") from error
    if found.format > FORMAT:
        raise ValueError(
            f"{root / path}: written by a newer petlbench (format {found.format}, this one reads {FORMAT})"
        )
    try:
        place = found.run.path if isinstance(found, Record) else path
    except InputError as error:
        raise ValueError(f"{root / path}: {error}") from error
    if place != path:
        raise ValueError(f"{root / path}: is the record of another run, whose place is {place}")
    return found


def _plan(theirs: Path, ours: Path, path: Path, outcome: Outcome) -> None:
    """A plan; its name says what is in it, so that of a file that is there nothing is missing."""
    try:
        msgspec.json.decode((theirs / path).read_bytes(), type=Agenda)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        outcome.skipped.append(f"{theirs / path}: not a plan: {' '.join(str(error).split())}")
        return
    if not (ours / path).exists():
        _copy(theirs / path, ours / path, "plan", outcome)


def _copy(source: Path, target: Path, kind: str, outcome: Outcome) -> None:
    try:
        write(target, source.read_bytes())
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    if kind:
        outcome.copied[kind] = outcome.copied.get(kind, 0) + 1


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """Paths below a folder, and none that leads out of it."""
    home = os.path.realpath(root)
    for path in sorted(root.glob(pattern)):
        if not path.name.startswith(".") and os.path.realpath(path).startswith(home + os.sep) and path.is_file():
            yield path.relative_to(root)


def _facts(found: Record | Cost | None) -> str:
    """What tells two of them apart, in a few words."""
    if isinstance(found, Record):
        scores = ", ".join(f"{metric} {value:.2f} %" for metric, value in found.scores.items())
        return f"{found.status} {scores} ({found.machine.tag}, {found.started})".replace("  ", " ")
    assert found is not None
    speed = f"{found.speed.train_images_per_second:.1f} images/s" if found.speed else "not timed"
    return f"{found.counts.method_parameters:,} weights, {speed} ({found.machine.tag}, {found.started})"
