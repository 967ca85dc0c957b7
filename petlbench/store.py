"""The results folder: one JSON file per run, written whole or not at all. It is the only truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from petlbench.cost import COSTS, Cost
from petlbench.errors import InputError
from petlbench.files import check_folder, write, writing
from petlbench.record import FORMAT, Record
from petlbench.run import Run

Kept = TypeVar("Kept", Record, Cost)


class Store:
    """Records below a folder. Several processes and machines may write into the same one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, run: Run) -> Record | None:
        """The record of a run, or None if it has none yet."""
        path = self.root / run.path
        return decode(path, Record) if path.is_file() else None

    def put(self, record: Record) -> Path:
        """Write a record in the place of an older one, and return its path. Raises InputError if it cannot be."""
        path = self.root / record.run.path
        with writing(path):
            write(path, _encode(record))
        return path

    def records(self) -> Iterator[Record]:
        """Every record, in the order of their paths. Raises InputError for a file that is no record."""
        for path in sorted(self.root.glob("*/*/*.json")):
            if path.parent.parent.name != COSTS:
                yield decode(path, Record)

    def find(self, name: str) -> Record:
        """The record that a person names by its path or by the key in it. Raises InputError if it is not one."""
        path = Path(name)
        if path.is_file() and not path.resolve().is_relative_to(self.root.resolve()):
            raise InputError(f"run {name}: lies outside of --results {self.root}; name its folder of results there")
        key = path.stem.rpartition("-")[2]
        found = sorted(self.root.glob(f"*/*/*-{key}*.json")) if key.isalnum() else []
        if len(found) != 1:
            many = f"{len(found)} records have it" if found else f"there is no such record below {self.root}"
            raise InputError(f"run {name}: {many}; write the path of a record or the key at the end of its name")
        return decode(found[0], Record)

    def get_cost(self, path: Path) -> Cost | None:
        """The cost below this path (`CostJob.path`), or None if it has not been measured."""
        return decode(self.root / path, Cost) if (self.root / path).is_file() else None

    def put_cost(self, path: Path, cost: Cost) -> None:
        """Write a cost, replacing an older one. Raises InputError if it cannot be written."""
        with writing(self.root / path):
            write(self.root / path, _encode(cost))

    def costs(self) -> Iterator[Cost]:
        """Every cost, in the order of their paths. Raises InputError for a file that is none."""
        for path in sorted(self.root.glob(f"{COSTS}/*/*.json")):
            yield decode(path, Cost)

    def check_writable(self) -> None:
        """Raise InputError now rather than after the first hour of training."""
        check_folder(self.root, "--results")


def _encode(record: Record | Cost) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(path: Path, kind: type[Kept]) -> Kept:
    """Read untrusted JSON: types are checked, nothing is executed."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a {kind.__name__.lower()} of petlbench: {error}") from error
    if record.format > FORMAT:
        raise InputError(f"{path}: written by a newer petlbench (format {record.format}, this one reads {FORMAT})")
    if isinstance(record, Record):
        try:
            _ = record.run.place  # has one, and none outside of the folder
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return record
