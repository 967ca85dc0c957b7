"""Where a number was measured: hardware, software and commit, and nothing that names a person or a network."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import timm
import torch

from petlbench._version import __version__


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts about a machine and its software, without host name, user or paths."""

    tag: str
    """Short name under which speeds compare, such as "NVIDIA-H200" or "AMD-EPYC-7763-16c"."""
    cpu: str
    """Model, as the system calls it."""
    cores: int
    """Logical cores that this process may use."""
    memory_bytes: int
    """Main memory."""
    system: str
    """Operating system, its version and the architecture, such as "Linux 6.8.0 x86_64"."""
    gpus: tuple[str, ...]
    """Models of the GPUs that CUDA shows to this process."""
    driver: str | None
    """Version of the NVIDIA driver; None without one."""
    cuda: str | None
    """CUDA that torch was built for; None for a build without."""
    versions: dict[str, str]
    """Of python, torch, timm and petlbench; in a record also of what the files of its method and suite import."""
    commit: str | None
    """Commit of petlbench if it runs from a git checkout."""
    dirty: bool | None
    """Whether the code differs from that commit; None without one."""


@cache
def machine(device: str | None = None) -> Machine:
    """Describe this machine. The tag is that of `device` ("cpu" or "cuda"), by default of the GPU where there is one.

    Cached, since nothing of it changes while a process lives.
    """
    gpus = tuple(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    cpu, cores = _cpu(), _cores()
    on_gpu = bool(gpus) and (device is None or device.startswith("cuda"))
    commit, dirty = git_state(Path(__file__).parents[1])
    return Machine(
        tag=short_name(gpus[0]) if on_gpu else f"{short_name(cpu)}-{cores}c",
        cpu=cpu,
        cores=cores,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        gpus=gpus,
        driver=_driver(),
        cuda=torch.version.cuda,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": timm.__version__,
            "petlbench": __version__,
        },
        commit=commit,
        dirty=dirty,
    )


def short_name(model: str) -> str:
    """The model of a processor without trademarks, clock rates and filler words, fit for the name of a folder.

    "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz" becomes "Intel-Xeon-Platinum-8375C".
    """
    model = re.sub(r"\((R|TM|C)\)|@.*|\b(CPU|Processor|\w+-Cores?)\b", " ", model, flags=re.IGNORECASE)
    return "-".join(re.findall(r"[A-Za-z0-9][A-Za-z0-9.+]*", model)) or "unknown"


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout and whether its code was changed since; (None, None) if `root` is not one.

    Only code makes it dirty: results are written into the checkout and are no change of what made them. A folder
    inside somebody else's repository, such as an environment with petlbench installed, is not a checkout.
    """
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _git(root, "status", "--porcelain", "--", "petlbench", "methods", "benchmarks", "pyproject.toml")
    return commit, bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None where it fails or is not installed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook names its own
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """The processor's model. Linux on ARM and others that do not tell give the architecture."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: a scheduler may have given fewer cores than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _driver() -> str | None:
    """The driver's version from the kernel module, which needs neither CUDA nor NVML."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found[0] if found else None
