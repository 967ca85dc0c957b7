"""Engines decide where and when runs happen; every engine starts the same worker, and the store says what is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from petlbench.engines.limits import Limits
    from petlbench.engines.local import Display
    from petlbench.run import Job


class Engine(Protocol):
    """A place to do runs: this machine (`engines.local`, a module), a queue (`Slurm`), a cluster (`Ray`)."""

    def run(self, works: Iterable[Job], slots: int, display: Display, limits: Limits = ...) -> None:
        """Have every job done, `slots` at a time, and return when each has a record or can get none any more."""
