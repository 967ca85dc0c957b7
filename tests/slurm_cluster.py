"""A SLURM of one node on the loopback, started and ended by the tests, with Debian's daemons and our configuration."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "setpriv")
CORES = 4
"""Of the node; more than some machines have, and SLURM is told to believe it."""

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
KillWait=5
MinJobAge=10
MaxArraySize=8
NodeName=one NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cores} RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=one Default=YES MaxTime=60 DefaultTime=10 State=UP
"""


def missing() -> str:
    """Why there can be no SLURM here; empty if there can."""
    if os.geteuid() != 0:
        return "SLURM's daemons are started as root"
    absent = [name for name in PROGRAMS if program(name) is None]
    return f"no {', '.join(absent)} here (Debian: slurm-wlm, munge)" if absent else ""


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons in a folder and yield the environment in which SLURM's commands find them; then end them."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge/key").write_bytes(os.urandom(128))
    (folder / "munge/key").chmod(0o400)
    controller, node = free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname(), folder=folder, controller=controller, node=node, cores=CORES
        ).lstrip()
    )
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "daemons.log").open("wb") as log:
            for command in (
                ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
                ["slurmctld", "-D", "-f", str(configuration)],
                ["slurmd", "-D", "-N", "one", "-f", str(configuration)],
            ):
                # Whatever becomes of the tests, the daemons do not outlive them.
                bound = ["setpriv", "--pdeathsig", "KILL", program(command[0]) or "", *command[1:]]
                daemons.append(
                    subprocess.Popen(bound, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
                if command[0] == "munged":
                    wait_until((folder / "munge.socket").exists, "munged has no socket")
            wait_until(lambda: "idle" in ask(environment, "sinfo", "--noheader", "--format=%t"), "the node is not idle")
        yield environment
    finally:
        try:
            if len(daemons) == 3:
                clear(environment)
        finally:
            for daemon in reversed(daemons):
                daemon.kill()
                daemon.wait()


def clear(environment: dict[str, str]) -> None:
    """Cancel all that is in the queue and wait until it has ended."""
    ask(environment, "scancel", "--user=root")
    wait_until(lambda: not ask(environment, "squeue", "--noheader"), "jobs are left")


def ask(environment: dict[str, str], *command: str) -> str:
    """What one of SLURM's commands prints; errors are for the caller to see in the answer."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()


def wait_until(true: Callable[[], object], otherwise: str, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
