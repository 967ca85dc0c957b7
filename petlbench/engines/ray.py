"""The Ray engine: the elements of a submission as tasks of a Ray cluster, which gives each its cores or its GPU.

A task starts the same process as an element of a SLURM array does, so every run has a fresh process, and what Ray runs
itself imports no torch. A task that is lost is not tried again by Ray: the same command does that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from petlbench.engines import bundles, tied
from petlbench.engines.element import Submission
from petlbench.engines.follow import Follower
from petlbench.engines.limits import NONE, Limits
from petlbench.engines.local import Display
from petlbench.errors import InputError
from petlbench.run import Job

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, which lives as long as the command."""

MISSING = "--engine ray: needs Ray, pip install 'petlbench[ray]'"

PATIENCE = 10.0
"""Seconds in which a cluster has to answer."""

LOOK = 1.0
"""Seconds between two looks at the store."""


@dataclass(frozen=True, kw_only=True)
class Ray:
    """An engine that hands bundles of runs to a Ray cluster and waits for them."""

    results: Path
    expected: Mapping[str, float | None]
    """Seconds that a run should take, by its key; None where that is unknown."""
    address: str | None
    """HOST:PORT of the cluster; None for RAY_ADDRESS or the one this machine is part of; `LOCAL`."""
    length: float = bundles.LENGTH
    """Seconds of work per task."""
    say: Callable[[str], None]
    """Where to tell what happens."""

    def run(self, works: Iterable[Job], slots: int, display: Display, limits: Limits = NONE) -> None:
        """Do all jobs, at most `slots` tasks at a time and no more than the cluster has room for.

        Raises InputError if there is no such cluster, or none with what a run needs.
        """
        jobs = list(works)
        if not jobs:
            return
        with _connected(self.address) as ray:
            each = jobs[0].processes
            needs = {"CPU": each * jobs[0].threads, "GPU": 0 if jobs[0].device == "cpu" else each}
            room = _room(ray.cluster_resources(), needs)
            if room == 0:
                raise InputError(f"--engine ray: the cluster has no room for {needs['CPU']} CPU and {needs['GPU']} GPU")
            slots = min(slots, room)
            together = bundles.bundle(jobs, self.expected, self.length, most=len(jobs))
            submission = Submission.new(self.results, together, limits)
            task = ray.remote(max_retries=0, num_cpus=needs["CPU"], num_gpus=needs["GPU"])(tied.call)
            self.say(f"{len(jobs)} runs on a Ray cluster with {len(ray.nodes())} nodes, at most {slots} at a time")
            try:
                self._do(ray, task, submission, slots, display)
            finally:
                submission.end()

    def _do(self, ray: Any, task: Any, submission: Submission, slots: int, display: Display) -> None:
        follower = Follower([job for jobs in submission.bundles for job in jobs], display)
        waiting = iter(enumerate(submission.bundles))
        active: dict[Any, int] = {}
        while True:
            while len(active) < slots and (following := next(waiting, None)) is not None:
                index, _ = following
                arguments = [str(submission.path), str(index)]
                active[task.remote("petlbench.engines.element", arguments, str(submission.log(index)))] = index
            if not active:
                return
            ended, _ = ray.wait([*active], timeout=LOOK)
            for index in active.values():
                follower.hear(submission, index)
            follower.look()
            for each in ended:
                try:
                    ray.get(each)
                except ray.exceptions.RayError as error:
                    self.say(f"a task of Ray was lost: {next(iter(str(error).splitlines()), type(error).__name__)}")
                follower.give_up(submission.bundles[active.pop(each)])


def check(address: str | None) -> None:
    """Raise InputError if Ray is not installed, or nobody answers at HOST:PORT, which Ray would ask for minutes."""
    if find_spec("ray") is None:
        raise InputError(MISSING)
    given = address or os.environ.get("RAY_ADDRESS", "auto")
    if given in (LOCAL, "auto") or "://" in given:
        return
    host, _, port = given.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _unreachable(f"--address {address}" if address else f"RAY_ADDRESS={given}") from error


def _unreachable(where: str) -> InputError:
    return InputError(
        f"{where}: no Ray cluster to be reached; valid: HOST:PORT of one, {LOCAL}, or nothing on one of its nodes"
    )


def _room(resources: Mapping[str, float], needs: Mapping[str, int]) -> int:
    """How many runs the whole cluster has room for."""
    return min(int(resources.get(name, 0) // number) for name, number in needs.items() if number)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster. Raises InputError if it is not installed or not to be reached."""
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its ports are those of the loopback
    try:
        import ray
    except ImportError as error:
        raise InputError(MISSING) from error
    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(f"--address {address}" if address else "--engine ray") from error
    try:
        yield ray
    finally:
        ray.shutdown()
