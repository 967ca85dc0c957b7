"""Meters: the peak of memory can start anew, and energy is the GPU's own account of it."""

import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from petlbench.meters import PeakMemory, energy

CPU = torch.device("cpu")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux can forget an earlier peak")
def test_peak_memory_remembers_what_was_freed_until_it_is_made_anew() -> None:
    peak = PeakMemory(CPU)
    before, _ = peak.read()
    block = torch.ones(50_000_000)
    del block
    assert peak.read()[0] - before > 190_000_000
    assert PeakMemory(CPU).read()[0] - before < 50_000_000


def test_where_the_peak_cannot_be_reset_it_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    peak = PeakMemory(CPU)
    assert peak.kind == "process resident (getrusage)"
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak.read()[0] >= highest > 50_000_000


def test_a_cpu_has_no_meter_for_energy() -> None:
    with energy(CPU) as used:
        pass
    assert used.joules is None


def test_energy_is_the_difference_of_the_gpus_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter([1_000_000, 1_002_500])  # millijoules
    gpu(monkeypatch, lambda handle: {"GPU-1234": next(counter)}[handle])
    with energy(torch.device("cuda")) as used:
        assert used.joules is None
    assert used.joules == 2.5


def test_a_gpu_without_a_counter_gives_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: str) -> int:
        raise LookupError

    gpu(monkeypatch, refuse, error=LookupError)
    with energy(torch.device("cuda")) as used:
        pass
    assert used.joules is None


def gpu(monkeypatch: pytest.MonkeyPatch, counter: Any, error: type[Exception] = RuntimeError) -> None:
    """Pretend that there is one GPU, and NVML to ask it."""
    nvml = SimpleNamespace(
        NVMLError=error,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=str,
        nvmlDeviceGetTotalEnergyConsumption=counter,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
