"""The state of a store: what is done, under way, failed and left. Reads files only, and imports no torch."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from petlbench import agenda, lock, provenance
from petlbench.errors import InputError

NO_RECORDS = ("cost", agenda.PLANS, "logs", "weights", "submitted")
"""Folders of a store that hold no records."""


class Run(msgspec.Struct, frozen=True):
    """What is read of the run in a record; petlbench.run has all of it."""

    suite: str
    task: str
    method: str
    label: str
    seed: int
    recipe: dict[str, Any]
    score: str = "test"
    overrides: str = ""

    def __str__(self) -> str:
        trial = f" trial {self.overrides}".rstrip() if self.score == "val200" else ""
        return f"{self.suite}/{self.task} {self.label}{trial} seed {self.seed}"


class Kept(msgspec.Struct, frozen=True):
    """What is read of a record; petlbench.record has all of it."""

    run: Run
    status: str
    started: str
    reason: str = ""
    scores: dict[str, float] = {}
    code: dict[str, str] = {}


@dataclass(frozen=True)
class Place:
    """Where a run lies in the store, whether it has a record or is under way."""

    path: str
    """Of its record, below the results folder."""
    kept: Kept | None
    """None if it has no record yet, or one that cannot be read."""
    owner: lock.Owner | None
    """Who is at it."""

    @property
    def key(self) -> str:
        return key_of(self.path)

    @property
    def name(self) -> str:
        """As people call it; a run without a record is called by its path."""
        return str(self.kept.run) if self.kept else self.path.removesuffix(".json")

    @property
    def state(self) -> str:
        """running, done, stale, failed, oom, diverged, or new."""
        if self.owner:
            return "running"
        if self.kept is None:
            return "new"
        return "stale" if self.kept.status == "done" and provenance.changed(self.kept) else self.kept.status

    @property
    def is_answered(self) -> bool:
        """Whether nothing is left to do: a trial that diverged has said what it was asked."""
        return self.kept is not None and (
            self.kept.status == "done" or (self.kept.status == "diverged" and self.kept.run.score == "val200")
        )


@dataclass(frozen=True)
class Overview:
    """A store as it was at one moment."""

    places: dict[str, Place]
    """By path, in order."""
    unreadable: dict[str, str]
    """Files that should be records, with what is wrong with them."""
    plans: list[agenda.Agenda]

    def counts(self) -> dict[tuple[str, str], Counter[str]]:
        """How many runs are in which state, by suite and method; trials apart. Runs without a record are not named."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for place in self.places.values():
            if place.kept:
                run = place.kept.run
                row = (f"{run.suite} (trials)" if run.score == "val200" else run.suite, run.label)
            else:
                suite, method, _ = place.path.split("/")
                row = (suite, method)
            found.setdefault(row, Counter())[place.state] += 1
        return dict(sorted(found.items()))

    def left(self, plan: agenda.Agenda) -> list[agenda.Item]:
        """What of a plan has not been done."""
        return [item for item in plan.items if not (item.record in self.places and self.is_answered(item.record))]

    def is_answered(self, record: str) -> bool:
        return self.places[record].is_answered

    @property
    def running(self) -> list[Place]:
        return [place for place in self.places.values() if place.owner]


def read(results: Path) -> Overview:
    """Look at a store. Raises InputError if there is none."""
    if not results.is_dir():
        raise InputError(f"--results {results}: no such folder")
    places, unreadable = {}, {}
    for path, has_lock in sorted(_paths(results).items()):
        kept = None
        file = results / path
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=Kept)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            unreadable[path] = " ".join(str(error).split())
        owner = lock.owner(lock.beside(file)) if has_lock else None
        if kept or owner:
            places[path] = Place(path, kept, owner)
    return Overview(places, unreadable, list(agenda.read(results)))


def find(results: Path, name: str) -> Place:
    """The run with this key, the beginning of one, or this path. Raises InputError that names the nearest."""
    known = {**dict.fromkeys(_planned(results), False), **_paths(results)}
    named = Path(name).resolve()
    fitting = [
        path
        for path in known
        if (len(name) >= 3 and key_of(path).startswith(name)) or name == path or named == (results / path).resolve()
    ]
    if len(fitting) > 1:
        shown = ", ".join(key_of(path) for path in fitting[:8])
        raise InputError(f"run '{name}': {len(fitting)} runs begin so: {shown}{', ...' * (len(fitting) > 8)}")
    if not fitting:
        keys = {key_of(path): path for path in known}
        near = difflib.get_close_matches(key_of(f"{name.removesuffix('.json')}.json"), keys, n=3, cutoff=0.3)
        hint = f"nearest: {', '.join(f'{key} ({keys[key]})' for key in near)}" if near else f"{len(known)} are known"
        raise InputError(
            f"unknown run '{name}' in {results}: {hint}; `petlbench status` and `petlbench plan` list runs"
        )
    return read_one(results, fitting[0])


def read_one(results: Path, path: str) -> Place:
    """One run. Raises InputError for a record that cannot be read."""
    kept, file = None, results / path
    if file.is_file():
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: not a record of petlbench: {' '.join(str(error).split())}") from error
    return Place(path, kept, lock.owner(lock.beside(file)))


def key_of(path: str) -> str:
    """The key of the run whose record has this path."""
    return path.removesuffix(".json").rpartition("-")[2]


def _planned(results: Path) -> Iterator[str]:
    for plan in agenda.read(results):
        yield from (item.record for item in plan.items if item.record)


def _paths(results: Path) -> dict[str, bool]:
    """Every record that is there or has a lock, and whether it has one."""
    found: dict[str, bool] = {}
    for suite in _folders(results):
        for method in _folders(suite) if Path(suite).name not in NO_RECORDS else ():
            above = f"{Path(suite).name}/{Path(method).name}"
            for entry in os.scandir(method):
                name, dot, suffix = entry.name.rpartition(".")
                if f"{dot}{suffix}" in (".json", lock.SUFFIX) and name[:1] != ".":
                    path = f"{above}/{name}.json"
                    found[path] = found.get(path, False) or suffix != "json"
    return found


def _folders(folder: str | Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.path for entry in entries if entry.is_dir() and entry.name[0] != ".")
