"""The command that repeats a run, written from nothing but its record."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from functools import cache

from petlbench import spec, zoo
from petlbench.errors import InputError
from petlbench.record import Record
from petlbench.run import Run
from petlbench.spec import Spec

FOLDER = "repeat"
"""Where the repetition is kept: in a results folder of its own, since in the old one the run is done already."""
DATA = "DATA"
"""Stands for the data root, which no record knows."""


def commands(records: Iterable[Record]) -> list[str]:
    """The commands that repeat these runs; those that differ in nothing but the seed share one.

    They are quoted for a shell, whatever the records hold. Where a method or suite is none of the zoo, its file stands
    in its place (./NAME.py), and where data or weights are read from files, the place is to be filled in.
    """
    seeds: dict[tuple[str, ...], list[int]] = {}
    for record in records:
        seeds.setdefault(tuple(_arguments(record)), []).append(record.run.seed)
    return [
        shlex.join([*arguments, "--seeds", ",".join(map(str, sorted(them))), "--results", FOLDER, "--no-cost"])
        for arguments, them in seeds.items()
    ]


def _arguments(record: Record) -> Sequence[str]:
    run = record.run
    options = {
        "--methods": _method(run),
        "--suite": run.suite if _is_known(zoo.BENCHMARKS, run.suite) else f"./{run.suite}.py",
        "--tasks": run.task,
        "--data-root": DATA if _reads_files(run.suite) else "",
        "--backbone": run.backbone.name,
        "--weights": run.backbone.weights if run.backbone.weights != "pretrained" else "",
        "--protocol": run.protocol,
        "--trials": str(run.search.trials) if run.search else "",
        "--normalization": run.normalization,
        "--resize": run.resize,
        "--interpolation": run.interpolation,
        "--recipe": _overrides(run),
        "--device": record.device.split(":")[0],
        "--threads": str(record.threads),
        "--processes": str(record.processes) if record.processes > 1 else "",
    }
    return ["petlbench", "run", *(word for name, value in options.items() if value for word in (name, value))]


def _method(run: Run) -> str:
    """The method as a person would ask for it: what the paper sets for the task is not asked for."""
    try:
        (asked,) = spec.parse(run.label)
        known = _is_known(zoo.METHODS, run.method)
        published = zoo.method(run.method)().published(run.suite, run.task) if known and run.protocol == "paper" else {}
    except (InputError, ValueError):  # a label that no person wrote, or a library that is not here
        return run.label
    file, variant = zoo.split(run.method)
    name = run.method if known else f"./{file}.py" + (variant and f":{variant}")
    return str(Spec(name, {field: value for field, value in asked.fields.items() if field not in published}))


def _overrides(run: Run) -> str:
    """What replaced the recipe's settings; the values are the recipe's, so that texts are quoted."""
    names = [name for name in re.findall(r"(\w+)=", run.overrides) if hasattr(run.recipe, name)]
    return ",".join(f"{name}={getattr(run.recipe, name)!r}" for name in names)


def _reads_files(suite: str) -> bool:
    return not _is_known(zoo.BENCHMARKS, suite) or bool(zoo.suite(suite).source)


@cache
def _is_known(package: str, name: str) -> bool:
    """A record that names a path must not make us import the file there."""
    return not zoo.is_path(name) and zoo.is_known(package, name)
