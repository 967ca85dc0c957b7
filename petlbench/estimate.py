"""How long a run will take, judged by what has run before, and by its FLOPs where nothing like it has."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from petlbench import zoo
from petlbench.cost import Cost
from petlbench.errors import InputError
from petlbench.glance import Glance
from petlbench.machine import machine
from petlbench.measure import Counts
from petlbench.run import Job, Run
from petlbench.suite import Suite, Task

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

    Records of this machine count; those of others do only if there are none of this one.
    """

    def __init__(self, records: Iterable[Glance], costs: Iterable[Cost], name: str, suite: Suite, device: str) -> None:
        """`name` is that of the suite in its runs. Raises nothing for records of suites that are not known here."""
        self._tasks: dict[tuple[str, str], Task | None] = {(name, task.name): task for task in suite.tasks}
        self._counts: dict[tuple[str, ...], Counts] = {}
        self._on_backbone: dict[str, list[Counts]] = defaultdict(list)
        self._paces: dict[tuple[object, ...], list[float]] = defaultdict(list)
        self._medians: dict[tuple[object, ...], float] = {}
        done = [each for each in records if each.status == "done" and each.counts is not None]
        costs = [cost for cost in costs if not cost.suite]
        for each in done:
            self._count(each.run.method, each.run.label, each.run.backbone.name, each.counts)
        for cost in costs:
            self._count(cost.method, cost.label, cost.backbone.name, cost.counts)
        here = machine(device).tag
        self.elsewhere = not any(each.machine.tag == here for each in done)
        """Whether all times are those of other machines."""
        for each in done:
            work = self._work(each.run, each.counts)
            if work and (self.elsewhere or each.machine.tag == here):
                for kind in _kinds(each.run, each.device, each.threads):
                    self._paces[kind].append(each.seconds.get("total", 0.0) / work)
        for cost in costs:
            self._time(cost, here)

    def estimate(self, job: Job) -> Estimate:
        """How long a job will take."""
        run = job.run
        counts, own = self.counts(run)
        work = self._work(run, counts)
        if work is None:
            return Estimate(None, "unknown")
        for similar, kind in enumerate(_kinds(run, job.device, job.threads)):
            if kind in self._paces:
                basis: Basis = ("measured" if similar < 2 else "scaled") if own else "similar"
                if kind not in self._medians:
                    self._medians[kind] = statistics.median(self._paces[kind])
                return Estimate(self._medians[kind] * work, basis)
        return Estimate(None, "unknown")

    def counts(self, run: Run) -> tuple[Counts | None, bool]:
        """The FLOPs and weights of a run's method on its backbone, and whether they are its own rather than those of
        the method in the middle of all that were counted on this backbone."""
        name = run.backbone.name
        own = self._counts.get((run.method, run.label, name)) or self._counts.get((run.method, name))
        others = sorted(self._on_backbone.get(name, ()), key=lambda counts: counts.training_flops)
        return own or (others[len(others) // 2] if others else None), own is not None

    def _count(self, method: str, label: str, backbone: str, counts: Counts | None) -> None:
        if counts is not None and (method, label, backbone) not in self._counts:
            self._counts[method, label, backbone] = self._counts[method, backbone] = counts
            self._on_backbone[backbone].append(counts)

    def _time(self, cost: Cost, here: str) -> None:
        """A cost that was timed stands in for runs where the method has not run yet: its pace is that of a step."""
        speed = cost.speed
        if speed is None or cost.machine.tag != here:
            return
        kinds = _where(cost.backbone.name, speed.device, speed.threads, speed.precision)
        own, *wider = ((*kinds[0], cost.label), *kinds)
        if own not in self._paces:
            pace = 1 / (speed.train_images_per_second * cost.counts.training_flops)
            for kind in (own, *(kind for kind in wider if kind not in self._paces)):
                self._paces[kind].append(pace)

    def _work(self, run: Run, counts: Counts | None) -> float | None:
        """FLOPs of a whole run, evaluation included; None where too little is known of it."""
        task = self._task(run.suite, run.task)
        if task is None or counts is None:
            return None
        images, scored = (task.train, task.test) if not run.is_trial else (task.train - task.val, task.val)
        epochs = run.recipe.total_epochs
        forward = 2 * counts.flops  # FLOPs are multiply-adds forward, and single operations in training
        evaluations = 1 + (epochs // run.evaluate_every if run.evaluate_every else 0)
        if counts.method_parameters == 0 and not run.recipe.augments and not run.recipe.drop_path:
            return forward * (images + evaluations * scored)  # a fixed encoder sees each image once, see `Trial.fit`
        return counts.training_flops * images * epochs + forward * evaluations * scored

    def _task(self, suite: str, name: str) -> Task | None:
        """The task of a record; None for one of a suite that is not known here. A record never makes us import a file
        that it names."""
        if (suite, name) not in self._tasks:
            try:
                known = not zoo.is_path(suite) and zoo.is_known(zoo.BENCHMARKS, suite)
                self._tasks[suite, name] = zoo.suite(suite)().task(name) if known else None
            except InputError:
                self._tasks[suite, name] = None
        return self._tasks[suite, name]


def _kinds(run: Run, device: str, threads: int) -> tuple[tuple[object, ...], ...]:
    """From the most to the least similar; the first two are of the same method."""
    where, *wider = _where(run.backbone.name, device, threads, run.recipe.precision)
    return ((*where, run.label, run.suite, run.task), (*where, run.label), where, *wider)


def _where(backbone: str, device: str, threads: int, precision: str) -> tuple[tuple[object, ...], ...]:
    kind = device.partition(":")[0]
    computed = (kind, precision, threads if kind == "cpu" else None)
    return ((*computed, backbone), computed, (kind,))
