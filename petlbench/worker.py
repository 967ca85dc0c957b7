"""The worker: does one job in a process of its own and writes the record. Every engine starts this.

python -m petlbench.worker JOB.json
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import random
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from petlbench import backbone as backbones
from petlbench import cost, measure, provenance, spec, zoo
from petlbench.cost import Cost, CostJob
from petlbench.errors import InputError
from petlbench.folder import combine
from petlbench.machine import machine
from petlbench.meters import energy
from petlbench.record import Record, Status
from petlbench.run import Job, Run
from petlbench.store import Store
from petlbench.suite import Suite
from petlbench.trial import DivergedError, Normalize, Report, Trial, silent


def main(arguments: list[str]) -> int:
    """Do the job in the named file; 0 if its record says `done`, 1 if not."""
    try:
        job = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Job)
    except (OSError, IndexError, msgspec.MsgspecError) as error:
        print(f"petlbench.worker: needs the file of a job: {error}", file=sys.stderr)
        return 2
    return 0 if work(job).status == "done" else 1


def do(job: Job | CostJob, report: Report = silent, log: str = "") -> None:
    """Do a job of either kind and store what comes of it."""
    if isinstance(job, Job):
        work(job, report, log)
    else:
        Store(Path(job.results)).put_cost(job.path, cost.work(job))


def stored(job: Job | CostJob) -> Record | Cost | None:
    """What the store holds of a job."""
    store = Store(Path(job.results))
    return store.get(job.run) if isinstance(job, Job) else store.get_cost(job.path)


def lost(job: Job | CostJob, reason: str, log: str) -> Record | None:
    """Record, in the place of a worker that died, that a run failed. A cost that failed leaves no record."""
    if not isinstance(job, Job):
        return None
    record = _Attempt(job, silent).record("failed", reason, log)
    Store(Path(job.results)).put(record)
    return record


def work(job: Job, report: Report = silent, log: str = "") -> Record:
    """Do a job and store its record, whatever happens short of the death of the process."""
    torch.set_num_threads(job.threads)
    attempt = _Attempt(job, report)
    status: Status = "done"
    reason = ""
    try:
        with energy(torch.device(job.device)) as used:
            attempt.run()
        attempt.joules = used.joules
    except (torch.OutOfMemoryError, MemoryError) as error:
        status, reason = "oom", _line(error)
        traceback.print_exc()
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except Exception as error:
        # The CPU allocator of torch has no exception type of its own.
        status = "oom" if "can't allocate memory" in str(error) else "failed"
        reason = _line(error)
        if not isinstance(error, InputError):
            traceback.print_exc()
    record = attempt.record(status, reason, log)
    Store(Path(job.results)).put(record)
    return record


class _Attempt:
    """One try at a job; holds what is known so far, so that a failure is recorded with all that came before it."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job, self.report = job, report
        self.started = datetime.datetime.now(datetime.UTC)
        self.clock = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.code = provenance.of_job(job)
        self.trial: Trial | None = None
        self.scores: dict[str, float] = {}
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
            vit = backbones.build(run.backbone.name, weights, image_size=size, drop_path=run.recipe.drop_path)
            encoder = method.attach(vit)
            head = suite.head(encoder, task)
        with self._timed("data"):
            train = suite.data(task, run.train, folder, run.framing)
            options: dict[str, Any] = {"seed": run.seed, "device": job.device, "report": self.report}
            self.trial = trial = Trial(encoder, head, suite, run.recipe, train, run.backbone, **options)
            trial.watch = watch = _Watch(job, suite, trial) if run.evaluate_every else None
        with self._timed("fit"):
            method.fit(trial)
        with self._timed("score"):  # the first and, but for `paper`, only time that anything reads the test split
            test = suite.data(task, run.score, folder, run.framing)
            outputs, labels = trial.outputs(test)
            self.scores = dict(suite.score(outputs, labels))
        if watch:
            self.scores[f"{task.metric}_best_test_epoch"] = max(watch.best, self.scores[task.metric])
            self.seconds["fit"] -= watch.seconds
            self.seconds["evaluate"] = watch.seconds
        self.digests = {run.train: train.digest(), run.score: test.digest()}
        if not run.is_trial:  # the fingerprint is over the two splits of a final run
            _check(run, self.digests, folder)
        with self._timed("count"):
            image = Normalize(run.backbone)(torch.zeros(1, 3, size, size, dtype=torch.uint8))
            self.counts = measure.count(trial.encoder.cpu().eval(), trial.head.cpu().eval(), image)

    def record(self, status: Status, reason: str, log: str) -> Record:
        self.seconds["total"] = time.perf_counter() - self.clock
        here = machine(self.job.device)
        return Record(
            run=self.job.run,
            status=status,
            reason=reason,
            scores=self.scores if status == "done" else {},
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


def _line(error: BaseException) -> str:
    """An error in one line, as it stands in the record and on the screen."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}".rstrip(": ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
