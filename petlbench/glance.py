"""What a plan needs of a record, read without the rest: ten thousand records are looked through within a second."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from petlbench.cost import COSTS
from petlbench.errors import InputError
from petlbench.measure import Counts
from petlbench.record import FORMAT, Status, stamp
from petlbench.run import Run


class Where(msgspec.Struct, frozen=True):
    """Of `petlbench.machine.Machine`, the one fact that says whether speeds compare."""

    tag: str


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A record without its curve and what else takes long to read. Fields are those of `petlbench.record.Record`."""

    format: int
    run: Run
    status: Status
    scores: dict[str, float] = {}
    digests: dict[str, str] = {}
    counts: Counts | None = None
    seconds: dict[str, float] = {}
    peak_memory_bytes: int | None = None
    machine: Where
    threads: int
    device: str
    processes: int = 1
    code: dict[str, str] = {}
    started: str

    @property
    def stamp(self) -> str:
        return stamp(self.started, self.status, self.seconds)


def glances(root: Path) -> dict[str, Glance]:
    """Every record below a results folder by its path there, as `run.place` gives it, in the order of these paths.

    Raises InputError for a file that is no record, as `petlbench.store.Store.records` does.
    """
    decoder = msgspec.json.Decoder(Glance)
    with _without_collection():
        return {path: _read(root, path, decoder) for path in sorted(_paths(root))}


def _paths(root: Path) -> Iterator[str]:
    """SUITE/METHOD/FILE.json. Names are joined as text: ten thousand Path objects take longer than the reading."""
    for suite in _folders(root):
        for method in _folders(suite) if suite.name != COSTS else ():
            for file in os.scandir(method):
                if file.name.endswith(".json") and not file.name.startswith("."):
                    yield f"{suite.name}/{method.name}/{file.name}"


def _folders(above: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        return [entry for entry in os.scandir(above) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _read(root: Path, path: str, decoder: msgspec.json.Decoder[Glance]) -> Glance:
    try:
        with open(f"{root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
            found = decoder.decode(file.read())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{root / path}: not a record of petlbench: {error}") from error
    except OSError as error:
        raise InputError(f"{root / path}: cannot be read: {error.strerror or error}") from error
    if found.format > FORMAT:
        raise InputError(
            f"{root / path}: written by a newer petlbench (format {found.format}, this one reads {FORMAT})"
        )
    return found


@contextmanager
def _without_collection() -> Iterator[None]:
    """So many small objects make Python look for garbage again and again, where there is none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
