"""The list of runs that a comparison consists of, and what is known about each of them before it starts."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from petlbench import backbone as backbones
from petlbench import provenance, spec, zoo
from petlbench.cost import CostJob
from petlbench.engines import local
from petlbench.errors import InputError
from petlbench.method import Method
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.run import Job, Protocol, Run
from petlbench.spec import Spec
from petlbench.store import Store
from petlbench.suite import Suite, Task

State = Literal["new", "done", "stale", "failed"]
"""`stale`: done, but the code that made it has changed since."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A comparison as it was asked for."""

    methods: Sequence[Spec]
    suite: str
    tasks: Sequence[str] = ()
    """Empty for all tasks of the suite."""
    backbone: str = "mini"
    weights: str = backbones.PRETRAINED
    data_root: Path | None = None
    results: Path = Path("results")
    seeds: Sequence[int] = (0,)
    protocol: Protocol = "fixed"
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `Recipe` that replace the method's own."""
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of a plan."""

    job: Job
    state: State
    seconds: float | None
    """How long it took, or is expected to take; None where nothing like it has been measured here."""


def plan(request: Request, progress: Callable[[str], None] = lambda text: None) -> list[Planned]:
    """Resolve a request into runs, in the order in which they are best done: task by task, so tables fill up evenly.

    Makes the data of a generated suite where they are missing. Raises InputError for whatever cannot be run.
    """
    suite = zoo.suite(request.suite)()
    tasks = [suite.task(name) for name in request.tasks] or list(suite.tasks)
    methods = [(each, spec.make(zoo.method(each.name), each.fields, f"method {each.name}")) for each in request.methods]
    overrides = request.overrides
    spec.make(Recipe, overrides, "--recipe")
    backbone = backbones.describe(request.backbone, request.weights)
    weights = request.weights if backbone.weights not in (backbones.PRETRAINED, backbones.RANDOM) else None
    data = _data(suite, request, tasks, progress)
    jobs = [
        Job(
            run=Run(
                suite=zoo.name_of(request.suite),
                task=task.name,
                method=zoo.name_of(each.name),
                fields=msgspec.to_builtins(dataclasses.asdict(method)),
                recipe=_recipe(method, zoo.name_of(request.suite), task.name, overrides),
                backbone=backbone,
                data=data[task.name][1],
                protocol=request.protocol,
                seed=seed,
                label=spec.label(zoo.name_of(each.name), method),
                overrides=", ".join(f"{name}={value}" for name, value in sorted(overrides.items())),
            ),
            data=str(data[task.name][0]),
            results=str(request.results.resolve()),
            weights=weights and str(Path(weights).resolve()),
            plugins={zoo.name_of(n): str(Path(n).resolve()) for n in (each.name, request.suite) if zoo.is_path(n)},
            device=request.device,
            threads=request.threads,
        )
        for seed in request.seeds
        for task in tasks
        for each, method in methods
    ]
    store = Store(request.results)
    history = History(store.records())
    unique = {job.run.key: job for job in jobs}  # `vpt` and `vpt(tokens=10)` may be the same run
    return [_planned(job, store, history) for job in unique.values()]


def cost_jobs(planned: Iterable[Planned]) -> list[CostJob]:
    """The costs that a plan's table needs and that this machine has not measured yet, one per method and backbone."""
    jobs = {}
    for each in planned:
        job, run = each.job, each.job.run
        cost = CostJob(
            method=run.method,
            fields=run.fields,
            label=run.label,
            backbone=run.backbone,
            results=job.results,
            plugins=job.plugins,
            device=job.device,
            threads=job.threads,
            precision=run.recipe.precision,
        )
        kept = Store(Path(job.results)).get_cost(cost.path)
        if kept is None or kept.code != provenance.fingerprint(job.plugins.get(run.method, run.method)):
            jobs[cost.key] = cost
    return list(jobs.values())


class History:
    """How long runs took so far, to say how long others will take."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._seconds: dict[tuple[object, ...], list[float]] = {}
        for record in records:
            if record.status == "done":
                for kind in self._kinds(record.run, record.device):
                    self._seconds.setdefault(kind, []).append(record.seconds["total"] / record.run.recipe.total_epochs)

    def seconds(self, run: Run, device: str) -> float | None:
        """Expected wall time: that of the most similar runs, scaled with the epochs."""
        for kind in self._kinds(run, device):
            if kind in self._seconds:
                return statistics.median(self._seconds[kind]) * run.recipe.total_epochs
        return None

    @staticmethod
    def _kinds(run: Run, device: str) -> list[tuple[object, ...]]:
        """From the most to the least similar."""
        where = (run.suite, run.backbone.name, device)
        return [(*where, run.label, run.task), (*where, run.label), where]


def _planned(job: Job, store: Store, history: History) -> Planned:
    record = store.get(job.run)
    if record is None:
        return Planned(job=job, state="new", seconds=history.seconds(job.run, job.device))
    if record.status != "done":
        return Planned(job=job, state="failed", seconds=history.seconds(job.run, job.device))
    stale = provenance.changed(record, job.plugins)
    return Planned(job=job, state="stale" if stale else "done", seconds=record.seconds["total"])


def _recipe(method: Method, suite: str, task: str, overrides: Mapping[str, Any]) -> Recipe:
    """The method's recipe with the overrides; fewer or more epochs stretch the warm-up and the cooldown alike."""
    recipe = method.recipe(suite, task)
    if "epochs" in overrides:
        ratio = overrides["epochs"] / recipe.epochs
        stretched = {name: round(getattr(recipe, name) * ratio) for name in ("warmup_epochs", "cooldown_epochs")}
        recipe = dataclasses.replace(recipe, **stretched)
    return dataclasses.replace(recipe, **overrides)


def _data(
    suite: Suite, request: Request, tasks: Sequence[Task], progress: Callable[[str], None]
) -> dict[str, tuple[Path, str]]:
    """Folder and fingerprint of every task. What has to be made first is made on all cores."""
    root = request.data_root
    if root is not None and not root.is_dir():
        raise InputError(f"--data-root {root}: no such folder")
    missing = [task for task in tasks if not suite.is_ready(task, root)]
    for task in missing:
        progress(f"making the images of {task.name}, once")
    if len(missing) > 1:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=local.context()) as pool:
            list(pool.map(_prepare, [request.suite] * len(missing), missing))
    folders = {task.name: suite.prepare(task, root).resolve() for task in tasks}
    return {task.name: (folders[task.name], suite.fingerprint(task, folders[task.name], progress)) for task in tasks}


def _prepare(suite: str, task: Task) -> None:
    zoo.suite(suite)().prepare(task, None)
