"""Instruments that read a device: its peak memory and the energy it takes."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch


class PeakMemory:
    """The highest use of memory since this object was made.

    On a GPU the bytes that torch allocated and reserved. On a CPU the resident set of the whole process, libraries
    included: Linux can forget an earlier peak, elsewhere it is the highest since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            self.kind = "cuda allocated"
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        _return_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to the present size
            self.kind = "process resident (VmHWM)"
        except OSError:
            self.kind = "process resident (getrusage)"

    def read(self) -> tuple[int, int | None]:
        """The peak in bytes, and on a GPU the peak of what torch reserved."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        if self.kind.endswith("(VmHWM)"):
            status = Path("/proc/self/status").read_text()
            return 1024 * int(status.partition("VmHWM:")[2].split()[0]), None
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, None


@dataclass
class Energy:
    """What `energy` measured."""

    joules: float | None = None
    """Energy of the whole GPU; None before the end, on a CPU, and where NVML does not know."""


@contextmanager
def energy(device: torch.device) -> Iterator[Energy]:
    """Measure the energy that a GPU takes inside the block: `with energy(device) as used: ...; used.joules`.

    The counter is the GPU's own (NVML, since Volta) and includes whatever else runs on it.
    """
    used = Energy()
    before = _millijoules(device)
    yield used
    after = _millijoules(device)
    if before is not None and after is not None:
        used.joules = (after - before) / 1000


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told: a GPU returns at once and works later."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _return_freed_memory() -> None:
    """Give the system what was freed: glibc keeps much of it for later, and it would count as in use."""
    with suppress(AttributeError, OSError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def _millijoules(device: torch.device) -> int | None:
    """The GPU's energy counter since the driver was loaded."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    synchronize(device)
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid  # torch and NVML may number GPUs differently
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")))
    except pynvml.NVMLError:
        return None
