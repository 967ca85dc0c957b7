"""What a plan comes to: hours on this many slots, space on the disk, and the runs that fit into a budget of hours."""

from __future__ import annotations

import heapq
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petlbench import zoo
from petlbench.cached import SHARE
from petlbench.dense.suite import SHOWN
from petlbench.estimate import Basis
from petlbench.folder import BOTH
from petlbench.plan import Planned, State
from petlbench.recipe import Recipe
from petlbench.run import Job
from petlbench.suite import Suite

TODO: tuple[State, ...] = ("new", "failed", "waiting")
"""What `petlbench run` does unless it is told otherwise."""

RECORD, EPOCH = 6_000, 110
"""Bytes of a record without its curve, and of an epoch in the curve: rounded up from the records in results/zoo."""
ROW, ROWS, PICTURE = 200, 50, 200_000
"""Of dense suites: bytes of a row of the curve, rows at most without evaluations, and bytes of a drawn answer of 400
pixels, all rounded up."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is to be done, in figures. Times leave out runs whose time is unknown."""

    states: dict[State, int]
    """Runs by state."""
    todo: int
    """Runs to do."""
    bases: dict[Basis, int]
    """Of these, how many by where their time comes from."""
    wall_seconds: float
    """From the start of the first to the end of the last, `slots` at a time."""
    device_seconds: float
    """Of all runs to do, one after the other: hours of `processes` GPUs, or of `cores` cores."""
    slots: int
    cores: int
    """Cores per run on the CPU."""
    processes: int
    """Processes per run, each on a GPU of its own where there are GPUs."""
    device: str
    record_bytes: int
    """Records of the runs to do."""
    picture_bytes: int
    """Drawn answers of the runs to do, on dense suites."""
    image_bytes: int
    """Decoded images that the runs to do will keep beside their data, for the second run to read."""
    weight_bytes: int
    """Trained weights of the runs to do, where they are kept (--save-weights) and known in size."""
    free_bytes: int
    """Free where the results are."""
    fits: int | None = None
    """Runs to do that are over within the budget, where there is one: the first of them, in the order of the plan."""
    fit_seconds: float | None = None
    """When the last of these is over."""


def outlook(planned: Sequence[Planned], suite: str, slots: int, budget: float | None = None) -> Outlook:
    """Judge a plan that has at least one run; `suite` is its name or path, `budget` in seconds.

    What fits is a first part of the plan, never a choice of the cheapest: a plan goes task by task and seed by seed,
    so any first part of it compares all methods on the same tasks.
    """
    first = planned[0].job
    todo = [each for each in planned if each.state in TODO]
    ends = _ends([each.seconds or 0.0 for each in todo], slots)
    fits = None
    if budget is not None:
        fits = next((n for n, each in enumerate(todo) if each.seconds is None or ends[n] > budget), len(todo))
    return Outlook(
        states=dict(sorted(Counter(each.state for each in planned).items())),
        todo=len(todo),
        bases=dict(sorted(Counter(each.basis for each in todo).items())),
        wall_seconds=ends[-1] if ends else 0.0,
        device_seconds=sum(each.seconds or 0.0 for each in todo),
        slots=slots,
        cores=first.threads * first.processes,
        processes=first.processes,
        device=first.device,
        record_bytes=sum(RECORD + _curve_bytes(each.job.run.recipe) for each in todo),
        picture_bytes=sum(
            SHOWN * PICTURE for each in todo if each.job.run.recipe.is_dense and not each.job.run.is_trial
        ),
        image_bytes=_image_bytes([each.job for each in todo], zoo.suite(suite)()),
        weight_bytes=sum(each.stored_bytes or 0 for each in todo if each.job.save_weights),
        free_bytes=_free(Path(first.results)),
        fits=fits,
        fit_seconds=None if fits is None else (ends[fits - 1] if fits else 0.0),
    )


def _ends(seconds: Sequence[float], slots: int) -> list[float]:
    """When all runs up to and with each one are over, if every slot takes the next run as soon as it is free."""
    free, ends, latest = [0.0] * slots, [], 0.0
    for each in seconds:
        end = heapq.heappop(free) + each
        heapq.heappush(free, end)
        latest = max(latest, end)
        ends.append(latest)
    return ends


def _curve_bytes(recipe: Recipe) -> int:
    if not recipe.is_dense:
        return EPOCH * recipe.total_epochs
    steps = recipe.steps or recipe.total_epochs  # of a training in epochs, at least
    looks = steps // recipe.evaluate_steps if recipe.evaluate_steps else 0
    return ROW * (min(steps, ROWS) + looks)


def _image_bytes(jobs: Sequence[Job], suite: Suite) -> int:
    """Arrays of decoded images that are not beside the data yet; dense suites keep none. Those in the user's cache,
    where data are kept read-only, are not looked for."""
    if suite.any_size:
        return 0
    wanted = {}
    for job in jobs:
        run, task = job.run, suite.task(job.run.task)
        sizes = {BOTH: task.train, "train800": task.train - task.val, "val200": task.val, "test": task.test}
        for split in (run.train, run.score):
            wanted[job.data, split, str(run.framing)] = sizes[split] * 3 * run.framing.size**2
    missing = 0
    for (folder, split, framing), size in wanted.items():
        place = Path(folder, "decoded")
        if not any(place.glob(f"{split}-{framing}-*.npy")) and size <= SHARE * _free(Path(folder)):
            missing += size
    return missing


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    return shutil.disk_usage(there).free
