"""What is kept of a run: the run itself, its scores and costs, and all it takes to trust and repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from petlbench.machine import Machine
from petlbench.measure import Counts
from petlbench.run import Budget, Run

FORMAT = 1
"""Version of the file format; raised when a reader of today could misread a record of tomorrow."""

Status = Literal["done", "failed", "oom", "diverged"]
"""`oom`: out of memory. `diverged`: the loss was no longer finite, which is what these settings lead to."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of the training curve."""

    loss: float | None
    """Mean training loss of the epoch; None where it was not finite."""
    lr: float
    """Learning rate of the first group in this epoch."""
    seconds: float
    step: int | None = None
    """Last step of the row, where training is measured in steps; None for an epoch."""
    parts: dict[str, float] = field(default_factory=dict)
    """Parts that the loss is the sum of, where there are several."""
    images_per_second: float | None = None
    """How fast it trained, reading included, on a machine that may have had other work; None for an epoch."""
    scores: dict[str, float] = field(default_factory=dict)
    """What an evaluation at the last step found, where one was asked for."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of the results folder."""

    format: int = FORMAT
    run: Run
    status: Status
    reason: str = ""
    """Why it failed, in one line. For a run that is done: why its weights were not kept, if they were to be."""
    scores: dict[str, float] = field(default_factory=dict)
    """In percent, by metric, on the split `run.score` after the last epoch.

    Under the protocol `paper` also METRIC_best_test_epoch: the best that the test split has shown in any epoch.
    """
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores of single classes in percent, by metric and class, where a suite gives them."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the labels and pixels of every split that was read."""
    budget: Budget | None = None
    """What the search for the settings has spent, for a final run under the protocol `tuned`."""
    counts: Counts | None = None
    """Parameters, FLOPs and bytes, measured on what was trained."""
    curve: list[Epoch] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    """What the method chose while it trained, such as what to prune or which sub-net to train."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by part: "data", "build", "fit", "score", "count", "total"; and "evaluate" under `paper`."""
    peak_memory_bytes: int | None = None
    """CUDA: peak allocated; CPU: peak resident set of the worker over the whole run."""
    energy_joules: float | None = None
    """What the GPU took over the whole run, by NVML, whoever else used it included; None without one."""
    machine: Machine
    threads: int
    """Threads of torch on the CPU: another number may round differently."""
    device: str
    processes: int = 1
    """Processes that trained together, each on its part of every batch of `run.recipe.batch_size` images. If there were
    several, memory is that of the first, and energy is not measured."""
    code: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every source file that can change a number, by module name."""
    started: str
    """UTC, ISO 8601."""
    log: str = ""
    """Log of the worker, relative to the results folder; kept for failed runs."""

    @property
    def stamp(self) -> str:
        """Tells two tries at one run apart."""
        return stamp(self.started, self.status, self.seconds)


def stamp(started: str, status: Status, seconds: Mapping[str, float]) -> str:
    """`Record.stamp`, for those who have not read all of a record."""
    return f"{started} {status} {seconds.get('total')}"
