"""Which code made a number: the source files that can change it, and whether they have changed since."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from petlbench import zoo

if TYPE_CHECKING:
    from petlbench.cost import Cost
    from petlbench.run import Job

COSTED = (
    "petlbench.backbone",
    "petlbench.blocks",
    "petlbench.encoder",
    "petlbench.flops",
    "petlbench.measure",
    "petlbench.method",
    "petlbench.speed",
    "petlbench.surgery",
    "petlbench.windows",
)
"""Modules of the harness that can change what a method costs."""

NUMERIC = (
    *COSTED,
    "petlbench.attempt",
    "petlbench.augment",
    "petlbench.cached",
    "petlbench.classification",
    "petlbench.folder",
    "petlbench.framing",
    "petlbench.layouts",
    "petlbench.meters",
    "petlbench.optimize",
    "petlbench.recipe",
    "petlbench.trial",
)
"""Modules of the harness on the way from a run to its numbers. Tables, engines and commands are not among them."""

PARTS = ("petlbench.drawing", "petlbench.dense")
"""Packages whose modules count where a suite or method imports them, and nowhere else."""


class Named(Protocol):
    """What has to be known of a run: the names of its method and suite."""

    @property
    def method(self) -> str: ...

    @property
    def suite(self) -> str: ...


class Coded(Protocol):
    """What has to be known of a record."""

    @property
    def run(self) -> Named: ...

    @property
    def code(self) -> dict[str, str]: ...


def fingerprint(method: str, suite: str | None = None) -> dict[str, str]:
    """SHA-256 of every source file that can change a number, by module name.

    These are the method's file and the suite's, the siblings that they import, and the harness's numeric modules.
    `method` and `suite` are names of the zoo or paths; without a suite it is what can change a cost.
    """
    found = _harness(NUMERIC if suite else COSTED) | _plugin(zoo.home(zoo.METHODS, method))
    return found | _plugin(zoo.home(zoo.BENCHMARKS, suite)) if suite else found


def cost_fingerprint(method: str, suite: str = "") -> dict[str, str]:
    """The same for what can change a cost: of a method alone, or with the heads of a suite."""
    return fingerprint(method) | (_plugin(zoo.home(zoo.BENCHMARKS, suite)) if suite else {})


def libraries(method: str, suite: str | None = None) -> dict[str, str]:
    """Versions of the packages that the files of a method and a suite have imported, such as {"peft": "0.21.2"}."""
    homes = [zoo.home(zoo.METHODS, method), *([zoo.home(zoo.BENCHMARKS, suite)] if suite else [])]
    paths = {path for home in homes for module in _plugin(home) if (path := _source(module)) is not None}
    names = sorted({name for path in paths for name in _packages(path)})
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    return {name: str(version) for name, version in versions.items() if version}


def changed_cost(cost: Cost, method: str) -> list[str]:
    """The modules whose code differs from the code that measured this cost; `method` is its name or path."""
    now = cost_fingerprint(method, cost.suite)
    return [name for name in now if cost.code.get(name) != now[name]]


def changed(record: Coded, plugins: dict[str, str] | None = None) -> list[str]:
    """The modules whose code differs from the code that made this record; empty if the record is current.

    A module that is gone counts as changed. `plugins` says where methods and suites given by path lie; without its
    path, the file of one cannot be judged, and only the rest is.
    """
    plugins, run = plugins or {}, record.run
    now, left_out = _judged(run.method, plugins.get(run.method), run.suite, plugins.get(run.suite))
    if record.code == now:
        return []
    then = {name: digest for name, digest in record.code.items() if name not in left_out}
    return [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]


@cache
def _judged(
    method: str, method_file: str | None, suite: str, suite_file: str | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the code of a run is now, and the names of files that cannot be judged, since nobody says where they lie.

    Cached like the digests of the files themselves: a process judges all records by the code that it has imported."""
    now, left_out = _harness(NUMERIC), []
    for package, name, file in ((zoo.METHODS, method, method_file), (zoo.BENCHMARKS, suite, suite_file)):
        if file is not None or zoo.is_known(package, name):
            now |= _plugin(zoo.home(package, file or name))
        else:
            left_out.append(f"{zoo.FILES}.{zoo.split(name)[0]}")
    return now, tuple(left_out)


def is_there(module: str) -> bool:
    """Whether there is such a source file today."""
    return _source(module) is not None


def of_job(job: Job) -> dict[str, str]:
    """The fingerprint of the code that a job runs."""
    run = job.run
    return fingerprint(job.plugins.get(run.method, run.method), job.plugins.get(run.suite, run.suite))


def libraries_of_job(job: Job) -> dict[str, str]:
    """The libraries that the plug-ins of a job have imported."""
    run = job.run
    return libraries(job.plugins.get(run.method, run.method), job.plugins.get(run.suite, run.suite))


def _harness(modules: Iterable[str]) -> dict[str, str]:
    return {name: _sha256(path) for name in modules if (path := _source(name)) is not None}


def _plugin(module: str) -> dict[str, str]:
    """A plug-in's file, and those it reaches through imports from its own package or from `PARTS`."""
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = _source(name)
        if name not in found and path is not None:
            found[name] = _sha256(path)
            todo += _imports(path, name)
    return found


@cache
def _imports(path: Path, module: str) -> list[str]:
    package = module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            source = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    near = (package, *PARTS)
    return [name for name in names if name.rpartition(".")[0] in near and package and _source(name) is not None]


@cache
def _packages(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


@cache
def _source(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__))
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
