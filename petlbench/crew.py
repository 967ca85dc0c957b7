"""The other processes of a run that several train together: its worker calls them, watches them, and they end with it.

    worker: lock, record, checkpoint, pictures, score        python -m petlbench.crew RANK FOLDER: trains only
      '---- the job, then silence until the worker ends, on a pipe ----'

They meet in a folder of their own (torch's FileStore) and talk over the loopback interface. The worker starts them
itself, so that every engine can have such runs. (torchrun would stand between an engine and its worker, hide the exit
code that tells a failure from the wish to go on later, and open a port to all networks for processes to meet at.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import torch
from torch import distributed

from petlbench.attempt import Attempt
from petlbench.dense.ranks import Released
from petlbench.engines.limits import lift
from petlbench.record import Status
from petlbench.run import Job
from petlbench.trial import silent

PATIENCE = timedelta(days=7)
"""How long one waits for another: as long as the worker evaluates. Who dies is noticed by `Crew`, not by this."""
GRACE = 20.0
"""Seconds that a worker whose helper has died has to notice it by itself, before it is ended."""
NOTICE = 3.0
"""Seconds in which the death of a helper is told from an error of our own."""


class Loss(NamedTuple):
    """Why a process is gone."""

    status: Status
    reason: str


class Crew:
    """`with Crew(job, mourn) as crew`: a group of as many processes as the job wants, of which this one is the first.

    `crew.loss` says which of the others died. A worker that waits for a dead one without noticing (on a GPU, say) is
    ended: `mourn` gets the reason, and this process exits with code 1.
    """

    def __init__(self, job: Job, mourn: Callable[[Loss], None]) -> None:
        self.job, self.mourn = job, mourn
        self.loss: Loss | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._is_lost, self._is_over = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if self.job.processes == 1:
            return self
        self._folder = tempfile.TemporaryDirectory(prefix="petlbench-", ignore_cleanup_errors=True)
        gpus = _gpus(self.job)
        try:
            for rank in range(1, self.job.processes):
                self._call(rank, gpus[rank] if gpus else None)
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]
            _join(self.job, 0, self._folder.name)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.job.processes == 1:
            return
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            self._is_lost.wait(NOTICE)  # it may be that of a broken connection
        self._is_over.set()
        for each in self._others:
            assert each.stdin is not None
            with suppress(OSError):
                each.stdin.close()
        for each in self._others:
            try:
                each.wait(GRACE)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        # NCCL would wait for the dead to say good-bye; this process is about to end anyway.
        if distributed.is_initialized() and (error is None or distributed.get_backend() == "gloo"):
            distributed.destroy_process_group()
        self._folder.cleanup()

    def _call(self, rank: int, gpu: str | None) -> None:
        environment = dict(os.environ) if gpu is None else os.environ | {"CUDA_VISIBLE_DEVICES": gpu}
        command = [sys.executable, "-m", "petlbench.crew", str(rank), self._folder.name]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        self._others.append(other)
        threading.Thread(target=self._watch, args=(rank, other), daemon=True).start()
        assert other.stdin is not None
        with suppress(BrokenPipeError):  # who is dead already is noticed by those who watch
            other.stdin.write(msgspec.json.encode(self.job) + b"\n")
            other.stdin.flush()

    def _watch(self, rank: int, other: subprocess.Popen[bytes]) -> None:
        code = other.wait()
        if code == 0 or self._is_over.is_set() or self._is_lost.is_set():
            return
        self.loss = self._said(rank) or Loss("failed", f"process {rank + 1} of {self.job.processes} {_death(code)}")
        self._is_lost.set()
        if not self._is_over.wait(GRACE):
            self.mourn(self.loss)
            os._exit(1)

    def _said(self, rank: int) -> Loss | None:
        """What a process has left of why it failed."""
        try:
            return msgspec.json.decode(_words(self._folder.name, rank).read_bytes(), type=Loss)
        except (OSError, msgspec.MsgspecError):
            return None


def main(arguments: list[str]) -> int:
    """Train with the others of the group. The job comes by standard input, at whose end the worker is gone."""
    from petlbench import worker

    rank, folder = int(arguments[0]), arguments[1]
    for number in (signal.SIGTERM, signal.SIGINT):  # the worker is told too; it saves, and we end with it
        signal.signal(number, signal.SIG_IGN)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    torch.set_num_threads(job.threads)
    try:
        _join(job, rank, folder)
        Attempt(job, silent).run()
    except Released:
        distributed.destroy_process_group()
        return 0
    except Exception as error:
        lift()
        traceback.print_exc()
        status, reason = worker.verdict(error)
        said = Loss(status, f"process {rank + 1} of {job.processes}: {reason}")
        _words(folder, rank).write_bytes(msgspec.json.encode(said))
    return 1


def _join(job: Job, rank: int, folder: str) -> None:
    """Become a member of the group."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # nothing listens to the network
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    distributed.init_process_group(
        "gloo" if job.device == "cpu" else "nccl",
        store=distributed.FileStore(str(Path(folder, "met")), job.processes),  # type: ignore[attr-defined]
        rank=rank,
        world_size=job.processes,
        timeout=PATIENCE,
        device_id=None if job.device == "cpu" else torch.device("cuda", 0),  # each sees one
    )


def _gpus(job: Job) -> list[str]:
    """A GPU for each process, as CUDA_VISIBLE_DEVICES calls it; none on the CPU."""
    if job.device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible.split(",") if visible is not None else [str(number) for number in range(torch.cuda.device_count())]
    if len(found) < job.processes:
        raise RuntimeError(f"{job.processes} processes need as many GPUs, and {len(found)} can be seen")
    return found


def _end_with_worker() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _words(folder: str, rank: int) -> Path:
    return Path(folder, f"{rank}.json")


def _death(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
