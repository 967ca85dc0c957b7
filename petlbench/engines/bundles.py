"""Bundles: several short runs that share one place in a queue, and the time and memory to ask for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from petlbench.glance import Glance
from petlbench.record import Record
from petlbench.run import Job, Run

LENGTH = 30 * 60.0
"""Seconds of work that are worth a place in a queue."""

START = 600
"""Seconds on top of the time that is asked for: imports, the first reading of the data, a busy file system."""

GIB = 2**30


def bundle(jobs: Sequence[Job], expected: Mapping[str, float | None], length: float, most: int) -> list[list[Job]]:
    """Put neighbours together, in their order, up to `length` seconds each, in `most` bundles or fewer.

    `expected` holds seconds by the key of a job. A job of which nobody knows how long it takes is a bundle of its own,
    unless that would be too many.
    """
    bundles: list[list[Job]] = []
    filled = math.inf
    for job in jobs:
        seconds = expected.get(job.key) or math.inf
        if filled + seconds > length:
            bundles.append([])
            filled = 0.0
        bundles[-1].append(job)
        filled += seconds
    if len(bundles) <= most:
        return bundles
    return [list(jobs[part * len(jobs) // most : (part + 1) * len(jobs) // most]) for part in range(most)]


def minutes(bundles: Iterable[Sequence[Job]], expected: Mapping[str, float | None]) -> int | None:
    """Time to ask for: twice what the longest bundle should take, and `START`. None if that of any run is unknown."""
    seconds = [[expected.get(job.key) for job in jobs] for jobs in bundles]
    if any(each is None for several in seconds for each in several):
        return None
    return math.ceil((2 * max(sum(filter(None, several)) for several in seconds) + START) / 60)


class Memory:
    """The memory that runs took so far, to say what others will take."""

    def __init__(self, records: Iterable[Record | Glance]) -> None:
        self._peaks: dict[tuple[str, ...], int] = {}
        for record in records:
            # On a GPU the record holds the memory of the GPU.
            if record.status == "done" and record.device == "cpu" and record.peak_memory_bytes is not None:
                for kind in self._kinds(record.run):
                    self._peaks[kind] = max(self._peaks.get(kind, 0), record.peak_memory_bytes)

    def mebibytes(self, jobs: Iterable[Job]) -> int | None:
        """Memory to ask for: half as much again as the largest of these runs should take, and 1 GiB.

        None if that of any run is unknown.
        """
        peaks = [self._peak(job) for job in jobs]
        if any(peak is None for peak in peaks):
            return None
        return math.ceil((1.5 * max(filter(None, peaks)) + GIB) / 2**20)

    def _peak(self, job: Job) -> int | None:
        """The largest peak among the most similar runs, in bytes."""
        if job.device != "cpu":
            return None
        return next((self._peaks[kind] for kind in self._kinds(job.run) if kind in self._peaks), None)

    @staticmethod
    def _kinds(run: Run) -> list[tuple[str, ...]]:
        """From the most to the least similar."""
        where = (run.suite, run.backbone.name, str(run.recipe.batch_size))
        return [(*where, run.label, run.task), (*where, run.label), where]
