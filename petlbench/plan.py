"""The list of runs that a comparison consists of, and what is known about each of them before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from petlbench import provenance, search, spec, zoo
from petlbench.cost import BATCH, DENSE_BATCH, CostJob
from petlbench.dense.suite import DenseSuite
from petlbench.estimate import Basis, History
from petlbench.glance import Glance, glances
from petlbench.request import Cell, Request, cells
from petlbench.run import Job, Run
from petlbench.store import Store

State = Literal["new", "done", "stale", "failed", "waiting"]
"""`stale`: done, but the code that made it has changed since. `waiting`: its settings are not known yet."""

TRIED = ("done", "diverged")
"""How a trial may end for it to count; one that failed for another reason is tried again before settings are chosen."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of a plan."""

    job: Job
    state: State
    seconds: float | None
    """How long it took, or is expected to take; None where nothing like it has been measured."""
    basis: Basis = "unknown"
    """Where the time comes from."""
    stored_bytes: int | None = None
    """What its trained weights take on disk, where that is known."""
    waits_for: str = ""
    """Why it is waiting, in words; its job then is a stand-in with the method's default settings."""


def plan(request: Request, progress: Callable[[str], None] = lambda text: None) -> list[Planned]:
    """Resolve a request into runs, in the order in which they are best done: task by task, so tables fill up evenly.

    Under `tuned` the trials come first and the final runs behind them. What a final run will be is known once its
    trials are done, so whoever has done them plans again.
    Makes the data of a generated suite where they are missing. Raises InputError for whatever cannot be run.
    """
    found = cells(request, progress)
    past = Past(request)
    if request.protocol == "tuned":
        planned = [*_trials(found, past), *_finals(found, past)]
    else:
        planned = [past.planned(cell.job(cell.run(seed))) for seed in request.seeds for cell in found]
    return list({each.job.run.key: each for each in planned}.values())  # `vpt` and `vpt(tokens=10)` may be the same run


class Past:
    """What the results folder knows of the runs of a plan."""

    def __init__(self, request: Request) -> None:
        self.records = glances(request.results)
        name, suite = zoo.name_of(request.suite), zoo.suite(request.suite)()
        self.history = History(self.records.values(), Store(request.results).costs(), name, suite, request.device)

    def record(self, run: Run) -> Glance | None:
        """What is known of a run, if it has a record."""
        return self.records.get(run.place)

    def planned(self, job: Job) -> Planned:
        """A job with the state of its run."""
        record = self.record(job.run)
        good = TRIED if job.run.is_trial else ("done",)
        if record is None:
            return self.expected(job, "new")
        job = dataclasses.replace(job, replaces=record.stamp)
        if record.status not in good:
            return self.expected(job, "failed")
        stale = provenance.changed(record, job.plugins)
        return Planned(
            job=job, state="stale" if stale else "done", seconds=record.seconds.get("total"), basis="measured"
        )

    def expected(self, job: Job, state: State, waits_for: str = "") -> Planned:
        """A job that is still to be done, with the time it will take."""
        estimate = self.history.estimate(job)
        counts, _ = self.history.counts(job.run)
        return Planned(
            job=job,
            state=state,
            seconds=estimate.seconds,
            basis=estimate.basis,
            stored_bytes=counts.stored_bytes if counts else None,
            waits_for=waits_for,
        )


def _trials(cells: Iterable[Cell], past: Past) -> Iterator[Planned]:
    for cell in cells:
        for run in cell.trials:
            yield past.planned(cell.job(run))


def _finals(cells: Sequence[Cell], past: Past) -> Iterator[Planned]:
    chosen = [(cell, *_chosen(cell, past)) for cell in cells]
    for seed in cells[0].request.seeds:
        for cell, tried, best in chosen:
            if best:
                yield past.planned(cell.job(cell.final(seed, best.run), search.spent(tried)))
                continue
            stand_in = cell.job(cell.final(seed, cell.trials[0]))
            if left := len(cell.trials) - len(tried):
                yield past.expected(stand_in, "waiting", f"after {left} {'trial' if left == 1 else 'trials'}")
            else:
                yield Planned(job=stand_in, state="waiting", seconds=None, waits_for="all trials diverged")


def _chosen(cell: Cell, past: Past) -> tuple[list[Glance], Glance | None]:
    """The trials of a cell that have run and, once all have, the best of them."""
    tried = [record for run in cell.trials if (record := past.record(run)) and record.status in TRIED]
    return tried, search.best(tried, cell.task.metric) if len(tried) == len(cell.trials) else None


def cost_jobs(planned: Iterable[Planned]) -> list[CostJob]:
    """The costs that a plan's table needs and that this machine has not measured yet: one per method and backbone, and
    per task of a dense suite."""
    jobs: dict[str, CostJob | None] = {}
    for each in planned:
        job, run = each.job, each.job.run
        if run.is_trial or each.state == "waiting":
            continue
        plugin = job.plugins.get(run.method, run.method)
        dense = issubclass(zoo.suite(job.plugins.get(run.suite, run.suite)), DenseSuite)
        cost = CostJob(
            method=run.method,
            fields=run.fields,
            label=spec.label(run.method, spec.make(zoo.method(plugin), run.fields, f"method {run.method}")),
            backbone=run.backbone,
            suite=run.suite if dense else "",
            task=run.task if dense else "",
            results=job.results,
            plugins=job.plugins,
            device=job.device,
            threads=job.threads,
            batch_size=DENSE_BATCH if dense else BATCH,
            precision=run.recipe.precision,
        )
        if cost.key not in jobs:
            kept = Store(Path(job.results)).get_cost(cost.path)
            jobs[cost.key] = cost if kept is None or provenance.changed_cost(kept, plugin) else None
    return [cost for cost in jobs.values() if cost is not None]
