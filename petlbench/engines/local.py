"""The local engine: one fresh process per run, N at a time, on this machine.

A fresh process gives clean memory figures and contains every crash, but importing torch and timm takes seconds. So the
processes are forked from a server that has only done the imports (Python's own forkserver): it holds no threads,
no data and no CUDA context, and a run starts within a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from petlbench.cost import Cost, CostJob
    from petlbench.record import Record
    from petlbench.run import Job

    Work = Job | CostJob
    Result = Record | Cost


class Display(Protocol):
    """What the engine tells while runs are under way."""

    def start(self, work: Work) -> None: ...

    def step(self, work: Work, *, epoch: int, epochs: int, loss: float | None) -> None: ...

    def finish(self, work: Work, result: Result | None, seconds: float) -> None: ...


def warm_up() -> None:
    """Start the server in the background; called first, its imports overlap with those of this process."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")  # no thread pools in the server; workers set torch's own number
        context().set_forkserver_preload(["petlbench.worker", "petlbench.cost"])
        forkserver.ensure_running()


def run(works: Iterable[Work], slots: int, display: Display) -> None:
    """Do all work, `slots` at a time. What comes of it lies in the store; a process that dies leaves a failed record.

    On an interrupt (Ctrl-C) the processes under way are ended, without a record, and KeyboardInterrupt goes on.
    """
    waiting = iter(works)
    active: list[_Child] = []
    try:
        while True:
            while len(active) < slots and (work := next(waiting, None)) is not None:
                display.start(work)
                active.append(_Child(work))
            if not active:
                return
            connection.wait(
                [child.process.sentinel for child in active] + [child.news for child in active if child.open]
            )
            for child in list(active):
                for epoch, epochs, loss in child.read():
                    display.step(child.work, epoch=epoch, epochs=epochs, loss=loss)
                if not child.process.is_alive():
                    active.remove(child)
                    display.finish(child.work, child.result(), time.perf_counter() - child.started)
    finally:
        for child in active:
            child.process.kill()
        for child in active:
            child.process.join()


@dataclass
class _Child:
    """A process that does one piece of work."""

    work: Work
    process: BaseProcess = field(init=False)
    news: connection.Connection = field(init=False)
    log: Path = field(init=False)
    started: float = field(default_factory=time.perf_counter)
    open: bool = True

    def __post_init__(self) -> None:
        self.log = Path(self.work.results, "logs", f"{self.work.key}.log")
        self.news, theirs = context().Pipe(duplex=False)
        self.process = context().Process(target=_child, args=(self.work, theirs, str(self.log)), name=str(self.work))
        self.process.start()
        theirs.close()

    def read(self) -> Iterator[tuple[int, int, float | None]]:
        try:
            while self.open and self.news.poll():
                yield self.news.recv()
        except (EOFError, OSError):
            self.open = False

    def result(self) -> Result | None:
        """What the worker stored; for a worker that died before it could, a failed record is stored in its stead."""
        from petlbench import worker

        self.process.join()
        code = self.process.exitcode
        if code != 0:
            return worker.lost(self.work, _death(code), self._log_name())
        result = worker.stored(self.work)
        if getattr(result, "status", "done") == "done":
            self.log.unlink(missing_ok=True)
        return result

    def _log_name(self) -> str:
        return f"{self.log.parent.name}/{self.log.name}"


def _child(work: Work, news: connection.Connection, log: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine ends its workers itself
    threading.Thread(target=_die_with_parent, daemon=True).start()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)

    from petlbench import worker

    def report(*, epoch: int, epochs: int, loss: float | None) -> None:
        with suppress(OSError):
            news.send((epoch, epochs, loss))

    worker.do(work, report, f"{Path(log).parent.name}/{Path(log).name}")


def _die_with_parent() -> None:
    """A worker whose engine was killed has nobody to work for: it leaves no record behind and no process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", often because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code} before it could write its record"


def context() -> ForkServerContext | SpawnContext:
    """How processes are started: from the server where there can be one (not on Windows)."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


def slots(threads: int, cores: Callable[[], int | None] = os.cpu_count) -> int:
    """Runs at a time that the cores can carry, with so many threads each."""
    return max(1, (cores() or 1) // threads)
