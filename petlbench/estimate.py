"""How long a run will take, judged by what has run before, and by its FLOPs where nothing like it has."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from petlbench import zoo
from petlbench.cost import Cost
from petlbench.dense.suite import DenseSuite, DenseTask
from petlbench.errors import InputError
from petlbench.glance import Glance
from petlbench.machine import machine
from petlbench.measure import Counts
from petlbench.run import Job, Run
from petlbench.suite import Suite

Basis = Literal["measured", "scaled", "similar", "unknown"]
"""Where an estimate comes from.

`measured`: the same method on the same backbone has run here, or `petlbench cost` has timed it. `scaled`: others have,
and its own FLOPs are known. `similar`: others have, and it is taken to need as many FLOPs as they do on this backbone.
`unknown`: nothing has run on this device, or nothing on this backbone has been counted.
"""

WORDS: dict[Basis, str] = {
    "measured": "measured here",
    "scaled": "scaled by FLOPs from other runs",
    "similar": "like other methods on the backbone",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Estimate:
    """Wall time of a run by itself, and where it comes from."""

    seconds: float | None
    basis: Basis


class History:
    """What has run so far. All estimates are seconds per FLOP of the most similar runs, times the FLOPs of the run.

    Records of this machine count; those of others do only if there are none of this one. Several processes of a run are
    taken to share its work without loss. What a dense suite puts on a backbone costs more than the backbone, so its
    tasks have counts of their own, and paces apart from those of vectors.
    """

    def __init__(self, records: Iterable[Glance], costs: Iterable[Cost], name: str, suite: Suite, device: str) -> None:
        """`name` is that of the suite in its runs. Raises nothing for records of suites that are not known here."""
        self._suites: dict[str, Suite | None] = {name: suite}
        self._counts: dict[tuple[str, ...], Counts] = {}
        self._on_backbone: dict[tuple[str, str], list[Counts]] = defaultdict(list)
        self._paces: dict[tuple[object, ...], list[float]] = defaultdict(list)
        self._medians: dict[tuple[object, ...], float] = {}
        done = [each for each in records if each.status == "done" and each.counts is not None]
        costs = [cost for cost in costs if not cost.suite]
        for each in done:
            self._count(each.run.method, each.run.label, each.run.backbone.name, self._dense(each.run), each.counts)
        for cost in costs:
            self._count(cost.method, cost.label, cost.backbone.name, "", cost.counts)
        here = machine(device).tag
        self.elsewhere = not any(each.machine.tag == here for each in done)
        """Whether all times are those of other machines."""
        for each in done:
            work = self._work(each.run, each.counts)
            if work and (self.elsewhere or each.machine.tag == here):
                for kind in self._kinds(each.run, each.device, each.threads):
                    self._paces[kind].append(each.seconds.get("total", 0.0) * each.processes / work)
        for cost in costs:
            self._time(cost, here)

    def estimate(self, job: Job) -> Estimate:
        """How long a job will take."""
        run = job.run
        counts, own = self.counts(run)
        work = self._work(run, counts)
        if work is None:
            return Estimate(None, "unknown")
        for similar, kind in enumerate(self._kinds(run, job.device, job.threads)):
            if kind in self._paces:
                basis: Basis = ("measured" if similar < 2 else "scaled") if own else "similar"
                if kind not in self._medians:
                    self._medians[kind] = statistics.median(self._paces[kind])
                return Estimate(self._medians[kind] * work / job.processes, basis)
        return Estimate(None, "unknown")

    def counts(self, run: Run) -> tuple[Counts | None, bool]:
        """The FLOPs and weights of a run's method on its backbone, and whether they are its own rather than those of
        the method in the middle of all that were counted on this backbone."""
        place = run.backbone.name, self._dense(run)
        own = self._counts.get((run.method, run.label, *place)) or self._counts.get((run.method, *place))
        others = sorted(self._on_backbone.get(place, ()), key=lambda counts: counts.training_flops)
        return own or (others[len(others) // 2] if others else None), own is not None

    def _count(self, method: str, label: str, backbone: str, dense: str, counts: Counts | None) -> None:
        place = backbone, dense
        if counts is not None and (method, label, *place) not in self._counts:
            self._counts[(method, label, *place)] = self._counts[(method, *place)] = counts
            self._on_backbone[place].append(counts)

    def _time(self, cost: Cost, here: str) -> None:
        """A cost that was timed stands in for runs where the method has not run yet: its pace is that of a step."""
        speed = cost.speed
        if speed is None or cost.machine.tag != here:
            return
        kinds = _where(cost.backbone.name, speed.device, speed.threads, speed.precision, dense=False)
        own, *wider = ((*kinds[0], cost.label), *kinds)
        if own not in self._paces:
            pace = 1 / (speed.train_images_per_second * cost.counts.training_flops)
            for kind in (own, *(kind for kind in wider if kind not in self._paces)):
                self._paces[kind].append(pace)

    def _work(self, run: Run, counts: Counts | None) -> float | None:
        """FLOPs of a whole run, evaluation included; None where too little is known of it."""
        suite = self._suite(run.suite)
        task = next((each for each in suite.tasks if each.name == run.task), None) if suite else None
        if task is None or counts is None:
            return None
        images, scored = (task.train, task.test) if not run.is_trial else (task.train - task.val, task.val)
        if isinstance(suite, DenseSuite) and isinstance(task, DenseTask):
            return _dense_work(run, counts, images, scored, task.areas, math.prod(suite.counted))
        epochs = run.recipe.total_epochs
        forward = 2 * counts.flops  # FLOPs are multiply-adds forward, and single operations in training
        evaluations = 1 + (epochs // run.evaluate_every if run.evaluate_every else 0)
        if counts.method_parameters == 0 and not run.recipe.augments and not run.recipe.drop_path:
            return forward * (images + evaluations * scored)  # a fixed encoder sees each image once, see `Trial.fit`
        return counts.training_flops * images * epochs + forward * evaluations * scored

    def _suite(self, name: str) -> Suite | None:
        """The suite of a record; None for one that is not known here. A record never makes us import a file that it
        names."""
        if name not in self._suites:
            try:
                known = not zoo.is_path(name) and zoo.is_known(zoo.BENCHMARKS, name)
                self._suites[name] = zoo.suite(name)() if known else None
            except InputError:
                self._suites[name] = None
        return self._suites[name]

    def _dense(self, run: Run) -> str:
        """The task of a dense suite, whose counts are its own; empty for others, whose heads weigh nothing."""
        return f"{run.suite}/{run.task}" if isinstance(self._suite(run.suite), DenseSuite) else ""

    def _kinds(self, run: Run, device: str, threads: int) -> tuple[tuple[object, ...], ...]:
        """From the most to the least similar; the first two are of the same method."""
        name, precision = run.backbone.name, run.recipe.precision
        where, *wider = _where(name, device, threads, precision, dense=bool(self._dense(run)))
        return ((*where, run.label, run.suite, run.task), (*where, run.label), where, *wider)


def _dense_work(run: Run, counts: Counts, images: int, scored: int, areas: tuple[float, float], counted: int) -> float:
    """FLOPs by steps; `counts` are of an image of `counted` pixels, and arithmetic is taken to grow with the pixels."""
    recipe, (trained, seen) = run.recipe, areas
    batch = min(recipe.batch_size, images)
    steps = recipe.steps or recipe.total_epochs * (images // batch)
    evaluations = 1 + ((steps - 1) // recipe.evaluate_steps if recipe.evaluate_steps else 0)
    flops = counts.training_flops * steps * batch * trained + 2 * counts.flops * evaluations * scored * seen
    return flops / counted


def _where(backbone: str, device: str, threads: int, precision: str, *, dense: bool) -> tuple[tuple[object, ...], ...]:
    kind = device.partition(":")[0]
    computed = (dense, kind, precision, threads if kind == "cpu" else None)
    return ((*computed, backbone), computed, (dense, kind))
