"""One try at a run: build the networks, train, score, count. Nothing else of the harness makes the numbers of a run."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
import random
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from petlbench import backbone as backbones
from petlbench import measure, provenance, spec, zoo
from petlbench.errors import InputError
from petlbench.folder import combine
from petlbench.machine import machine
from petlbench.record import Record, Status
from petlbench.run import Job, Run
from petlbench.suite import Suite
from petlbench.trial import Report, Trial


class Attempt:
    """One try at a job; holds what is known so far, so that a failure is recorded with all that came before it."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job, self.report = job, report
        self.started = datetime.datetime.now(datetime.UTC)
        self.clock = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.code = provenance.of_job(job)
        self.trial: Trial | None = None
        self.scores: dict[str, float] = {}
        self.per_class: dict[str, dict[str, float]] = {}
        self.digests: dict[str, str] = {}
        self.counts: measure.Counts | None = None
        self.joules: float | None = None

    def run(self) -> None:
        job, run = self.job, self.job.run
        suite = zoo.suite(job.plugins.get(run.suite, run.suite))()
        method = spec.make(zoo.method(job.plugins.get(run.method, run.method)), run.fields, f"method {run.method}")
        task = suite.task(run.task)
        folder, size = Path(job.data), run.backbone.image_size
        _seed(run.seed)
        with self._timed("build"):
            weights = job.weights or run.backbone.weights
            drop = run.recipe.drop_path
            vit = backbones.build(run.backbone.name, weights, image_size=size, drop_path=drop, any_size=suite.any_size)
            encoder = method.attach(vit)
            head = suite.head(encoder, task)
        with self._timed("data"):
            train = suite.data(task, run.train, folder, run.framing)
            self.trial = trial = suite.trial(encoder, head, task, train, run, device=job.device, report=self.report)
            trial.keep_in(
                Path(job.results, "checkpoints", f"{run.key}-{_mark(self.code)}"),
                None if run.is_trial else Path(job.results, "pictures", run.path.with_suffix("")),
            )
            trial.watch = watch = _Watch(job, suite, trial) if run.evaluate_every else None
        with self._timed("fit"):
            method.fit(trial)
        with self._timed("score"):  # the first and, but for `paper`, only time that anything reads the test split
            test = suite.data(task, run.score, folder, run.framing)
            outputs, labels = trial.outputs(test)
            self.scores, self.per_class = _parted(suite.score(outputs, labels))
        if watch:
            self.scores[f"{task.metric}_best_test_epoch"] = max(watch.best, self.scores[task.metric])
            self.seconds["fit"] -= watch.seconds
            self.seconds["evaluate"] = watch.seconds
        self.digests = {run.train: train.digest(), run.score: test.digest()}
        if not run.is_trial:  # the fingerprint is over the two splits of a final run
            _check(run, self.digests, folder)
        trial.forget()
        with self._timed("count"):
            self.counts = suite.count(trial.encoder.cpu().eval(), trial.head.cpu().eval(), run.backbone)

    def record(self, status: Status, reason: str, log: str) -> Record:
        self.seconds["total"] = time.perf_counter() - self.clock
        here = machine(self.job.device)
        return Record(
            run=self.job.run,
            status=status,
            reason=reason,
            scores=self.scores if status == "done" else {},
            per_class=self.per_class if status == "done" else {},
            digests=self.digests,
            budget=self.job.budget,
            counts=self.counts,
            curve=self.trial.curve if self.trial else [],
            found=self.trial.found if self.trial else {},
            seconds={part: round(seconds, 3) for part, seconds in self.seconds.items()},
            peak_memory_bytes=_peak_memory(self.job.device),
            energy_joules=self.joules,
            machine=dataclasses.replace(here, versions=here.versions | provenance.libraries_of_job(self.job)),
            threads=self.job.threads,
            device=self.job.device,
            code=self.code,
            started=self.started.isoformat(timespec="seconds"),
            log=log if status != "done" else "",
        )

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = time.perf_counter() - started


class _Watch:
    """Under the protocol `paper`: looks at the test split after every few epochs and remembers the best, as the
    official codes do. It only looks: the networks are trained as without it."""

    def __init__(self, job: Job, suite: Suite, trial: Trial) -> None:
        run = job.run
        self.suite, self.trial, self.every = suite, trial, run.evaluate_every
        self.task = suite.task(run.task)
        self.test = suite.data(self.task, "test", Path(job.data), run.framing)
        self.best = -math.inf
        self.seconds = 0.0

    def __call__(self) -> None:
        if len(self.trial.curve) % self.every == 0:
            started = time.perf_counter()
            outputs, labels = self.trial.outputs(self.test)
            self.best = max(self.best, dict(self.suite.score(outputs, labels))[self.task.metric])
            self.seconds += time.perf_counter() - started


def _parted(scores: Iterable[tuple[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The scores, and apart those of single classes, which are called METRIC/CLASS."""
    whole: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    for name, value in scores:
        metric, slash, label = name.partition("/")
        if slash:
            parts.setdefault(metric, {})[label] = value
        else:
            whole[name] = value
    return whole, parts


def _mark(code: dict[str, str]) -> str:
    """Tells checkpoints of different code apart: none goes on from what another began."""
    return hashlib.sha256("".join(f"{name}{code[name]}" for name in sorted(code)).encode()).hexdigest()[:8]


def _seed(seed: int) -> None:
    """Seed every generator that a method may draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _check(run: Run, digests: dict[str, str], folder: Path) -> None:
    if combine(digests) != run.data:
        raise InputError(
            f"{folder}: the data differ from their fingerprint.json; delete that file if the change was meant"
        )


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux kilobytes
