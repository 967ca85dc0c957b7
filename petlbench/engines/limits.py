"""What a worker may take of a machine: so much time, so much memory, and one GPU of several, or some."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The same for every run of a command."""

    seconds: float | None = None
    """Wall time of a run, after which its worker is ended."""
    memory_bytes: int | None = None
    """Main memory that a worker, or each process of it, may allocate; some 0.9 GiB of it are taken by torch and timm
    before the run begins."""
    gpus: Sequence[str] = ()
    """What CUDA_VISIBLE_DEVICES can be for a worker: slots take turns. Empty: left as it is."""

    def apply(self, gpus: Sequence[str]) -> None:
        """Bind this process, which must not have touched CUDA yet, to these GPUs; none leaves things as they are."""
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        if self.memory_bytes is not None:
            _, most = resource.getrlimit(_MEMORY)
            resource.setrlimit(_MEMORY, (self.memory_bytes, most))


NONE = Limits()

# Linux counts what a process may write to and shares with nobody, as RLIMIT_DATA. All of its addresses, RLIMIT_AS, are
# no measure of memory: torch's libraries alone are 3.5 GiB of them, and CUDA reserves more than a machine has.
_MEMORY = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS


def lift() -> None:
    """Take the limit of memory from this process: one that has met it must still be able to write down that it has."""
    with suppress(ValueError, OSError):
        resource.setrlimit(_MEMORY, (resource.getrlimit(_MEMORY)[1],) * 2)


def gpus(device: str, count: Callable[[], int]) -> list[str]:
    """The GPUs that runs on this device may take, by what CUDA calls them; none for the CPU and for one GPU by number.

    Those that CUDA_VISIBLE_DEVICES leaves to us, if it is set, else all that there are.
    """
    if device != "cuda":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(count())]
    return [name.strip() for name in visible.split(",") if name.strip()][: count()]


def killed_for_memory() -> int:
    """How many processes the kernel of this machine has killed since it started, because memory ran out."""
    with suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), flags=re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def seconds(text: str) -> float | None:
    """A duration as people write it, such as 90s, 30m, 2h or 1d; None for anything else."""
    return _measure(text, SECONDS)


def size(text: str) -> int | None:
    """A number of bytes as people write it, such as 500M or 8G; None for anything else."""
    found = _measure(text.upper().removesuffix("IB").removesuffix("B"), BYTES)
    return None if found is None else int(found)


def _measure(text: str, units: dict[str, int]) -> float | None:
    number, unit = text[:-1], text[-1:]
    if unit not in units or not re.fullmatch(r"\d+(\.\d+)?", number) or float(number) == 0:
        return None
    return float(number) * units[unit]
